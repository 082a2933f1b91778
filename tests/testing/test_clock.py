"""ManualClock: time that only a test moves."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from tornado_mcsession.testing import ManualClock


def test_it_stands_still():
    """It begins with the present time, and moves when it is told."""
    before = time.time()
    clock = ManualClock()
    assert before <= clock() <= time.time()
    start = clock()
    assert clock() == start
    clock.advance(1.5)
    assert clock() == start + 1.5
    clock.advance(timedelta(days=2))
    assert clock() == start + 1.5 + 172_800
    clock.now = 5
    assert clock() == 5


@pytest.mark.parametrize("now", [0.0, 1_800_000_000.5])
def test_it_may_begin_at_any_time(now):
    """Its repr shows what time it is."""
    assert ManualClock(now)() == now
    assert repr(ManualClock(now)) == f"<ManualClock {now:.3f}>"
