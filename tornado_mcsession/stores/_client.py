"""What to believe of an answer: all of it, to the byte, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheUnexpectedCloseError, MemcacheUnknownError

from ._values import read_values

__all__ = ["StrictClient"]

_CHUNK = 4096
# A line that answers a write is shorter by far, also one that tells of an error.
_LONGEST_LINE = 2048

# What memcached says, by what pymemcache makes of it.
_SAYS: dict[str, dict[bool | None, bytes]] = {
    "add": {True: b"STORED\r\n", False: b"NOT_STORED\r\n"},
    "cas": {True: b"STORED\r\n", False: b"EXISTS\r\n", None: b"NOT_FOUND\r\n"},
    "touch": {True: b"TOUCHED\r\n", False: b"NOT_FOUND\r\n"},
    "delete": {True: b"DELETED\r\n", False: b"NOT_FOUND\r\n"},
}


class StrictClient(Client):  # type: ignore[misc]  # pymemcache has no py.typed
    """Believes an answer only if it is all that came, to the byte.

    pymemcache takes any line that is no error for "not there": a proxy's
    nonsense would be a logout that seems done. It drops what follows an answer,
    which is the sign of a connection out of step. And it takes anything for a
    cas token, which becomes part of a command: a server that refuses the head of
    that would take its data for further commands.
    """

    sock: Any  # a `Link`, or `None`

    def link(self) -> Any:
        """Return the connection; connect first where there is none."""
        link = self.sock
        if link is None:
            link = self.socket_module.socket()
            link.connect(self.server)
            self.sock = link
        return link

    def gets_many(self, keys: Any) -> Any:
        """Return what is found under ``keys``."""
        return read_values(self.link(), {key.encode("ascii"): key for key in keys})

    def add(self, *args: Any, **options: Any) -> Any:
        """Store a value if the key is free; return whether it was."""
        return self._sure("add", super().add(*args, **options))

    def cas(self, *args: Any, **options: Any) -> Any:
        """Replace a version; `False`: another is there, `None`: nothing is."""
        return self._sure("cas", super().cas(*args, **options))

    def touch(self, *args: Any, **options: Any) -> Any:
        """Give a key a new end; return whether it was there."""
        return self._sure("touch", super().touch(*args, **options))

    def delete(self, *args: Any, **options: Any) -> Any:
        """Remove a key; return whether it was there."""
        return self._sure("delete", super().delete(*args, **options))

    def _sure(self, command: str, result: bool | None) -> bool | None:
        if self.sock.tail != _SAYS[command][result]:
            raise MemcacheUnknownError
        return result

    def pipeline(self, commands: Sequence[bytes]) -> list[bytes]:
        """Send all ``commands`` at once; return the line that answers each.

        Raises where they are not answered by as many lines; then nobody knows
        which of them were done.
        """
        link = self.link()
        link.sendall(b"".join(commands))
        answer = b""
        while answer.count(b"\r\n") < len(commands):
            chunk = link.recv(_CHUNK)
            if not chunk:
                raise MemcacheUnexpectedCloseError
            answer += chunk
            if len(answer) > _LONGEST_LINE * len(commands) + _CHUNK:
                raise MemcacheUnknownError
        *lines, rest = answer.split(b"\r\n")
        if rest or len(lines) != len(commands):
            raise MemcacheUnknownError
        return lines
