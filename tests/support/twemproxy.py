"""twemproxy (Debian: nutcracker), as users run it in front of their memcached."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .memcached import Memcached
from .processes import Process, find_server, free_port

# Those of docs/operations/twemproxy.md, and a timeout that no healthy server needs.
OPTIONS = {
    "hash": "fnv1a_64",
    "hash_tag": '"{}"',
    "distribution": "ketama",
    "auto_eject_hosts": "false",
    "timeout": "500",
}


class Twemproxy:
    """A twemproxy on a free port of 127.0.0.1 that spreads keys over ``servers``.

    ``options`` are further lines of the pool's configuration, or other values
    for those of `OPTIONS`; None leaves one out.
    """

    def __init__(
        self, directory: Path, servers: Sequence[Memcached], **options: str | None
    ) -> None:
        self._directory = directory
        self._lines = [
            f"{name}: {value}"
            for name, value in {**OPTIONS, **options}.items()
            if value is not None
        ]
        self._lines.append("servers:")
        # Names, so that keys are placed alike in each run, whatever the ports are.
        for number, server in enumerate(servers, 1):
            self._lines.append(f" - 127.0.0.1:{server.port}:1 cache{number}")
        self._stats_port = free_port()
        self.port = free_port()
        self._process: Process | None = None
        self.start()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.port}>"

    def _command(self) -> list[str]:
        configuration = self._directory / f"nutcracker-{self.port}.yml"
        lines = [f"listen: 127.0.0.1:{self.port}", *self._lines]
        text = "\n".join(["sessions:", *(f"  {line}" for line in lines), ""])
        configuration.write_text(text)
        arguments = {
            "-c": configuration,
            "-p": configuration.with_suffix(".pid"),
            # Debian's would write below /var/log.
            "-o": "/dev/stderr",
            "-a": "127.0.0.1",
            "-s": self._stats_port,
            "-i": 50,
        }
        command = [find_server("nutcracker")]
        for name, value in arguments.items():
            command += [name, str(value)]
        return command

    def stats(self) -> dict[str, Any]:
        """What its statistics port tells of the pool; up to 50 ms old."""
        with socket.create_connection(("127.0.0.1", self._stats_port), 5) as connection:
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        pool: dict[str, Any] = json.loads(answer)["sessions"]
        return pool

    @property
    def url(self) -> str:
        return f"memcached://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, with nothing in it; it accepts connections when this returns."""
        self._process = Process(self._command(), self.port)

    def kill(self) -> None:
        """End it at once: connections break, new ones are refused."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    close = kill

    def restart(self) -> None:
        """Lose all data and every connection, and come back on the same port."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Hang (SIGSTOP): the kernel still accepts connections, nobody responds."""
        assert self._process is not None
        self._process.stop()

    def cont(self) -> None:
        """Go on after `stop`, with what has been sent meanwhile."""
        assert self._process is not None
        self._process.cont()
