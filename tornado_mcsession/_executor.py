"""Blocking calls on a few threads, many operations a hop.

A hop to a thread and back costs far more than a memcached round trip on the
same host. So the calls that are submitted during one turn of an event loop, or
while the threads are busy, are handed over together, and their results come
back together.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

__all__ = ["Call", "CoalescingExecutor", "Overloaded", "Stopped", "TimedOut"]

# How many calls one thread takes at a time: enough that a hop is shared, few
# enough that the other threads get some.
BATCH = 64


class Overloaded(Exception):
    """More calls are waiting than are allowed to."""


class TimedOut(Exception):
    """The call's time was over; ``started`` tells whether it had begun."""

    def __init__(self, started: bool) -> None:
        super().__init__()
        self.started = started


class Stopped(Exception):
    """The executor was stopped."""


class Call:
    """One operation: what is asked, until when, and what came of it.

    Whoever runs it sets ``result`` or ``error``.
    """

    __slots__ = (
        "args",
        "deadline",
        "error",
        "future",
        "kind",
        "result",
        "side",
        "started",
    )

    def __init__(self, kind: str, args: tuple[Any, ...], deadline: float) -> None:
        self.kind = kind
        self.args = args
        self.deadline = deadline
        self.started = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.future: asyncio.Future[Any]
        self.side: _LoopSide

    def settle(self) -> None:
        """Give the outcome to the future, unless nobody waits any more."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class CoalescingExecutor:
    """Runs calls in batches on at most ``threads`` threads.

    ``run`` gets the calls of a batch, in a thread, and sets their outcomes;
    what it raises is the outcome of all of them. A call ends with `TimedOut`
    when its ``timeout`` is over, whether it runs or waits; one that waited too
    long is not run at all. More than ``max_pending`` unfinished calls are
    refused with `Overloaded`.

    Calls may be submitted from any number of event loops, and after a fork. No
    thread is started before the first call.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Call]], None],
        *,
        threads: int,
        max_pending: int,
        executor: Executor | None = None,
    ) -> None:
        self._run = run
        self._threads = threads
        self._max_pending = max_pending
        self._given = executor
        self._stopped = False
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._pool: Executor | None = self._given
        self._lock = threading.Lock()
        self._waiting: deque[Call] = deque()
        self._jobs = 0
        self._pending = 0
        self._sides: dict[asyncio.AbstractEventLoop, _LoopSide] = {}
        self._side: _LoopSide | None = None

    @property
    def pending(self) -> int:
        """How many calls are waiting or running."""
        return self._pending

    def submit(
        self, kind: str, args: tuple[Any, ...], timeout: float
    ) -> asyncio.Future[Any]:
        """Return a future of the running loop for the outcome of a new call."""
        if os.getpid() != self._pid:
            self._start()  # neither threads nor what they held survive a fork
        if self._stopped:
            raise Stopped
        loop = asyncio.get_running_loop()
        side = self._side
        if side is None or side.loop is not loop:
            side = self._side = self._side_of(loop)
        if self._pending + side.waiting >= self._max_pending:
            raise Overloaded
        call = Call(kind, args, time.monotonic() + timeout)
        call.future = loop.create_future()
        call.side = side
        side.add(call)
        return call.future

    def _side_of(self, loop: asyncio.AbstractEventLoop) -> _LoopSide:
        with self._lock:
            side = self._sides.get(loop)
            if side is None:
                # Closed loops are let go here: a test suite makes one per test.
                self._sides = {
                    known: side
                    for known, side in self._sides.items()
                    if not known.is_closed()
                }
                side = self._sides[loop] = _LoopSide(loop, self._hand_over)
            return side

    def _hand_over(self, calls: list[Call]) -> None:
        with self._lock:
            self._waiting.extend(calls)
            self._pending += len(calls)
            if self._jobs >= self._threads:
                return  # a thread that is at work will take them
            self._jobs += 1
            if self._pool is None:
                self._pool = ThreadPoolExecutor(
                    self._threads, thread_name_prefix="mcsession"
                )
            pool = self._pool
        pool.submit(self._drain)

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._jobs -= 1
                    return
                size = min(BATCH, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(size)]
            self._run_batch(batch)
            with self._lock:
                self._pending -= len(batch)

    def _run_batch(self, batch: list[Call]) -> None:
        now = time.monotonic()
        timely = []
        for call in batch:
            if call.deadline <= now:
                call.error = TimedOut(started=False)
            elif not call.future.cancelled():
                call.started = True
                timely.append(call)
        if timely:
            try:
                self._run(timely)
            except Exception as error:
                for call in timely:
                    call.error = error
        _deliver(batch)

    async def stop(self) -> None:
        """Refuse further calls, and wait for the threads to end."""
        self._stopped = True
        pool, self._pool = self._pool, None
        if pool is None or pool is self._given or os.getpid() != self._pid:
            return
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, pool.shutdown)


class _LoopSide:
    """What one event loop waits for.

    Kept per loop, since loops come and go: a flag on the executor that a turn
    was arranged for would stay set for ever when its loop closed before.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hand_over: Callable[[list[Call]], None],
    ) -> None:
        self.loop = loop
        self._hand_over = hand_over
        self._new: list[Call] = []
        self._unfinished: deque[Call] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Call) -> None:
        """Hand ``call`` over at the end of this turn of the loop."""
        if not self._new:
            self.loop.call_soon(self._flush)
        self._new.append(call)
        unfinished = self._unfinished
        while unfinished and unfinished[0].future.done():
            unfinished.popleft()
        unfinished.append(call)
        if self._timer is None:
            self._arm(call.deadline)

    @property
    def waiting(self) -> int:
        """How many calls are not handed over yet."""
        return len(self._new)

    def _flush(self) -> None:
        calls, self._new = self._new, []
        self._hand_over(calls)

    def _arm(self, deadline: float) -> None:
        # One timer for all calls, not one for each.
        delay = max(0.0, deadline - time.monotonic())
        self._timer = self.loop.call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = time.monotonic()
        kept: deque[Call] = deque()
        for call in self._unfinished:
            if call.future.done():
                continue
            if call.deadline <= now:
                call.future.set_exception(TimedOut(call.started))
            else:
                kept.append(call)
        self._unfinished = kept
        if kept:
            self._arm(min(call.deadline for call in kept))


def _deliver(batch: Sequence[Call]) -> None:
    by_side: dict[_LoopSide, list[Call]] = {}
    for call in batch:
        by_side.setdefault(call.side, []).append(call)
    for side, calls in by_side.items():
        try:
            side.loop.call_soon_threadsafe(_settle, calls)
        except RuntimeError:
            pass  # the loop is closed: nobody waits for these


def _settle(calls: Sequence[Call]) -> None:
    for call in calls:
        call.settle()
