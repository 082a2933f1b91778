"""One memcached node: its threads, its connections, and whether it answers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

from .._calls import Call, TimedOut
from .._executor import CoalescingExecutor, Overloaded, Stopped
from .._forks import generation
from ..exceptions import StoreUnavailable
from ._breaker import Breaker
from ._connection import LinkMaker
from ._wire import Wire

__all__ = ["Limits", "Node"]

# Between two tries of an operation that waits for the node, at least.
_PAUSE = 0.05
# Done twice, they come to the same.
_REPEATABLE = ("get", "touch", "delete")
_HEALTH, _HEALTH_TTL = "mcsession:health", 5
_OVERLOADED = "too many operations are waiting"


class Limits(NamedTuple):
    """What a node is allowed: times in seconds, and numbers."""

    timeout: float
    reconnect_timeout: float
    threads: int
    max_pending: int


class _Patient(NamedTuple):
    """An operation that waits for the node to come back."""

    loop: asyncio.AbstractEventLoop
    event: asyncio.Event


class Node:
    """A memcached server, asked through connections and threads of its own.

    ``server`` is host and port, or the path of a Unix socket. All methods of
    the blocking client run in the node's threads; results and errors come back
    as the store's. ``on_change`` is called with the node, whether it answers,
    and whether it did before, on an event loop that waits for an answer.
    """

    def __init__(
        self,
        name: str,
        server: Any,
        links: LinkMaker,
        on_change: Callable[[Node, bool, bool | None], None],
        limits: Limits,
        executor: Executor | None,
    ) -> None:
        self.name = name
        self._server = server
        self._links = links
        self._on_change = on_change
        self._limits = limits
        self._executor = CoalescingExecutor(
            self._run,
            timeout=limits.timeout,
            threads=limits.threads,
            max_pending=limits.max_pending,
            executor=executor,
            explain=self._explained,
        )
        self._told: bool | None = None
        self._begin()

    def _begin(self) -> None:
        self._generation = generation()
        self._lock = threading.Lock()
        self._patient: set[_Patient] = set()
        self._breaker = Breaker(self._limits.timeout)
        self._wire = Wire(
            self.name,
            self._server,
            self._links,
            self._breaker,
            timeout=self._limits.timeout,
            threads=self._limits.threads,
        )

    def _leave_parent(self) -> None:
        # Locks that a thread of the parent held at the fork stay held for ever.
        self._wire.abandon()
        self._links.forget()
        self._begin()

    def stats(self) -> dict[str, Any]:
        """Return whether it answers, and how many operations there are.

        Those ``pending`` run or wait for a thread, those ``waiting`` for the
        node to come back.
        """
        return {
            "connected": self._breaker.answers,
            "pending": self._executor.pending,
            "waiting": len(self._patient),
            "breaker": self._breaker.state,
        }

    def submit(self, kind: str, *args: Any) -> asyncio.Future[Any]:
        """Hand an operation to the threads; its future raises a `.StoreError`."""
        if generation() != self._generation:
            self._leave_parent()
        if not self._breaker.admits() and not self._executor.is_stopped:
            raise self._wire.not_asked(kind)
        return self._submit(kind, args)

    def _submit(self, kind: str, args: tuple[Any, ...]) -> asyncio.Future[Any]:
        try:
            return self._executor.submit(kind, args)
        except Overloaded:
            raise StoreUnavailable(kind, self.name, _OVERLOADED) from None
        except Stopped as error:
            raise StoreUnavailable(kind, self.name, str(error)) from None

    def _explained(self, kind: str, error: Exception) -> Exception:
        if isinstance(error, Stopped):
            explained = StoreUnavailable(kind, self.name, str(error))
        elif isinstance(error, TimedOut):
            explained = StoreUnavailable(
                kind,
                self.name,
                f"no answer within {self._limits.timeout:g} s",
                outcome_unknown=error.started and kind != "get",
            )
        else:
            return error
        explained.__cause__ = error
        return explained

    def ask(self, kind: str, *args: Any) -> Awaitable[Any]:
        """Return the answer to an operation; wait for the node if it is away.

        That to a ``get`` of several keys is a dict of what was found. Where the
        node is not waited for, the answer is a future, and an operation that is
        refused raises at once.
        """
        if self._limits.reconnect_timeout:
            return self._ask_patiently(kind, *args)
        return self.submit(kind, *args)

    async def _ask_patiently(self, kind: str, *args: Any) -> Any:
        try:
            return await self.submit(kind, *args)
        except StoreUnavailable as error:
            if (
                not self._is_away(kind, error)
                or len(self._patient) >= self._limits.max_pending
            ):
                raise
            failure = error
        waiting = _Patient(asyncio.get_running_loop(), asyncio.Event())
        self._patient.add(waiting)
        try:
            return await self._ask_again(waiting, failure, kind, *args)
        finally:
            self._patient.discard(waiting)

    async def _ask_again(
        self, waiting: _Patient, failure: StoreUnavailable, kind: str, *args: Any
    ) -> Any:
        limit = time.monotonic() + self._limits.reconnect_timeout
        while (left := limit - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                pause = max(_PAUSE, self._breaker.seconds_to_probe())
                await asyncio.wait_for(waiting.event.wait(), min(pause, left))
            waiting.event.clear()
            try:
                return await self.submit(kind, *args)
            except StoreUnavailable as error:
                failure = error
                if not self._is_away(kind, error):
                    break
        raise failure

    def _is_away(self, kind: str, error: StoreUnavailable) -> bool:
        # A write that may have been done is looked for by those who know it.
        if error.outcome_unknown and kind not in _REPEATABLE:
            return False
        if self._executor.is_stopped:
            return False
        timed_out = isinstance(error.__cause__, TimedOut) and error.__cause__.started
        return timed_out or self._breaker.answers is False

    async def ping(self) -> float:
        """Try whether the node keeps things; return how long it took.

        It is asked also while the breaker is open. Raises `.StoreError`, also
        where it is there and takes nothing, or without cas. Leaves an item of
        no bytes for a few seconds.
        """
        if generation() != self._generation:
            self._leave_parent()
        self._breaker.probe()
        began = time.monotonic()
        await self._submit("add", (_HEALTH, b"", _HEALTH_TTL))
        await self._submit("get", (_HEALTH,))
        return time.monotonic() - began

    async def close(self) -> None:
        """Wait for the threads, then close the connections."""
        if generation() != self._generation:
            self._leave_parent()
        await self._executor.stop()
        self._wake()
        self._wire.close()

    def _run(self, calls: Sequence[Call]) -> None:
        # In one of the node's threads.
        self._wire.run(calls)
        if self._breaker.answers is not self._told:
            calls[0].side.call_soon(self._tell)

    def _tell(self) -> None:
        with self._lock:
            before, now = self._told, self._breaker.answers
            self._told = now
        if now is None or now is before:
            return
        if now:
            self._wake()
        self._on_change(self, now, before)

    @property
    def reason(self) -> str:
        """Why it did not answer, the last time that it did not."""
        return self._wire.reason

    def _wake(self) -> None:
        for waiting in list(self._patient):
            with contextlib.suppress(RuntimeError):  # its loop is closed
                waiting.loop.call_soon_threadsafe(waiting.event.set)
