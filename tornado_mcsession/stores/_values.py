"""The values that memcached answers with, read to the byte.

pymemcache's reading takes 6 to 8 µs for a key, and this 2, in a thread that
keeps the event loop's thread from running meanwhile (python -m benchmarks: 4 %
more requests). And it believes what it need not: see `StrictClient`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownCommandError,
    MemcacheUnknownError,
)

__all__ = ["read_values"]

# protocol.txt, "Retrieval command": VALUE <key> <flags> <bytes> <cas unique>
_HEAD = re.compile(rb"VALUE ([\x21-\x7e]{1,250}) \d{1,10} (\d{1,10}) (\d{1,20})\r\n")
_END = b"END\r\n"
_CHUNK = 64 * 1024
# Longer than the head of a value, and than any line that tells of an error.
_LONGEST_LINE = 2048
_COMPLAINTS = {
    b"ERROR": MemcacheUnknownCommandError,
    b"CLIENT_ERROR": MemcacheClientError,
    b"SERVER_ERROR": MemcacheServerError,
}


def read_values(link: Any, names: Mapping[bytes, str]) -> dict[str, Any]:
    """Ask ``link`` for the keys of ``names``; return what is found by its name.

    Each is a pair of the value and its cas token. Raises `MemcacheUnknownError`
    for all that is no answer to this question, and what pymemcache raises for
    the lines that memcached complains with.
    """
    link.sendall(b"gets %b\r\n" % b" ".join(names))
    found: dict[str, Any] = {}
    answer: bytes | bytearray = _more(link)
    at = 0
    while True:
        head = _HEAD.match(answer, at)
        if head is None:
            if answer[at:] == _END:
                return found
            _refuse(answer[at : at + _LONGEST_LINE + 1])
            answer = bytearray(answer)
            answer += _more(link)
            continue
        key, length, token = head.groups()
        begin, end = head.end(), head.end() + int(length)
        name = names.get(key)
        if name is None or name in found:
            raise MemcacheUnknownError
        if len(answer) < end + 2:
            answer = bytearray(answer)
            while len(answer) < end + 2:
                answer += _more(link)
        if answer[end : end + 2] != b"\r\n":
            raise MemcacheUnknownError
        found[name] = bytes(answer[begin:end]), token
        at = end + 2


def _more(link: Any) -> bytes:
    chunk: bytes = link.recv(_CHUNK)
    if not chunk:
        raise MemcacheUnexpectedCloseError
    return chunk


def _refuse(rest: bytes | bytearray) -> None:
    """Raise for what is neither a value nor the end, unless more may make it one."""
    line, end, _ = bytes(rest).partition(b"\r\n")
    if end:
        name, _, said = line.partition(b" ")
        raise _COMPLAINTS.get(name, MemcacheUnknownError)(said)
    if len(rest) > _LONGEST_LINE:
        raise MemcacheUnknownError
