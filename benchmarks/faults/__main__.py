"""Play the faults, and put the figures into the page for operators.

    python -m benchmarks.faults
    python -m benchmarks.faults --only killed hung
    python -m benchmarks.faults --write    # docs/operations/faults.md and its figures

Starts all that it needs: memcached, twemproxy, a faulty network, and a site that
users work on. Ends with status 1 where a response was wrong, late or missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from .catalogue import FAULTS, Fault
from .page import cells, filled
from .stage import Stage

USERS = 20
DOCS = Path(__file__).parents[2] / "docs"
PAGE, FIGURES = DOCS / "operations" / "faults.md", DOCS / "figures" / "faults.json"


async def play(name: str, fault: Fault, users: int = USERS) -> dict[str, Any]:
    """Play a fault; return what was seen of it."""
    began = time.monotonic()
    stage = Stage(users, fault.statuses, fault.waits)
    try:
        async with stage:
            await fault.act(stage)
            if not fault.stays:
                await stage.over()
    except Exception as error:
        stage.seen.problems[f"the run failed: {error!r}"] += 1
    figures = stage.seen.figures()
    # A fault that nobody notices was none.
    if fault.loses and not figures["lost_sessions"]:
        figures["problems"]["no session is gone: the fault has no effect"] = 1
    elif 503 in fault.statuses and not fault.loses and not figures["errors"]:
        figures["problems"]["nobody got a 503: the fault has no effect"] = 1
    seconds = round(time.monotonic() - began, 1)
    return {"name": name, "users": users, "seconds": seconds, **figures}


async def main(options: argparse.Namespace) -> int:
    """Play the faults that were asked for; return the exit status."""
    results = []
    for name in options.only or FAULTS:
        results.append(await play(name, FAULTS[name], options.users))
        failed, longest, _ = cells(results[-1])
        problems = results[-1]["problems"]
        print(
            f"{name:<16}{'FAILED' if problems else 'ok':<8}"
            f"{results[-1]['seconds']:>5} s {results[-1]['requests']:>6} responses, "
            f"{failed} failed, longest {longest}",
            *(f"{'':<16}{count} × {text}" for text, count in problems.items()),
            sep="\n",
            file=sys.stderr,
            flush=True,
        )
    figures = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    if options.json:
        print(figures, end="")
    if options.write:
        PAGE.write_text(filled(PAGE.read_text(), results))
        FIGURES.write_text(figures)
    return 1 if any(each["problems"] for each in results) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", nargs="+", choices=FAULTS, metavar="NAME")
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--json", action="store_true", help="print all figures")
    parser.add_argument("--write", action="store_true", help="write the page")
    arguments = parser.parse_args()
    if arguments.write and arguments.only:
        parser.error("--write is for all faults")
    sys.exit(asyncio.run(main(arguments)))
