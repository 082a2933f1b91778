"""A clock that a test moves."""

from __future__ import annotations

import time
from datetime import timedelta

__all__ = ["ManualClock"]


class ManualClock:
    """Stands in for `time.time`: it moves only when a test moves it.

    Give it to the application as the setting ``clock``, and to a `.MemoryStore` as
    its ``clock``::

        clock = ManualClock()
        store = MemoryStore(clock=clock)
        app = Application(handlers, session={"store": store, "clock": clock})
        clock.advance(timedelta(hours=25))  # the session has expired

    ``now`` is the time that it shows, in seconds since 1970; a test may set it. It
    begins with the present time.

    A memcached has its own clock. The session's deadline is checked by this one all
    the same, so a session expires when this clock says so.
    """

    def __init__(self, now: float | None = None) -> None:
        self.now: float = time.time() if now is None else now

    def __call__(self) -> float:
        return self.now

    def __repr__(self) -> str:
        return f"<ManualClock {self.now:.3f}>"

    def advance(self, by: float | timedelta) -> None:
        """Move the clock on by seconds or a `~datetime.timedelta`."""
        self.now += by.total_seconds() if isinstance(by, timedelta) else by
