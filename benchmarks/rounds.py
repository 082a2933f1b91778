"""Load in rounds: every scenario of a group in turn, again and again.

A machine is never quiet, and never equally busy for long. So what is compared is
measured within seconds of each other, many times: a ratio is taken in each round,
and the table has the median of the rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from . import load
from .load import Sample
from .servers import FAILURES, NOBODY, OURS, SUBJECTS, Fleet, Wrong

CONNECTIONS = 32

# Of the writes that were confirmed: two in parallel for one user may count once.
LEAST_COUNTED = 0.99

# wrk takes some time of its own between a response and the next request.
LEAST_WAITING = 0.5

# Rounds in which other programs used more of the machine than that are left out, as
# long as so many remain.
MOST_OTHERS = 0.1
LEAST_ROUNDS = 3

# Seconds of load before the first round. Node.js compiles while it runs: after one
# second it still takes a third more time than later.
WARM_UP, WARM_UP_NODE = 1, 4


class Scenario(NamedTuple):
    """Which server is asked for what, by whose users, on how many connections."""

    subject: str
    path: str = "/read"
    connections: int = CONNECTIONS
    visitors_of: str = ""  # another server, whose cookies are sent

    @property
    def visitors(self) -> str:
        return self.visitors_of or self.subject

    @property
    def servers(self) -> tuple[str, str]:
        """The server that is asked, and the one that its users have visited."""
        return self.subject, self.visitors

    @property
    def load(self) -> str:
        """How it is asked, as the tables say it."""
        of = ", no cookie" if self.visitors_of == NOBODY else ""
        at = "" if self.connections == CONNECTIONS else f" × {self.connections}"
        return f"{self.path}{of}{at}"

    def __str__(self) -> str:
        return f"{self.subject}{self.load}"


def bare(
    kind: str = "bare", visitors_of: str = OURS, connections: int = CONNECTIONS
) -> Scenario:
    """Return a site without sessions, asked exactly as the one with them is."""
    return Scenario(kind, "/read", connections, visitors_of)


def added(path: str, name: str) -> tuple[Scenario, Scenario]:
    """Return a site with sessions, and the same framework without."""
    kind = "bare" if name == OURS else f"{name}-bare"
    return Scenario(name, path), bare(kind, visitors_of=name)


Taken = dict[Scenario, list[Sample]]


class Plan(NamedTuple):
    """How long everything takes."""

    rounds: int
    seconds: int  # of load, for each scenario in each round
    crowd_seconds: int
    repeats: int  # of what is short


FULL = Plan(rounds=7, seconds=2, crowd_seconds=60, repeats=15)
QUICK = Plan(rounds=3, seconds=1, crowd_seconds=10, repeats=5)


class Spread(NamedTuple):
    """The middle of some values, and the quartiles."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the quartiles of one value or more."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def play(fleet: Fleet, scenarios: Iterable[Scenario], plan: Plan) -> Taken:
    """Load each scenario once a round; return what could be measured of them.

    Why a server could not is in ``fleet.failed``.
    """
    runnable = [
        scenario
        for scenario in scenarios
        if not any(map(fleet.why_not, scenario.servers))
    ]
    taken: Taken = {scenario: [] for scenario in runnable}
    for scenario in runnable:
        is_node = SUBJECTS[scenario.subject].is_node
        _load(fleet, scenario, WARM_UP_NODE if is_node else WARM_UP)
    before = _counts(fleet, taken)
    for number in range(plan.rounds):
        # To and fro, so that what only grows or falls hits both of a pair alike.
        for scenario in runnable if number % 2 == 0 else runnable[::-1]:
            sample = _load(fleet, scenario, plan.seconds)
            if sample is not None:
                taken[scenario].append(sample)
                figures = f"{sample.rate:7.0f}/s {sample.cpu_us:5.0f} µs"
                errors = f" {sample.errors} errors" if sample.errors else ""
                fleet.tell(
                    f"{number + 1}/{plan.rounds} {scenario!s:<26}{figures}{errors}"
                )
    for name, count in _counts(fleet, taken).items():
        try:
            check_counts(name, count - before[name], _written(taken, name))
        except Wrong as error:
            fleet.give_up(name, str(error))
    return {
        scenario: samples
        for scenario, samples in taken.items()
        if scenario.subject not in fleet.failed
    }


def check_counts(name: str, counted: int, confirmed: int) -> None:
    """Check that the writes that were confirmed have been counted.

    More may have been: the last requests of a slice are made and not waited for.
    """
    if counted < confirmed * LEAST_COUNTED:
        raise Wrong(f"{name} confirmed {confirmed} writes and counted {counted}")


def _load(fleet: Fleet, scenario: Scenario, seconds: int) -> Sample | None:
    if scenario.subject in fleet.failed:
        return None
    server = fleet.server(scenario.subject)
    try:
        return load.run(
            server.pid,
            server.port,
            [scenario.path],
            fleet.cookies(scenario.visitors),
            connections=scenario.connections,
            seconds=seconds,
        )
    except FAILURES as error:
        fleet.give_up(scenario.subject, str(error))
        return None


def _counts(fleet: Fleet, taken: Taken) -> dict[str, int]:
    """Return how often the users of each server have written."""
    counts = {}
    for name in {scenario.subject for scenario in taken} - fleet.failed.keys():
        try:
            counts[name] = sum(fleet.server(name).counts())
        except FAILURES as error:
            fleet.give_up(name, str(error))
    return counts


def _written(taken: Taken, name: str) -> int:
    return sum(
        sample.requests - sample.errors
        for scenario, samples in taken.items()
        if (scenario.subject, scenario.path) == (name, "/write")
        for sample in samples
    )


# What the samples of a run are worth.


def undisturbed(rounds: list[tuple[Sample, ...]]) -> list[tuple[Sample, ...]]:
    """Return the rounds in which the machine was quiet; all, where hardly any was."""
    kept = [each for each in rounds if all(s.others <= MOST_OTHERS for s in each)]
    return kept if len(kept) >= LEAST_ROUNDS else rounds


def quiet(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return those during which other programs did little; all, if there are none."""
    return [each for each in samples if each.others <= MOST_OTHERS] or samples


def cpu_us(taken: Taken, scenario: Scenario) -> float:
    """Return the microseconds of CPU time that a request took."""
    return spread([sample.cpu_us for sample in quiet(taken[scenario])]).median


def trouble(scenario: Scenario, taken: Taken, failed: dict[str, str]) -> str:
    """Return why a scenario's samples are not there, or are worth nothing."""
    samples = taken.get(scenario)
    if samples is None:
        reasons = [failed[name] for name in scenario.servers if name in failed]
        return reasons[0] if reasons else "not asked for"
    if not all(sample.requests and not sample.errors for sample in samples):
        return f"{scenario}: {errors_of(samples)}"
    forgotten = min(sample.waiting / sample.connections for sample in samples)
    if forgotten < LEAST_WAITING:
        return f"{scenario}: {1 - forgotten:.0%} of the connections got no response"
    return ""


def errors_of(samples: Sequence[Sample]) -> str:
    """Return how many requests went wrong, and how."""
    kinds = {
        "broken connections": sum(sample.broken for sample in samples),
        "error statuses": sum(sample.statuses for sample in samples),
        "timeouts": sum(sample.timeouts for sample in samples),
    }
    seen = [f"{count} {kind}" for kind, count in kinds.items() if count]
    responses = sum(sample.requests for sample in samples)
    return f"{', '.join(seen) or 'no errors'} in {responses} responses"
