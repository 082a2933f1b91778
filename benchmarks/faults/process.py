"""A process that serves the site, and what it told its operator."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.browser import Browser
from tests.support.processes import Process, free_port

__all__ = ["SiteProcess"]

ROOT = Path(__file__).parents[2]


class SiteProcess:
    """A process of `benchmarks.faults.site`, with these settings of its sessions.

    It can be ended and started again on its port.
    """

    def __init__(self, session: dict[str, Any]) -> None:
        self.port = free_port()
        self.told: list[dict[str, Any]] = []
        """What it told its operator, of ended processes too."""
        self.stray: list[str] = []
        """Whatever else it printed: nobody asked for it."""
        self._settings = {"port": self.port, "session": session}
        self._read = 0
        self._process: Process | None = None
        self.start()

    def start(self) -> None:
        """Start it; it accepts connections when this returns."""
        module = [sys.executable, "-W", "always::ResourceWarning"]
        module += ["-m", "benchmarks.faults.site"]
        command = [*module, json.dumps(self._settings)]
        self._process = Process(command, self.port, cwd=ROOT)
        self._read = 0

    def terminate(self, timeout: float) -> bool:
        """Send SIGTERM; return whether it ended by itself, in time."""
        if self._process is None:
            return True
        os.kill(self._process.pid, signal.SIGTERM)
        limit = time.monotonic() + timeout
        while self._process.is_running and time.monotonic() < limit:
            time.sleep(0.01)
        ended = not self._process.is_running
        self.close()
        return ended

    def close(self) -> None:
        """End it at once."""
        if self._process is not None:
            self.listen()
            self._process.kill()
            self._process = None

    def listen(self) -> None:
        """Take in what it has told since."""
        if self._process is None:
            return
        printed = self._process.output().splitlines(keepends=True)
        for line in printed[self._read :]:
            if not line.endswith("\n"):
                break
            self._read += 1
            try:
                self.told.append(dict(json.loads(line)))
            except ValueError:
                self.stray.append(line.rstrip())

    async def ask(self) -> dict[str, Any]:
        """Return what `stats` and `health` of its manager say."""
        answer: dict[str, Any] = (await Browser(self.port).get("/operator")).json()
        return answer
