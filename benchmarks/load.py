"""Load by wrk, what it says of it, and the CPU time it takes. Linux only."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import resource
import shutil
import subprocess  # nosec B404 # runs wrk, and asks programs for their versions
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from tests.support.processes import SERVER_PATH

SCRIPT = Path(__file__).with_name("wrk.lua")
TICKS = os.sysconf("SC_CLK_TCK")

_libc = ctypes.CDLL(None)


class Missing(Exception):
    """Something that the measurements cannot do without is not there."""


def find(name: str) -> str:
    """Return where a program is."""
    path = shutil.which(name, path=SERVER_PATH)
    if path is None:
        raise Missing(f"{name} is needed: apt-get install {name}, brew install {name}")
    return path


def require() -> None:
    """Raise `Missing` for what is needed and not there."""
    if platform.system() != "Linux":
        raise Missing("Linux is needed: its clocks and /proc tell what servers use")
    for program in ("wrk", "memcached"):
        find(program)


def machine() -> str:
    """Return what the figures were measured on, in a line."""
    parts = [
        f"{os.cpu_count()} CPUs",
        f"Python {platform.python_version()}",
        f"Tornado {version('tornado')}",
    ]
    for program, option in (("memcached", "-V"), ("wrk", "-v"), ("node", "-v")):
        if shutil.which(program, path=SERVER_PATH):
            done = subprocess.run(  # nosec B603 # no shell, nothing from outside
                [find(program), option], capture_output=True, text=True
            )
            found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
            parts.append(f"{program} {found[0] if found else '?'}")
    return ", ".join(parts)


@dataclass(frozen=True)
class Sample:
    """What one slice of load has shown."""

    requests: int
    seconds: float
    errors: int  # broken connections, statuses above 399, no response in ten seconds
    mean_us: float
    p50_us: float
    p99_us: float
    connections: int = 1
    cpu_seconds: float = 0.0
    others: float = 0.0  # the share of the machine that other programs used

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def waiting(self) -> float:
        """How many connections waited and got a response, by Little's law."""
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
    pid: int, port: int, path: str, cookies: Path, *, connections: int, seconds: int
) -> Sample:
    """Load a server for some seconds; return what wrk and its clock say."""
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    script = ["-s", str(SCRIPT), f"http://127.0.0.1:{port}", "--", str(cookies), path]
    command = [find("wrk"), *options, *script]
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


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, user and system, in all threads.

    By its CPU-time clock, in nanoseconds: /proc counts hundredths of a second.
    """
    clock = ctypes.c_int()
    error = _libc.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, os.strerror(error))
    return time.clock_gettime(clock.value)


class Meter:
    """Tells which share of the machine went to programs that are not ours."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before = _machine_seconds() - own_seconds()

    def others(self) -> float:
        """Return the share, of all CPUs, since this meter was made."""
        used = _machine_seconds() - own_seconds() - self._before
        whole = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, used / whole)


def _machine_seconds() -> float:
    """Return the CPU time that all programs and the kernel have used."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, fields[:8])
    return (user + nice + system + interrupts + soft + stolen) / TICKS


def own_seconds() -> float:
    """Return the CPU time of this process and its children, ended ones too."""
    used = sum(map(cpu_seconds, _children()))
    for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        mine = resource.getrusage(whose)
        used += mine.ru_utime + mine.ru_stime
    return used


def _children() -> Iterator[int]:
    for task in Path("/proc/self/task").iterdir():
        yield from map(int, (task / "children").read_text().split())
