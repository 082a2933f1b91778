"""Time that passes only when a test says so."""

from __future__ import annotations

from tornado_mcsession import testing


class ManualClock(testing.ManualClock):
    """Begins at the same time in each run."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        super().__init__(now)
