"""A store that does to single operations what a test's script says."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tornado_mcsession import CasResult, Entry, MemoryStore, Store, StoreUnavailable
from tornado_mcsession.stores.base import NodeCallback

Operate = Callable[[], Awaitable[Any]]
Action = Callable[[Operate], Awaitable[Any]]

TIMEOUT = 10.0
WRITES = ("add", "cas", "touch", "delete")


class ScriptedStore(Store):
    """Passes operations on to ``inner``, unless a script says otherwise.

    ``calls`` names the operations that were begun, ``keys`` are those something was
    written to, and ``ttls`` the seconds that each key was last written for. ``late``
    holds operations that the network has delayed, see `late`.
    """

    keeps_deadline = True

    def __init__(self, inner: Store | None = None) -> None:
        self.inner = MemoryStore() if inner is None else inner
        self.timeout = self.inner.timeout
        self.calls: list[str] = []
        self.keys: set[str] = set()
        self.ttls: dict[str, float] = {}
        self.late: list[Operate] = []
        self.scripts: dict[str, list[Action]] = defaultdict(list)
        self._always: dict[str, Action] = {}
        self._on_connect: list[NodeCallback] = []

    def script(self, operation: str, *actions: Action) -> None:
        """Do ``actions`` to the next calls of ``operation``, one to each.

        ``"write"`` stands for every operation that writes.
        """
        self.scripts[operation].extend(actions)

    def always(self, operation: str, action: Action | None) -> None:
        """Do ``action`` to every call of ``operation``; `None` ends that."""
        if action is None:
            self._always.pop(operation, None)
        else:
            self._always[operation] = action

    def forget_scripts(self) -> None:
        """Do every operation as it is asked for, from now on."""
        self.scripts.clear()
        self._always.clear()

    def on_connect(self, callback: NodeCallback) -> None:
        self._on_connect.append(callback)

    def connected(self) -> None:
        """Tell that the store answers again, as a store does that was out of reach."""
        for callback in self._on_connect:
            callback("scripted")

    async def arrive(self) -> None:
        """Let all delayed operations arrive, in the order in which they were sent."""
        while self.late:
            await self.late.pop(0)()

    async def get(self, key: str) -> Entry | None:
        return await self._do("get", lambda: self.inner.get(key))

    async def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        return await self._do("get", lambda: self.inner.get_many(keys))

    async def add(self, key: str, data: bytes, ttl: float, flags: int = 0) -> bool:
        self._note(key, ttl)
        return await self._do("add", lambda: self.inner.add(key, data, ttl))

    async def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> CasResult:
        self._note(key, ttl)
        return await self._do("cas", lambda: self.inner.cas(key, data, ttl, token))

    async def touch(self, key: str, ttl: float) -> bool:
        self._note(key, ttl)
        return await self._do("touch", lambda: self.inner.touch(key, ttl))

    async def delete(self, key: str) -> bool:
        return await self._do("delete", lambda: self.inner.delete(key))

    async def close(self) -> None:
        await self.inner.close()

    async def rewrite(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Change what is under ``key``, as another program does; no script sees it."""
        entry = await self.inner.get(key)
        assert entry is not None
        await self.inner.cas(key, change(entry.data), 86_400, entry.token)

    def _note(self, key: str, ttl: float) -> None:
        self.keys.add(key)
        self.ttls[key] = self.last_ttl = ttl

    async def _do(self, operation: str, operate: Operate) -> Any:
        self.calls.append(operation)
        for name in (operation, "write", "any"):
            if name == "write" and operation not in WRITES:
                continue
            if self.scripts[name]:
                return await self.scripts[name].pop(0)(operate)
            if name in self._always:
                return await self._always[name](operate)
        return await operate()

    # Actions.

    async def delayed(self, operate: Operate) -> Any:
        """No response comes; the operation is done when the test says `arrive`."""
        self.late.append(operate)
        raise unavailable(outcome_unknown=True)


class Hold:
    """An action that waits until the test lets it go."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._released = asyncio.Event()

    async def __call__(self, operate: Operate) -> Any:
        self._reached.set()
        await self._released.wait()
        return await operate()

    async def reached(self) -> None:
        """Wait until an operation is held."""
        async with asyncio.timeout(TIMEOUT):
            await self._reached.wait()

    def release(self) -> None:
        """Let it go on."""
        self._released.set()


def unavailable(*, outcome_unknown: bool = False) -> StoreUnavailable:
    """Return the error of a store that cannot tell."""
    return StoreUnavailable("scripted", "", "down", outcome_unknown=outcome_unknown)


async def done(operate: Operate) -> Any:
    """The operation is done; to skip a call in a script."""
    return await operate()


async def down(operate: Operate) -> Any:
    """The operation is not done, and that is known."""
    raise unavailable()


async def lost(operate: Operate) -> Any:
    """The operation is done, but its response never comes."""
    await operate()
    raise unavailable(outcome_unknown=True)


async def dropped(operate: Operate) -> Any:
    """The operation is not done, and no response comes."""
    raise unavailable(outcome_unknown=True)


async def twice(operate: Operate) -> Any:
    """The operation is done, its response lost, and it is sent once more."""
    await operate()
    return await operate()


def answers(value: object) -> Action:
    """The operation is not done, but is answered by ``value``."""

    async def act(operate: Operate) -> Any:
        return value

    return act


def after(meanwhile: Operate, then: Action = done) -> Action:
    """Another request does ``meanwhile``, right before the operation."""

    async def act(operate: Operate) -> Any:
        await meanwhile()
        return await then(operate)

    return act


def before(meanwhile: Operate, then: Action = done) -> Action:
    """Another request does ``meanwhile``, right after the operation."""

    async def act(operate: Operate) -> Any:
        try:
            return await then(operate)
        finally:
            await meanwhile()

    return act
