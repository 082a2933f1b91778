"""Calls to be run elsewhere, and the event loops that wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Call", "Explain", "LoopSide", "TimedOut", "deliver"]

Explain = Callable[[str, Exception], Exception]


class TimedOut(Exception):
    """The call's time was over; ``started`` tells whether it had begun."""

    def __init__(self, started: bool) -> None:
        super().__init__()
        self.started = started


class Call:
    """One operation: what is asked, until when, and what came of it.

    Whoever runs it asks `begin` right before, and sets ``result`` or ``error``.
    """

    __slots__ = (
        "args",
        "deadline",
        "error",
        "future",
        "kind",
        "result",
        "sent",
        "side",
        "started",
    )

    def __init__(self, kind: str, args: tuple[Any, ...], deadline: float) -> None:
        self.kind = kind
        self.args = args
        self.deadline = deadline
        self.started = False
        self.sent = False  # it may have been done, by a try that was not answered
        self.result: Any = None
        self.error: Exception | None = None
        self.future: asyncio.Future[Any]
        self.side: LoopSide

    def begin(self) -> bool:
        """Return whether to run it: its time is not over, and somebody waits."""
        # Set before the look at the clock: the timer of the loop must not tell
        # that it had not begun when it begins at the last moment.
        self.started = True
        if self.future.cancelled():
            return False
        if self.deadline <= time.monotonic():
            self.error = TimedOut(started=self.sent)
            return False
        return True

    def settle(self) -> None:
        """Give the outcome to the future, unless nobody waits any more."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.side.explain(self.kind, self.error))
        else:
            self.future.set_result(self.result)


class LoopSide:
    """What one event loop waits for.

    Kept per loop, since loops come and go: a flag on the executor that a turn
    was arranged for would stay set for ever when its loop closed before.
    ``explain`` makes an error of a call's kind and of what ended it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hand_over: Callable[[list[Call]], None],
        explain: Explain,
    ) -> None:
        self.loop = loop
        self.explain = explain
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

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Call back on the loop, from any thread; not where it is closed."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback, *args)

    @property
    def waiting(self) -> int:
        """How many calls are not handed over yet."""
        return len(self._new)

    def _flush(self) -> None:
        new, self._new = self._new, []
        calls = [call for call in new if not call.future.cancelled()]
        if calls:
            self._hand_over(calls)

    def _arm(self, deadline: float) -> None:
        # One timer for all calls, not one for each.
        delay = max(0.0, deadline - time.monotonic())
        self._timer = self.loop.call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = time.monotonic()
        unfinished = self._unfinished
        # All have the same time, so that the oldest ends first.
        while unfinished and (
            unfinished[0].future.done() or unfinished[0].deadline <= now
        ):
            call = unfinished.popleft()
            if not call.future.done():
                error = TimedOut(call.started)
                call.future.set_exception(self.explain(call.kind, error))
        if unfinished:
            self._arm(unfinished[0].deadline)


def deliver(batch: Sequence[Call]) -> None:
    """Give the outcomes of ``batch`` to the loops that wait; from any thread."""
    by_side: dict[LoopSide, list[Call]] = {}
    for call in batch:
        by_side.setdefault(call.side, []).append(call)
    for side, calls in by_side.items():
        side.call_soon(_settle, calls)  # on a closed loop nobody waits for these


def _settle(calls: Sequence[Call]) -> None:
    for call in calls:
        call.settle()
