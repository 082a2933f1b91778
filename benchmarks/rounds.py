"""Load in rounds: every scenario of a group in turn, again and again.

A machine is never quiet, and never equally busy for long. So what is compared is
measured within seconds of each other, many times: a ratio is taken in each round,
and the table has the median of the rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from . import load
from .load import Sample
from .servers import FAILURES, NOBODY, SUBJECTS, USERS, Fleet

CONNECTIONS = 32

# wrk takes some time of its own between a response and the next request.
LEAST_WAITING = 0.5

# Rounds in which other programs used more of the machine than that are left out, but
# for so many.
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


@dataclass(frozen=True)
class Result:
    """What a row has come to: in words, or values of which the median counts."""

    values: list[float] = field(default_factory=list)
    words: str = ""
    cpu: str = ""
    why_not: str = ""

    @property
    def shown(self) -> str:
        """What the table shows."""
        if self.why_not:
            return f"not measured: {self.why_not}"
        if self.words:
            return self.words
        low, median, high = spread(self.values)
        digits = 0 if median >= 10 else 2
        return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper one of some values."""
    values = [*values, *values] if len(values) == 1 else values
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


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
    return {each: taken[each] for each in taken if each.subject not in fleet.failed}


def _load(fleet: Fleet, scenario: Scenario, seconds: int) -> Sample | None:
    if scenario.subject in fleet.failed:
        return None
    server = fleet.servers[scenario.subject]
    try:
        if scenario.path == "/login":
            server.visit()  # the ids that its users had are dead by now
        return load.run(
            server.pid,
            server.port,
            scenario.path,
            fleet.cookies(scenario.visitors),
            connections=scenario.connections,
            # A thousand take their time.
            seconds=seconds * (3 if scenario.connections > USERS else 1),
        )
    except FAILURES as error:
        fleet.give_up(scenario.subject, str(error))
        return None


def undisturbed(rounds: list[tuple[Sample, ...]]) -> list[tuple[Sample, ...]]:
    """Return the rounds in which the machine was quiet, or the quietest ones."""
    rounds = sorted(rounds, key=lambda each: max(sample.others for sample in each))
    quiet = [each for each in rounds if all(s.others <= MOST_OTHERS for s in each)]
    return rounds[: max(LEAST_ROUNDS, len(quiet))]


def median(samples: Sequence[Sample], figure: str) -> float:
    """Return the median of a figure of those samples that nothing disturbed."""
    kept = undisturbed([(sample,) for sample in samples])
    return statistics.median(getattr(sample, figure) for (sample,) in kept)


def trouble(scenario: Scenario, taken: Taken, failed: dict[str, str]) -> str:
    """Return why a scenario's samples are not there, or are worth nothing."""
    samples = taken.get(scenario)
    if samples is None:
        names = (scenario.subject, scenario.visitors)
        reasons = [failed[name] for name in names if name in failed]
        return reasons[0] if reasons else "not asked for"
    if errors := sum(sample.errors for sample in samples):
        requests = sum(sample.requests for sample in samples)
        return f"{scenario}: {errors} errors in {requests} responses"
    if not all(sample.requests for sample in samples):
        return f"{scenario}: no response in one of the rounds"
    served = statistics.median(each.waiting / each.connections for each in samples)
    if served < LEAST_WAITING:
        return f"{scenario}: {1 - served:.0%} of the connections got no response"
    return ""
