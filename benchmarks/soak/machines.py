"""The processes of the soak: memcached nodes and applications."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess  # nosec B404 # starts memcached and applications
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Application", "Machine", "Node", "Usage", "free_port"]

ROOT = Path(__file__).parents[2]
START_TIMEOUT = 20.0
# Debian keeps servers where a plain user's PATH does not look.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Usage(NamedTuple):
    """What a process holds."""

    memory: float  # MiB
    threads: int
    descriptors: int


class Machine:
    """A process that listens on a port, and can be killed, hung and started again."""

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self.port = port
        self.starts = 0
        self.is_up = False
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._away: list[tuple[float, float]] = []

    async def start(self) -> None:
        """Start it; it accepts connections when this returns."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220  # nosec B603 # programs of its own
                self._command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT
            )
        limit = time.monotonic() + START_TIMEOUT
        while not await self._accepts():
            if self._process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"{self._command} did not start: see {self._log}")
            await asyncio.sleep(0.01)
        self.starts += 1
        self.is_up = True
        if self._away:
            self._away[-1] = (self._away[-1][0], time.monotonic())

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it at once, also while it is frozen."""
        self._goes()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None

    def _goes(self) -> None:
        if self.is_up:
            self.is_up = False
            self._away.append((time.monotonic(), float("inf")))

    async def end(self, timeout: float) -> int | None:
        """Send SIGTERM; return the exit status, or None where it does not end."""
        self._goes()
        assert self._process is not None
        self._process.terminate()
        limit = time.monotonic() + timeout
        while self._process.poll() is None:  # it has no event
            if time.monotonic() > limit:
                break
            await asyncio.sleep(0.01)
        status = self._process.returncode
        self.kill()
        return status

    def freeze(self) -> None:
        """Let it stand still (SIGSTOP)."""
        self._away.append((time.monotonic(), float("inf")))
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)
        self._away[-1] = (self._away[-1][0], time.monotonic())

    def seconds_away(self, since: float) -> float:
        """Return how long it was frozen or down since then."""
        now = time.monotonic()
        return sum(
            max(0.0, min(end, now) - max(begin, since)) for begin, end in self._away
        )

    def was_away(self, since: float) -> bool:
        """Return whether it was frozen, killed or ended since then."""
        return any(end >= since for _, end in self._away)


class Node(Machine):
    """A memcached."""

    def __init__(self, log: Path) -> None:
        program = shutil.which("memcached", path=PATH)
        if program is None:
            raise RuntimeError("memcached is needed: apt-get install memcached")
        port = free_port()
        # It refuses to run as root unless it is told so.
        user = ["-u", "root"] if os.getuid() == 0 else []
        listen = ["-l", "127.0.0.1", "-p", str(port), "-U", "0"]
        super().__init__([program, *listen, *user], port, log)
        self.lost_at = float("-inf")
        """When it last lost its data."""

    def kill(self) -> None:
        super().kill()
        self.lost_at = time.monotonic()


class Application(Machine):
    """A process of the site."""

    def __init__(self, session: dict[str, Any], log: Path, plant: str = "") -> None:
        port = free_port()
        options = json.dumps({"port": port, "session": session, "plant": plant})
        python = [sys.executable, "-W", "always::ResourceWarning"]
        super().__init__([*python, "-m", "benchmarks.soak.site", options], port, log)

    def usage(self) -> Usage:
        """Return what it holds now."""
        proc = Path(f"/proc/{self.pid}")
        fields = dict(re.findall(r"(\w+):\s+(\d+)", (proc / "status").read_text()))
        descriptors = len(os.listdir(proc / "fd"))
        memory = int(fields["VmRSS"]) / 1024
        return Usage(round(memory, 1), int(fields["Threads"]), descriptors)

    def told(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Return what it has told its operator, and whatever else it has printed."""
        told, stray = [], []
        for line in self._log.read_text(errors="replace").splitlines():
            try:
                told.append(dict(json.loads(line)))
            except ValueError:
                stray.append(line)
        return told, stray

    async def facts(self) -> dict[str, Any]:
        """Return what its manager's `stats` and `health` say."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /facts HTTP/1.0\r\n\r\n")
        content = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        return dict(json.loads(content))
