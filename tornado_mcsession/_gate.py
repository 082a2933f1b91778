"""The gate that holds an answer back until its session is stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError

from ._answer import Cycle, Head, Pending
from ._held import Held, refused

__all__ = ["ResponseGate"]

logger = logging.getLogger("tornado_mcsession")


class ResponseGate(HTTPConnection):
    """Stands in the place of a request's connection, and holds its answer back.

    The handler writes headers, body and end as ever; they are queued. `commit`,
    which ``on_finish`` calls, asks the cycle what to wait for. When that is
    done, or at once if there is nothing, the queue goes out. If it fails, an
    error page goes out instead. In any case the answer ends or the connection
    is closed: a client never hangs.

    A handler that streams is held at its first flush; what it writes later
    passes, but for the end, which waits for what was changed meanwhile. With
    ``is_open`` the headers have left before there was a gate.

    When the answer is out, the gate lets go of the request: it is referenced by
    it, so that it would else wait for the garbage collector.
    """

    def __init__(
        self, connection: HTTPConnection, cycle: Cycle, *, is_open: bool = False
    ) -> None:
        self._connection = connection
        self._cycle: Cycle | None = cycle
        self._loop = asyncio.get_running_loop()
        self._head: Head | None = None
        self._held = Held()
        self._ending = False  # the handler writes nothing any more
        self._open = is_open  # the headers have left
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
        if self._ending:
            return self._pass_or_hold(chunk)
        # The handler may be far from its end.
        self._loop.call_soon(self.commit)
        return self._held.add(chunk)

    def _pass_or_hold(self, chunk: bytes | None) -> asyncio.Future[None]:
        # The usual answer is whole when its headers come: with nothing to save,
        # nothing is held.
        assert self._cycle is not None
        assert self._head is not None
        try:
            pending = self._cycle.decide(self._head.start_line.code, final=True)
            if pending is None:
                self._cycle.leave(self._head.headers, final=True)
        except Exception as error:
            held = self._held.add(chunk)
            self._fail(error)
            return held
        if pending is not None:
            held = self._held.add(chunk)
            self._wait_for(pending, True)
            return held
        self._open = True
        self._let_go()
        return self._connection.write_headers(*self._head, chunk)

    def begin_end(self) -> None:
        """Hold all that is still written: it is the end of the answer."""
        self._ending = True

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Write a piece of the body, or hold it behind the headers or with the end."""
        if self._replaced:
            return refused(StreamClosedError())
        if self._cycle is None or (self._open and not self._ending):
            return self._connection.write(chunk)
        return self._held.add(chunk)

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

    def abandon(self) -> None:
        """Save what there is: the client has left, and no answer will end this."""
        if self._cycle is not None:
            self._ending = True
            self._open = self._open or self._head is None
            self.commit()

    def commit(self) -> None:
        """Save what is to be saved, then let the answer go. Once is enough."""
        cycle = self._cycle
        if cycle is None or self._busy or (self._open and not self._ending):
            return
        if self._head is None and not self._open:
            self._break_off(StreamClosedError())  # Tornado failed to make any headers
            return
        final = self._ending
        status = 200 if self._head is None else self._head.start_line.code
        try:
            pending = cycle.decide(status, final=final)
        except Exception as error:
            self._fail(error)
            return
        if pending is None:
            self._release(final)
        else:
            self._wait_for(pending, final)

    def _wait_for(self, pending: Pending, final: bool) -> None:
        self._busy = True
        if isinstance(pending, asyncio.Future):
            # None comes before the end of an answer: ``final`` is true.
            pending.add_done_callback(self._answered)
        else:
            assert self._cycle is not None
            self._cycle.run(self._settle(pending, final))

    def _answered(self, answer: asyncio.Future[Any]) -> None:
        assert self._cycle is not None
        self._busy = False
        try:
            rest = self._cycle.settle(answer)
        except Exception as error:
            self._fail(error)
            return
        if rest is None:
            self._release(True)
        else:
            self._wait_for(rest, True)

    async def _settle(self, pending: Coroutine[Any, Any, None], final: bool) -> None:
        try:
            await pending
        except Exception as error:
            self._busy = False
            self._fail(error)
        except asyncio.CancelledError:
            self._break_off(StreamClosedError())
            raise
        else:
            self._busy = False
            self._release(final)

    def _release(self, final: bool) -> None:
        if not self._open:
            assert self._head is not None
            assert self._cycle is not None
            try:
                self._cycle.leave(self._head.headers, final=final)
            except Exception as error:
                self._fail(error)
                return
        held = self._held
        if not final:
            self._held = Held()
        try:
            written = self._send(held.chunks, final)
        except Exception as error:
            # As where a handler writes more or less than its Content-Length.
            logger.exception("an answer that waited for its session cannot be sent")
            self._held = held
            self._break_off(error)
            return
        if written is not None:
            held.end_as(written)
        if final:
            self._let_go()
        elif self._ending:
            self.commit()  # it finished while its first save was under way

    def _send(
        self, chunks: list[bytes | None], final: bool
    ) -> asyncio.Future[None] | None:
        written = None
        if not self._open:
            assert self._head is not None
            self._open = True
            written = self._connection.write_headers(*self._head, chunks.pop(0))
        for chunk in chunks:
            written = self._connection.write(chunk or b"")
        if final:
            self._connection.finish()
        return written

    def _fail(self, error: Exception) -> None:
        if self._open:
            # The client sees that the answer ends before its end.
            logger.error(
                "a session could not be saved, too late for an error page: %s",
                type(error).__name__,
            )
            self._break_off(error)
            return
        assert self._head is not None
        assert self._cycle is not None
        try:
            head, body = self._cycle.replacement(self._head, error)
            written = self._connection.write_headers(*head, body)
            self._connection.finish()
        except Exception:
            logger.exception("the page for a failed save cannot be sent")
            self._break_off(error)
            return
        self._replaced = True
        held, self._held = self._held, Held()
        if self._ending:
            held.end_as(written)
        else:
            held.refuse(error)
        self._let_go()

    def _break_off(self, error: Exception) -> None:
        self._replaced = True
        held, self._held = self._held, Held()
        held.refuse(error)
        close = getattr(self._connection, "close", None)
        if close is not None:
            close()
        self._let_go()

    def _let_go(self) -> None:
        if self._cycle is not None:
            self._cycle.finished()
            self._cycle = None
