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
from .running import FAILURES, Fleet, Wrong
from .scenarios import Scenario
from .subjects import SUBJECTS

__all__ = ["FULL", "QUICK", "Plan", "Spread", "Taken", "check_counts", "play", "spread"]

# Of the writes that were answered: two in parallel for one user may count once.
LEAST_COUNTED = 0.99

# Seconds of load before the first round. Node.js compiles while it runs: after one
# second it still takes a third more time than later.
WARM_UP, WARM_UP_NODE = 1, 4

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
                line = f"{scenario!s:<26}{_line(sample)}"
                fleet.tell(f"{number + 1}/{plan.rounds} {line}")
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


def check_counts(name: str, counted: int, answered: int) -> None:
    """Check that what was answered as written has been counted.

    More may have been: the last requests of a slice are made and not waited for.
    """
    if counted < answered * LEAST_COUNTED:
        raise Wrong(f"{name} answered {answered} writes and counted {counted}")


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


def _line(sample: Sample) -> str:
    errors = f" {sample.errors} errors" if sample.errors else ""
    return f"{sample.rate:7.0f}/s {sample.cpu_us:5.0f} µs{errors}"
