"""A memcached process that a test may break."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess  # nosec B404 # starts memcached, with arguments of the test
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Memcached"]

HOST = "127.0.0.1"
START_TIMEOUT = 20.0
ANY_PORT = -1  # to memcached
# Debian and Homebrew keep servers where a plain user's PATH may not look.
PATH = os.pathsep.join(
    [
        os.environ.get("PATH", os.defpath),
        "/usr/local/sbin",
        "/usr/sbin",
        "/sbin",
        "/opt/homebrew/bin",
    ]
)


class Memcached:
    """A memcached process on 127.0.0.1, started with further ``args``.

    It accepts connections when it is constructed, on ``port``, or on a free port if
    that is `None`. Close it at the end, or use it with ``with``::

        with Memcached() as memcached:
            store = MemcachedStore.from_url(memcached.url)

    Raises `RuntimeError` if memcached is not installed, or does not start.
    """

    def __init__(self, *args: str, port: int | None = None) -> None:
        self._args = args
        self._process: subprocess.Popen[bytes] | None = None
        self.port: int = ANY_PORT if port is None else port
        self.start()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.port}>"

    @property
    def url(self) -> str:
        """The URL for the setting ``store``."""
        return f"memcached://{HOST}:{self.port}"

    def start(self) -> None:
        """Start it with nothing in it; it accepts connections when this returns."""
        if self._process is not None:
            raise RuntimeError("this memcached is running already")
        # It refuses to run as root unless it is told so.
        user = ["-u", "root"] if os.getuid() == 0 else []
        listen = ["-l", HOST, "-p", str(self.port), "-U", "0"]
        command = [_binary(), *listen, *user, *self._args]
        with tempfile.TemporaryDirectory() as directory:
            # memcached writes this file when it listens.
            told = Path(directory, "ports")
            with Path(directory, "output").open("wb") as output:
                self._process = subprocess.Popen(  # nosec B603 # no shell
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, "MEMCACHED_PORT_FILENAME": str(told)},
                )
            try:
                self.port = self._port_once_it_listens(self._process, told)
            except BaseException:
                self.kill()
                raise

    def _port_once_it_listens(
        self, process: subprocess.Popen[bytes], told: Path
    ) -> int:
        deadline = time.monotonic() + START_TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                return int(told.read_text().split()[-1])
            time.sleep(0.005)
        said = told.with_name("output").read_text(errors="replace")[:2000].strip()
        raise RuntimeError(f"memcached did not start: {said}")

    def flush(self) -> None:
        """Remove everything that is stored."""
        with socket.create_connection((HOST, self.port), 5) as connection:
            connection.sendall(b"flush_all\r\n")
            said = connection.recv(100)
        if said != b"OK\r\n":
            raise RuntimeError("memcached did not confirm flush_all")

    def kill(self) -> None:
        """End it at once: connections break, and new ones are refused."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    close = kill

    def restart(self) -> None:
        """Lose all data and connections, and come back on the same port."""
        self.kill()
        self.start()

    def hang(self) -> None:
        """Stop responding (SIGSTOP); the system still accepts connections."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        # It may respond to what comes before it really stands still.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Go on after `hang`, with what was sent meanwhile."""
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this memcached is not running")
        return self._process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _binary() -> str:
    path = shutil.which("memcached", path=PATH)
    if path is None:
        raise RuntimeError(
            "memcached is not installed. Install it with your system's package "
            "manager (apt-get install memcached, dnf install memcached, brew install "
            "memcached), or use a MemoryStore"
        )
    return path
