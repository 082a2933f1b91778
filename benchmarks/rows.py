"""The table: what users pay for a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

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


def without(name: str, connections: int = CONNECTIONS) -> Scenario:
    """Return a server's framework without sessions, asked exactly as with them."""
    kind = f"{name}-bare"
    if kind in SUBJECTS:
        return Scenario(kind, READ, connections, name)
    return Scenario("bare", READ, connections, OURS)


def added(path: str, name: str) -> tuple[Scenario, Scenario]:
    """Return a server with sessions, and the same framework without."""
    return Scenario(name, path), without(name)


def at_least(figure: float) -> Limit:
    return Limit("≥", figure)


def at_most(figure: float) -> Limit:
    return Limit("≤", figure)


def both(
    group: str,
    name: str,
    what: str,
    limits: tuple[Limit | None, Limit | None],
    subject: str,
    baseline: str,
    connections: int = CONNECTIONS,
) -> Iterator[Pair]:
    """Return a row for reading and one for writing: what one serves of the other."""
    for (path, doing), limit in zip(DOING.items(), limits, strict=True):
        scenarios = (
            Scenario(subject, path, connections),
            Scenario(baseline, path, connections),
        )
        yield Pair(group, f"{name}-{doing}", f"{doing}{what}", limit, scenarios)


def costs(group: str, name: str, where: str = "") -> Iterator[Pair]:
    """Return rows of what a session costs over the same framework without."""
    for path, doing in DOING.items():
        pair = added(path, name)
        prefix = "" if name == OURS else f"{name}-"
        of = f"{doing}{where} / no session at all"
        yield Pair(group, f"{prefix}bare-{doing}", of, LEAST_OF_BARE.get(doing), pair)
        what = f"CPU that {doing}{where} adds, µs"
        yield Pair(group, f"{prefix}added-{doing}", what, None, pair, added_cpu)


def beside(peer: str, limits: tuple[float, float]) -> Iterator[Pair]:
    """Return rows of what sessions add here and with a peer."""
    for (path, doing), most in zip(DOING.items(), limits, strict=True):
        what = f"CPU that {doing} adds / the same by {LIBRARY[peer]}"
        scenarios = (*added(path, OURS), *added(path, peer))
        name = f"{peer}-{doing}"
        yield Pair("main", name, what, at_most(most), scenarios, added_ratio)


LIBRARY = {
    "koa": "koa-store-memcached",
    "aiohttp": "aiohttp-session",
    "starsessions": "starsessions",
}
LEAST_OF_BARE = {"reading": at_least(0.78)}
OVER_DICT = at_least(0.95), at_least(0.85)
NOT_BEHIND = at_least(1), at_least(1)
OVER_WRITE = " / a write, CPU"
A_WRITE = Scenario(OURS, WRITE)

ROWS: list[Row] = [
    *both("main", "dict", " / the same over a dict", OVER_DICT, OURS, "dict"),
    *costs("main", OURS),
    *beside("koa", (0.55, 0.65)),
    *beside("aiohttp", (0.7, 0.7)),
    *beside("starsessions", (0.7, 0.7)),
    Pair(
        "main",
        "p99",
        "p99 of reading at 32 connections / no session at all",
        at_most(1.4),
        added(READ, OURS),
        p99_ratio,
    ),
    Pair(
        "verbs",
        "first-save",
        f"the first save of a new session{OVER_WRITE}",
        at_most(1.3),
        (Scenario(OURS, "/make?user=7", visitors_of=NOBODY), A_WRITE),
        cpu_ratio,
    ),
    Pair(
        "verbs",
        "login",
        f"a login, with a new id{OVER_WRITE}",
        at_most(2),
        (Scenario("moving", "/login"), A_WRITE),
        cpu_ratio,
    ),
    Pair(
        "verbs",
        "renewal",
        f"a read that renews the session{OVER_WRITE}",
        at_most(1.2),
        (Scenario("renewing", READ), A_WRITE),
        cpu_ratio,
    ),
    *both(
        "settings",
        "login",
        ", logged in / anonymous",
        (at_least(0.95), at_least(0.95)),
        "login",
        OURS,
    ),
    *both(
        "settings",
        "encryption",
        ", AES-GCM on / off",
        (at_least(0.9), at_least(0.9)),
        "encrypted",
        OURS,
    ),
    *both(
        "stores",
        "aiomcache",
        " / with aiomcache as the store",
        NOT_BEHIND,
        OURS,
        "aiomcache",
    ),
    *both(
        "stores",
        "emcache",
        " / with emcache as the store",
        NOT_BEHIND,
        OURS,
        "emcache",
    ),
    Pair(
        "untouched",
        "untouched",
        "session never touched, no cookie / no session at all",
        at_least(0.95),
        (
            Scenario(OURS, "/untouched", visitors_of=NOBODY),
            Scenario("bare", "/untouched", visitors_of=NOBODY),
        ),
    ),
    *both(
        "alone",
        "alone-hop",
        ", one connection / a thread hop for each call",
        NOT_BEHIND,
        OURS,
        "hop",
        connections=1,
    ),
    *(
        Pair(
            "alone",
            f"alone-{doing}",
            f"one connection, median latency that {doing} adds, ms",
            at_most(most),
            (Scenario(OURS, path, 1), without(OURS, 1)),
            added_p50_ms,
        )
        for (path, doing), most in zip(DOING.items(), (0.10, 0.18), strict=True)
    ),
    Pair(
        "crowd",
        "crowd",
        "CPU of reading at 1,000 connections / at 32",
        at_most(1.15),
        (Scenario(OURS, READ, 1000), Scenario(OURS, READ)),
        cpu_ratio,
    ),
    *(
        Pair(
            "sizes",
            f"size-{size}",
            f"reading a session of {size} KB / the same over a dict",
            at_least(0.93),
            (Scenario(f"{OURS}-{size}"), Scenario(f"dict-{size}")),
        )
        for size in SIZES
    ),
    *both(
        "uvloop",
        "uvloop-dict",
        " on uvloop / the same over a dict",
        (None, None),
        "uvloop",
        "uvloop-dict",
    ),
    *costs("uvloop", "uvloop", " on uvloop"),
    *(
        Single(
            "calls",
            f"calls-{name}",
            f"store calls{what} (reads + writes)",
            None,
            partial(singles.calls, subject=subject, path=path, expected=expected),
        )
        for name, what, subject, path, expected in (
            ("untouched", ", session never touched", OURS, "/untouched", "0 + 0"),
            ("unchanged", ", session unchanged", OURS, READ, "1 + 0"),
            ("changed", ", session changed", OURS, WRITE, "1 + 1"),
            ("renewed", ", session due for renewal", "renewing", READ, "1 + 1"),
        )
    ),
    Single(
        "calls",
        "renewals",
        "renewals of a session that is used each minute for a day",
        at_most(14),
        singles.renewals,
    ),
    *(
        Single(
            "burst",
            f"burst-{name}",
            f"400 requests at once change one session of 100 KB, {what}",
            None,
            partial(singles.burst, data=data),
        )
        for name, what, data in (
            ("text", "one long text", {"user": 0, "text": "x" * 100_000}),
            ("items", "thousands of small values", first_data(0, 100)),
        )
    ),
    Single(
        "routing",
        "routing",
        "finding a key's node, of 1, 10, 100 and 1,000; µs",
        at_most(3),
        singles.placing_us,
    ),
    Single(
        "import",
        "import",
        "import beyond Tornado and pymemcache; ms of CPU",
        at_most(40),
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
