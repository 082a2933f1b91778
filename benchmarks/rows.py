"""The table: what users pay for a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from . import singles
from .load import Sample
from .rounds import (
    CONNECTIONS,
    Plan,
    Result,
    Scenario,
    Taken,
    median,
    trouble,
    undisturbed,
)
from .servers import NOBODY, OURS, SIZES, SUBJECTS, Fleet
from .sites import first_data

READ, WRITE = "/read", "/write"
DOING = {READ: "reading", WRITE: "writing"}


# Each figure is made of the samples that one round has taken of its scenarios.


def ratio(figure: str) -> Callable[[Sample, Sample], float]:
    return lambda one, other: float(getattr(one, figure) / getattr(other, figure))


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
    scenarios: tuple[Scenario, ...]
    figure: Callable[..., float] = ratio("rate")

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
    measure: Callable[[Fleet, Plan], Result]


Row = Pair | Single


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
    group: str, subject: str, baseline: str, what: str, connections: int = CONNECTIONS
) -> Iterator[Pair]:
    """Return a row for reading and one for writing: what one serves of the other."""
    name = baseline if subject == OURS else subject
    for path, doing in DOING.items():
        pair = tuple(Scenario(each, path, connections) for each in (subject, baseline))
        yield Pair(group, f"{name}-{doing}", f"{doing}{what}", pair)


def costs(group: str, name: str, where: str = "") -> Iterator[Pair]:
    """Return rows of what a session costs over the same framework without."""
    for path, doing in DOING.items():
        pair, does = added(path, name), f"{doing}{where}"
        yield Pair(group, f"{name}-bare-{doing}", f"{does} / no session at all", pair)
        cpu = f"CPU that {does} adds, µs"
        yield Pair(group, f"{name}-added-{doing}", cpu, pair, added_cpu)


def floor() -> Iterator[Pair]:
    """Return rows of what the store costs by itself, in threads as it is."""
    for path, doing in DOING.items():
        what = f"{doing} in the store, without a session / the same over a dict"
        pair = Scenario("floor", path), Scenario("dict", path)
        yield Pair("main", f"floor-{doing}", what, pair)
        what = f"CPU that {doing} in the store adds, without a session, µs"
        yield Pair(
            "main", f"floor-added-{doing}", what, added(path, "floor"), added_cpu
        )


def beside(peer: str, library: str) -> Iterator[Pair]:
    """Return rows of what sessions add here and with a peer."""
    for path, doing in DOING.items():
        what = f"CPU that {doing} adds / the same by {library}"
        pairs = (*added(path, OURS), *added(path, peer))
        yield Pair("main", f"{peer}-{doing}", what, pairs, added_ratio)


def over_write(name: str, what: str, scenario: Scenario) -> Pair:
    """Return a row of what a request costs that does more than to write."""
    pair = scenario, Scenario(OURS, WRITE)
    return Pair("verbs", name, f"{what} / a write, CPU", pair, ratio("cpu_us"))


def alone() -> Iterator[Pair]:
    """Return rows of what a user of a quiet site waits for."""
    yield from both(
        "alone", OURS, "hop", ", one connection / a thread hop for each call", 1
    )
    for path, doing in DOING.items():
        what = f"one connection, median latency that {doing} adds, ms"
        pair = Scenario(OURS, path, 1), without(OURS, 1)
        yield Pair("alone", f"alone-{doing}", what, pair, added_p50_ms)


def sized(kilobytes: int) -> Pair:
    pair = Scenario(f"{OURS}-{kilobytes}"), Scenario(f"dict-{kilobytes}")
    what = f"reading a session of {kilobytes} KB / the same over a dict"
    return Pair("sizes", f"size-{kilobytes}", what, pair)


def calling(name: str, what: str, subject: str, path: str) -> Single:
    """Return a row of what one request asks the store for."""
    measure = partial(singles.calls, subject=subject, path=path)
    what = f"store calls, session {what} (reads + writes)"
    return Single("calls", f"calls-{name}", what, measure)


def bursting(name: str, what: str, data: dict[str, Any]) -> Single:
    what = f"400 requests at once change one session of 100 KB, {what}"
    return Single("burst", name, what, partial(singles.burst, data=data))


def untouched(subject: str) -> Scenario:
    return Scenario(subject, "/untouched", visitors_of=NOBODY)


P99 = "p99 of reading at 32 connections / no session at all"
FIRST_SAVE = Scenario(OURS, "/make?user=7", visitors_of=NOBODY)
UNTOUCHED = "session never touched, no cookie / no session at all"
CROWDED = "CPU of reading at 1,000 connections / at 32"
A_CROWD = Scenario(OURS, READ, 1000)
ROUTING = "finding a key's node, of 1, 10, 100 and 1,000; µs"
IMPORT = "import beyond Tornado and pymemcache; ms of CPU"

ROWS: list[Row] = [
    *both("main", OURS, "dict", " / the same over a dict"),
    *costs("main", OURS),
    *floor(),
    *beside("koa", "koa-store-memcached"),
    *beside("aiohttp", "aiohttp-session"),
    *beside("starsessions", "starsessions"),
    Pair("main", "p99", P99, added(READ, OURS), ratio("p99_us")),
    over_write("first-save", "the first save of a new session", FIRST_SAVE),
    over_write("login", "a login, with a new id", Scenario("moving", "/login")),
    over_write("renewal", "a read that renews", Scenario("renewing", READ)),
    *both("settings", "login", OURS, ", logged in / anonymous"),
    *both("settings", "encrypted", OURS, ", AES-GCM on / off"),
    *both("stores", OURS, "aiomcache", " / with aiomcache as the store"),
    *both("stores", OURS, "emcache", " / with emcache as the store"),
    Pair("untouched", "untouched", UNTOUCHED, (untouched(OURS), untouched("bare"))),
    *alone(),
    Pair("crowd", "crowd", CROWDED, (A_CROWD, Scenario(OURS)), ratio("cpu_us")),
    *map(sized, SIZES),
    *both("uvloop", "uvloop", "uvloop-dict", " on uvloop / a dict"),
    *costs("uvloop", "uvloop", " on uvloop"),
    calling("untouched", "never touched", OURS, "/untouched"),
    calling("unchanged", "unchanged", OURS, READ),
    calling("changed", "changed", OURS, WRITE),
    calling("renewed", "due for renewal", "renewing", READ),
    bursting("burst-text", "one long text", {"user": 0, "text": "x" * 100_000}),
    bursting("burst-items", "thousands of small values", first_data(0, 100)),
    Single("routing", "routing", ROUTING, singles.placing_us),
    Single("import", "import", IMPORT, singles.import_ms),
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
    "main": [each for name in COMPARED for path in DOING for each in added(path, name)]
}
