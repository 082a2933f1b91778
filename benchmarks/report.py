"""All that was measured in one run, as tables, as JSON and as a page of the docs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import picture
from .load import Meter, machine
from .rounds import (
    LEAST_ROUNDS,
    MOST_OTHERS,
    Plan,
    Result,
    Taken,
    median,
    play,
    trouble,
    undisturbed,
)
from .rows import COMPARED, DOING, EXTRA, Pair, Row, Single, added, added_cpu
from .servers import FAILURES, SUBJECTS, Fleet

FIGURES = ("rate", "cpu_us", "p50_us", "p99_us")
SERVERS = ["server", "load", "requests/s", "µs of CPU", "p50 ms", "p99 ms", "errors"]


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
        cls, fleet: Fleet, rows: Sequence[Row], plan: Plan, extra: bool = False
    ) -> Report:
        """Measure ``rows``; with ``extra``, also what is for comparison."""
        report = cls(rows, plan, {}, {}, fleet.failed)
        meter = Meter()
        for group in dict.fromkeys(row.group for row in rows):
            fleet.tell(f"== {group}")
            members = [row for row in rows if row.group == group]
            pairs = [row for row in members if isinstance(row, Pair)]
            if pairs:
                scenarios = [each for pair in pairs for each in pair.scenarios]
                scenarios += EXTRA.get(group, []) if extra else []
                report.taken[group] = play(fleet, scenarios, plan)
            for row in members:
                report.results[row.name] = (
                    row.result(report.taken[group], fleet.failed)
                    if isinstance(row, Pair)
                    else _measured(row, fleet, plan)
                )
        return replace(report, others=meter.others())

    def costs(self) -> dict[str, dict[str, float]]:
        """Return the µs of CPU that reading and writing add, for each way.

        With them, under "without", those of a request without a session.
        """
        taken = self.taken.get("main", {})
        costs: dict[str, dict[str, float]] = {}
        for name in COMPARED:
            pairs = {doing: added(path, name) for path, doing in DOING.items()}
            asked = [scenario for pair in pairs.values() for scenario in pair]
            if any(trouble(scenario, taken, self.failed) for scenario in asked):
                continue
            costs[name] = {"without": round(median(taken[asked[1]], "cpu_us"), 1)}
            for doing, pair in pairs.items():
                rounds = undisturbed(list(zip(*map(taken.get, pair), strict=True)))
                values = [added_cpu(*each) for each in rounds]
                costs[name][doing] = round(statistics.median(values), 1)
        return costs

    # As text.

    def sections(self) -> dict[str, str]:
        """Return the parts of the report, by their names in the page."""
        results = [(row.what, self.results[row.name]) for row in self.rows]
        rows = [[what, result.shown, result.cpu] for what, result in results]
        return {
            "cost": cost_table(self.costs()),
            "rows": render(["what", "measured (quartiles)", "µs of CPU"], rows),
            "servers": "\n".join(map(load_table, self.taken.values())),
            "run": self._run(),
        }

    def text(self) -> str:
        """Return all parts that are not empty."""
        return "\n".join(filter(None, self.sections().values()))

    def _run(self) -> str:
        lines = [
            f"{self.plan.rounds} rounds of {self.plan.seconds} s for each server. "
            f"{machine()}.",
            f"Other programs used {self.others:.0%} of the CPUs. Rounds with more than "
            f"{MOST_OTHERS:.0%} are left out, but for the {LEAST_ROUNDS} quietest.",
            *(f"Not measured: {name}: {why}." for name, why in self.failed.items()),
        ]
        return "\n".join([*lines, ""])

    # As data.

    def json(self) -> str:
        """Return all figures as JSON."""
        whole = {
            "run": {"machine": machine(), **self.plan._asdict(), "others": self.others},
            "cost": self.costs(),
            "rows": [
                {"name": row.name, "what": row.what, **_figures(self.results[row.name])}
                for row in self.rows
            ],
            "servers": {
                group: {
                    str(scenario): {
                        **{name: round(median(samples, name), 1) for name in FIGURES},
                        "errors": sum(sample.errors for sample in samples),
                    }
                    for scenario, samples in taken.items()
                }
                for group, taken in self.taken.items()
            },
            "not_measured": self.failed,
        }
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"

    def write(self, docs: Path) -> None:
        """Put the figures into the page of the docs, and beside it."""
        page, figures = docs / "performance.md", docs / "figures"
        page.write_text(filled(page.read_text(), self.sections()))
        (figures / "performance.json").write_text(self.json())
        (figures / "cost.svg").write_text(picture.bars(self.costs(), COMPARED))


def _measured(row: Single, fleet: Fleet, plan: Plan) -> Result:
    try:
        return row.measure(fleet, plan)
    except FAILURES as error:
        return Result(why_not=str(error))


def _figures(result: Result) -> dict[str, Any]:
    if result.why_not:
        return {"not_measured": result.why_not}
    return {"shown": result.shown, "cpu": result.cpu, "values": result.values}


def filled(page: str, sections: dict[str, str]) -> str:
    """Return a page with other contents between its markers.

    Each section must be there: ``<!-- measured: NAME -->`` to ``<!-- end -->``.
    """
    for name, contents in sections.items():
        before, mark, rest = page.partition(f"<!-- measured: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"the page has no section {name!r}")
        page = f"{before}{mark}{contents.strip()}\n{end}{after}"
    return page


def render(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown whose columns are aligned."""
    cells = [list(columns), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = [map(str.ljust, line, widths) for line in cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cost_table(costs: dict[str, dict[str, float]]) -> str:
    """Return what each way to keep sessions adds to a request."""
    columns = ["sessions kept by", "reading adds, µs", "writing adds, µs"]
    rows = [
        [COMPARED[name], *(f"{cost[key]:.0f}" for key in (*DOING.values(), "without"))]
        for name, cost in costs.items()
    ]
    return render([*columns, "a request without, µs"], rows) if rows else ""


def load_table(taken: Taken) -> str:
    """Return what each server did under each kind of load."""
    rows = []
    for scenario, samples in taken.items():
        rate, cpu, p50, p99 = (median(samples, figure) for figure in FIGURES)
        cells = [f"{rate:.0f}", f"{cpu:.0f}", f"{p50 / 1000:.2f}", f"{p99 / 1000:.2f}"]
        errors = str(sum(sample.errors for sample in samples))
        title = SUBJECTS[scenario.subject].title
        rows.append([title, scenario.load, *cells, errors])
    return render(SERVERS, rows)
