"""The table of all faults, as a page for operators."""

from __future__ import annotations

import re
import subprocess  # nosec B404 # runs memcached -V
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from platform import python_version
from typing import Any

from tests.support.processes import find_server

from .stage import CONNECT_TIMEOUT, PROCESSES, TIMEOUT
from .users import PAUSE

__all__ = ["document"]

COLUMNS = [
    "fault",
    "users see",
    "the log",
    "events and figures",
    "longest answer",
    "wrong answers",
]

INTRODUCTION = """\
# What each fault looks like

{users} users read, write, count, log in and out on a site of {processes} processes
behind a load balancer, {rate} requests a second, while a fault is injected: into real
memcached processes, or into the network before them. Each answer is held against what
its user was told before. **A wrong answer** is one

- with another user's data, with older data than a 2xx has acknowledged, or with an
  increment made twice;
- that finds a session alive after its logout; where that was a 503, still alive some
  seconds after memcached is back;
- that finds no session, or brings a new id or cookie, while memcached cannot be asked
  or has the session;
- that never comes.

In the table,

- **users see** counts answers, from the fault's beginning until all users are well
  again. Each 503 has a Retry-After, and no cookie unless it says so.
- **the log** has the lines of the logger `tornado_mcsession` at WARNING and above, of
  both processes. `503 …:` stands for `503 for GET /cart: get on 10.0.0.1:11211:`, and
  for `503 in place of 200 for …`; what is in `[brackets]` is not in all of them.
- **events and figures**: the callbacks that were called, what `health()` said while the
  fault lasted and afterwards, and which counters of `stats()` grew.
- **longest answer** is measured by the users. With `timeout={timeout:g}` and
  `connect_timeout={connect:g}`, a load and a save may take {bound:g} s together.

Written by `python -m benchmarks.faults --write docs/faults.md` (with the `test` extra),
on memcached {memcached}, Tornado {tornado}, Python {python}. It ends with status 1
where an answer is wrong, overlong or missing.
"""
# The ways in which the reason of a failed request is logged.
FAILED = re.compile(
    r"(?P<what>\d+|session \w+ failed) (?:in place of \d+ )?for <request>: "
    r"(?:\w+ on [^:]+: )?"
)


def document(results: list[dict[str, Any]]) -> str:
    """Return the page for the results of all faults."""
    total = sum(result["requests"] for result in results)
    wrong = sum(_wrong(result) for result in results)
    lines = [
        _introduction(results),
        f"In all: {total:,} answers while faults lasted, {wrong} wrong.\n",
        _line(COLUMNS),
        _line(["---"] * len(COLUMNS)),
        *(_line(_cells(result)) for result in results),
    ]
    return "\n".join(lines) + "\n"


def _introduction(results: list[dict[str, Any]]) -> str:
    said = subprocess.run(  # nosec B603 # no shell, nothing from outside
        [find_server("memcached"), "-V"], capture_output=True, text=True, check=True
    ).stdout
    users = max(result["users"] for result in results)
    return INTRODUCTION.format(
        users=users,
        processes=PROCESSES,
        rate=f"{users / (sum(PAUSE) / 2):.0f}",
        timeout=TIMEOUT,
        connect=CONNECT_TIMEOUT,
        bound=4 * TIMEOUT,
        memcached=said.split()[-1],
        tornado=version("tornado"),
        python=python_version(),
    )


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _cells(result: dict[str, Any]) -> list[str]:
    return [
        result["title"],
        _seen(result),
        _logged(result["log"]),
        _told(result),
        f"{result['longest_ms']} ms",
        str(_wrong(result)),
    ]


def _seen(result: dict[str, Any]) -> str:
    parts = []
    for group, seen in result["seen"].items():
        counts = ", ".join(f"{n} × {what}" for what, n in seen["answers"].items())
        longest = f" (longest {seen['longest_ms']} ms)" if group else ""
        parts.append(f"{group}: {counts}{longest}" if group else counts)
    parts.append(_afterwards(result))
    return "<br>".join(parts)


def _afterwards(result: dict[str, Any]) -> str:
    if result["recovery_seconds"] is None:
        return "until it is mended"
    when = f"well again in {result['recovery_seconds']:.1f} s"
    if not result["lost_sessions"]:
        return f"{when}, same sessions"
    return f"{when}; sessions gone, to log in again: {result['lost_sessions']}"


def _logged(log: Mapping[str, int]) -> str:
    counts: Counter[str] = Counter()
    endings: dict[str, set[str]] = {}
    for line, count in log.items():
        short = FAILED.sub(r"\g<what> …: ", line)
        short = re.sub(r"session of \d+ bytes", "session of 20100 bytes", short)
        start, _, end = short.partition("; ")
        counts[start] += count
        endings.setdefault(start, set()).add(end)
    lines = [
        f"{_times(count)}`{start}{_ending(endings[start])}`"
        for start, count in counts.most_common()
    ]
    return "<br>".join(lines) or "nothing"


def _times(count: int) -> str:
    return "" if count == 1 else f"{count} × "


def _ending(found: set[str]) -> str:
    (*_, longest) = sorted(found)
    if not longest:
        return ""
    return f"[; {longest}]" if "" in found else f"; {longest}"


def _told(result: dict[str, Any]) -> str:
    events = [f"{_times(n)}{what}" for what, n in result["events"].items()]
    moved = [f"`{name}` {change:+}" for name, change in result["counters"].items()]
    health = " → ".join(f"*{said}*" for said in result["health"])
    return "<br>".join(filter(None, [", ".join(events), health, ", ".join(moved)]))


def _wrong(result: dict[str, Any]) -> int:
    return sum(result["wrong"].values())
