"""What a session costs a request: the whole table.

    python -m benchmarks
    python -m benchmarks --quick --only main burst
    python -m benchmarks --write     # into docs/performance.md

Starts all that it needs: memcached, the servers that are compared, wrk. A row, or
a group of rows that are measured together, can be chosen by its name.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .load import Missing, require
from .report import Report
from .rounds import FULL, QUICK
from .rows import ROWS
from .servers import Fleet

NAMES = list(dict.fromkeys(name for row in ROWS for name in (row.group, row.name)))
DOCS = Path(__file__).parents[1] / "docs"


def tell(line: str) -> None:
    """Tell who waits what is going on."""
    print(line, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__.split("\n")[0],
        epilog=f"Rows and groups of them: {', '.join(NAMES)}.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="shorter, and less exact")
    add("--only", nargs="+", choices=NAMES, default=[], metavar="ROW", help="some")
    add("--json", action="store_true", help="print all figures as JSON")
    add("--write", action="store_true", help="write docs/performance.md")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write is for all rows")
    return options


def main() -> int:
    options = arguments()
    only = set(options.only)
    rows = [row for row in ROWS if not only or {row.group, row.name} & only]
    # A row alone needs nothing to be compared with.
    extra = not only or "main" in only
    try:
        require()
    except Missing as error:
        tell(f"error: {error}")
        return 2
    with Fleet(tell) as fleet:
        report = Report.of(fleet, rows, QUICK if options.quick else FULL, extra)
    print(report.json() if options.json else report.text(), end="", flush=True)
    if options.write:
        report.write(DOCS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
