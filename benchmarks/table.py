"""The measurements as tables, in Markdown and readable as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .pairs import cpu_us, quiet, trouble
from .rounds import Taken, spread
from .rows import PEERS, Row
from .scenarios import added, added_cpu
from .subjects import OURS, SUBJECTS
from .verdict import Result

__all__ = ["added_table", "load_table", "main_table", "render"]

PATHS = {"/read": "reading", "/write": "writing"}
REACHED = {"missed": "**missed**", "must": "yes", "aim": "yes, and the aim", "": ""}


def render(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose columns are aligned."""
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
    columns = [
        "server",
        "load",
        "requests/s",
        "µs of CPU",
        "p50 ms",
        "p99 ms",
        "errors",
    ]
    lines = []
    for scenario, samples in taken.items():
        rate, p50, p99 = (
            spread([getattr(sample, figure) for sample in quiet(samples)]).median
            for figure in ("rate", "p50_us", "p99_us")
        )
        lines.append(
            [
                SUBJECTS[scenario.subject].title,
                scenario.load,
                f"{rate:.0f}",
                f"{cpu_us(taken, scenario):.0f}",
                f"{p50 / 1000:.2f}",
                f"{p99 / 1000:.2f}",
                str(sum(sample.errors for sample in samples)),
            ]
        )
    return render(columns, lines)


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
