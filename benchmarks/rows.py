"""The table: what users pay for a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from . import singles
from .load import Sample
from .result import Limit, Result
from .rounds import CONNECTIONS, Plan, Scenario, Taken, median, trouble, undisturbed
from .servers import NOBODY, OURS, SIZES, SUBJECTS, Fleet
from .sites import first_data

READ, WRITE = "/read", "/write"
DOING = {READ: "reading", WRITE: "writing"}


# Each figure is made of the samples that one round has taken of its scenarios.


def rate_ratio(subject: Sample, baseline: Sample) -> float:
    return subject.rate / baseline.rate


def cpu_ratio(subject: Sample, baseline: Sample) -> float:
    return subject.cpu_us / baseline.cpu_us


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
    """A row that compares two servers, or what sessions add to two of them.

    Those of a group are measured in the same rounds.
    """

    group: str
    name: str
    what: str
    limit: Limit | None
    scenarios: tuple[Scenario, ...]
    figure: Callable[..., float] = rate_ratio

    def result(self, taken: Taken, failed: dict[str, str]) -> Result:
        """Return what the rounds have shown, or why they have not."""
        for scenario in self.scenarios:
            if why_not := trouble(scenario, taken, failed):
                return Result(why_not=why_not)
        rounds = list(zip(*map(taken.__getitem__, self.scenarios), strict=True))
        values = [self.figure(*each) for each in undisturbed(rounds)]
        used = [median(taken[scenario], "cpu_us") for scenario in self.scenarios]
        return Result(values, cpu=" / ".join(f"{each:.0f}" for each in used))


class Single(NamedTuple):
    """A row that is measured by itself."""

    group: str
    name: str
    what: str
    limit: Limit | None
    measure: Callable[[Fleet, Plan], Result]


Row = Pair | Single
Limits = tuple[float | None, float | None]  # of reading and of writing


def least(figure: float | None) -> Limit | None:
    return None if figure is None else Limit("≥", figure)


def most(figure: float) -> Limit:
    return Limit("≤", figure)


def without(name: str, connections: int = CONNECTIONS) -> Scenario:
    """Return a server's framework without sessions, asked exactly as with them."""
    kind = f"{name}-bare"
    if kind in SUBJECTS:
        return Scenario(kind, READ, connections, name)
    return Scenario("bare", READ, connections, OURS)


def added(path: str, name: str) -> tuple[Scenario, Scenario]:
    """Return a server with sessions, and the same framework without."""
    return Scenario(name, path), without(name)


def both(
    group: str,
    subject: str,
    baseline: str,
    what: str,
    limits: Limits,
    connections: int = CONNECTIONS,
) -> Iterator[Pair]:
    """Return a row for reading and one for writing: what one serves of the other."""
    name = baseline if subject == OURS else subject
    for (path, doing), limit in zip(DOING.items(), limits, strict=True):
        pair = tuple(Scenario(each, path, connections) for each in (subject, baseline))
        yield Pair(group, f"{name}-{doing}", f"{doing}{what}", least(limit), pair)


def costs(group: str, name: str, where: str, limits: Limits) -> Iterator[Pair]:
    """Return rows of what a session costs over the same framework without."""
    for (path, doing), limit in zip(DOING.items(), limits, strict=True):
        pair, does = added(path, name), f"{doing}{where}"
        of = f"{does} / no session at all"
        yield Pair(group, f"{name}-bare-{doing}", of, least(limit), pair)
        cpu = f"CPU that {does} adds, µs"
        yield Pair(group, f"{name}-added-{doing}", cpu, None, pair, added_cpu)


def beside(peer: str, library: str, limits: tuple[float, float]) -> Iterator[Pair]:
    """Return rows of what sessions add here and with a peer."""
    for (path, doing), limit in zip(DOING.items(), limits, strict=True):
        what = f"CPU that {doing} adds / the same by {library}"
        pairs = (*added(path, OURS), *added(path, peer))
        yield Pair("main", f"{peer}-{doing}", what, most(limit), pairs, added_ratio)


def over_write(name: str, what: str, limit: float, scenario: Scenario) -> Pair:
    """Return a row of what a request costs that does more than to write."""
    pair = scenario, Scenario(OURS, WRITE)
    return Pair("verbs", name, f"{what} / a write, CPU", most(limit), pair, cpu_ratio)


def alone(path: str, doing: str, limit: float) -> Pair:
    what = f"one connection, median latency that {doing} adds, ms"
    pair = Scenario(OURS, path, 1), without(OURS, 1)
    return Pair("alone", f"alone-{doing}", what, most(limit), pair, added_p50_ms)


def sized(kilobytes: int) -> Pair:
    name = f"size-{kilobytes}"
    pair = Scenario(f"{OURS}-{kilobytes}"), Scenario(f"dict-{kilobytes}")
    what = f"reading a session of {kilobytes} KB / the same over a dict"
    return Pair("sizes", name, what, least(0.93), pair)


def calling(name: str, what: str, subject: str, path: str, expected: str) -> Single:
    """Return a row of what one request asks the store for."""
    measure = partial(singles.calls, subject=subject, path=path, expected=expected)
    what = f"store calls, session {what} (reads + writes)"
    return Single("calls", f"calls-{name}", what, None, measure)


def bursting(name: str, what: str, data: dict[str, Any]) -> Single:
    what = f"400 requests at once change one session of 100 KB, {what}"
    return Single("burst", name, what, None, partial(singles.burst, data=data))


FIRST_SAVE = Scenario(OURS, "/make?user=7", visitors_of=NOBODY)
UNTOUCHED = [
    Scenario(name, "/untouched", visitors_of=NOBODY) for name in (OURS, "bare")
]
CROWD = Scenario(OURS, READ, 1000), Scenario(OURS, READ)

ROWS: list[Row] = [
    *both("main", OURS, "dict", " / the same over a dict", (0.95, 0.85)),
    *costs("main", OURS, "", (0.78, None)),
    *beside("koa", "koa-store-memcached", (0.55, 0.65)),
    *beside("aiohttp", "aiohttp-session", (0.7, 0.7)),
    *beside("starsessions", "starsessions", (0.7, 0.7)),
    Pair(
        "main",
        "p99",
        "p99 of reading at 32 connections / no session at all",
        most(1.4),
        added(READ, OURS),
        p99_ratio,
    ),
    over_write("first-save", "the first save of a new session", 1.3, FIRST_SAVE),
    over_write("login", "a login, with a new id", 2, Scenario("moving", "/login")),
    over_write("renewal", "a read that renews", 1.2, Scenario("renewing", READ)),
    *both("settings", "login", OURS, ", logged in / anonymous", (0.95, 0.95)),
    *both("settings", "encrypted", OURS, ", AES-GCM on / off", (0.9, 0.9)),
    *both("stores", OURS, "aiomcache", " / with aiomcache as the store", (1, 1)),
    *both("stores", OURS, "emcache", " / with emcache as the store", (1, 1)),
    Pair(
        "untouched",
        "untouched",
        "session never touched, no cookie / no session at all",
        least(0.95),
        tuple(UNTOUCHED),
    ),
    *both(
        "alone",
        OURS,
        "hop",
        ", one connection / a thread hop for each call",
        (1, 1),
        connections=1,
    ),
    alone(READ, "reading", 0.10),
    alone(WRITE, "writing", 0.18),
    Pair(
        "crowd",
        "crowd",
        "CPU of reading at 1,000 connections / at 32",
        most(1.15),
        CROWD,
        cpu_ratio,
    ),
    *map(sized, SIZES),
    *both("uvloop", "uvloop", "uvloop-dict", " on uvloop / a dict", (None, None)),
    *costs("uvloop", "uvloop", " on uvloop", (None, None)),
    calling("untouched", "never touched", OURS, "/untouched", "0 + 0"),
    calling("unchanged", "unchanged", OURS, READ, "1 + 0"),
    calling("changed", "changed", OURS, WRITE, "1 + 1"),
    calling("renewed", "due for renewal", "renewing", READ, "1 + 1"),
    bursting("burst-text", "one long text", {"user": 0, "text": "x" * 100_000}),
    bursting("burst-items", "thousands of small values", first_data(0, 100)),
    Single(
        "routing",
        "routing",
        "finding a key's node, of 1, 10, 100 and 1,000; µs",
        most(3),
        singles.placing_us,
    ),
    Single(
        "import",
        "import",
        "import beyond Tornado and pymemcache; ms of CPU",
        most(40),
        singles.import_ms,
    ),
]

# The ways to keep sessions that the short table and the picture compare.
COMPARED = {
    OURS: "tornado-mcsession",
    "dict": "a dict in the process, which no other process sees",
    "hop": "pymemcache by `run_in_executor`, with a plain `set`",
    "aiohttp": "aiohttp-session over aiomcache",
    "starsessions": "starsessions over aiomcache",
    "koa": "koa-generic-session and koa-store-memcached",
}

# Measured in the same rounds as the rows of a group, to be shown beside them.
EXTRA = {
    "main": [
        *(pair for name in COMPARED for path in DOING for pair in added(path, name)),
        *(Scenario("memory", path) for path in DOING),
    ]
}
