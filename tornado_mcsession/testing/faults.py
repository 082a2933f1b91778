"""A store that fails when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from ..checks import one_of
from ..exceptions import StoreUnavailable
from ..stores.base import CasResult, Entry, NodeCallback, Store
from ..stores.memory import MemoryStore

__all__ = ["FaultyStore", "Held", "Operation"]

Operation = Literal["get", "add", "cas", "touch", "delete"]
"""What a fault may be about. ``"get"`` stands for `.Store.get_many`, too."""

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
NODE = "faulty"
# Longer than any test waits for an operation to begin.
PATIENCE = 30.0

T = TypeVar("T")
Operate = Callable[[], Awaitable[T]]


class Held:
    """The calls that wait because of `FaultyStore.hold`."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._released = asyncio.Event()

    async def reached(self) -> None:
        """Wait until a call has begun to wait. Raises `TimeoutError` after 30 s."""
        async with asyncio.timeout(PATIENCE):
            await self._reached.wait()

    def release(self) -> None:
        """Let the waiting calls go on, and later ones pass."""
        self._released.set()

    async def _wait(self) -> None:
        self._reached.set()
        await self._released.wait()


@dataclass
class _Fault:
    kind: Literal["fail", "lose", "wait"]
    operations: tuple[Operation, ...]
    skip: int
    left: int | None
    wait: Callable[[], Awaitable[object]] | None = None


class FaultyStore(Store):
    """A store around ``inner`` that fails on cue; by default around a `.MemoryStore`.

    Give it to the application as the setting ``store``::

        store = FaultyStore()
        store.fail("get")               # the next get raises StoreUnavailable
        store.lose("cas")               # the next cas is done, but raises
        store.delay(0.5, "add")         # the next add takes half a second longer
        store.fail("cas", skip=1)       # the second cas from now on raises
        store.fail("get", times=None)   # each get raises until up() is called
        store.down()                    # everything raises until up() is called

    Operations that are not named mean all of them. ``skip`` calls pass first; then
    ``times`` calls have the fault, or all calls if ``times`` is `None`. A call has
    one fault at most: if several are due, the one that was asked for first.

    ``calls`` lists the operations in the order in which they began.

    An operation that takes longer than ``timeout`` seconds is ended by the session
    manager, like one to which a server does not respond. By default it is the timeout
    of ``inner``.
    """

    def __init__(
        self, inner: Store | None = None, *, timeout: float | None = None
    ) -> None:
        self.inner = MemoryStore() if inner is None else inner
        self.timeout = self.inner.timeout if timeout is None else timeout
        self.reconnect_timeout = self.inner.reconnect_timeout
        self.calls: list[Operation] = []
        self._faults: list[_Fault] = []
        self._held: list[Held] = []
        self._is_down = False
        self._on_connect: list[NodeCallback] = []
        self._on_disconnect: list[NodeCallback] = []

    def __repr__(self) -> str:
        return f"<FaultyStore {self.inner!r}>"

    def fail(
        self, *operations: Operation, skip: int = 0, times: int | None = 1
    ) -> None:
        """Let calls raise `.StoreUnavailable` with nothing done."""
        self._add("fail", operations, skip, times)

    def lose(
        self, *operations: Operation, skip: int = 0, times: int | None = 1
    ) -> None:
        """Let calls be done, and raise `.StoreUnavailable` all the same.

        As if the server's response was lost on its way: ``outcome_unknown`` is true.
        """
        self._add("lose", operations, skip, times)

    def delay(
        self,
        seconds: float,
        *operations: Operation,
        skip: int = 0,
        times: int | None = 1,
    ) -> None:
        """Let calls take ``seconds`` longer."""
        self._add("wait", operations, skip, times, lambda: asyncio.sleep(seconds))

    def hold(
        self, *operations: Operation, skip: int = 0, times: int | None = 1
    ) -> Held:
        """Let calls wait until the test releases them, or until they time out.

        For two requests at once whose order matters::

            held = store.hold("cas")
            slow = asyncio.create_task(client.fetch("/cart", method="POST", body=""))
            await held.reached()
            ...                       # do something else meanwhile
            held.release()
            await slow
        """
        held = Held()
        self._held.append(held)
        self._add("wait", operations, skip, times, held._wait)
        return held

    def down(self) -> None:
        """Let every call raise `.StoreUnavailable` until `up`.

        Calls what was given to `on_disconnect`, like a store whose server is gone.
        """
        self._is_down = True
        self._tell(self._on_disconnect)

    def up(self) -> None:
        """End all faults, and release what is held.

        Calls what was given to `on_connect` after `down`: the session manager then
        finishes the logouts that could not be confirmed.
        """
        was_down, self._is_down = self._is_down, False
        self._faults.clear()
        for held in self._held:
            held.release()
        self._held.clear()
        if was_down:
            self._tell(self._on_connect)

    def _tell(self, callbacks: Sequence[NodeCallback]) -> None:
        for callback in callbacks:
            callback(NODE)

    def _add(
        self,
        kind: Literal["fail", "lose", "wait"],
        operations: tuple[Operation, ...],
        skip: int,
        times: int | None,
        wait: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        for operation in operations:
            one_of("operation", operation, OPERATIONS)
        chosen = operations or OPERATIONS
        self._faults.append(_Fault(kind, chosen, skip, times, wait))

    def _due(self, operation: Operation) -> _Fault | None:
        due: _Fault | None = None
        for fault in self._faults:
            if operation not in fault.operations:
                continue
            if fault.skip:
                fault.skip -= 1
            elif due is None:
                due = fault
        if due is not None and due.left is not None:
            due.left -= 1
            if due.left <= 0:
                self._faults.remove(due)
        return due

    async def _do(self, operation: Operation, operate: Operate[T]) -> T:
        self.calls.append(operation)
        if self._is_down:
            raise StoreUnavailable(operation, NODE, "the test's store is down")
        fault = self._due(operation)
        if fault is None:
            return await operate()
        if fault.kind == "fail":
            raise StoreUnavailable(operation, NODE, "the test lets it fail")
        if fault.wait is not None:
            await fault.wait()
        result = await operate()
        if fault.kind == "lose":
            raise StoreUnavailable(
                operation, NODE, "the test loses the response", outcome_unknown=True
            )
        return result

    # The operations of a store.

    async def get(self, key: str) -> Entry | None:
        return await self._do("get", lambda: self.inner.get(key))

    async def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        return await self._do("get", lambda: self.inner.get_many(keys))

    async def add(self, key: str, data: bytes, ttl: float, flags: int = 0) -> bool:
        more = _given(flags)
        return await self._do("add", lambda: self.inner.add(key, data, ttl, *more))

    async def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> CasResult:
        more = _given(flags)
        return await self._do(
            "cas", lambda: self.inner.cas(key, data, ttl, token, *more)
        )

    async def touch(self, key: str, ttl: float) -> bool:
        return await self._do("touch", lambda: self.inner.touch(key, ttl))

    async def delete(self, key: str) -> bool:
        return await self._do("delete", lambda: self.inner.delete(key))

    async def close(self) -> None:
        await self.inner.close()

    def node_of(self, key: str) -> str:
        return self.inner.node_of(key)

    def stop_waiting(self) -> None:
        self.inner.stop_waiting()

    def on_connect(self, callback: NodeCallback) -> None:
        self._on_connect.append(callback)
        self.inner.on_connect(callback)

    def on_disconnect(self, callback: NodeCallback) -> None:
        self._on_disconnect.append(callback)
        self.inner.on_disconnect(callback)

    def stats(self) -> dict[str, Any]:
        return self.inner.stats()

    async def health(self) -> dict[str, dict[str, Any]]:
        nodes = await self.inner.health()
        if not self._is_down:
            return nodes
        failed = {"ok": False, "error": "the test's store is down"}
        return {node: dict(failed) for node in nodes or [NODE]}


def _given(flags: int) -> tuple[int, ...]:
    """Return the flags to pass on: a store of a user's own may know none."""
    return () if flags == 0 else (flags,)
