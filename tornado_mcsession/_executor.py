"""Blocking calls on a few threads, many operations a hop.

A hop to a thread and back costs far more than a memcached round trip on the
same host. So the calls that are submitted during one turn of an event loop, or
while the threads are busy, are handed over together, and their results come
back together.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from ._calls import Call, Explain, LoopSide, deliver
from ._forks import generation

__all__ = ["CoalescingExecutor", "Overloaded", "Stopped"]

# How many calls one thread takes at a time: enough that a hop is shared, few
# enough that the other threads get some.
BATCH = 64
# How often `CoalescingExecutor.stop` looks whether all has ended.
_POLL = 0.005


class Overloaded(Exception):
    """More calls are waiting than are allowed to."""


class Stopped(Exception):
    """No call can be run any more; the text says why."""


class CoalescingExecutor:
    """Runs calls in batches on at most ``threads`` threads.

    ``run`` gets the calls of a batch, in a thread, runs those that `Call.begin`
    allows, and sets their outcomes; what it raises is the outcome of all of
    them. A call ends with `TimedOut` after ``timeout`` seconds, whether it runs
    or waits; one that waited too long is not run at all. More than
    ``max_pending`` unfinished calls are refused with `Overloaded`.

    ``explain`` may turn what ended a call of some kind into another error.

    Calls may be submitted from any number of event loops, and after a fork:
    there on own threads, also where an ``executor`` was given. No thread is
    started before the first call.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Call]], None],
        *,
        timeout: float,
        threads: int,
        max_pending: int,
        executor: Executor | None = None,
        explain: Explain = lambda kind, error: error,
    ) -> None:
        self._run = run
        self._explain = explain
        self._timeout = timeout
        self._threads = threads
        self._max_pending = max_pending
        self._given = executor
        self._stopping = False
        self._start()

    def _start(self) -> None:
        self._generation = generation()
        self._ended = False
        self._pool: Executor | None = self._given
        self._lock = threading.Lock()
        self._waiting: deque[Call] = deque()
        self._jobs = 0
        self._pending = 0
        self._sides: dict[asyncio.AbstractEventLoop, LoopSide] = {}
        self._side: LoopSide | None = None

    @property
    def pending(self) -> int:
        """How many calls are waiting or running."""
        if generation() != self._generation:
            return 0  # a thread of the parent may have held the lock
        with self._lock:
            return self._pending + sum(self._not_handed_over())

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def submit(self, kind: str, args: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Return a future of the running loop for the outcome of a new call."""
        if generation() != self._generation:
            # Neither threads nor what they held survive a fork.
            self._given = None
            self._start()
        if self._stopping:
            raise Stopped("the store is closed")
        loop = asyncio.get_running_loop()
        side = self._side
        if side is None or side.loop is not loop:
            side = self._side = self._side_of(loop)
        if self._pending + side.waiting >= self._max_pending:
            raise Overloaded
        call = Call(kind, args, time.monotonic() + self._timeout)
        call.future = loop.create_future()
        call.side = side
        side.add(call)
        return call.future

    def _side_of(self, loop: asyncio.AbstractEventLoop) -> LoopSide:
        with self._lock:
            side = self._sides.get(loop)
            if side is None:
                # Closed loops are let go here: a test suite makes one per test.
                self._sides = {
                    known: side
                    for known, side in self._sides.items()
                    if not known.is_closed()
                }
                side = self._sides[loop] = LoopSide(
                    loop, self._hand_over, self._explain
                )
            return side

    def _hand_over(self, calls: list[Call]) -> None:
        with self._lock:
            self._waiting.extend(calls)
            self._pending += len(calls)
            if self._jobs >= self._threads:
                return  # a thread that is at work will take them
            self._jobs += 1
        try:
            self._pool_to_use().submit(self._drain)
        except Exception as error:
            self._give_up(error)

    def _pool_to_use(self) -> Executor:
        with self._lock:
            if self._ended:
                raise Stopped("the store is closed")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(
                    self._threads, thread_name_prefix="mcsession"
                )
            return self._pool

    def _give_up(self, error: Exception) -> None:
        # The pool was shut down, or no thread can be started. What another
        # thread is at work on it still ends.
        with self._lock:
            self._jobs -= 1
            if self._jobs:
                return
            left, self._waiting = list(self._waiting), deque()
            self._pending -= len(left)
            if self._pool is not None and self._pool is not self._given:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None
        for call in left:
            call.error = Stopped(f"no thread takes operations ({error})")
        deliver(left)

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._jobs -= 1
                    return
                size = min(BATCH, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(size)]
            try:
                self._run(batch)
            except Exception as error:
                for call in batch:
                    call.error = error
            with self._lock:
                self._pending -= len(batch)
            deliver(batch)

    async def stop(self) -> None:
        """Refuse further calls, and wait until all have ended.

        Takes no longer than a call may.
        """
        self._stopping = True
        if generation() != self._generation:
            return
        limit = time.monotonic() + self._timeout
        # Threads and other loops end them, which no one event could tell.
        while self._is_busy() and time.monotonic() < limit:  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        await asyncio.sleep(0)  # what has ended is on its way to this loop
        with self._lock:
            self._ended = True
            pool, self._pool = self._pool, None
        if pool is not None and pool is not self._given:
            # With no job left, the threads end at once.
            pool.shutdown(wait=not self._jobs)

    def _is_busy(self) -> bool:
        with self._lock:
            return self._jobs > 0 or any(self._not_handed_over())

    def _not_handed_over(self) -> Iterator[int]:
        return (
            side.waiting for side in self._sides.values() if not side.loop.is_closed()
        )
