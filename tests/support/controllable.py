"""A store whose operations a test holds, fails and counts."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from tornado_mcsession import MemoryStore, Store
from tornado_mcsession.exceptions import StoreUnavailable
from tornado_mcsession.stores.base import CasResult, Entry

TIMEOUT = 10.0


class _Hold:
    """The calls of one operation that wait for the test."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.released = asyncio.Event()
        self.task: asyncio.Task[Any] | None = None


class ControllableStore(Store):
    """A `MemoryStore` that works, waits or fails as a test tells it.

    ``calls`` names the operations that were begun, in their order. With
    ``by_future`` a cas is under way when `cas` returns. While ``is_down`` it cannot
    be asked.
    """

    keeps_deadline = True
    is_down = False

    def __init__(
        self, clock: Callable[[], float] = time.time, *, by_future: bool = False
    ) -> None:
        self.inner = MemoryStore(clock=clock)
        self.by_future = by_future
        self.calls: list[str] = []
        self._holds: dict[str, _Hold] = {}
        self._failures: dict[str, list[Exception]] = defaultdict(list)
        self._callbacks: list[Callable[[str], object]] = []

    def on_connect(self, callback: Callable[[str], object]) -> None:
        self._callbacks.append(callback)

    def come_back(self) -> None:
        """Answer again, and tell so, as a store with connections does."""
        self.is_down = False
        for callback in self._callbacks:
            callback("node")

    def hold(self, operation: str) -> None:
        """Let the calls of ``operation`` wait until `release`."""
        self._holds[operation] = _Hold()

    async def reached(self, operation: str) -> asyncio.Task[Any] | None:
        """Wait until a call of ``operation`` is held; return the task it is held in."""
        hold = self._holds[operation]
        async with asyncio.timeout(TIMEOUT):
            await hold.reached.wait()
        return hold.task

    def release(self, operation: str) -> None:
        """Let held calls of ``operation`` go on, and later ones pass."""
        self._holds.pop(operation).released.set()

    def fail(self, operation: str, error: Exception | None = None) -> None:
        """Let the next call of ``operation`` raise; by default: unavailable."""
        error = error or StoreUnavailable(operation, "", "the test says so")
        self._failures[operation].append(error)

    async def get(self, key: str) -> Entry | None:
        await self._turn("get")
        return await self.inner.get(key)

    async def add(self, key: str, data: bytes, ttl: float, flags: int = 0) -> bool:
        await self._turn("add")
        return await self.inner.add(key, data, ttl)

    def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> Awaitable[CasResult]:
        answer = self._cas(key, data, ttl, token)
        return asyncio.ensure_future(answer) if self.by_future else answer

    async def _cas(self, key: str, data: bytes, ttl: float, token: Any) -> CasResult:
        await self._turn("cas")
        return await self.inner.cas(key, data, ttl, token)

    async def touch(self, key: str, ttl: float) -> bool:
        await self._turn("touch")
        return await self.inner.touch(key, ttl)

    async def delete(self, key: str) -> bool:
        await self._turn("delete")
        return await self.inner.delete(key)

    async def close(self) -> None:
        await self.inner.close()

    async def _turn(self, operation: str) -> None:
        self.calls.append(operation)
        if self.is_down:
            raise StoreUnavailable(operation, "", "the test says so")
        hold = self._holds.get(operation)
        if hold is not None:
            hold.task = asyncio.current_task()
            hold.reached.set()
            await hold.released.wait()
        if self._failures[operation]:
            raise self._failures[operation].pop(0)
