"""One memcached node: its connections, its threads, and whether it responds."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor as GivenExecutor
from typing import Any

from pymemcache.pool import ObjectPool

from ...exceptions import StoreError, StoreUnavailable
from ..base import CasResult
from . import protocol
from .connection import Connector
from .errors import STALE, is_for_all, is_silence, reason, translate, was_sent
from .executor import Call, Executor, Limits, TimedOut, begun
from .protocol import Client

__all__ = ["Breaker", "Node"]

# Below the idle timeout that a server, or a firewall on the way, may have.
IDLE_TIMEOUT = 55
# A connection that does not respond for this share of an operation's time may have
# been forgotten by a firewall: the operation is asked again on a new one.
SHARE = 1 / 3
# Unless new connections were as slow, this many timeouts ago or less.
SLOW_FOR = 30
TRIES = 3
# More than this is not sent without looking whether it is taken.
MAX_BYTES = 256 * 1024
# Between two tries of an operation that waits for the node, at least.
_PAUSE = 0.05
# Done twice, they come to the same.
_REPEATABLE = ("get", "touch", "delete")
# So many new connections must find what was written on another one.
FRESH = 3
_HEALTH_TTL = 5
_SEVERAL = (
    "its connections lead to different servers: list the nodes one by one, each by "
    "an address of its own"
)
_ASKED_TWICE = "it was asked twice, and only the second response came"
# The results that leave open whether an earlier try was done, by kind.
_AMBIGUOUS: dict[str, tuple[Any, ...]] = {
    "add": (False,),
    "cas": (CasResult.CONFLICT, CasResult.MISSING),
    "touch": (),
    "delete": (),
}


class Node:
    """A memcached server, asked through connections and threads of its own.

    ``on_change`` is called with the node, whether it responds, and whether it did
    before, on an event loop that waits for it.
    """

    def __init__(
        self,
        name: str,
        address: tuple[str, int] | str,
        connector: Connector,
        limits: Limits,
        on_change: Callable[[Node, bool, bool | None], None],
        executor: GivenExecutor | None,
    ) -> None:
        self.name = name
        self.reason: str = ""
        """Why it did not respond, the last time that it did not."""
        self._address = address
        self._connector = connector
        self._limits = limits
        self._on_change = on_change
        self._executor = Executor(name, self._run, limits, executor)
        self._announced: bool | None = None
        self._gives_up = False
        self._begin()

    def _begin(self) -> None:
        self._breaker = Breaker(self._limits.timeout)
        self._slow_until = -math.inf
        self._lock = threading.Lock()
        # What wakes each of the operations that wait for the node to come back.
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._clients = ObjectPool(
            self._new_client, after_remove=Client.close, idle_timeout=IDLE_TIMEOUT
        )

    def _new_client(self) -> Client:
        return Client(self._address, socket_module=self._connector)

    def forked(self) -> None:
        """Begin anew in a child process, with connections of its own.

        Closing the child's copies of the parent's ends none of them.
        """
        for client in (*self._clients.used, *self._clients.free):
            client.close()
        self._connector.forked()
        self._executor.forked()
        self._begin()

    def stats(self) -> dict[str, Any]:
        """Return whether it responds, and how many operations there are.

        Those ``pending`` run or wait for a thread, those ``waiting`` for the
        node to come back.
        """
        return {
            "connected": self._breaker.answers,
            "pending": self._executor.pending,
            "waiting": len(self._waiting),
            "breaker": self._breaker.state,
        }

    # On the event loop.

    def ask(self, kind: str, request: Any) -> Awaitable[Any]:
        """Return the result of an operation; wait for the node if it is away.

        ``request`` is a command, or the key of a ``get``, or a tuple of keys: then the
        result is a dict of what was found. Where the node is not waited for, it is a
        future.
        """
        if self._limits.reconnect_timeout:
            return self._ask_patiently(kind, request)
        if self._breaker.state == CLOSED:
            return self._executor.submit(kind, request)
        return self._submit(kind, request)

    def _submit(self, kind: str, request: Any) -> asyncio.Future[Any]:
        # A stopped executor says so itself.
        if self._executor.is_stopped or self._breaker.admits():
            return self._executor.submit(kind, request)
        refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        refused.set_exception(self._not_asked(kind))
        return refused

    async def _ask_patiently(self, kind: str, request: Any) -> Any:
        try:
            return await self._submit(kind, request)
        except StoreUnavailable as error:
            is_full = len(self._waiting) >= self._limits.max_pending
            if is_full or not self._is_away(kind, error):
                raise
            failure = error
        woken = asyncio.Event()
        waiting = asyncio.get_running_loop(), woken
        self._waiting.add(waiting)
        limit = time.monotonic() + self._limits.reconnect_timeout
        try:
            while (left := limit - time.monotonic()) > 0 and not self._gives_up:
                pause = max(_PAUSE, self._breaker.seconds_to_probe())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), min(pause, left))
                woken.clear()
                try:
                    return await self._submit(kind, request)
                except StoreUnavailable as error:
                    failure = error
                    if not self._is_away(kind, error):
                        break
        finally:
            self._waiting.discard(waiting)
        raise failure

    def _is_away(self, kind: str, error: StoreUnavailable) -> bool:
        # The caller has to look whether a write that may have been done is there.
        if error.outcome_unknown and kind not in _REPEATABLE:
            return False
        if self._executor.is_stopped or self._gives_up:
            return False
        # Where it was silent, it may have answered to others since.
        cause = error.__cause__
        was_silent = isinstance(cause, Exception) and is_silence(cause)
        return (
            was_silent or isinstance(cause, TimedOut) or self._breaker.answers is False
        )

    async def health(self) -> dict[str, Any]:
        """Return whether the node keeps things, and how long it took or why not.

        The node is asked also while the breaker is open. It is not well where it
        takes nothing, has no cas, or its connections lead to different servers.
        """
        self._breaker.probe()
        try:
            return {"ok": True, "seconds": await self._executor.submit("ping", ())}
        except StoreError as error:
            return {"ok": False, "error": error.reason}

    def stop_waiting(self) -> None:
        """Let operations that wait for the node to come back fail now."""
        self._gives_up = True
        self._wake()

    async def close(self, timeout: float | None = None) -> None:
        """Wait for the threads, then close the connections."""
        self.stop_waiting()
        await self._executor.stop(timeout)
        self._clients.clear()

    def _wake(self) -> None:
        for loop, woken in list(self._waiting):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(woken.set)

    def _tell(self) -> None:
        with self._lock:
            before, now = self._announced, self._breaker.answers
            self._announced = now
        if now is None or now is before:
            return
        if now:
            self._wake()
        self._on_change(self, now, before)

    # In one of the node's threads.

    def _run(self, calls: list[Call]) -> None:
        reads: list[Call] = []
        writes: list[Call] = []
        size = 0
        for call in calls:
            if call.kind == "get":
                reads.append(call)
            elif call.kind == "ping":
                self._ping(call)
            else:
                writes.append(call)
                size += len(call.request)
        if reads:
            self._ask(reads)
        if size > MAX_BYTES:
            for call in writes:
                self._ask([call])
        elif writes:
            self._ask(writes)
        if self._breaker.answers is not self._announced:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                calls[0].waiters.loop.call_soon_threadsafe(self._tell)

    def _ask(self, calls: list[Call]) -> None:
        """Ask for ``calls``, all reads or all writes, and set their outcomes.

        They are asked together. Where one of them may have spoilt it for the others,
        each is asked alone: what was done already shows the second time.
        """
        calls = begun(calls)
        if not calls:
            return
        exchange = self._read if calls[0].kind == "get" else self._write
        deadline = calls[-1].deadline
        began = now = time.monotonic()
        for attempt in range(1, TRIES + 1):
            if self._breaker.state == OPEN:
                self._set_errors(calls, None)
                return
            client = self._clients.get()
            is_kept = False
            try:
                link = client.sock
                is_kept = link is not None and self._connector.trusts(link)
                if link is None or not is_kept:
                    client.close()
                    link = client.connect(deadline)
                else:
                    # A firewall may have forgotten it: it has a share of the time.
                    share = SHARE if now > self._slow_until else 1.0
                    link.deadline = now + share * (deadline - now)
                exchange(client, calls)
            except BaseException as error:
                # Also one that was raised from outside leaves the connection in the
                # middle of a response.
                self._clients.destroy(client)
                if not isinstance(error, Exception):
                    raise
                now = time.monotonic()
                is_forgotten = is_kept and isinstance(error, TimeoutError)
                is_stale = is_forgotten or isinstance(error, STALE)
                if is_stale and is_kept:
                    # The other connections met the same restart, or firewall.
                    self._connector.distrust()
                if not is_stale or attempt == TRIES or now >= deadline:
                    self._failed(calls, error, began, deadline)
                    return
                if was_sent(error):
                    _note_sent(calls)
                continue
            if attempt > 1 and not is_kept:
                # Where a new connection is as slow, the node is: asking it twice
                # does not help.
                now = time.monotonic()
                if now - link.made > SHARE * self._limits.timeout:
                    self._slow_until = now + SLOW_FOR * self._limits.timeout
            self._clients.release(client)
            self._breaker.answered()
            return

    def _read(self, client: Client, calls: list[Call]) -> None:
        keys: dict[str, None] = {}
        for call in calls:
            if isinstance(call.request, str):
                keys[call.request] = None
            else:
                keys.update(dict.fromkeys(call.request))
        found = client.read(keys)
        for call in calls:
            if isinstance(call.request, str):
                call.result = found.get(call.request)
            else:
                call.result = {key: found[key] for key in call.request if key in found}

    def _write(self, client: Client, calls: list[Call]) -> None:
        for call, result in zip(calls, client.write(calls), strict=True):
            if isinstance(result, Exception):
                self._set_errors([call], result)
            elif call.sent and result in _AMBIGUOUS[call.kind]:
                # The first time may have been the reason: it is no conflict.
                call.error = StoreUnavailable(
                    call.kind, self.name, _ASKED_TWICE, outcome_unknown=True
                )
            else:
                call.result = result

    def _failed(
        self, calls: list[Call], error: Exception, began: float, deadline: float
    ) -> None:
        """Note what the last try of ``calls`` met; ask for each alone, or end them."""
        if not is_silence(error):
            self._breaker.refused()
        elif deadline - began >= self._limits.timeout / 2:
            self.reason = reason(error)
            self._breaker.failed(time.monotonic() - began)
        # else too little time was left to blame the node
        groups: dict[Any, list[Call]] = {}
        for call in calls:
            # Writes are each for itself, and reads of the same keys together.
            key = call.request if call.kind == "get" else call
            groups.setdefault(key, []).append(call)
        if len(groups) == 1 or is_for_all(error):
            self._set_errors(calls, error)
            return
        if was_sent(error):
            _note_sent(calls)
        for group in groups.values():
            self._ask(group)

    def _set_errors(self, calls: Sequence[Call], error: Exception | None) -> None:
        """End ``calls`` by ``error``; without one, since the breaker is open."""
        for call in calls:
            failure: StoreError = self._not_asked(call.kind)
            if error is not None:
                failure = translate(call.kind, self.name, error)
            # Whatever the last try met: an earlier one may be done.
            call.error = failure.of_unknown_outcome() if call.sent else failure

    def _not_asked(self, kind: str) -> StoreUnavailable:
        return StoreUnavailable(kind, self.name, f"{self.reason}; breaker open")

    def _ping(self, ping: Call) -> None:
        """Write on one connection, and read on several new ones."""
        began = time.monotonic()
        # A proxy that knows such braces asks the same server each time.
        key = f"{{mcsession:health}}{secrets.token_hex(8)}"
        try:
            self._ask_for(ping, "add", protocol.add(key, b"", _HEALTH_TTL, 0))
            self._ask_for(ping, "get", key)
            ping.result = time.monotonic() - began
            for _ in range(0 if isinstance(self._address, str) else FRESH):
                client = self._new_client()
                try:
                    client.connect(ping.deadline)
                    found = client.read([key])
                except Exception as error:
                    raise translate("get", self.name, error) from error
                finally:
                    client.close()
                if not found:
                    raise StoreUnavailable("get", self.name, _SEVERAL)
            self._ask_for(ping, "delete", protocol.delete(key))
        except StoreError as error:
            ping.error = error

    def _ask_for(self, ping: Call, kind: str, request: Any) -> None:
        call = Call(kind, request, ping.deadline, ping.future, ping.waiters)
        self._ask([call])
        if call.error is not None:
            raise call.error


def _note_sent(calls: Sequence[Call]) -> None:
    """Note that the writes among ``calls`` may have been done."""
    for call in calls:
        call.sent = call.kind != "get"


# A failure may be a lost packet; three in a row, with no response in between, are a
# node that is gone.
FAILURES = 3
# A refused connection costs nothing, and may be tried often.
SHORTEST_PAUSE = 0.1
CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"


class Breaker:
    """Keeps operations from a node that does not respond.

    It is *closed* while the node responds. When the node failed to three times
    in a row it is *open*: no operation is sent. After a pause it is *half-open*: one
    operation, the probe, finds out whether the node is back. The pause is as
    long as the last failure took, so that at most half of the time is spent
    waiting for a node that hangs, and one that refuses is back within 0.1 s.

    The code that talks to the node notes what happened, by `answered`, `refused` and
    `failed`; a probe of which nothing is noted within ``timeout`` seconds was lost.
    All methods may be called from any thread.
    """

    def __init__(
        self, timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._try_at = 0.0
        self._answered_at = -math.inf
        self.state: str = CLOSED
        self.answers: bool | None = None
        """Whether the node does; `None` before it was first asked."""

    def admits(self) -> bool:
        """Return whether to ask the node now; of many callers, one is the probe."""
        with self._lock:
            if self.state == CLOSED:
                return True
            if self._clock() < self._try_at:
                return False
            self._begin_probe()
            return True

    def probe(self) -> None:
        """Let the next operation through, whoever else does."""
        with self._lock:
            if self.state != CLOSED:
                self._begin_probe()

    def _begin_probe(self) -> None:
        self.state = HALF_OPEN
        self._try_at = self._clock() + self._timeout

    def seconds_to_probe(self) -> float:
        """Return how long it is until `admits` may say yes."""
        if self.state == CLOSED:
            return 0.0
        return max(0.0, self._try_at - self._clock())

    def answered(self) -> None:
        """Note a response of the node."""
        self._answered_at = self._clock()
        if self.answers and not self._failures:
            return  # as nearly always, and without the lock
        with self._lock:
            self.answers = True
            self._close()

    def refused(self) -> None:
        """Note that the node is there, and refuses or talks nonsense."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self.state = CLOSED
        self._failures = 0

    def failed(self, took: float) -> None:
        """Note that the node did not respond, which took so many seconds.

        Where it responded to others meanwhile, it is not the node.
        """
        with self._lock:
            if self._clock() - took < self._answered_at:
                return
            self.answers = False
            self._failures += 1
            if self._failures >= FAILURES:
                self.state = OPEN
                self._try_at = self._clock() + max(SHORTEST_PAUSE, took)
