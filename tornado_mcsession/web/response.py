"""The response that is held back until its session is stored."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError

from ..exceptions import SessionError
from .request import Head, Pending, RequestSession

__all__ = ["HeldResponse"]

logger: logging.Logger = logging.getLogger("tornado_mcsession")


class Stage(enum.Enum):
    """How much of a response has left."""

    HEADERS = "nothing has left: everything is held"
    BODY = "the headers have left: what is written passes, but for the end"
    SENT = "everything has left, or the connection was closed"


# To look a member up on its enum costs 0.1 µs in Python 3.11.
HEADERS, BODY, SENT = Stage


class HeldResponse(HTTPConnection):
    """Stands in the place of a request's connection, and holds its response back.

    The handler writes headers, body and end as usual; they are queued. `commit`,
    which ``on_finish`` calls, asks the request what to wait for. When that is done,
    or at once if there is nothing, the queue is sent. If it fails, an error page is
    sent instead. In any case the response ends or the connection is closed: a
    client never hangs.

    A handler that streams is held at its first flush. What it writes later passes,
    except for the end, which waits for what was changed meanwhile.

    When the response is out, it lets go of the request: the two refer to each
    other, and would wait for the garbage collector.
    """

    _head: Head | None = None
    _late: list[tuple[str, str]] | None = None  # what the headers must be
    _is_ended = False  # the handler writes nothing any more
    _is_saving = False
    _waits_for_end = False  # the headers are the whole response
    _body_left: int | None = None  # of the handler's own Content-Length
    _last_byte = b""
    _was_replaced = False  # by an error page, or by the end of the connection
    replaced_by: int | None = None
    """The status of the error page that was sent instead."""
    _sent: asyncio.Future[None] | None = None
    # Pieces of the response, each with its writer's future. As in Tornado, nobody need
    # wait for that, and an error that nobody waits for is not logged.
    _held: list[tuple[bytes | None, asyncio.Future[None]]] | None = None

    def __init__(
        self,
        connection: HTTPConnection,
        request: RequestSession,
        loop: asyncio.AbstractEventLoop,
        *,
        headers_left: bool = False,
    ) -> None:
        self._connection = connection
        self._request: RequestSession | None = request
        self._loop = loop
        self._stage = BODY if headers_left else HEADERS

    def __getattr__(self, name: str) -> Any:
        # The request and the handler use more of an HTTP/1 connection than its
        # interface has, as its stream.
        return getattr(self._connection, name)

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Pass the handler's callback on to the connection."""
        self._connection.set_close_callback(callback)  # type: ignore[attr-defined]

    # What the handler writes.

    def write_headers(
        self,
        start_line: ResponseStartLine | RequestStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> asyncio.Future[None]:
        """Hold the headers, as they are now; an interim response passes."""
        assert isinstance(start_line, ResponseStartLine)
        if start_line.code == 101:
            # Tornado detaches the stream in this very turn. The session was saved, and
            # its cookie added, before the handshake.
            self._let_go()
        if start_line.code < 200:
            return self._connection.write_headers(start_line, headers, chunk)
        if not self._is_ended:
            # What the handler sets after a flush is too late, as without a session.
            self._head = Head(start_line, _headers(headers.get_all()))
            self._loop.call_soon(self.commit)  # the handler may be far from its end
            return self._hold(chunk)
        # The usual response is whole when its headers come.
        assert self._request is not None
        try:
            pending = self._request.begin(start_line.code, final=True)
            if pending is None:
                self._request.leave(headers, final=True)
        except Exception as error:
            self._head = Head(start_line, headers)
            held = self._hold(chunk)
            self._fail(error)
            return held
        if pending is not None:
            self._head = Head(start_line, headers)
            self._late = list(headers.get_all())
            held = self._hold(chunk)
            self._wait_for(pending, final=True)
            return held
        self._let_go()
        return self._connection.write_headers(start_line, headers, chunk)

    def _hold(self, chunk: bytes | None) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        if self._held is None:
            self._held = []  # most responses are never held
        self._held.append((chunk, future))
        return future

    def begin_end(self) -> None:
        """Hold everything written from here on: it belongs to the end."""
        self._is_ended = True

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Write a piece of the body, or hold it."""
        if self._was_replaced:
            self._held = None
            refused = self._hold(None)
            self._end_writes(StreamClosedError())
            return refused
        if self._stage is HEADERS or (self._stage is BODY and self._is_ended):
            written = self._hold(chunk)
            if self._waits_for_end:
                self._end_writes()
            return written
        return self._connection.write(self._without_the_end(chunk))

    def finish(self) -> None:
        """End the response, once everything that it stands for is stored."""
        if self._was_replaced:
            return
        if self._stage is SENT:
            self._connection.finish()
            return
        self._is_ended = True
        if not self._is_saving:
            # on_finish() does the same, unless a handler overrides it.
            self._loop.call_soon(self.commit)

    def detach(self) -> Any:
        """Give the stream to the handler, behind what it has flushed."""
        self.refuse_detaching()
        if self._request is not None:
            if self._head is not None and self._stage is HEADERS:
                self._release(False)  # nothing of the session is unsaved
            if self._last_byte:
                self._connection.write(self._last_byte)
            self._let_go()
        return self._connection.detach()  # type: ignore[attr-defined]

    def refuse_detaching(self) -> None:
        """Raise where something of the session is unsaved, or still being saved."""
        if self._request is None:
            return
        if self._is_saving or not self._request.is_saved():
            raise RuntimeError(
                "the session has changes that nobody would save after detach(): "
                "await self.session.save() first, and await self.flush()"
            )

    def abandon(self) -> None:
        """Save what there is: the client has left, and no response will end this."""
        if self._request is not None:
            self._is_ended = True
            if self._head is None:
                self._stage = BODY
            self.commit()

    def until_sent(self) -> asyncio.Future[None] | None:
        """Return what to wait for until a finished response is out; None: nothing.

        Tornado must not read more of an upload before: once the connection has
        finished, it hands nothing more to the handler.
        """
        if not self._is_ended or self._stage is SENT:
            return None
        if self._sent is None:
            self._sent = self._loop.create_future()
        return self._sent

    # How it leaves.

    def commit(self) -> None:
        """Save what is to be saved, then send what is held. Twice is fine."""
        request = self._request
        if request is None or self._is_saving:
            return
        final = self._is_ended
        if self._stage is BODY and not final:
            return
        status = 200
        if self._head is not None:
            status = self._head.start_line.code
            if not final and self._has_no_body(self._head):
                self._waits_for_end = True
                self._end_writes()
                return
        elif self._stage is HEADERS:
            self._break_off(StreamClosedError())  # Tornado failed to make any headers
            return
        try:
            pending = request.begin(status, final=final)
        except Exception as error:
            self._fail(error)
            return
        if pending is None:
            self._release(final)
        else:
            self._wait_for(pending, final)

    def _wait_for(self, pending: Pending, final: bool) -> None:
        self._is_saving = True
        if isinstance(pending, asyncio.Future):
            # A future comes before the end of a response only: ``final`` is true.
            pending.add_done_callback(self._answered)
        else:
            assert self._request is not None
            self._request.run(self._save(pending, final))

    def _answered(self, answer: asyncio.Future[Any]) -> None:
        assert self._request is not None
        self._is_saving = False
        try:
            rest = self._request.settle(answer)
        except Exception as error:
            self._fail(error)
            return
        if rest is None:
            self._release(True)
        else:
            self._wait_for(rest, True)

    async def _save(self, pending: Coroutine[Any, Any, None], final: bool) -> None:
        try:
            await pending
        except Exception as error:
            self._is_saving = False
            self._fail(error)
        except asyncio.CancelledError:
            self._break_off(StreamClosedError())
            raise
        else:
            self._is_saving = False
            self._release(final)

    def _release(self, final: bool) -> None:
        assert self._request is not None
        if self._stage is HEADERS:
            assert self._head is not None
            self._undo_late_headers()
            try:
                self._request.leave(self._head.headers, final=final)
            except Exception as error:
                self._fail(error)
                return
        held, self._held = self._held or [], None
        try:
            written = self._send([chunk for chunk, _ in held], final)
        except Exception as error:
            # As where a handler writes more or less than its Content-Length.
            logger.exception("a response that waited for its session cannot be sent")
            self._held = held
            self._break_off(error)
            return
        _resolve(held, written)
        if final:
            self._let_go()
        elif self._is_ended:
            self.commit()  # it finished while its first save was under way

    def _send(
        self, chunks: list[bytes | None], final: bool
    ) -> asyncio.Future[None] | None:
        written = None
        if self._last_byte:
            chunks.insert(0, self._last_byte)
            self._last_byte = b""
        if self._stage is HEADERS:
            assert self._head is not None
            self._stage = BODY
            if not final:
                self._body_left = _content_length(self._head)
            first = chunks.pop(0)
            if self._body_left is not None and first:
                first = self._without_the_end(first)
            written = self._connection.write_headers(*self._head, first)
        for chunk in chunks:
            if not final:
                chunk = self._without_the_end(chunk or b"")
            written = self._connection.write(chunk or b"")
        if final:
            self._connection.finish()
        return written

    def _has_no_body(self, head: Head) -> bool:
        if head.start_line.code in (204, 304) or _content_length(head) == 0:
            return True
        assert self._request is not None
        return self._request.is_head()

    def _without_the_end(self, chunk: bytes) -> bytes:
        """Hold the last byte of a handler's own Content-Length back.

        With that byte the client has the whole response, which must wait until the
        session is stored as it is at the end.
        """
        if self._body_left is None or not chunk:
            return chunk
        if self._last_byte:  # more than its Content-Length: Tornado says so
            chunk, self._last_byte = self._last_byte + chunk, b""
            return chunk
        self._body_left -= len(chunk)
        if self._body_left != 0:
            return chunk
        self._last_byte = chunk[-1:]
        return chunk[:-1]

    def _undo_late_headers(self) -> None:
        """Let the headers be those of the moment of finish()."""
        before, self._late = self._late, None
        if before is None or self._head is None:
            return
        headers = self._head.headers
        if list(headers.get_all()) != before:  # copying costs more than comparing
            self._head = Head(self._head.start_line, _headers(before))

    def _fail(self, error: Exception) -> None:
        if self._stage is not HEADERS:
            # The client sees that the response ends before its end.
            logger.error(
                "a session could not be saved, too late for an error page: %s",
                error if isinstance(error, SessionError) else type(error).__name__,
            )
            self._break_off(error)
            return
        assert self._head is not None
        assert self._request is not None
        try:
            self._undo_late_headers()
            pairs = self._head.headers.get_all()
            head = Head(self._head.start_line, _headers(pairs))
            head, body = self._request.error_page(head, error)
            self.replaced_by = head.start_line.code
            written = self._connection.write_headers(*head, body)
            self._connection.finish()
        except Exception:
            logger.exception("the page for a failed save cannot be sent")
            self._break_off(error)
            return
        self._was_replaced = True
        if self._is_ended:
            _resolve(self._held or [], written)
        else:
            self._end_writes(error)
        self._let_go()

    def _break_off(self, error: Exception) -> None:
        self._was_replaced = True
        self._end_writes(error)
        close = getattr(self._connection, "close", None)
        if close is not None:
            close()
        self._let_go()

    def _end_writes(self, error: BaseException | None = None) -> None:
        """Resolve the futures of what is held, with ``error`` if there is one."""
        for _, future in self._held or ():
            _end(future, error)

    def _let_go(self) -> None:
        self._stage = SENT
        if self._request is not None:
            self._request.finished()
            self._request = None
        if self._sent is not None and not self._sent.done():
            self._sent.set_result(None)


def _headers(pairs: Iterable[tuple[str, str]]) -> HTTPHeaders:
    headers = HTTPHeaders()
    for name, value in pairs:
        headers.add(name, value)
    return headers


def _content_length(head: Head) -> int | None:
    try:
        return int(head.headers["Content-Length"])
    except (KeyError, ValueError):
        return None


def _resolve(
    held: list[tuple[bytes | None, asyncio.Future[None]]],
    written: asyncio.Future[None] | None,
) -> None:
    """Resolve the futures of what was held as ``written`` resolves.

    An HTTP/1 connection resolves only the future of its newest write.
    """

    def end(written: asyncio.Future[None]) -> None:
        error = StreamClosedError() if written.cancelled() else written.exception()
        for _, future in held:
            _end(future, error)

    if written is None:
        for _, future in held:
            _end(future, None)
    elif written.done():
        end(written)
    else:
        written.add_done_callback(end)


def _end(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()
