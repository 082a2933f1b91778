"""What a manager tells of itself, to people, metrics and load balancers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .stores.base import Store

__all__ = ["PHASES", "counters", "health"]

PHASES = ("load", "save", "renew", "destroy")
_COUNTERS = (
    "loads",
    "hits",
    "misses",
    "saves",
    "renewals",
    "conflicts",
    "dropped_saves",
    "corrupt_records",
    "refused_sessions",
    "held_answers",
    *(f"errors_{phase}" for phase in PHASES),
)


def counters(counts: Mapping[str, int]) -> dict[str, Any]:
    """Return all counters, those too that still are 0."""
    return {**dict.fromkeys(_COUNTERS, 0), **counts}


async def health(store: Store) -> dict[str, Any]:
    """Ask the nodes of ``store`` now, and sum up what they answer."""
    nodes = await store.health()
    failing = sum(not node["ok"] for node in nodes.values())
    if not failing:
        status = "ok"
    else:
        status = "down" if failing == len(nodes) else "degraded"
    return {"status": status, "nodes": nodes}
