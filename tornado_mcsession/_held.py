"""Pieces of an answer that are held back, and what their writers wait for."""

from __future__ import annotations

import asyncio

from tornado.iostream import StreamClosedError

__all__ = ["Held", "refused"]


class Held:
    """A queue of ``chunks``, each with the future that its writer was given.

    As in Tornado, a writer need not wait for it: an error that nobody looks at
    is not complained of.
    """

    def __init__(self) -> None:
        self.chunks: list[bytes | None] = []
        self._futures: list[asyncio.Future[None]] = []

    def add(self, chunk: bytes | None) -> asyncio.Future[None]:
        """Hold ``chunk``; return the future of its being written."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.chunks.append(chunk)
        self._futures.append(future)
        return future

    def end_as(self, written: asyncio.Future[None]) -> None:
        """Let all futures end as ``written`` does.

        An HTTP/1 connection resolves only the future of its newest write.
        """
        if written.done():
            self._end(written)
        else:
            written.add_done_callback(self._end)

    def _end(self, written: asyncio.Future[None]) -> None:
        error = StreamClosedError() if written.cancelled() else written.exception()
        if error is not None:
            self.refuse(error)
            return
        for future in self._futures:
            if not future.done():
                future.set_result(None)

    def refuse(self, error: BaseException) -> None:
        """Let all futures end with ``error``."""
        for future in self._futures:
            if not future.done():
                future.set_exception(error)
                future.exception()


def refused(error: BaseException) -> asyncio.Future[None]:
    """Return the future of a piece that is not taken any more."""
    held = Held()
    future = held.add(None)
    held.refuse(error)
    return future
