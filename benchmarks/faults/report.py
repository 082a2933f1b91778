"""From what was played to the row of a table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .answer import Answer
from .fault import Fault
from .stage import LIMIT, Play, hashed
from .users import MOVES

__all__ = ["row"]

# What moves without any fault.
ORDINARY = {
    "conflicts",
    "held_answers",
    "hits",
    "loads",
    "misses",
    "running_saves",
    "saves",
}
OURS = "tornado_mcsession"
DURING = ("during", "recovering")


def row(fault: Fault, play: Play) -> dict[str, Any]:
    """Return what is known of a fault that was played, ready for JSON."""
    hit = [answer for phase, answer in play.answers if phase in DURING]
    wrong = Counter(answer.wrong for _, answer in play.answers if answer.wrong)
    problems = _problems(fault, play)
    return {
        "name": fault.name,
        "title": fault.title,
        "ok": not problems and not wrong,
        "problems": problems,
        "wrong": dict(wrong),
        "requests": len(hit),
        "errors": sum(not answer.is_ok for answer in hit),
        "seen": _by_group(play, hit),
        "lost_sessions": play.lost,
        "recovery_seconds": play.recovery,
        "log": _log(play),
        "events": _events(play),
        "health": [_health(play, seen) for seen in play.seen[1:]],
        "breaker": _breakers(play),
        "counters": _moved(play),
        "longest_ms": _longest(hit),
    }


def _longest(answers: Iterable[Answer]) -> int:
    return round(1000 * max((answer.seconds for answer in answers), default=0.0))


def _by_group(play: Play, answers: list[Answer]) -> dict[str, dict[str, Any]]:
    """Return what users saw, by the sessions that it matters to tell apart."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        name = ""
        if play.groups:
            name = play.groups.get(hashed(answer.presented), "new sessions")
        if name and answer.path in MOVES:
            name = "new ids"  # which may be placed on any node
        groups.setdefault(name, []).append(answer)
    return {
        name: {
            "answers": dict(Counter(map(_seen, group)).most_common()),
            "longest_ms": _longest(group),
        }
        for name, group in sorted(groups.items())
    }


def _seen(answer: Answer) -> str:
    if answer.status == 0:
        return "no answer"
    if answer.path == "/logout" and answer.cookie == "" and not answer.is_ok:
        return f"{answer.status} for a logout, cookie cleared"
    if answer.cookie and not answer.is_ok:
        return f"{answer.status}, and the new id is told"
    return str(answer.status) if answer.is_available else f"{answer.status}, empty"


def _problems(fault: Fault, play: Play) -> list[str]:
    found = list(play.problems)
    for phase, answer in play.answers:
        allowed = set(fault.statuses) if phase in DURING else set()
        if fault.loses:
            allowed |= {409}  # gone between its load and an awaited change
        what = f"{phase}: {answer.status} for {answer.path}"
        if not answer.is_ok and answer.status not in allowed and not answer.wrong:
            found.append(what)
        if answer.status == 503 and answer.retry_after is None:
            found.append(f"{what} without Retry-After")
        if answer.seconds > LIMIT + fault.waits:
            found.append(f"{what} took {answer.seconds:.1f} s")
    found += _without_effect(fault, play)
    for told in play.told:
        if "line" in told and (told["logger"] != OURS or told["traceback"]):
            found.append(f"logged by {told['logger']}: {told['line']}")
    return [f"{count} × {what}" for what, count in Counter(found).items()]


def _without_effect(fault: Fault, play: Play) -> Iterator[str]:
    """Tell of a fault that nobody has noticed: it was none."""
    hit = {answer.status for phase, answer in play.answers if phase in DURING}
    if fault.loses and not play.lost:
        yield "no session is gone: the fault has no effect"
    elif 503 in fault.statuses and not fault.loses and 503 not in hit:
        yield "nobody got a 503: the fault has no effect"


def _named(text: str, names: Mapping[str, str]) -> str:
    for address, name in names.items():
        text = text.replace(address, name)
    return text


def _log(play: Play) -> dict[str, int]:
    """Return the lines that were logged, without what differs in each."""
    lines = Counter(
        re.sub(r"(GET|POST) /\w+", "<request>", _named(told["line"], play.names))
        for told in play.told
        if "line" in told
    )
    return dict(lines.most_common())


def _events(play: Play) -> dict[str, int]:
    """Return the callbacks that were called, without those of a first contact."""
    events: Counter[str] = Counter()
    away: set[tuple[int, str]] = set()
    for told in play.told:
        if "event" not in told:
            continue
        node = told["process"], told["node"]
        if told["event"] == "on_disconnect":
            away.add(node)
        elif node not in away:
            continue
        events[f"{told['event']}({_named(told['node'], play.names)})"] += 1
    return dict(events)


def _health(play: Play, seen: list[dict[str, Any]]) -> str:
    """Return what the processes' `health` said, once where they agree."""
    said = {}
    for each in seen:
        health = each["health"]
        failed = [
            f"{_named(node, play.names)}: {_named(answer['error'], play.names)}"
            for node, answer in health["nodes"].items()
            if not answer["ok"]
        ]
        said[", ".join([health["status"], *failed])] = True
    return " / ".join(said)


def _breakers(play: Play) -> list[str]:
    """Return the states that the nodes' breakers were seen in."""
    nodes = [
        node
        for seen in play.seen[1:-1]
        for each in seen
        for node in each["stats"]["store"]["nodes"].values()
    ]
    return sorted({node["breaker"] for node in nodes})


def _moved(play: Play) -> dict[str, int]:
    """Return by how much the counters of all processes have grown."""
    first, last = _sums(play.seen[0]), _sums(play.seen[-1])
    ordinary = ORDINARY - {"misses"} if play.lost else ORDINARY
    grown = {name: last[name] - first[name] for name in last if name not in ordinary}
    return {name: change for name, change in grown.items() if change > 0}


def _sums(seen: list[dict[str, Any]]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for each in seen:
        sums.update({k: v for k, v in each["stats"].items() if isinstance(v, int)})
    return sums
