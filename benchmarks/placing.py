"""What it costs to find a key's node, for rising numbers of nodes."""

from __future__ import annotations

from .rounds import Plan
from .routing import router, seconds_to_place
from .running import Fleet
from .verdict import Result, Target

__all__ = ["placing_us"]

NODES = (1, 10, 100, 1000)
KEYS = 20_000
# Flat: no number of nodes takes that many times what another does. One node is
# left out: there is nothing to find.
FLAT = 2


def placing_us(fleet: Fleet, plan: Plan, target: Target) -> Result:
    """Measure look-ups; none may take longer than the limit, or than others."""
    keys = [f"mcsession:{number:064x}" for number in range(KEYS)]
    routers = [router(count) for count in NODES]
    rounds = [
        [seconds_to_place(placed, keys) * 1e6 for placed in routers]
        for _ in range(plan.rounds)
    ]
    # Nothing makes a look-up faster than it is; much makes it slower.
    times = list(map(min, zip(*rounds, strict=True)))
    flat = max(times[1:]) <= FLAT * min(times[1:])
    shown = ", ".join(f"{time:.2f}" for time in times)
    reached = target.reached(max(times)) if flat else "missed"
    return Result(shown, reached, values=times)
