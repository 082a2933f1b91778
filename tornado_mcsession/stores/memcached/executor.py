"""Blocking calls on a few threads, many in one hop.

A hop to a thread and back costs far more than a round trip to a memcached on the same
host. So the calls that are submitted during one turn of an event loop, or while the
threads are busy, are handed over together, and their results come back together.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor as GivenExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, NamedTuple

from ...exceptions import StoreUnavailable

__all__ = ["BATCH", "Call", "Executor", "Limits", "TimedOut", "begun"]

logger: logging.Logger = logging.getLogger("tornado_mcsession")

# How many calls one thread takes at a time: enough that a hop is shared, few
# enough that the other threads get some.
BATCH = 64
# How often `Executor.stop` looks whether all calls have ended.
_POLL = 0.005

CLOSED = "the store is closed"
OVERLOADED = "too many operations are waiting"
_NOTHING = object()


class Limits(NamedTuple):
    """What a node is allowed: times in seconds, and numbers."""

    timeout: float
    reconnect_timeout: float
    threads: int
    max_pending: int


class TimedOut(Exception):
    """The call had begun when its time was over."""


@dataclass(slots=True, eq=False)
class Call:
    """One operation: what is asked, until when, and what came of it.

    ``request`` is a command for the server, or for a "get" the key or keys. The code
    that runs the call sets ``result`` or ``error``.
    """

    kind: str
    request: Any
    deadline: float
    future: asyncio.Future[Any]
    waiters: _Waiters
    started: bool = False
    sent: bool = False
    """Whether an earlier try, whose response did not come, may have done it."""
    result: Any = _NOTHING
    error: Exception | None = None


def begun(calls: Iterable[Call]) -> list[Call]:
    """Return the ``calls`` to run now: neither cancelled, nor is their time over."""
    now = time.monotonic()
    running = []
    for call in calls:
        # Set before the time is looked at: the timer of the loop must not find that
        # the call had not begun, when it begins at the last moment.
        call.started = True
        if call.deadline <= now:
            call.started = call.sent
            call.error = call.waiters.executor.timed_out(call)
        elif not call.future.cancelled():
            running.append(call)
    return running


class Executor:
    """Runs the calls of one node in batches, on a few threads.

    ``run`` gets the calls of a batch, in a thread, and sets the outcome of those
    that `begun` returns; what it raises is the outcome of those that have none. A
    call ends with a `.StoreUnavailable` when its time is over, whether it runs or
    waits; one that waited too long is not run at all. So does a call where too many
    are unfinished.

    Calls may be submitted from any number of event loops, and after a fork: there
    they run on own threads, even if an executor was ``given``. No thread is started
    before the first call.
    """

    def __init__(
        self,
        node: str,
        run: Callable[[list[Call]], None],
        limits: Limits,
        given: GivenExecutor | None = None,
    ) -> None:
        self._node = node
        self._run = run
        self._timeout = limits.timeout
        self._threads = limits.threads
        self._max_pending = limits.max_pending
        self._given = given
        self.is_stopped: bool = False
        """Whether `stop` was called."""
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._ended = False
        self._queue: deque[Call] = deque()
        self._pending = 0
        # So many threads there are, or jobs on the given executor; so many of the
        # threads rest. Each item of the alarm wakes one of these.
        self._alive = 0
        self._resting = 0
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self._own: list[threading.Thread] = []
        self._waiters: dict[asyncio.AbstractEventLoop, _Waiters] = {}
        self._last: _Waiters | None = None

    def forked(self) -> None:
        """Begin anew in a child process: neither threads nor locks survive a fork."""
        self._given = None
        self._begin()

    @property
    def pending(self) -> int:
        """How many calls are waiting or running."""
        with self._lock:
            count = self._pending
            for waiters in self._waiters.values():
                if not waiters.loop.is_closed():
                    count += len(waiters.new)
            return count

    # On the event loops.

    def submit(self, kind: str, request: Any) -> asyncio.Future[Any]:
        """Return a future of the running loop for the outcome of a new call."""
        loop = asyncio.get_running_loop()
        waiters = self._last
        if waiters is None or waiters.loop is not loop:
            waiters = self._last = self._waiters_of(loop)
        future: asyncio.Future[Any] = loop.create_future()
        if self.is_stopped:
            future.set_exception(StoreUnavailable(kind, self._node, CLOSED))
            return future
        if self._pending + len(waiters.new) >= self._max_pending:
            future.set_exception(StoreUnavailable(kind, self._node, OVERLOADED))
            return future
        call = Call(kind, request, time.monotonic() + self._timeout, future, waiters)
        if not waiters.new:
            loop.call_soon(self._hand_over, waiters)
        waiters.new.append(call)
        unfinished = waiters.unfinished
        while unfinished and unfinished[0].future.done():
            unfinished.popleft()
        unfinished.append(call)
        if waiters.timer is None:
            # One timer for all calls, not one for each.
            waiters.timer = loop.call_later(self._timeout, waiters.expire)
        return future

    def _waiters_of(self, loop: asyncio.AbstractEventLoop) -> _Waiters:
        with self._lock:
            waiters = self._waiters.get(loop)
            if waiters is None:
                # Closed loops are let go here: a test suite makes one for each test.
                self._waiters = {
                    known: waiters
                    for known, waiters in self._waiters.items()
                    if not known.is_closed()
                }
                waiters = self._waiters[loop] = _Waiters(loop, self)
            return waiters

    def _hand_over(self, waiters: _Waiters) -> None:
        """Let the threads take what is new, at the end of a turn of its loop."""
        calls, waiters.new = waiters.new, []
        with self._lock:
            self._queue.extend(calls)
            self._pending += len(calls)
            if not self._ended:
                if self._resting:
                    self._resting -= 1
                    self._alarm.put(None)
                    return
                if self._alive >= self._threads:
                    return  # a thread that is at work will take them
            self._alive += 1
        self._start()

    def _start(self) -> None:
        """Start a thread, or a job on the given executor, that is counted already."""
        try:
            if self._ended:
                raise RuntimeError(CLOSED)
            if self._given is not None:
                self._given.submit(self._work, self._alarm)
                return
            name = f"mcsession_{self._node}"
            thread = threading.Thread(
                target=self._work, args=(self._alarm,), name=name, daemon=True
            )
            thread.start()
            with self._lock:
                # Those that have ended are let go here.
                self._own = [*filter(threading.Thread.is_alive, self._own), thread]
        except Exception as error:
            # The given executor was shut down, or there can be no more threads. A
            # thread that is at work still takes what is waiting.
            left: list[Call] = []
            with self._lock:
                self._alive -= 1
                if self._ended or not self._alive:
                    left += self._queue
                    self._queue.clear()
                    self._pending -= len(left)
            why = CLOSED if self._ended else f"no thread takes operations ({error})"
            for call in left:
                call.error = StoreUnavailable(call.kind, self._node, why)
            _deliver(left)

    # In the threads.

    def _work(self, alarm: SimpleQueue[None]) -> None:
        """Run what is waiting; then rest, or end the job on the given executor."""
        batch: list[Call] = []
        done: list[Call] = []
        try:
            while True:
                done, batch = batch, []
                with self._lock:
                    self._pending -= len(done)
                    while self._queue and len(batch) < BATCH:
                        batch.append(self._queue.popleft())
                    is_replaced = alarm is not self._alarm
                    # Noted under the lock: what is handed over from now on wakes or
                    # starts a thread.
                    if not batch and not is_replaced:
                        if self._given is None:
                            self._resting += 1
                        elif not done:
                            self._alive -= 1
                            return
                # A thread that rests already is woken by what the loop submits
                # next, instead of another one: so results are delivered last.
                if done:
                    _deliver(done)
                    done = []  # a thread that rests keeps no session
                if batch:
                    self._run(batch)
                elif is_replaced:
                    return
                elif self._given is None:
                    alarm.get()
                    if self._ended or alarm is not self._alarm:
                        return
        except BaseException as error:
            # A debugger, or what ends work that takes too long, may raise anything in
            # any thread.
            name = type(error).__name__
            logger.error("work for %s ended by %s", self._node, name)
            for call in batch:
                if call.result is _NOTHING and call.error is None:
                    call.error = StoreUnavailable(
                        call.kind,
                        self._node,
                        f"interrupted by {name}",
                        outcome_unknown=call.started and call.kind != "get",
                    )
            self._replace(alarm, len(batch))
            _deliver([*done, *batch])

    def _replace(self, alarm: SimpleQueue[None], count: int) -> None:
        """Let others go on where a thread or a job ended in the midst of its work.

        ``count`` calls end with it.
        """
        with self._lock:
            self._pending -= count
            if alarm is not self._alarm:
                return
            self._alive -= 1
            if self._given is None:
                # It is not known whether it was resting, or had been woken. The threads
                # that rest end now, those at work later; new ones replace them.
                for _ in range(self._alive):
                    alarm.put(None)
                self._alarm = SimpleQueue()
                self._resting = self._alive = 0
            if not self._queue:
                return
            self._alive += 1
        self._start()

    # The end.

    async def stop(self, timeout: float | None = None) -> None:
        """Refuse further calls, and wait until all have ended.

        Takes no longer than a call may, nor than ``timeout``.
        """
        self.is_stopped = True
        limit = self._timeout if timeout is None else min(timeout, self._timeout)
        end = time.monotonic() + limit
        # Threads and other loops end them, which no one event could tell.
        while (is_busy := self._is_busy()) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        with self._lock:
            self._ended = True
            for _ in self._own:
                self._alarm.put(None)
        if not is_busy:  # else one may hang, and ends by itself
            for thread in self._own:
                thread.join()
        await asyncio.sleep(0)  # what has ended is on its way to this loop

    def _is_busy(self) -> bool:
        return self.pending > 0 or self._alive > self._resting

    def timed_out(self, call: Call) -> StoreUnavailable:
        """Return the error of a call whose time is over."""
        error = StoreUnavailable(
            call.kind,
            self._node,
            f"no answer within {self._timeout:g} s",
            outcome_unknown=call.started and call.kind != "get",
        )
        error.__cause__ = TimedOut() if call.started else None
        return error


@dataclass(slots=True, eq=False)
class _Waiters:
    """What one event loop waits for.

    Kept for each loop, since loops come and go: a mark on the executor that a turn
    was arranged for would stay for ever if its loop closed before.
    """

    loop: asyncio.AbstractEventLoop
    executor: Executor
    new: list[Call] = field(default_factory=list)
    """Those that are handed over at the end of this turn of the loop."""
    unfinished: deque[Call] = field(default_factory=deque)
    timer: asyncio.TimerHandle | None = None

    def expire(self) -> None:
        """End the calls whose time is over; all have the same, the oldest is first."""
        now = time.monotonic()
        self.timer = None
        while self.unfinished:
            call = self.unfinished[0]
            if not call.future.done():
                if call.deadline > now:
                    self.timer = self.loop.call_later(call.deadline - now, self.expire)
                    return
                call.future.set_exception(self.executor.timed_out(call))
            self.unfinished.popleft()


def _deliver(calls: list[Call]) -> None:
    """Give the outcomes of ``calls`` to the loops that wait; from any thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Call]] = {}
    for call in calls:
        by_loop.setdefault(call.waiters.loop, []).append(call)
    for loop, own in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, own)
        except RuntimeError:
            pass  # a closed loop waits for nothing


def _settle(calls: list[Call]) -> None:
    for call in calls:
        if call.future.done():
            continue  # it was cancelled, or its time was over
        if call.error is None:
            call.future.set_result(call.result)
        else:
            call.future.set_exception(call.error)
