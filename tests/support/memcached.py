"""memcached processes, and a raw connection to look into them."""

from __future__ import annotations

import contextlib
import math
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from tornado_mcsession import testing

from .processes import START_TIMEOUT, find_server, free_port

# While its own crawler is at work, for a moment.
BUSY = b"BUSY currently processing crawler request\r\n"


class Memcached(testing.Memcached):
    """A memcached process on a port of this run's own, and a look into it."""

    def __init__(self, *args: str) -> None:
        super().__init__(*args, port=free_port())

    @property
    def server(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    stop = testing.Memcached.hang
    cont = testing.Memcached.resume

    def flush(self) -> None:
        """Remove all items, also where it speaks TLS."""
        assert self.command(b"flush_all") == b"OK"

    def command(self, line: bytes) -> bytes:
        """Send one command (a value too, if it has one); return the whole answer.

        ``line`` comes without its last line end, and so does the answer.
        """
        # "mn" is answered with "MN" when all before it has been.
        return self._ask(line + b"\r\nmn\r\n", b"MN\r\n").removesuffix(b"\r\n")

    def _ask(self, data: bytes, *ends: bytes) -> bytes:
        with self._connect() as connection:
            connection.sendall(data)
            answer = b""
            while not answer.endswith(ends):
                chunk = connection.recv(65536)
                if not chunk:
                    raise ConnectionError(f"closed after {answer!r}")
                answer += chunk
        return answer.removesuffix(b"MN\r\n")

    def _connect(self) -> socket.socket:
        return socket.create_connection(self.server, 5)

    def take_all_connections(self, held: contextlib.ExitStack) -> None:
        """Open connections until the server refuses one; ``held`` closes them."""
        said = b"VERSION"
        while said.startswith(b"VERSION"):
            other = held.enter_context(self._connect())
            other.sendall(b"version\r\n")
            said = other.recv(100)

    def keys(self) -> list[str]:
        """All keys that hold a live item, sorted."""
        # "hash" reads the table of keys. "all" reads the lists of items, and misses
        # (or tells twice) what memcached moves from list to list meanwhile, as it
        # does with new items. No "mn" here: what comes after this command is dropped.
        deadline = time.monotonic() + 5
        ask = b"lru_crawler metadump hash\r\n"
        while (dump := self._ask(ask, b"END\r\n", BUSY)) == BUSY:
            assert time.monotonic() < deadline, dump
            time.sleep(0.01)
        keys = re.findall(r"^key=(\S+) ", dump.decode("ascii"), re.MULTILINE)
        return sorted(unquote(key) for key in keys)

    def get(self, key: str) -> bytes | None:
        """The bytes under ``key``; None if there are none."""
        answer = self.command(b"mg %b v" % key.encode())
        if answer == b"EN":
            return None
        head, _, value = answer.partition(b"\r\n")
        assert head.startswith(b"VA "), answer
        return value

    def set(self, key: str, value: bytes, ttl: int = 0) -> None:
        """Replace what is under ``key``, as another program may."""
        head = b"set %b 0 %d %d\r\n" % (key.encode(), ttl, len(value))
        answer = self.command(head + value)
        assert answer == b"STORED", answer

    def delete(self, key: str) -> bool:
        """Remove ``key``; say whether it was there."""
        return self.command(b"delete " + key.encode()) == b"DELETED"

    def ttl(self, key: str) -> float | None:
        """Seconds left; infinite for an item that never ends, None for no item."""
        answer = self.command(b"mg %b t" % key.encode())
        if answer == b"EN":
            return None
        seconds = int(answer.removeprefix(b"HD t"))
        return math.inf if seconds == -1 else float(seconds)

    def stats(self) -> dict[str, str]:
        """The counters of memcached itself (``cmd_get``, ``cmd_touch``, …).

        They go on over a `flush`, and ``curr_items`` still has what it removed.
        """
        lines = self.command(b"stats").decode().splitlines()
        return dict(line.split(" ", 2)[1:] for line in lines if line != "END")


@contextlib.contextmanager
def memcached_on_socket() -> Iterator[str]:
    """A memcached behind a Unix socket: the path of that."""
    # Not below pytest's directories: a socket's path has about 100 characters.
    with tempfile.TemporaryDirectory(prefix="mc") as directory:
        path = str(Path(directory, "memcached.sock"))
        user = ["-u", "root"] if os.getuid() == 0 else []
        process = subprocess.Popen([find_server("memcached"), "-s", path, *user])
        try:
            _wait_for(process, path)
            yield path
        finally:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], path: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
            return
        time.sleep(0.01)
    raise RuntimeError("memcached did not open its Unix socket")
