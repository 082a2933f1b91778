"""Which fault comes when: the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Event", "schedule"]

# With the shortest and the longest time that each lasts.
NODE_FAULTS = {
    "kill node": (0.3, 1.5),
    "restart node": (0.0, 0.0),
    "hang node": (0.3, 1.5),
}
NETWORK_FAULTS = {
    "lose responses": (1.0, 3.0),
    "delay": (0.5, 1.5),
    "hold back": (0.3, 1.5),
    "black hole": (0.3, 1.5),
    "break connections": (0.0, 0.5),
}
APPLICATION_FAULTS = {
    "freeze application": (0.3, 1.5),
    "kill application": (0.2, 0.6),
    "end application": (0.0, 0.3),
}
PAUSE = (0.3, 1.5)
WARM_UP = 3.0
CALM = 2.0


class Event(NamedTuple):
    """A fault that begins ``at`` that second and is over ``seconds`` later."""

    at: float
    seconds: float
    kind: str
    target: int


def schedule(
    total: float, seed: int, *, nodes: int, applications: int, network: bool
) -> list[list[Event]]:
    """Return two courses of events, which run side by side.

    In each of them one fault follows another; all kinds come in turn. The first
    application is never killed, so that one process sees the whole run.
    """
    storage = NODE_FAULTS | (NETWORK_FAULTS if network else {})
    courses = [(storage, nodes), (APPLICATION_FAULTS, applications)]
    return [
        list(_course(total, random.Random(f"{seed} {number}"), *course))  # nosec B311 # a schedule, no secret
        for number, course in enumerate(courses)
    ]


def _course(
    total: float,
    chance: random.Random,
    kinds: dict[str, tuple[float, float]],
    targets: int,
) -> Iterator[Event]:
    at, deck = min(WARM_UP, total / 5), list[str]()
    while True:
        if not deck:
            deck = chance.sample(sorted(kinds), len(kinds))
        kind = deck.pop()
        seconds = chance.uniform(*kinds[kind])
        first = 1 if kind in ("kill application", "end application") else 0
        event = Event(at, seconds, kind, chance.randrange(first, targets))
        if at + seconds > total - CALM:
            return
        yield event
        at += seconds + chance.uniform(*PAUSE)
