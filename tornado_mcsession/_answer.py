"""An answer, and what a gate asks of the request that it is the answer to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple, Protocol

from tornado.httputil import HTTPHeaders, ResponseStartLine

__all__ = ["Cycle", "Head", "Pending"]


class Head(NamedTuple):
    """The start line and headers of an answer."""

    start_line: ResponseStartLine
    headers: HTTPHeaders


# What an answer waits for: all of a save, or the first answer to it.
Pending = Coroutine[Any, Any, None] | asyncio.Future[Any]


class Cycle(Protocol):
    """What a gate asks of the request that it stands for."""

    def decide(self, status: int, *, final: bool) -> Pending | None:
        """Return what the answer must wait for, or `None` if it need not.

        ``final`` tells that the handler has finished its answer. Only then it may
        be a future, which is handed to `settle` when it is done.
        """

    def settle(self, answer: asyncio.Future[Any]) -> Coroutine[Any, Any, None] | None:
        """Return what else the answer must wait for, or `None` if nothing."""

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work``, whatever becomes of the request's own task."""

    def leave(self, headers: HTTPHeaders, *, final: bool) -> None:
        """Complete ``headers``, which are about to leave."""

    def replacement(self, head: Head, error: Exception) -> tuple[Head, bytes]:
        """Return the answer to send instead, since the session is not stored."""

    def finished(self) -> None:
        """Note that the handler can change nothing any more."""
