"""Several requests on one session, in some order of their store operations."""

from __future__ import annotations

import itertools

from ..concurrency.plays import ACTS, Play, Scenario
from ..support.stepping import Listed, run_virtually
from .material import assert_silent

NAMES = list(ACTS)
PRINCIPALS = (None, "ann")
MOST = 4


def check(data: bytes) -> None:
    """The first byte chooses the session, the next ones the acts, the rest the order.

    See `Listed` for what a number of the order means.
    """
    how, rest = data[:1] or b"\x00", data[1:]
    count = 1 + (how[0] >> 2) % MOST
    acts = tuple(NAMES[number % len(NAMES)] for number in rest[:count])
    scenario = Scenario(PRINCIPALS[how[0] & 1], acts, 1 + (how[0] >> 1 & 1))
    play = Play(scenario)
    order = Listed(rest[count:])
    try:
        run_virtually(play.run(order))
    except AssertionError as error:
        played = "\n".join(map(str, order.trace))
        raise AssertionError(f"{error}\n{scenario}\n{play.told}\n{played}") from error
    assert_silent()


def seeds() -> list[bytes]:
    """Two requests, one after another and in turns, without and with a fault."""
    orders = [b"", b"\x00\x01" * 8, b"\x01\x00" * 8, b"\x00\xb0", b"\x00\x00\xd0"]
    pairs = itertools.product(range(len(NAMES)), repeat=2)
    return [
        bytes([0b0110 + number % 2, first, second]) + orders[number % len(orders)]
        for number, (first, second) in enumerate(pairs)
    ]


WORDS = [bytes([number]) * 3 for number in (0, 1, 2, 0xB0, 0xC0, 0xD0, 0xE0)]
