"""The page for operators, made of the figures of all faults."""

from __future__ import annotations

import re
import subprocess  # nosec B404 # runs memcached -V
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

from benchmarks.soak.web import CONNECT_TIMEOUT, TIMEOUT
from tests.support.processes import find_server

from .catalogue import FAULTS
from .stage import PROCESSES

__all__ = ["document"]

SECTIONS = {
    "killed": "memcached",
    "stale": "The network",
    "records": "Data and deployments",
}
COLUMNS = ("fault", "users see", "you see", "what to do", "longest", "wrong")
INTRODUCTION = """\
# When something fails

Find what happened in the first column; the others say what your users see of it, what
you see, and what to do. Three things hold in every row:

- **An outage logs nobody out.** While memcached cannot be reached, requests that need a
  session get a 503 with `Retry-After`, and cookies stay as they are. When it is back,
  users go on with the session that they had, unless memcached itself has lost it.
- **A logout during an outage is kept.** The response is a 503, its cookie is cleared,
  and the process ends the session as soon as memcached responds.
- **A node that fails affects its own sessions only**, but for a twemproxy between.

**You see** has the line of the logger `tornado_mcsession` that is logged most often (at
ERROR, once for each request that fails), and what `health()` says meanwhile. Besides,
`on_disconnect` and `on_connect` are called when a node goes and comes back.

These figures were measured: {users} users worked on {processes} processes with
`timeout={timeout:g}` and `connect_timeout={connect:g}`, so a load and a save may take
{bound:g} s together. Percentages are of the responses while the fault lasted.
**Longest** is the longest of them. **Wrong** counts those with another user's data,
with less than an earlier response had confirmed, with an increment made twice, or with
a session that had ended. There must be none.
[figures/faults.json](figures/faults.json) has all figures, log lines and counters.

Written by `python -m benchmarks.faults --write` on memcached {memcached}, Tornado
{tornado}. In all: {total:,} responses while faults lasted.
"""


def document(results: list[dict[str, Any]]) -> str:
    """Return the page for the figures of all faults."""
    said = subprocess.run(  # nosec B603 # no shell, nothing from outside
        [find_server("memcached"), "-V"], capture_output=True, text=True, check=True
    ).stdout
    introduction = INTRODUCTION.format(
        users=max(result["users"] for result in results),
        processes=PROCESSES,
        timeout=TIMEOUT,
        connect=CONNECT_TIMEOUT,
        bound=4 * TIMEOUT,
        memcached=said.split()[-1],
        tornado=version("tornado"),
        total=sum(result["requests"] for result in results),
    )
    return "\n".join([introduction, *_tables(results)]) + "\n"


def _tables(results: list[dict[str, Any]]) -> Iterator[str]:
    for result in results:
        if heading := SECTIONS.get(result["name"]):
            yield f"\n## {heading}\n"
        if heading or result is results[0]:
            yield _line(COLUMNS)
            yield _line(["---"] * len(COLUMNS))
        yield _line(_cells(result))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _cells(result: dict[str, Any]) -> list[str]:
    fault = FAULTS[result["name"]]
    return [
        fault.title,
        _users_see(result),
        _you_see(result),
        fault.remedy,
        f"{result['longest_ms']} ms",
        str(sum(result["problems"].values())),
    ]


def _users_see(result: dict[str, Any]) -> str:
    groups = result["statuses"]
    told = [
        f"{_statuses(groups[group])} for {group}"
        if len(groups) > 1
        else _statuses(seen)
        for group, seen in sorted(groups.items())
        if not group.startswith("new")
    ]
    if result["recovery_seconds"] is None:
        told.append("until it is mended")
    elif result["lost_sessions"] and not result["errors"]:
        return "their session is gone; they log in again"
    elif result["lost_sessions"]:
        told.append("then log in again, where their session is gone")
    elif result["errors"]:
        told.append("then go on where they were")
    return "; ".join(told)


def _statuses(seen: dict[str, int]) -> str:
    """Return which share of the responses was not as usual."""
    total = sum(seen.values())
    shares = [
        f"{what} {count / total:.0%}"
        for what, count in seen.items()
        if what not in ("200", "409")
    ]
    return ", ".join(shares) or "nothing"


def _you_see(result: dict[str, Any]) -> str:
    lines: Counter[str] = Counter()
    for line, count in result["log"].items():
        # "503 in place of 200 for GET /cart: get on 10.0.0.1:11211: no response"
        reason = re.sub(r"^.* for <request>: (\w+ on [^:]+: )?", "", line)
        if "logouts" not in line and "answers again" not in line:
            lines[reason.partition("; breaker")[0]] += count
    told = [f"`{line}`" for line, _ in lines.most_common(1)]
    healths = [health for health in result["health"][:1] if health != "ok"]
    told += [f"health: *{health.partition(',')[0]}*" for health in healths]
    if not told and result["lost_sessions"]:
        return "`misses` in `stats()` rise"
    return "; ".join(told) or "nothing"
