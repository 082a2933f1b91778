"""The table: what users pay for a session, and what it may be."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from . import singles
from .load import Sample
from .result import Result, Target, at_least, at_most, measured
from .rounds import Plan, Scenario, Taken, added, bare, cpu_us, trouble, undisturbed
from .servers import NOBODY, OURS, Fleet
from .singles import Calls

READ, WRITE = "/read", "/write"
PEERS = ("koa", "aiohttp")


# Each figure is made of the samples that one round has taken of its scenarios.


def rate_ratio(subject: Sample, baseline: Sample) -> float:
    return subject.rate / baseline.rate


def p99_ratio(subject: Sample, baseline: Sample) -> float:
    return subject.p99_us / baseline.p99_us


def added_p50_ms(subject: Sample, baseline: Sample) -> float:
    return (subject.p50_us - baseline.p50_us) / 1000


def added_cpu(subject: Sample, bare: Sample) -> float:
    """Return the microseconds of CPU time that a session costs a request."""
    return subject.cpu_us - bare.cpu_us


def added_ratio(subject: Sample, bare: Sample, peer: Sample, its: Sample) -> float:
    return added_cpu(subject, bare) / added_cpu(peer, its)


class Pair(NamedTuple):
    """A row of the table that compares two servers, or what two of them add.

    Those of a group are measured in the same rounds.
    """

    group: str
    name: str
    what: str
    target: Target
    scenarios: tuple[Scenario, ...]
    figure: Callable[..., float] = rate_ratio

    @property
    def must(self) -> str:
        return self.target.must_text

    @property
    def aim(self) -> str:
        return self.target.aim_text

    def result(self, taken: Taken, failed: dict[str, str]) -> Result:
        """Return what the rounds have shown, or why they have not."""
        for scenario in self.scenarios:
            if why_not := trouble(scenario, taken, failed):
                return Result(why_not=why_not)
        rounds = list(zip(*map(taken.__getitem__, self.scenarios), strict=True))
        values = [self.figure(*each) for each in undisturbed(rounds)]
        used = [cpu_us(taken, scenario) for scenario in self.scenarios]
        cpu = " / ".join(f"{each:.0f}" for each in used)
        if self.figure is rate_ratio:
            cpu += f" → {used[1] / used[0]:.2f}"  # the ratio, were there CPU time alone
        return measured(values, self.target, cpu)


class Single(NamedTuple):
    """A row that is measured by itself."""

    group: str
    name: str
    what: str
    must: str
    aim: str
    measure: Callable[[Fleet, Plan], Result]


Row = Pair | Single


def over(path: str, baseline: str, subject: str = OURS) -> tuple[Scenario, Scenario]:
    return Scenario(subject, path), Scenario(baseline, path)


def beside(path: str, peer: str) -> tuple[Scenario, ...]:
    return *added(path, OURS), *added(path, peer)


def calling(
    name: str, what: str, path: str, expected: Calls, subject: str = OURS
) -> Single:
    """Return a row of what one request asks the store for."""
    measure = partial(singles.calls, subject=subject, path=path, expected=expected)
    what = f"store calls{what} (reads + writes)"
    return Single("calls", f"calls-{name}", what, str(expected), "exact", measure)


def limited(
    name: str, what: str, target: Target, measure: Callable[..., Result]
) -> Single:
    """Return a row of a single figure that has a limit."""
    measure = partial(measure, target=target)
    return Single(name, name, what, target.must_text, target.aim_text, measure)


CPU = "CPU added by {} / the same by koa-store-memcached"
BARE = Scenario(OURS), bare()
UNTOUCHED = (
    Scenario(OURS, "/untouched", visitors_of=NOBODY),
    Scenario("bare", "/untouched", visitors_of=NOBODY),
)
ALONE = Scenario(OURS, connections=1), bare(connections=1)


def twice(
    group: str,
    name: str,
    what: str,
    baseline: str,
    targets: tuple[Target, Target],
    subject: str = OURS,
) -> list[Pair]:
    """Return a row for reading and one for writing."""
    return [
        Pair(
            group or path[1:],
            f"{name}-{path[1:]}",
            f"{doing}{what}",
            target,
            over(path, baseline, subject),
        )
        for path, doing, target in zip(
            (READ, WRITE), ("reading", "writing"), targets, strict=True
        )
    ]


LOGGED_IN = at_least(0.95, aim=1), at_least(0.95, aim=1)
SEALED = at_least(0.90), at_least(0.90)
THREADS = at_least(1, aim=1.3), at_least(1, aim=1.3)
OVER_DICT = at_least(0.70, aim=0.90), at_least(0.70, aim=0.85)
OVER_HOP = at_least(1.8, aim=2.5), at_least(2.3, aim=3)
KOA = at_most(1.7, aim=1)

ROWS: list[Row] = [
    *twice("", "dict", " / the same over a dict", "dict", OVER_DICT),
    Pair("read", "bare", "reading / no session at all", at_least(0.68, 0.85), BARE),
    *twice("", "hop", " / a thread hop for each call", "hop", OVER_HOP),
    *(
        Pair("peers", name, CPU.format(doing), KOA, beside(path, "koa"), added_ratio)
        for name, doing, path in (
            ("koa-read", "reading", READ),
            ("koa-write", "writing", WRITE),
        )
    ),
    *twice("login", "login", ", logged in / anonymous", OURS, LOGGED_IN, "login"),
    *twice("encryption", "encryption", ", AES-GCM on / off", OURS, SEALED, "encrypted"),
    *twice("stores", "emcache", " / with emcache as the store", "emcache", THREADS),
    Pair(
        "untouched",
        "untouched",
        "session never touched, no cookie / no session at all",
        at_least(0.95, aim=0.98),
        UNTOUCHED,
    ),
    calling("untouched", " of such a request", "/untouched", Calls(0, 0, 0)),
    calling("unchanged", ", session unchanged", READ, Calls(1, 0, 0)),
    calling("changed", ", session changed", WRITE, Calls(1, 1, 0)),
    calling("renewed", ", session due for renewal", READ, Calls(1, 1, 0), "renewing"),
    Single(
        "calls",
        "renewals",
        "renewals of a session that is used each minute for a day",
        "rarely: ≤ 1 %",
        "",
        singles.renewals,
    ),
    limited(
        "routing",
        "finding a key's node, of 1, 10, 100 and 1,000; µs",
        at_most(3),
        singles.placing_us,
    ),
    Pair(
        "read",
        "p99",
        "p99 of reading at 32 connections / no session at all",
        at_most(2, aim=1.3),
        BARE,
        p99_ratio,
    ),
    Pair(
        "alone",
        "alone",
        "one connection, median latency that reading adds, ms",
        at_most(0.3, aim=0.15),
        ALONE,
        added_p50_ms,
    ),
    Single(
        "crowd",
        "crowd",
        "1,000 connections for a minute",
        "memory, threads and queue level off; no error",
        "",
        singles.crowd,
    ),
    limited(
        "import",
        "import beyond Tornado and pymemcache; ms of CPU",
        at_most(40, aim=20),
        singles.import_ms,
    ),
]

# Measured in the same rounds, without a limit of their own.
EXTRA = {
    "read": [Scenario("memory", READ)],
    "write": [Scenario("memory", WRITE)],
    "peers": [*added(READ, "aiohttp"), *added(WRITE, "aiohttp")],
}
