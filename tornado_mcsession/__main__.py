"""What an operator can run: ``mcsession doctor URL``.

Also ``python -m tornado_mcsession doctor URL``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from .doctor import Doctor, Findings, Remark

OK, BAD_NODE, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130

_SCRIPT, _MODULE = "mcsession", "python -m tornado_mcsession"
_DESCRIPTION = """\
doctor URL   examine each memcached node of a store URL: can it keep sessions,
             how well, and what must be changed if it cannot
"""
_EPILOG = """\
URL is the `store` setting of the application:

  memcached://user:password@host:port,host2:port2/?timeout=1
  memcacheds://host:port/?tls_ca=/path        TLS
  memcached:///path/to.sock                   a Unix socket
  -                                           read it from standard input

Every user of the machine can read the arguments of a program. If the URL holds
a password, give "-", and the URL on standard input.

The doctor stores one item under a key of its own, deletes it again, and touches
nothing else. The exit status is 0 if every node can keep sessions, 1 if one
cannot, and 2 for a wrong URL or wrong arguments. Warnings do not change it.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in ``arguments``; return the exit status."""
    program = _SCRIPT if Path(sys.argv[0]).name == _SCRIPT else _MODULE
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} [--help] [--version] doctor URL [--json]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("url", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--version", action="store_true", help="print the version")
    given, unknown = parser.parse_known_intermixed_args(arguments)
    if given.version:
        _print(f"tornado-mcsession {version('tornado-mcsession')}")
        return OK
    if given.command is None and not unknown:
        _print(parser.format_help().rstrip())
        return OK
    # argparse would quote them, and they may be parts of a URL with a password.
    if unknown:
        parser.error("unknown arguments")
    if given.command != "doctor":
        parser.error("the command must be: doctor")
    if given.url is None:
        parser.error("doctor needs a URL, or - to read it from standard input")
    url = sys.stdin.readline().strip() if given.url == "-" else given.url
    try:
        doctor = Doctor(url)
    except ValueError as error:
        parser.error(str(error))
    return _examine(doctor, as_json=given.json)


def _examine(doctor: Doctor, *, as_json: bool) -> int:
    found: list[Findings] = []
    for findings in doctor.examine():
        found.append(findings)
        if not as_json:
            _print("\n".join(_page(findings)) + "\n")
    found.sort(key=lambda findings: doctor.names.index(findings.name))
    ok = all(findings.ok for findings in found)
    if as_json:
        nodes = [findings.as_dict() for findings in found]
        _print(json.dumps({"ok": ok, "nodes": nodes}, indent=2))
    else:
        _print(_summary(found))
    return OK if ok else BAD_NODE


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader has closed the pipe. The examination goes on, for its exit status,
        # and the interpreter must find nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# The findings as text.

_WIDTH = 79
_INDENT = "  "
_COLUMN = 16


def _page(findings: Findings) -> Iterator[str]:
    """Yield the lines about one node."""
    can = "can keep sessions" if findings.ok else "CANNOT KEEP SESSIONS"
    yield f"{findings.name}  {can}"
    for name, value in _facts(findings):
        yield f"{_INDENT}{name:{_COLUMN}}{value}"
    for remark in findings.remarks:
        yield from _lines(remark)


def _summary(found: Sequence[Findings]) -> str:
    """Return the last line, which is about all nodes together."""
    ok = sum(findings.ok for findings in found)
    if ok == len(found):
        can = "The node can" if ok == 1 else f"All {ok} nodes can"
        return f"{can} keep sessions."
    if len(found) == 1:
        return "The node cannot keep sessions."
    lost = sum(findings.share for findings in found if not findings.ok)
    return (
        f"{len(found) - ok} of {len(found)} nodes cannot keep sessions: {lost:.0%} of "
        "the sessions are not available."
    )


def _lines(remark: Remark) -> Iterator[str]:
    kind = remark.kind.upper() if remark.kind == "problem" else remark.kind
    text = remark.text + ("" if remark.text.endswith("?") else ".")
    for paragraph, name in ((text, kind), (remark.advice, "")):
        yield from textwrap.wrap(
            paragraph,
            _WIDTH,
            initial_indent=f"{_INDENT}{name:{_COLUMN}}",
            subsequent_indent=_INDENT + " " * _COLUMN,
            break_on_hyphens=False,
        )


def _facts(findings: Findings) -> Iterator[tuple[str, str]]:
    if findings.share < 1:
        yield "share", f"{findings.share:.1%} of the sessions"
    if findings.version is not None:
        up = findings.uptime
        yield "version", findings.version + ("" if up is None else f", up {_time(up)}")
    if (trip := findings.round_trip) is not None:
        yield (
            "round trip",
            f"median {trip.median * 1000:.2f} ms, worst {trip.worst * 1000:.2f} ms "
            f"({trip.reads} reads)",
        )
    for name, works in (("works", True), ("fails", False)):
        if commands := [
            key for key, does in findings.commands.items() if does is works
        ]:
            yield name, ", ".join(commands)
    if findings.cas is not None:
        yield "cas", "on" if findings.cas else "OFF"
    if findings.item_size_max is not None:
        yield "item size", f"{_size(findings.item_size_max)} at most"
    if (memory := findings.memory) is not None:
        full = f" ({memory.used / memory.limit:.0%})" if memory.limit else ""
        yield "memory", f"{_size(memory.used)} of {_size(memory.limit)} used{full}"
        off = "; off (-M): new items are refused if the memory is full"
        yield "evictions", str(memory.evictions) + ("", off)[memory.evicts is False]
    if (connections := findings.connections) is not None:
        yield "connections", f"{connections.now} of {connections.limit}"
    if findings.authentication is not None:
        yield "authentication", findings.authentication
    if (tls := findings.tls) is not None:
        yield (
            "TLS",
            f"{tls.protocol}, {tls.cipher}, certificate until {tls.certificate_ends}",
        )
    elif any(findings.commands.values()):
        yield "TLS", "off"
    if (clock := findings.clock) is not None:
        yield (
            "clock",
            f"{clock.difference:+.1f} s from this machine's "
            f"(give or take {clock.uncertainty:.1f} s)",
        )


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{round(size, 1):g} {unit}"
        size /= 1024
    return f"{round(size, 1):g} TiB"


def _time(seconds: int) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


if __name__ == "__main__":
    # A host's name may have characters that the terminal does not know.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
