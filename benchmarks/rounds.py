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
from .servers import FAILURES, NOBODY, SUBJECTS, Fleet, Wrong

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
    def load(self) -> str:
        """How it is asked, as the tables say it."""
        of = ", no cookie" if self.visitors_of == NOBODY else ""
        at = "" if self.connections == CONNECTIONS else f" × {self.connections}"
        return f"{self.path.partition('?')[0]}{of}{at}"

    def __str__(self) -> str:
        return f"{self.subject}{self.load}"


Taken = dict[Scenario, list[Sample]]


class Plan(NamedTuple):
    """How long everything takes."""

    rounds: int
    seconds: int = 1  # of load, for each scenario in each round
    repeats: int = 5  # of what is short


FULL, QUICK = Plan(rounds=6, repeats=15), Plan(rounds=2)


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
    taken: Taken = {
        each: []
        for each in dict.fromkeys(scenarios)
        if not (fleet.why_not(each.subject) or fleet.why_not(each.visitors))
    }
    for name, scenario in {each.subject: each for each in taken}.items():
        _load(fleet, scenario, WARM_UP_NODE if SUBJECTS[name].is_node else WARM_UP)
    writers = [each for each in taken if each.path == "/write"]
    before = {each.subject: _count(fleet, each.subject) for each in writers}
    for number in range(plan.rounds):
        # To and fro, so that what only grows or falls hits both of a pair alike.
        for scenario in list(taken)[:: 1 if number % 2 == 0 else -1]:
            sample = _load(fleet, scenario, plan.seconds)
            if sample is not None:
                taken[scenario].append(sample)
                figures = f"{sample.rate:7.0f}/s {sample.cpu_us:5.0f} µs"
                errors = f" {sample.errors} errors" if sample.errors else ""
                fleet.tell(
                    f"{number + 1}/{plan.rounds} {scenario!s:<26}{figures}{errors}"
                )
    for each in writers:
        counted = _count(fleet, each.subject) - before[each.subject]
        confirmed = sum(sample.requests - sample.errors for sample in taken[each])
        try:
            check_counts(each.subject, counted, confirmed)
        except Wrong as error:
            fleet.give_up(each.subject, str(error))
    return {each: taken[each] for each in taken if each.subject not in fleet.failed}


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
        if scenario.path == "/login":
            server.visit()  # the ids that its users had are dead by now
        return load.run(
            server.pid,
            server.port,
            scenario.path,
            fleet.cookies(scenario.visitors),
            connections=scenario.connections,
            seconds=seconds,
        )
    except FAILURES as error:
        fleet.give_up(scenario.subject, str(error))
        return None


def _count(fleet: Fleet, name: str) -> int:
    """Return how often the users of a server have written."""
    if name in fleet.failed:
        return 0
    try:
        return sum(fleet.server(name).counts())
    except FAILURES as error:
        fleet.give_up(name, str(error))
        return 0


# What the samples of a run are worth.


def undisturbed(rounds: list[tuple[Sample, ...]]) -> list[tuple[Sample, ...]]:
    """Return the rounds in which the machine was quiet; all, where hardly any was."""
    kept = [each for each in rounds if all(s.others <= MOST_OTHERS for s in each)]
    return kept if len(kept) >= LEAST_ROUNDS else rounds


def median(samples: Sequence[Sample], figure: str) -> float:
    """Return the median of a figure of those samples that nothing disturbed."""
    kept = undisturbed([(sample,) for sample in samples])
    return spread([getattr(sample, figure) for (sample,) in kept]).median


def trouble(scenario: Scenario, taken: Taken, failed: dict[str, str]) -> str:
    """Return why a scenario's samples are not there, or are worth nothing."""
    samples = taken.get(scenario)
    if samples is None:
        names = (scenario.subject, scenario.visitors)
        reasons = [failed[name] for name in names if name in failed]
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
