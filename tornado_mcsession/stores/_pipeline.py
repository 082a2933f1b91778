"""Several writes as one piece of text for memcached, and its answers.

The commands and answers are those of protocol.txt: "Storage commands",
"Deletion" and "Touch". Keys, times and tokens have been checked: a server that
refuses the head of a command would take its data for further commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymemcache.exceptions import MemcacheServerError, MemcacheUnknownError

from .._calls import Call
from .base import CasResult

__all__ = ["MAX_BYTES", "command", "result"]

# More than this is not sent without looking whether it is taken.
MAX_BYTES = 256 * 1024

_SERVER_ERROR = b"SERVER_ERROR "
_RESULTS: dict[str, dict[bytes, Any]] = {
    "add": {b"STORED": True, b"NOT_STORED": False},
    "cas": {
        b"STORED": CasResult.STORED,
        b"EXISTS": CasResult.CONFLICT,
        b"NOT_FOUND": CasResult.MISSING,
    },
    "touch": {b"TOUCHED": True, b"NOT_FOUND": False},
    "delete": {b"DELETED": True, b"NOT_FOUND": False},
}


def command(kind: str, args: Sequence[Any]) -> bytes:
    """Return the text that asks for an operation."""
    key = args[0].encode("ascii")
    if kind == "cas":
        _, data, expire, token = args
        return b"cas %b 0 %d %d %b\r\n%b\r\n" % (key, expire, len(data), token, data)
    if kind == "add":
        _, data, expire = args
        return b"add %b 0 %d %d\r\n%b\r\n" % (key, expire, len(data), data)
    if kind == "touch":
        return b"touch %b %d\r\n" % (key, args[1])
    return b"delete %b\r\n" % key


def result(call: Call, line: bytes) -> Any:
    """Return what ``line`` says of ``call``; raise what it complains of.

    `MemcacheServerError` is about this operation alone. After anything else
    that is no result the connection may be out of step.
    """
    known = _RESULTS[call.kind]
    if line in known:
        return known[line]
    if line.startswith(_SERVER_ERROR):
        raise MemcacheServerError(line.removeprefix(_SERVER_ERROR))
    raise MemcacheUnknownError
