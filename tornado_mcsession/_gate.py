"""The gate that holds an answer back until its session is stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, NamedTuple, Protocol

from tornado.concurrent import chain_future
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError

__all__ = ["Cycle", "Head", "ResponseGate"]

logger = logging.getLogger("tornado_mcsession")


class Head(NamedTuple):
    """The start line and headers of an answer."""

    start_line: ResponseStartLine
    headers: HTTPHeaders


class Cycle(Protocol):
    """What a gate asks of the request that it stands for."""

    def decide(self, status: int, *, final: bool) -> Coroutine[Any, Any, None] | None:
        """Return what the answer must wait for, or `None` if it need not.

        ``final`` tells that the handler has finished its answer.
        """

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work``, whatever becomes of the request's own task."""

    def leave(self, headers: HTTPHeaders, *, final: bool) -> None:
        """Complete ``headers``, which are about to leave."""

    def replacement(self, head: Head, error: Exception) -> tuple[Head, bytes]:
        """Return the answer to send instead, since the session is not stored."""

    def finished(self) -> None:
        """Note that the handler can change nothing any more."""


class ResponseGate(HTTPConnection):
    """Stands in the place of a request's connection, and holds its answer back.

    The handler writes headers, body and end as ever; they are queued. `commit`,
    which ``on_finish`` calls, asks the cycle what to wait for. When that is
    done, or at once if there is nothing, the queue goes out. If it fails, an
    error page goes out instead. In any case the answer ends or the connection
    is closed: a client never hangs.

    A handler that streams is held at its first flush; what it writes later
    passes, but for the end, which waits for what was changed meanwhile.

    When the answer is out, the gate lets go of the request: it is referenced by
    it, so that it would else wait for the garbage collector.
    """

    def __init__(self, connection: HTTPConnection, cycle: Cycle) -> None:
        self._connection = connection
        self._cycle: Cycle | None = cycle
        self._loop = asyncio.get_running_loop()
        self._head: Head | None = None
        self._held: list[tuple[bytes | None, asyncio.Future[None]]] = []
        self._ending = False  # the handler has called finish
        self._open = False  # the headers have left
        self._busy = False  # a commit is under way
        self._replaced = False  # an error page left in the place of the answer

    def __getattr__(self, name: str) -> Any:
        # The request and the handler use more of an HTTP/1 connection than its
        # interface has: set_close_callback, detach, stream.
        return getattr(self._connection, name)

    def write_headers(
        self,
        start_line: ResponseStartLine | RequestStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> asyncio.Future[None]:
        """Hold the headers, unless they announce nothing but an interim answer."""
        assert isinstance(start_line, ResponseStartLine)
        if start_line.code == 101:
            # Tornado detaches the stream in this very turn; the session was
            # saved, and its cookie added, before the handshake.
            self._let_go()
        if start_line.code < 200:
            return self._connection.write_headers(start_line, headers, chunk)
        self._head = Head(start_line, headers)
        # The handler may have overridden on_finish, or be far from it.
        self._loop.call_soon(self.commit)
        return self._hold(chunk)

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Write a piece of the body, or hold it behind the headers."""
        if self._replaced:
            return _failed(StreamClosedError())
        if self._open or self._cycle is None:
            return self._connection.write(chunk)
        return self._hold(chunk)

    def finish(self) -> None:
        """End the answer, when all that it stands for is stored."""
        if self._replaced:
            return
        if self._cycle is None:
            self._connection.finish()
            return
        self._ending = True
        if self._open:
            self._loop.call_soon(self.commit)

    def commit(self) -> None:
        """Save what is to be saved, then let the answer go. Once is enough."""
        cycle = self._cycle
        if cycle is None or self._busy:
            return
        if self._open and not self._ending:
            return
        if self._head is None and not self._open:
            self._end_late(cycle)
            return
        final = self._ending
        try:
            pending = cycle.decide(self._status(), final=final)
        except Exception as error:
            self._fail(error)
            return
        if pending is None:
            self._release(final)
        else:
            self._busy = True
            cycle.run(self._settle(pending, final))

    def begin_open(self) -> None:
        """Begin with headers that have left before there was a gate."""
        self._open = True

    def _status(self) -> int:
        return 200 if self._head is None else self._head.start_line.code

    def _hold(self, chunk: bytes | None) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        # As in Tornado, a handler need not wait for what it writes.
        future.add_done_callback(_notice)
        self._held.append((chunk, future))
        return future

    async def _settle(self, pending: Coroutine[Any, Any, None], final: bool) -> None:
        try:
            await pending
        except Exception as error:
            self._busy = False
            self._fail(error)
        else:
            self._busy = False
            self._release(final)

    def _release(self, final: bool) -> None:
        try:
            if not self._open:
                self._send_held(final)
            if final:
                self._connection.finish()
        except Exception:
            # As where a handler writes less than its Content-Length says.
            logger.exception("an answer that waited for its session cannot be sent")
            self._close()
            return
        if final:
            self._let_go()
        elif self._ending:
            self.commit()  # it finished while its first save was under way

    def _send_held(self, final: bool) -> None:
        assert self._head is not None
        assert self._cycle is not None
        head, held = self._head, self._held
        self._cycle.leave(head.headers, final=final)
        self._open = True
        self._held = []
        written = self._connection.write_headers(*head, held[0][0])
        for chunk, _ in held[1:]:
            written = self._connection.write(chunk or b"")
        # An HTTP/1 connection resolves only the future of its newest write.
        for _, future in held:
            chain_future(written, future)

    def _fail(self, error: Exception) -> None:
        if self._open:
            # The client sees that the answer ends before its end.
            logger.error(
                "a session could not be saved after its headers had left: %s",
                type(error).__name__,
            )
            self._close()
            return
        assert self._head is not None
        assert self._cycle is not None
        held, self._held = self._held, []
        try:
            head, body = self._cycle.replacement(self._head, error)
            self._replaced = True
            written = self._connection.write_headers(*head, body)
            self._connection.finish()
        except Exception:
            logger.exception("the page for a failed save cannot be sent")
            self._close()
            written = _failed(StreamClosedError())
        for _, future in held:
            if self._ending:
                chain_future(written, future)
            elif not future.done():
                future.set_exception(error)
        self._let_go()

    def _end_late(self, cycle: Cycle) -> None:
        # Made after the answer had gone, by an on_finish that uses the session.
        cycle.finished()
        self._let_go()

    def _close(self) -> None:
        close = getattr(self._connection, "close", None)
        if close is not None:
            close()
        self._let_go()

    def _let_go(self) -> None:
        if self._cycle is not None:
            self._cycle.finished()
            self._cycle = None


def _notice(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


def _failed(error: Exception) -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    future.exception()
    return future
