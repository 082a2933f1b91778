"""A store that fails when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

from ..checks import kind_of, positive_int
from ..exceptions import StoreUnavailable
from ..stores.base import CasResult, Entry, NodeCallback, Store
from ..stores.memory import MemoryStore

__all__ = ["FaultyStore", "Held", "Operation"]

Operation = Literal["get", "add", "cas", "touch", "delete"]
"""What a fault may be about. ``"get"`` stands for `.Store.get_many`, too."""

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
_OPERATION = kind_of(Operation)
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
        self._task: asyncio.Task[Any] | None = None

    async def reached(self) -> asyncio.Task[Any] | None:
        """Wait until a call has begun to wait; return the task that waits.

        Raises `TimeoutError` after 30 seconds.
        """
        async with asyncio.timeout(PATIENCE):
            await self._reached.wait()
        return self._task

    def release(self) -> None:
        """Let the waiting calls go on, and later ones pass."""
        self._released.set()

    @property
    def is_released(self) -> bool:
        """Whether calls pass."""
        return self._released.is_set()

    async def wait(self) -> None:
        """Wait until it is released, as a call does that is held."""
        self._task = asyncio.current_task()
        self._reached.set()
        await self._released.wait()


class Failure(NamedTuple):
    """What a call raises, and whether its operation is done before."""

    error: Exception | None
    is_done: bool


@dataclass
class Fault(Generic[T]):
    """``what`` happens to ``left`` calls, or to all of them, after ``skip`` others."""

    operations: tuple[Operation, ...]
    skip: int
    left: int | None
    what: T


class FaultyStore(Store):
    """A store around ``inner`` that fails on cue; by default around a `.MemoryStore`.

    Give it to the application as the setting ``store``::

        store = FaultyStore()
        store.fail("get")               # the next get raises StoreUnavailable
        store.lose("cas")               # the next cas is done, and then raises
        store.delay(0.5, "add")         # the next add takes half a second longer
        store.fail("cas", skip=1)       # the second cas from now on raises
        store.fail("get", times=None)   # each get raises until up() is called
        store.down()                    # everything raises until up() is called

    Operations that are not named mean all of them. ``skip`` calls pass first; then
    ``times`` calls have the fault, or all of them if ``times`` is `None`. A call is
    delayed or held once, and fails once: a second ``fail("get")`` is for the call
    after the next one.

    ``calls`` lists the operations in the order in which they began. ``is_down`` says
    whether `down` was called.

    An operation that takes longer than ``timeout`` seconds is ended by the session
    manager, like one to which a server does not respond. By default it is the timeout
    of ``inner``.
    """

    def __init__(
        self, inner: Store | None = None, *, timeout: float | None = None
    ) -> None:
        self.inner: Store = MemoryStore() if inner is None else inner
        self.timeout: float = self.inner.timeout if timeout is None else timeout
        self.reconnect_timeout: float = self.inner.reconnect_timeout
        self.calls: list[Operation] = []
        self.is_down: bool = False
        self._pauses: list[Fault[Held | float]] = []
        self._failures: list[Fault[Failure]] = []
        self._on_connect: list[NodeCallback] = []
        self._on_disconnect: list[NodeCallback] = []

    def __repr__(self) -> str:
        return f"<FaultyStore {self.inner!r}>"

    def fail(
        self,
        *operations: Operation,
        skip: int = 0,
        times: int | None = 1,
        error: Exception | None = None,
    ) -> None:
        """Let calls do nothing and raise ``error``; by default `.StoreUnavailable`."""
        self._failures.append(_fault(operations, skip, times, Failure(error, False)))

    def lose(
        self, *operations: Operation, skip: int = 0, times: int | None = 1
    ) -> None:
        """Let calls be done, and raise `.StoreUnavailable` all the same.

        As if the server's response was lost on its way: ``outcome_unknown`` is true.
        """
        self._failures.append(_fault(operations, skip, times, Failure(None, True)))

    def delay(
        self,
        seconds: float,
        *operations: Operation,
        skip: int = 0,
        times: int | None = 1,
    ) -> None:
        """Let calls take ``seconds`` longer."""
        self._pauses.append(_fault(operations, skip, times, seconds))

    def hold(
        self, *operations: Operation, skip: int = 0, times: int | None = 1
    ) -> Held:
        """Let calls wait until the test releases them, or until they time out.

        For two requests whose order matters::

            held = store.hold("cas")
            slow = asyncio.create_task(client.fetch("/cart", method="POST", body=""))
            await held.reached()
            ...                       # do something else meanwhile
            held.release()
            await slow
        """
        held = Held()
        self._pauses.append(_fault(operations, skip, times, held))
        return held

    def down(self) -> None:
        """Let every call raise `.StoreUnavailable` until `up`.

        Calls the callbacks of `.Store.on_disconnect`, like a store whose server is
        gone.
        """
        self.is_down = True
        for callback in self._on_disconnect:
            callback(NODE)

    def up(self) -> None:
        """End all faults, and release what is held.

        Calls the callbacks of `.Store.on_connect` if the store was down. The session
        manager then finishes the logouts that could not be confirmed.
        """
        was_down, self.is_down = self.is_down, False
        self._failures.clear()
        for pause in self._pauses:
            if isinstance(pause.what, Held):
                pause.what.release()
        self._pauses.clear()
        if was_down:
            for callback in self._on_connect:
                callback(NODE)

    async def _do(self, operation: Operation, operate: Operate[T]) -> T:
        self.calls.append(operation)
        if self.is_down:
            raise StoreUnavailable(operation, NODE, "the test's store is down")
        self._pauses = [pause for pause in self._pauses if not _is_over(pause.what)]
        pause, failure = _due(self._pauses, operation), _due(self._failures, operation)
        if isinstance(pause, Held):
            await pause.wait()
        elif pause is not None:
            await asyncio.sleep(pause)
        if failure is None:
            return await operate()
        if failure.is_done:
            await operate()
            raise StoreUnavailable(
                operation, NODE, "the test loses the response", outcome_unknown=True
            )
        raise failure.error or StoreUnavailable(operation, NODE, "the test says so")

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
        if not self.is_down:
            return nodes
        failed = {"ok": False, "error": "the test's store is down"}
        return {node: dict(failed) for node in nodes or [NODE]}


def _given(flags: int) -> tuple[int, ...]:
    """Return the flags to pass on: a store of a user's own may know none."""
    return () if flags == 0 else (flags,)


def _fault(
    operations: tuple[Operation, ...], skip: int, times: int | None, what: T
) -> Fault[T]:
    for operation in operations:
        _OPERATION.check("operation", operation)
    if skip:
        positive_int("skip", skip)
    if times is not None:
        positive_int("times", times)
    return Fault(operations or OPERATIONS, skip, times, what)


def _is_over(pause: Held | float) -> bool:
    return isinstance(pause, Held) and pause.is_released


def _due(faults: list[Fault[T]], operation: Operation) -> T | None:
    """Count a call of ``operation``; return what is to happen to it, if anything."""
    due: Fault[T] | None = None
    for fault in faults:
        if operation not in fault.operations:
            continue
        if fault.skip:
            fault.skip -= 1
        elif due is None:
            due = fault
    if due is None:
        return None
    if due.left is not None:
        due.left -= 1
        if due.left == 0:
            faults.remove(due)
    return due.what
