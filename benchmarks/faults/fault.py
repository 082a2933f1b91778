"""What a fault is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .stage import Stage

__all__ = ["Fault", "fault"]

Act = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """A fault under its ``name``; ``title`` tells an operator what happens.

    ``statuses`` are those that users may get besides 2xx, 0 being no answer. With
    ``loses``, memcached loses sessions.
    ``waits`` is the time in seconds that answers may take beyond the store's
    timeouts.
    """

    name: str
    title: str
    act: Act
    statuses: frozenset[int]
    loses: bool
    waits: float


def fault(
    name: str,
    title: str,
    *,
    statuses: tuple[int, ...] = (503,),
    loses: bool = False,
    waits: float = 0.0,
) -> Callable[[Act], Fault]:
    """Make a fault of the function that plays it."""

    def made(act: Act) -> Fault:
        return Fault(name, title, act, frozenset(statuses), loses, waits)

    return made
