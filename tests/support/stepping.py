"""Interleavings of a test's choice: each store operation waits to be let go."""

from __future__ import annotations

import asyncio
import enum
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from tornado_mcsession import CasResult, Entry, MemoryStore, Store, StoreUnavailable


class Fate(enum.Enum):
    """What becomes of a store operation when it is let go."""

    DONE = "done"
    LOST = "done, but its answer is lost"
    LATE = "no answer; it is done later, if it writes"


class Step(NamedTuple):
    """Which of the waiting operations goes next, and its fate."""

    index: int
    fate: Fate = Fate.DONE


class SteppedStore(Store):
    """Keeps the contract by ``inner``, but runs an operation only when let go."""

    keeps_deadline = True

    def __init__(self, inner: Store | None = None) -> None:
        self.inner = inner or MemoryStore()
        self.waiting: list[asyncio.Future[Fate]] = []
        self.late: list[Callable[[], Awaitable[Any]]] = []
        self.keys: set[str] = set()
        self.is_stepped = True

    async def get(self, key: str) -> Entry | None:
        return await self._do("get", lambda: self.inner.get(key))

    async def add(self, key: str, data: bytes, ttl: float) -> bool:
        self.keys.add(key)
        return await self._do("add", lambda: self.inner.add(key, data, ttl))

    async def cas(self, key: str, data: bytes, ttl: float, token: Any) -> CasResult:
        return await self._do("cas", lambda: self.inner.cas(key, data, ttl, token))

    async def touch(self, key: str, ttl: float) -> bool:
        return await self._do("touch", lambda: self.inner.touch(key, ttl))

    async def delete(self, key: str) -> bool:
        return await self._do("delete", lambda: self.inner.delete(key))

    async def close(self) -> None:
        await self.inner.close()

    async def _do(self, kind: str, operation: Callable[[], Awaitable[Any]]) -> Any:
        if not self.is_stepped:
            return await operation()
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        fate = await turn
        if fate is Fate.DONE:
            return await operation()
        if fate is Fate.LOST:
            await operation()
        elif kind != "get":
            self.late.append(operation)
        raise StoreUnavailable(kind, "", "no answer", outcome_unknown=kind != "get")

    async def let_go(self, step: Step) -> None:
        """Let a waiting operation go, or one whose request has given it up."""
        index = step.index % (len(self.waiting) + len(self.late))
        if index < len(self.waiting):
            self.waiting.pop(index).set_result(step.fate)
        else:
            await self.late.pop(index - len(self.waiting))()


async def interleave(
    store: SteppedStore,
    works: Sequence[Coroutine[Any, Any, Any]],
    steps: Sequence[Step],
) -> list[Any]:
    """Run ``works`` at once; ``steps`` pick which operation goes next.

    Returns what each returned, or the exception that it raised.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    picks = iter(steps)
    while not all(task.done() for task in tasks):
        await _settled(store, tasks)
        if store.waiting:
            await store.let_go(next(picks, Step(0)))
    while store.late:
        await store.let_go(Step(0))
    return await asyncio.gather(*tasks, return_exceptions=True)


async def _settled(store: SteppedStore, tasks: Sequence[asyncio.Future[Any]]) -> None:
    # Until each task waits for its turn: a pause between two tries takes no time
    # on the loop below.
    for _ in range(10_000):
        if len(store.waiting) >= sum(not task.done() for task in tasks):
            return
        await asyncio.sleep(0.0005)
    raise AssertionError("a task waits for something else than the store")


class _NoWait(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout > 0:
            self.skipped += timeout
            timeout = 0
        return super().select(timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which waiting takes no time, and so is the same each run."""

    def __init__(self) -> None:
        self._no_wait = _NoWait()
        super().__init__(self._no_wait)

    def time(self) -> float:
        return self._no_wait.skipped


def run_virtually(work: Coroutine[Any, Any, Any]) -> Any:
    """Run ``work`` on a `VirtualLoop` of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
