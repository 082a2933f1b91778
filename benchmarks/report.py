"""All that was measured in one run."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from .measure import Meter
from .pairs import LEAST_ROUNDS, MOST_OTHERS, Pair
from .programs import machine
from .rounds import Plan, Taken, play
from .rows import EXTRA, Row, Single
from .running import FAILURES, Fleet
from .subjects import SUBJECTS
from .table import added_table, load_table, main_table
from .verdict import Result

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """The results of rows, and the samples that they are made of."""

    rows: Sequence[Row]
    plan: Plan
    results: dict[str, Result]
    taken: dict[str, Taken]
    failed: dict[str, str]
    others: float = 0.0  # the share of the machine that other programs used

    @classmethod
    def of(
        cls, fleet: Fleet, rows: Sequence[Row], plan: Plan, extra: Container[str] = ()
    ) -> Report:
        """Measure ``rows``; in the groups ``extra`` also what is for comparison."""
        report = cls(rows, plan, {}, {}, fleet.failed)
        meter = Meter()
        for group in dict.fromkeys(row.group for row in rows):
            fleet.tell(f"== {group}")
            members = [row for row in rows if row.group == group]
            pairs = [row for row in members if isinstance(row, Pair)]
            if pairs:
                scenarios = [each for pair in pairs for each in pair.scenarios]
                scenarios += EXTRA.get(group, []) if group in extra else []
                report.taken[group] = play(fleet, dict.fromkeys(scenarios), plan)
            for row in members:
                report.results[row.name] = (
                    row.result(report.taken[group], fleet.failed)
                    if isinstance(row, Pair)
                    else _measured(row, fleet, plan)
                )
        return replace(report, others=meter.others())

    def text(self) -> str:
        """Return the tables, and on what and how they were measured."""
        parts = [
            f"{self.plan.rounds} rounds of {self.plan.seconds} s for each server. "
            f"{machine()}. Other programs used {self.others:.0%} of the CPUs: rounds "
            f"with more than {MOST_OTHERS:.0%} are left out where at least "
            f"{LEAST_ROUNDS} remain.\n",
            main_table(self.rows, self.results),
            *self._notes(),
        ]
        if "peers" in self.taken:
            parts.append(added_table(self.taken["peers"], self.failed))
        parts += map(load_table, self.taken.values())
        return "\n".join(parts)

    def _notes(self) -> Iterator[str]:
        reasons: dict[str, list[str]] = {}
        for name, why_not in self.failed.items():
            reasons.setdefault(why_not, []).append(SUBJECTS[name].title)
        for why_not, titles in reasons.items():
            yield f"Not measured: {', '.join(titles)}: {why_not}\n"

    def missed(self) -> list[str]:
        """Return the names of rows that did not reach what they must."""
        return [
            name
            for name, result in self.results.items()
            if result.reached not in ("must", "aim")
        ]

    def json(self) -> str:
        """Return all figures."""
        samples = {
            group: {
                str(scenario): [asdict(sample) for sample in samples]
                for scenario, samples in taken.items()
            }
            for group, taken in self.taken.items()
        }
        results = {name: asdict(result) for name, result in self.results.items()}
        whole = {
            "machine": machine(),
            "others": self.others,
            "rows": results,
            "samples": samples,
            "not_measured": self.failed,
        }
        return json.dumps(whole, indent=2, ensure_ascii=False)


def _measured(row: Single, fleet: Fleet, plan: Plan) -> Result:
    try:
        return row.measure(fleet, plan)
    except FAILURES as error:
        return Result(why_not=str(error))
