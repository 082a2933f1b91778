"""All that was measured in one run, and the tables of it."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from .load import Meter, machine
from .result import Result
from .rounds import (
    LEAST_ROUNDS,
    MOST_OTHERS,
    Plan,
    Taken,
    added,
    cpu_us,
    play,
    quiet,
    spread,
    trouble,
)
from .rows import EXTRA, PEERS, Pair, Row, Single, added_cpu
from .servers import FAILURES, OURS, SUBJECTS, Fleet

PATHS = {"/read": "reading", "/write": "writing"}
REACHED = {"missed": "**missed**", "must": "yes", "aim": "yes, and the aim", "": ""}


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
        results = self.results.items()
        return [name for name, each in results if each.reached not in ("must", "aim")]

    def json(self) -> str:
        """Return all figures."""
        samples = {
            group: {str(each): list(map(asdict, taken[each])) for each in taken}
            for group, taken in self.taken.items()
        }
        whole = {
            "machine": machine(),
            "others": self.others,
            "rows": {name: asdict(result) for name, result in self.results.items()},
            "samples": samples,
            "not_measured": self.failed,
        }
        return json.dumps(whole, indent=2, ensure_ascii=False)


def _measured(row: Single, fleet: Fleet, plan: Plan) -> Result:
    try:
        return row.measure(fleet, plan)
    except FAILURES as error:
        return Result(why_not=str(error))


def render(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown whose columns are aligned."""
    cells = [list(columns), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = [map(str.ljust, line, widths) for line in cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main_table(rows: Iterable[Row], results: Mapping[str, Result]) -> str:
    """Return what each row must reach and has reached."""
    columns = ["what", "must", "aim", "measured (quartiles)", "µs of CPU", "reached"]
    lines = []
    for row in rows:
        result = results[row.name]
        shown = result.shown or f"not measured: {result.why_not}"
        reached = REACHED[result.reached]
        lines.append([row.what, row.must, row.aim, shown, result.cpu, reached])
    return render(columns, lines)


def load_table(taken: Taken) -> str:
    """Return what each server did under each kind of load."""
    figures = ["requests/s", "µs of CPU", "p50 ms", "p99 ms", "errors"]
    lines = []
    for scenario, samples in taken.items():
        rate, p50, p99 = (
            spread([getattr(sample, figure) for sample in quiet(samples)]).median
            for figure in ("rate", "p50_us", "p99_us")
        )
        cells = [f"{rate:.0f}", f"{cpu_us(taken, scenario):.0f}"]
        cells += [f"{p50 / 1000:.2f}", f"{p99 / 1000:.2f}"]
        errors = str(sum(sample.errors for sample in samples))
        title = SUBJECTS[scenario.subject].title
        lines.append([title, scenario.load, *cells, errors])
    return render(["server", "load", *figures], lines)


def added_table(taken: Taken, failed: dict[str, str]) -> str:
    """Return what a session adds to each framework's own CPU time for a request."""
    lines = [
        [SUBJECTS[name].title, *(_added(path, name, taken, failed) for path in PATHS)]
        for name in (OURS, *PEERS)
    ]
    return render(["µs of CPU that a session adds", *PATHS.values()], lines)


def _added(path: str, name: str, taken: Taken, failed: dict[str, str]) -> str:
    pair = added(path, name)
    if any(trouble(scenario, taken, failed) for scenario in pair):
        return "not measured"
    values = [added_cpu(*each) for each in zip(*map(taken.get, pair), strict=True)]
    median, low, high = spread(values)
    return f"{median:.0f} ({low:.0f} to {high:.0f})"
