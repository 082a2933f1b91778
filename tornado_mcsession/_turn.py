"""One task at a time on a session."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

__all__ = ["Turn"]

# Which turns the running task, or one that it came from, has at the moment.
_TURNS: ContextVar[tuple[object, ...]] = ContextVar("turns", default=())


class Turn:
    """Lets one task at a time work on a session.

    For a task that has the turn already, and for those that it starts and waits
    for, it would never come: RuntimeError.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._mark: object = None

    def refuse_holder(self) -> None:
        """Raise where the running task has the turn already."""
        if self._mark is not None and self._mark in _TURNS.get():
            raise RuntimeError(
                "the session is being saved: a hook, or a function that transact "
                "calls, cannot await its methods"
            )

    async def __aenter__(self) -> None:
        self.refuse_holder()
        await self._lock.acquire()
        self._mark = object()
        self._before = _TURNS.set((*_TURNS.get(), self._mark))

    async def __aexit__(self, *_: object) -> None:
        self._mark = None
        _TURNS.reset(self._before)
        self._lock.release()
