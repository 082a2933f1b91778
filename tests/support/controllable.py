"""A store whose operations a test holds, fails and counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tornado_mcsession import CasResult, MemoryStore
from tornado_mcsession.testing import FaultyStore, Held


class ControllableStore(FaultyStore):
    """A `FaultyStore` in memory, where what is held has the name of its operation.

    With ``by_future`` a cas is under way when `cas` returns. Nothing times out.
    """

    keeps_deadline = True

    def __init__(
        self, clock: Callable[[], float] = time.time, *, by_future: bool = False
    ) -> None:
        super().__init__(MemoryStore(clock=clock))
        self.by_future = by_future
        self._named: dict[str, Held] = {}

    def hold(self, operation: Any) -> Held:
        """Let the calls of ``operation`` wait until `release`."""
        self._named[operation] = held = super().hold(operation, times=None)
        return held

    async def reached(self, operation: str) -> asyncio.Task[Any] | None:
        """Wait until a call of ``operation`` is held; return the task it is held in."""
        return await self._named[operation].reached()

    def release(self, operation: str) -> None:
        """Let held calls of ``operation`` go on, and later ones pass."""
        self._named.pop(operation).release()

    def fail(self, operation: Any, error: Exception | None = None) -> None:
        """Let the next call of ``operation`` raise; by default: unavailable."""
        super().fail(operation, error=error)

    def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> Awaitable[CasResult]:
        answer = super().cas(key, data, ttl, token, flags)
        return asyncio.ensure_future(answer) if self.by_future else answer
