"""What users and operators see of each fault, by injecting it.

    python -m benchmarks.faults --write docs/faults.md

Starts all that it needs: memcached, twemproxy, a faulty network, and a site that
users work on. Ends with status 1 where an answer was wrong, overlong or missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from .catalogue import FAULTS
from .fault import Fault
from .report import row
from .stage import Stage
from .table import document

__all__ = ["play"]

USERS = 20


async def play(fault: Fault, users: int = USERS) -> dict[str, Any]:
    """Play a fault; return its row."""
    began = time.monotonic()
    stage = Stage(users)
    try:
        async with stage:
            await fault.act(stage)
    except Exception as error:
        stage.play.problems.append(f"the run failed: {error!r}")
    seconds = round(time.monotonic() - began, 1)
    return {**row(fault, stage.play), "users": users, "seconds": seconds}


def progress(result: dict[str, Any]) -> None:
    """Print one line about a fault that was played."""
    state = "ok" if result["ok"] else "FAILED"
    wrong = sum(result["wrong"].values())
    print(
        f"{result['name']:<16}{state:<8}{result['seconds']:>5} s "
        f"{result['requests']:>6} answers {result['errors']:>5} errors "
        f"{result['longest_ms']:>6} ms longest {wrong:>4} wrong",
        file=sys.stderr,
    )
    for text in (*result["problems"], *result["wrong"]):
        print(f"{'':<14}{text}", file=sys.stderr)


async def main(options: argparse.Namespace) -> int:
    """Play the faults that were asked for; return the exit status."""
    results = []
    for name in options.only or FAULTS:
        results.append(await play(FAULTS[name], options.users))
        progress(results[-1])
    if options.write:
        options.write.write_text(document(results))
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    elif not options.write:
        print(document(results))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", nargs="+", choices=FAULTS, metavar="NAME")
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--json", action="store_true", help="print all that was seen")
    parser.add_argument("--write", type=Path, help="write the table to this file")
    arguments = parser.parse_args()
    if arguments.write and arguments.only:
        parser.error("--write is for the whole table")
    sys.exit(asyncio.run(main(arguments)))
