"""What compares servers under load, round by round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .load import Sample
from .rounds import Taken, spread
from .scenarios import Scenario, rate_ratio
from .verdict import Result, Target, measured

__all__ = [
    "LEAST_ROUNDS",
    "MOST_OTHERS",
    "Pair",
    "cpu_us",
    "errors_of",
    "quiet",
    "trouble",
]

# wrk takes some time of its own between an answer and the next request.
LEAST_WAITING = 0.5

# Rounds in which other programs used more of the machine than that are left out, as
# long as so many remain.
MOST_OTHERS = 0.1
LEAST_ROUNDS = 3


class Pair(NamedTuple):
    """A row of the table that compares two servers, or what two of them add."""

    group: str  # of those that are measured in the same rounds
    name: str
    what: str
    target: Target
    figure: Callable[..., float]
    scenarios: tuple[Scenario, ...]

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


def undisturbed(rounds: list[tuple[Sample, ...]]) -> list[tuple[Sample, ...]]:
    """Return the rounds in which the machine was quiet; all, where hardly any was."""
    kept = [each for each in rounds if all(map(is_quiet, each))]
    return kept if len(kept) >= LEAST_ROUNDS else rounds


def quiet(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return those during which other programs did little; all, if there are none."""
    return [each for each in samples if is_quiet(each)] or samples


def is_quiet(sample: Sample) -> bool:
    return sample.others <= MOST_OTHERS


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
        return f"{scenario}: {1 - forgotten:.0%} of the connections got no answer"
    return ""


def errors_of(samples: Sequence[Sample]) -> str:
    """Return how many requests went wrong, and how."""
    kinds = {
        "broken connections": sum(sample.broken for sample in samples),
        "error statuses": sum(sample.statuses for sample in samples),
        "timeouts": sum(sample.timeouts for sample in samples),
    }
    seen = [f"{count} {kind}" for kind, count in kinds.items() if count]
    answers = sum(sample.requests for sample in samples)
    return f"{', '.join(seen) or 'no errors'} in {answers} answers"


def cpu_us(taken: Taken, scenario: Scenario) -> float:
    """Return the microseconds of CPU time that a request took."""
    return spread([sample.cpu_us for sample in quiet(taken[scenario])]).median
