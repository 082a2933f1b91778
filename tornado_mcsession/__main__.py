"""What an operator can run: ``python -m tornado_mcsession doctor URL``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from .doctor import Doctor, Findings
from .doctor.pages import page, summary

OK, BAD_NODE, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130

_PROGRAM = "python -m tornado_mcsession"
_DESCRIPTION = """\
doctor URL   examine each memcached node of a store URL, and say whether it can
             keep sessions, how well, and what to do where it cannot
"""
_EPILOG = """\
URL is the `store` setting of the application:

  memcached://user:password@host:port,host2:port2/?timeout=1
  memcacheds://host:port/?tls_ca=/path        TLS
  memcached:///path/to.sock                   a Unix socket
  -                                           read it from standard input

Every user of the machine can read the arguments of a program: where the URL
holds a password, give "-", and the URL on standard input.

It stores one item under a key of its own, deletes it again, and touches nothing
else. The exit status is 0 if every node can keep sessions, 1 if one cannot, and
2 for a wrong URL or wrong arguments; warnings do not change it.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what ``arguments`` ask for; return the exit status."""
    parser = _parser()
    given, unknown = parser.parse_known_intermixed_args(arguments)
    if given.version:
        _say(f"tornado-mcsession {version('tornado-mcsession')}")
        return OK
    if given.command is None and not unknown:
        _say(parser.format_help().rstrip())
        return OK
    # argparse would quote them, and they may be parts of a URL with a password.
    if unknown:
        parser.error("there are arguments that do not belong there")
    if given.command != "doctor":
        parser.error("the command must be: doctor")
    if given.url is None:
        parser.error("doctor needs a URL, or - to read it from standard input")
    try:
        doctor = Doctor(_url(given.url))
    except ValueError as error:
        parser.error(str(error))
    return _examine(doctor, as_json=given.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        usage=f"{_PROGRAM} [--help] [--version] doctor URL [--json]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("url", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--version", action="store_true", help="print the version")
    return parser


def _url(given: str) -> str:
    return sys.stdin.readline().strip() if given == "-" else given


def _examine(doctor: Doctor, *, as_json: bool) -> int:
    found: list[Findings] = []
    for findings in doctor.examine():
        found.append(findings)
        if not as_json:
            _say(page(findings))
    found.sort(key=lambda findings: doctor.names.index(findings.name))
    ok = all(findings.ok for findings in found)
    if as_json:
        nodes = [findings.as_dict() for findings in found]
        _say(json.dumps({"ok": ok, "nodes": nodes}, indent=2))
    else:
        _say(summary(found))
    return OK if ok else BAD_NODE


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader has seen enough. The exit status is still to be found out,
        # and the interpreter must find nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    # A host's name may have characters that the terminal does not know.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
