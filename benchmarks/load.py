"""Load by wrk, and what it says of it."""

from __future__ import annotations

import json
import re
import subprocess  # nosec B404 # runs wrk
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .measure import Meter, cpu_seconds
from .programs import find

__all__ = ["Sample", "parsed", "run"]

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Sample:
    """What one slice of load has shown."""

    requests: int
    seconds: float
    broken: int  # connections that could not be made, or were closed
    statuses: int  # answers with a status above 399
    timeouts: int  # answers that took more than two seconds
    mean_us: float
    p50_us: float
    p99_us: float
    connections: int = 1
    cpu_seconds: float = 0.0
    others: float = 0.0  # the share of the machine that other programs used

    @property
    def errors(self) -> int:
        return self.broken + self.statuses + self.timeouts

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def waiting(self) -> float:
        """How many connections waited for an answer, of those that got one.

        By Little's law. Far fewer than there are: the others were forgotten.
        """
        return self.rate * self.mean_us / 1e6

    @property
    def cpu_us(self) -> float:
        """CPU time of the server per request."""
        return self.cpu_seconds / self.requests * 1e6 if self.requests else 0.0


def parsed(output: str) -> Sample:
    """Return what wrk has printed by the script."""
    found = re.search(r"^measured (\{.*\})$", output, re.MULTILINE)
    if found is None:
        raise ValueError(f"wrk has measured nothing: {output!r}")
    return Sample(**json.loads(found[1]))


def run(
    pid: int,
    port: int,
    paths: Sequence[str],
    cookies: Path,
    *,
    connections: int,
    seconds: float,
) -> Sample:
    """Load a server for some seconds; return what wrk and its clock say."""
    url = f"http://127.0.0.1:{port}"
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(SCRIPT)]
    command = [find("wrk"), *options, url, "--", str(cookies), *paths]
    meter, before = Meter(), cpu_seconds(pid)
    done = subprocess.run(  # nosec B603 # no shell, nothing from outside
        command, capture_output=True, text=True
    )
    used = cpu_seconds(pid) - before
    if done.returncode:
        raise RuntimeError(f"wrk failed: {done.stderr or done.stdout}")
    sample = parsed(done.stdout)
    return replace(
        sample, connections=connections, cpu_seconds=used, others=meter.others()
    )
