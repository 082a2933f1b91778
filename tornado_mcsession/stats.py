"""The numbers that a manager tells, and what monitoring calls them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = [
    "COUNTERS",
    "FAMILIES",
    "PREFIX",
    "SESSION_EVENTS",
    "Family",
    "samples",
]

PREFIX = "tornado_mcsession"

SESSION_EVENTS = ("begin", "end")
"""The kinds that `.SessionManager.observe` reports besides store operations."""


class Family(NamedTuple):
    """Numbers of one kind.

    ``keys`` are those of `.SessionManager.stats`, each with its value of ``label``.
    A family without keys has a number for each node.
    """

    text: str
    keys: Mapping[str, str] = {}
    label: str = ""
    is_counter: bool = True

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels of each number."""
        if not self.keys:
            return ("node", self.label) if self.label else ("node",)
        return (self.label,) if self.label else ()


def _counted(key: str, text: str) -> Family:
    return Family(text, {key: ""})


FAMILIES: Mapping[str, Family] = {
    "loads": _counted("loads", "Sessions that were looked for in the store."),
    "hits": _counted("hits", "Sessions that were found."),
    "misses": _counted("misses", "Session ids without a living session."),
    "saves": _counted("saves", "Sessions that were stored."),
    "renewals": _counted("renewals", "Sessions whose end was put off."),
    "conflicts": _counted(
        "conflicts", "Saves that were tried again: another request saved first."
    ),
    "dropped_saves": _counted(
        "dropped_saves", "Changes that were dropped: another request ended the session."
    ),
    "unsaved_changes": _counted(
        "unsaved_changes", "Sessions that were found with changes that nobody saved."
    ),
    "corrupt_records": _counted("corrupt_records", "Records that cannot be read."),
    "refused_sessions": _counted(
        "refused_sessions", "New sessions that the setting allow_new refused."
    ),
    "withheld_sessions": _counted(
        "withheld_sessions", "New sessions of requests from another site, not begun."
    ),
    "ambiguous_cookies": _counted(
        "ambiguous_cookies", "Requests with several living sessions."
    ),
    "refused_ends": _counted(
        "refused_ends", "Logouts with an old id, after another login."
    ),
    "dropped_ends": _counted("dropped_ends", "Unconfirmed logouts that were given up."),
    "held_responses": _counted("held_answers", "Responses that waited for a save."),
    "errors": Family(
        "Failures of the store, by what was to be done.",
        {f"errors_{phase}": phase for phase in ("load", "save", "renew", "destroy")},
        "phase",
    ),
    "sessions_begun": _counted("begun", "Sessions that began."),
    "sessions_ended": Family(
        "Sessions that ended or got a new id, by the reason.",
        {
            f"ended_{reason}": reason
            for reason in ("logout", "revoked", "rotated", "expired", "refused")
        },
        "reason",
    ),
    "running_saves": Family(
        "Saves under way now.", {"running_saves": ""}, is_counter=False
    ),
    "pending_destroys": Family(
        "Unconfirmed logouts, to be tried again.",
        {"pending_destroys": ""},
        is_counter=False,
    ),
    "node_up": Family("Whether the node answered last.", is_counter=False),
    "node_breaker": Family(
        "1 for the state that the node's breaker is in.",
        label="state",
        is_counter=False,
    ),
    "node_pending": Family(
        "Operations that run or wait for a thread.", is_counter=False
    ),
    "node_waiting": Family(
        "Operations that wait for the node to come back.", is_counter=False
    ),
}
"""By name: what follows `PREFIX` in the name of a metric."""

_BREAKER = ("closed", "open", "half-open")

COUNTERS = tuple(
    key for family in FAMILIES.values() if family.is_counter for key in family.keys
)
"""The keys of `.SessionManager.stats` that only grow."""


def samples(
    stats: Mapping[str, Any],
) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Yield the name of a family, the values of its labels, and a number.

    ``stats`` is what `.SessionManager.stats` returned. A store of a user's own need
    tell nothing of its nodes.
    """
    for name, family in FAMILIES.items():
        for key, value in family.keys.items():
            yield name, (value,) if family.label else (), stats[key]
    nodes = stats["store"].get("nodes")
    if not isinstance(nodes, dict):
        return
    for node, found in nodes.items():
        if found["connected"] is not None:  # it was asked before
            yield "node_up", (node,), float(found["connected"])
        yield "node_pending", (node,), found["pending"]
        yield "node_waiting", (node,), found["waiting"]
        for state in _BREAKER:
            yield "node_breaker", (node, state), float(found["breaker"] == state)
