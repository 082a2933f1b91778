"""A store that does to single operations what a test's script says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from tornado_mcsession import CasResult, Entry, Store, StoreUnavailable

Operate = Callable[[], Awaitable[Any]]
Action = Callable[[Operate], Awaitable[Any]]


class ScriptedStore(Store):
    """Passes operations on to ``inner``.

    ``calls`` names the operations it was asked for, ``ttls`` and ``keys`` are those
    that something was to be stored with.
    """

    keeps_deadline = True

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.timeout = inner.timeout
        self.calls: list[str] = []
        self.ttls: list[float] = []
        self.keys: set[str] = set()
        self.scripts: dict[str, list[Action]] = defaultdict(list)

    def script(self, operation: str, *actions: Action) -> None:
        """Do ``actions`` to the next calls of ``operation``, one to each."""
        self.scripts[operation].extend(actions)

    async def _do(self, operation: str, operate: Operate) -> Any:
        self.calls.append(operation)
        if self.scripts[operation]:
            return await self.scripts[operation].pop(0)(operate)
        return await operate()

    async def get(self, key: str) -> Entry | None:
        return await self._do("get", lambda: self.inner.get(key))

    async def add(self, key: str, data: bytes, ttl: float) -> bool:
        self.ttls.append(ttl)
        self.keys.add(key)
        return await self._do("add", lambda: self.inner.add(key, data, ttl))

    async def cas(self, key: str, data: bytes, ttl: float, token: Any) -> CasResult:
        self.ttls.append(ttl)
        return await self._do("cas", lambda: self.inner.cas(key, data, ttl, token))

    async def touch(self, key: str, ttl: float) -> bool:
        return await self._do("touch", lambda: self.inner.touch(key, ttl))

    async def delete(self, key: str) -> bool:
        return await self._do("delete", lambda: self.inner.delete(key))

    async def close(self) -> None:
        await self.inner.close()


def unavailable(*, outcome_unknown: bool = False) -> StoreUnavailable:
    """The error of a store that cannot tell."""
    return StoreUnavailable("scripted", "", "down", outcome_unknown=outcome_unknown)


async def down(operate: Operate) -> Any:
    """The operation is not done, and that is known."""
    raise unavailable()


async def lost(operate: Operate) -> Any:
    """The operation is done, but its answer never comes."""
    await operate()
    raise unavailable(outcome_unknown=True)


async def twice(operate: Operate) -> Any:
    """The operation is done, its answer lost, and it is done once more."""
    await operate()
    return await operate()


async def dropped(operate: Operate) -> Any:
    """The operation is not done, and its answer never comes."""
    raise unavailable(outcome_unknown=True)


def answers(value: object) -> Action:
    """The operation is not done, but is answered by ``value``."""

    async def act(operate: Operate) -> Any:
        return value

    return act


def after(meanwhile: Operate, then: Action | None = None) -> Action:
    """Another request does ``meanwhile``, right before the operation."""

    async def act(operate: Operate) -> Any:
        await meanwhile()
        return await (operate() if then is None else then(operate))

    return act
