"""What a session costs a request: the whole table.

    python -m benchmarks
    python -m benchmarks --quick --only read,write

Starts all that it needs: memcached, the servers that are compared, wrk. A row, or
a group of rows that are measured together, can be chosen by its name.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import plot
from .load import Missing, require
from .report import Report
from .rounds import FULL, QUICK, Plan
from .rows import ROWS, Row
from .servers import Fleet

GROUPS = list(dict.fromkeys(row.group for row in ROWS))
# A quick look at everything leaves out what is there for comparison.
EXTENDED = {FULL: GROUPS, QUICK: []}
NAMES = list(dict.fromkeys(name for row in ROWS for name in (row.group, row.name)))


def tell(line: str) -> None:
    """Tell who waits what is going on."""
    print(line, file=sys.stderr, flush=True)


def names(text: str) -> list[str]:
    """Return the names of rows and groups in an argument."""
    chosen = [name for name in text.split(",") if name]
    for name in chosen:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(NAMES)}")
    return chosen


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__.split("\n")[0],
        epilog=f"Rows and groups of them: {', '.join(NAMES)}.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="shorter, and less exact")
    add("--only", nargs="+", type=names, default=[], metavar="ROW", help="some")
    add(
        "--check",
        action="store_true",
        help="end with status 1 where a row misses what it must reach",
    )
    add("--json", type=Path, metavar="FILE", help="write all figures")
    add(
        "--plot",
        type=Path,
        metavar="DIRECTORY",
        help="draw figures over the number of connections, as SVG and PNG",
    )
    return parser.parse_args()


def run(rows: list[Row], plan: Plan, options: argparse.Namespace) -> Report:
    """Measure, and write what is asked for."""
    with Fleet(tell) as fleet:
        report = Report.of(fleet, rows, plan, extra=options.only or EXTENDED[plan])
        print(report.text(), flush=True)
        if options.json:
            options.json.write_text(report.json())
        if options.plot:
            tell("== plot")
            for file in plot.draw(plot.measure(fleet, plan), plan, options.plot):
                tell(f"drawn: {file}")
    return report


def main() -> int:
    options = arguments()
    options.only = [name for names in options.only for name in names]
    rows = [row for row in ROWS if {row.group, row.name} & set(options.only or GROUPS)]
    try:
        require(["matplotlib"] if options.plot else [])
        report = run(rows, QUICK if options.quick else FULL, options)
    except Missing as error:
        tell(f"error: {error}")
        return 2
    missed = report.missed()
    if missed:
        tell(f"not reached or not measured: {', '.join(missed)}")
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
