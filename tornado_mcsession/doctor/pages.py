"""What the doctor found, as text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from .findings import Findings, Remark

__all__ = ["page", "summary"]

_WIDTH = 79
_INDENT = "  "
_COLUMN = 16


def page(findings: Findings) -> str:
    """Return what was found out about one node."""
    head = "can keep sessions" if findings.ok else "CANNOT KEEP SESSIONS"
    lines = [f"{findings.name}  {head}"]
    lines += [f"{_INDENT}{name:{_COLUMN}}{value}" for name, value in _facts(findings)]
    for remark in findings.remarks:
        lines += _told(remark)
    return "\n".join(lines) + "\n"


def summary(found: Sequence[Findings]) -> str:
    """Return what is to be said of all nodes together."""
    ok = sum(findings.ok for findings in found)
    if ok == len(found):
        can = "The node can" if ok == 1 else f"All {ok} nodes can"
        return f"{can} keep sessions."
    if len(found) == 1:
        return "The node cannot keep sessions."
    lost = sum(findings.share for findings in found if not findings.ok)
    bad = len(found) - ok
    return (
        f"{bad} of {len(found)} nodes cannot keep sessions: {lost:.0%} of the "
        "sessions are not available."
    )


def _told(remark: Remark) -> Iterator[str]:
    kind = remark.kind.upper() if remark.kind == "problem" else remark.kind
    yield from textwrap.wrap(
        remark.text + ("" if remark.text.endswith("?") else "."),
        _WIDTH,
        initial_indent=f"{_INDENT}{kind:{_COLUMN}}",
        subsequent_indent=_INDENT + " " * _COLUMN,
        break_on_hyphens=False,
    )
    yield from textwrap.wrap(
        remark.advice,
        _WIDTH,
        initial_indent=_INDENT + " " * _COLUMN,
        subsequent_indent=_INDENT + " " * _COLUMN,
        break_on_hyphens=False,
    )


def _facts(findings: Findings) -> Iterator[tuple[str, str]]:
    if findings.share < 1:
        yield "share", f"{findings.share:.1%} of the sessions"
    if findings.version is not None:
        up = findings.uptime
        since = "" if up is None else f", up {_duration(up)}"
        yield "version", findings.version + since
    if (trip := findings.round_trip) is not None:
        yield (
            "round trip",
            f"median {trip.median * 1000:.2f} ms, worst {trip.worst * 1000:.2f} ms "
            f"({trip.reads} reads)",
        )
    yield from _commands(findings.commands)
    if findings.cas is not None:
        yield "cas", "on" if findings.cas else "OFF"
    if findings.item_size_max is not None:
        yield "item size", f"{_size(findings.item_size_max)} at most"
    yield from _load(findings)
    yield from _security(findings)
    if (clock := findings.clock) is not None:
        yield (
            "clock",
            f"{clock.difference:+.1f} s to the one here "
            f"(give or take {clock.uncertainty:.1f} s)",
        )


def _commands(commands: Mapping[str, bool | None]) -> Iterator[tuple[str, str]]:
    for name, does in (("works", True), ("fails", False)):
        if found := [command for command in commands if commands[command] is does]:
            yield name, ", ".join(found)


def _load(findings: Findings) -> Iterator[tuple[str, str]]:
    if (memory := findings.memory) is not None:
        full = f" ({memory.used / memory.limit:.0%})" if memory.limit else ""
        yield "memory", f"{_size(memory.used)} of {_size(memory.limit)} used{full}"
        off = "; off (-M): what finds no room is refused"
        yield (
            "evictions",
            f"{memory.evictions}{off if memory.evicts is False else ''}",
        )
    if (connections := findings.connections) is not None:
        yield "connections", f"{connections.now} of {connections.limit}"


def _security(findings: Findings) -> Iterator[tuple[str, str]]:
    if findings.authentication is not None:
        yield "authentication", findings.authentication
    if (tls := findings.tls) is not None:
        yield (
            "TLS",
            f"{tls.protocol}, {tls.cipher}, certificate until {tls.certificate_ends}",
        )
    elif any(findings.commands.values()):
        yield "TLS", "off"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{round(size, 1):g} {unit}"
        size /= 1024
    return f"{round(size, 1):g} TiB"


def _duration(seconds: int) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
