"""The table: what users pay for a session, and what it may be."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from .calls import Calls, calls, renewals
from .crowd import crowd
from .pairs import Pair
from .placing import placing_us
from .rounds import Plan
from .running import NOBODY, Fleet
from .scenarios import (
    Scenario,
    added,
    added_p50_ms,
    added_ratio,
    bare,
    p99_ratio,
    rate_ratio,
)
from .startup import import_ms
from .subjects import OURS
from .verdict import Result, Target, at_least, at_most

__all__ = ["EXTRA", "PEERS", "ROWS", "Row", "Single"]

READ, WRITE = "/read", "/write"
PEERS = ("koa", "express", "starlette", "aiohttp")


class Single(NamedTuple):
    """A row that is measured by itself."""

    name: str
    what: str
    must: str
    aim: str
    measure: Callable[[Fleet, Plan], Result]
    group: str


def over(path: str, baseline: str, subject: str = OURS) -> tuple[Scenario, Scenario]:
    return Scenario(subject, path), Scenario(baseline, path)


def beside(path: str, peer: str) -> tuple[Scenario, ...]:
    return *added(path, OURS), *added(path, peer)


def calling(
    name: str, what: str, path: str, expected: Calls, subject: str = OURS
) -> Single:
    """Return a row of what one request asks the store for."""
    measuring = partial(calls, subject=subject, path=path, expected=expected)
    return Single(name, what, str(expected), "exact", measuring, "calls")


Row = Pair | Single


def limited(
    name: str, what: str, target: Target, measure: Callable[..., Result]
) -> Single:
    """Return a row of a single figure that has a limit."""
    measuring = partial(measure, target=target)
    return Single(name, what, target.must_text, target.aim_text, measuring, name)


ROWS: list[Row] = [
    Pair(
        "read",
        "dict-read",
        "reading / the same over a dict",
        at_least(0.70, aim=0.90),
        rate_ratio,
        over(READ, "dict"),
    ),
    Pair(
        "write",
        "dict-write",
        "writing / the same over a dict",
        at_least(0.70, aim=0.85),
        rate_ratio,
        over(WRITE, "dict"),
    ),
    Pair(
        "read",
        "bare",
        "reading / no session at all",
        at_least(0.68, aim=0.85),
        rate_ratio,
        (Scenario(OURS), bare()),
    ),
    Pair(
        "read",
        "hop-read",
        "reading / a thread hop for each call",
        at_least(1.8, aim=2.5),
        rate_ratio,
        over(READ, "hop"),
    ),
    Pair(
        "write",
        "hop-write",
        "writing / a thread hop for each call",
        at_least(2.3, aim=3),
        rate_ratio,
        over(WRITE, "hop"),
    ),
    Pair(
        "peers",
        "koa-read",
        "CPU added by reading / the same by koa-store-memcached",
        at_most(1.7, aim=1),
        added_ratio,
        beside(READ, "koa"),
    ),
    Pair(
        "peers",
        "koa-write",
        "CPU added by writing / the same by koa-store-memcached",
        at_most(1.7, aim=1),
        added_ratio,
        beside(WRITE, "koa"),
    ),
    Pair(
        "login",
        "login-read",
        "reading, logged in / anonymous",
        at_least(0.95, aim=1),
        rate_ratio,
        over(READ, OURS, "login"),
    ),
    Pair(
        "login",
        "login-write",
        "writing, logged in / anonymous",
        at_least(0.95, aim=1),
        rate_ratio,
        over(WRITE, OURS, "login"),
    ),
    Pair(
        "encryption",
        "encryption-read",
        "reading, AES-GCM on / off",
        at_least(0.90),
        rate_ratio,
        over(READ, OURS, "encrypted"),
    ),
    Pair(
        "encryption",
        "encryption-write",
        "writing, AES-GCM on / off",
        at_least(0.90),
        rate_ratio,
        over(WRITE, OURS, "encrypted"),
    ),
    Pair(
        "stores",
        "aiomcache-read",
        "reading / with aiomcache as the store",
        at_least(1, aim=1.3),
        rate_ratio,
        over(READ, "aiomcache"),
    ),
    Pair(
        "stores",
        "aiomcache-write",
        "writing / with aiomcache as the store",
        at_least(1, aim=1.3),
        rate_ratio,
        over(WRITE, "aiomcache"),
    ),
    Pair(
        "stores",
        "emcache-read",
        "reading / with emcache as the store",
        at_least(1, aim=1.3),
        rate_ratio,
        over(READ, "emcache"),
    ),
    Pair(
        "stores",
        "emcache-write",
        "writing / with emcache as the store",
        at_least(1, aim=1.3),
        rate_ratio,
        over(WRITE, "emcache"),
    ),
    Pair(
        "untouched",
        "untouched",
        "session never touched, no cookie / no session at all",
        at_least(0.95, aim=0.98),
        rate_ratio,
        (
            Scenario(OURS, "/untouched", visitors_of=NOBODY),
            Scenario("bare", "/untouched", visitors_of=NOBODY),
        ),
    ),
    calling(
        "calls-untouched",
        "store calls of such a request (reads + writes)",
        "/untouched",
        Calls(0, 0, 0),
    ),
    calling(
        "calls-unchanged",
        "store calls, session unchanged (reads + writes)",
        "/read",
        Calls(1, 0, 0),
    ),
    calling(
        "calls-changed",
        "store calls, session changed (reads + writes)",
        "/write",
        Calls(1, 1, 0),
    ),
    calling(
        "calls-renewed",
        "store calls, session due for renewal (reads + writes)",
        "/read",
        Calls(1, 1, 0),
        subject="renewing",
    ),
    Single(
        "renewals",
        "renewals of a session that is used each minute for a day",
        "rarely: ≤ 1 %",
        "",
        renewals,
        "calls",
    ),
    limited(
        "routing",
        "finding a key's node, of 1, 10, 100 and 1,000; µs",
        at_most(3),
        placing_us,
    ),
    Pair(
        "read",
        "p99",
        "p99 of reading at 32 connections / no session at all",
        at_most(2, aim=1.3),
        p99_ratio,
        (Scenario(OURS), bare()),
    ),
    Pair(
        "alone",
        "alone",
        "one connection, median latency that reading adds, ms",
        at_most(0.3, aim=0.15),
        added_p50_ms,
        (Scenario(OURS, connections=1), bare(connections=1)),
    ),
    Single(
        "crowd",
        "1,000 connections for a minute",
        "memory, threads and queue level off; no error",
        "",
        crowd,
        "crowd",
    ),
    limited(
        "import",
        "import beyond Tornado and pymemcache; ms of CPU",
        at_most(40, aim=20),
        import_ms,
    ),
]

# Measured in the same rounds, without a limit of their own.
EXTRA = {
    "read": [Scenario("memory", READ)],
    "write": [Scenario("memory", WRITE)],
    "peers": [
        scenario
        for peer in PEERS[1:]
        for path in (READ, WRITE)
        for scenario in added(path, peer)
    ],
}
