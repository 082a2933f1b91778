"""memcached's commands and responses: believed to the byte, or not at all.

The commands are those of protocol.txt: "Storage commands", "Deletion", "Touch" and
"Retrieval command". What they are made of has been checked: a server that refuses the
head of a command takes its data for further commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownCommandError,
    MemcacheUnknownError,
)

from ..base import CasResult, Entry
from .errors import CasDisabled

if TYPE_CHECKING:
    from .connection import Link
    from .executor import Call

    class PymemcacheClient:  # pymemcache has no py.typed
        def __init__(self, server: tuple[str, int] | str, **options: Any) -> None: ...
        def close(self) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

else:
    from pymemcache.client.base import Client as PymemcacheClient

__all__ = ["Client", "add", "cas", "delete", "touch"]

# VALUE <key> <flags> <bytes> <cas unique>
_HEAD = re.compile(rb"VALUE ([\x21-\x7e]{1,250}) (\d{1,10}) (\d{1,10}) (\d{1,20})\r\n")
_END = b"END\r\n"
_CHUNK = 64 * 1024
# Longer than the head of a value, and than any line that reports an error.
_LONGEST_LINE = 2048

_COMPLAINTS = {
    b"ERROR": MemcacheUnknownCommandError,
    b"CLIENT_ERROR": MemcacheClientError,
    b"SERVER_ERROR": MemcacheServerError,
}
_SERVER_ERROR = b"SERVER_ERROR "
_COMMAND = attrgetter("request")
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


def add(key: str, data: bytes, exptime: int, flags: int) -> bytes:
    """Return the command that stores ``data`` if the key is free."""
    head = b"add %b %d %d %d\r\n" % (key.encode("ascii"), flags, exptime, len(data))
    return b"%b%b\r\n" % (head, data)


def cas(key: str, data: bytes, exptime: int, token: bytes, flags: int) -> bytes:
    """Return the command that replaces the version that ``token`` came with."""
    name = key.encode("ascii")
    head = b"cas %b %d %d %d %b\r\n" % (name, flags, exptime, len(data), token)
    return b"%b%b\r\n" % (head, data)


def touch(key: str, exptime: int) -> bytes:
    """Return the command that gives a key a new end."""
    return b"touch %b %d\r\n" % (key.encode("ascii"), exptime)


def delete(key: str) -> bytes:
    """Return the command that removes a key."""
    return b"delete %b\r\n" % key.encode("ascii")


class Client(PymemcacheClient):
    """One connection, and the commands of sessions on it.

    pymemcache takes any line that is no error for "not there": a proxy's nonsense
    would be a logout that seems done. It drops what follows a response, which is the
    sign of a connection out of step. It takes anything for a cas token, which becomes
    part of a command. And it sends one write at a time. So it keeps the connection,
    pools it, and asks for the server's version and statistics; what sessions need is
    here.

    ``socket_module`` is the server's `.Connector`.
    """

    sock: Link | None

    def connect(self, deadline: float) -> Link:
        """Make the connection, before ``deadline`` on the monotonic clock."""
        link: Link = self.socket_module.connect(deadline)
        self.sock = link
        return link

    def read(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return what is found under ``keys``, which differ from each other.

        Raises `MemcacheUnknownError` for all that is no response to this question,
        pymemcache's errors for the lines that memcached complains with, and
        `CasDisabled` where a value has no token.
        """
        link = self.sock
        assert link is not None
        names: dict[bytes, str] = {}
        for asked in keys:
            names[asked.encode("ascii")] = asked
        link.sendall(b"gets %b\r\n" % b" ".join(names))
        found: dict[str, Entry] = {}
        text: bytes | bytearray = link.recv(_CHUNK)
        if not text:
            raise MemcacheUnexpectedCloseError
        at = 0
        while True:
            head = _HEAD.match(text, at)
            if head is None:
                if text[at:] == _END:
                    return found
                _refuse(text[at : at + _LONGEST_LINE + 1])
                text = _longer(text, link)
                continue
            key, flags, length, token = head.groups()
            begin, end = head.end(), head.end() + int(length)
            name = names.get(key)
            if name is None or name in found:
                raise MemcacheUnknownError
            while len(text) < end + 2:
                text = _longer(text, link)
            if text[end : end + 2] != b"\r\n":
                raise MemcacheUnknownError
            if token == b"0":
                raise CasDisabled
            found[name] = Entry(bytes(text[begin:end]), token, int(flags))
            at = end + 2

    def write(self, calls: Sequence[Call]) -> list[Any]:
        """Send the commands of all ``calls`` at once; return the result of each.

        In place of a result there may be a `MemcacheServerError`, which is about this
        command alone. Raises where there are not as many results; then it is not known
        which of the commands were done.
        """
        link = self.sock
        assert link is not None
        count = len(calls)
        link.sendall(b"".join(map(_COMMAND, calls)))
        text = link.recv(_CHUNK)
        while text.count(b"\r\n") < count:
            if not text or len(text) > _LONGEST_LINE * count:
                raise MemcacheUnknownError if text else MemcacheUnexpectedCloseError
            text = bytes(_longer(text, link))
        *lines, rest = text.split(b"\r\n")
        if rest or len(lines) != count:
            raise MemcacheUnknownError
        results: list[Any] = []
        for call, line in zip(calls, lines, strict=True):
            known = _RESULTS[call.kind]
            if line in known:
                results.append(known[line])
            elif line.startswith(_SERVER_ERROR):
                said = line.removeprefix(_SERVER_ERROR)
                results.append(MemcacheServerError(said))
            else:
                _refuse(line + b"\r\n")
        return results


def _longer(text: bytes | bytearray, link: Link) -> bytearray:
    chunk = link.recv(_CHUNK)
    if not chunk:
        raise MemcacheUnexpectedCloseError
    longer = text if isinstance(text, bytearray) else bytearray(text)
    longer += chunk
    return longer


def _refuse(rest: bytes | bytearray) -> None:
    """Raise for what is neither a value nor the end, unless more may make it one."""
    line, end, _ = bytes(rest).partition(b"\r\n")
    if end:
        name, _, said = line.partition(b" ")
        raise _COMPLAINTS.get(name, MemcacheUnknownError)(said)
    if len(rest) > _LONGEST_LINE:
        raise MemcacheUnknownError
