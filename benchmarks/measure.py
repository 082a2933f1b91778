"""What processes use: CPU time, memory, threads. Linux only."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Meter", "Usage", "cpu_seconds", "own_seconds", "usage"]

TICKS = os.sysconf("SC_CLK_TCK")

_libc = ctypes.CDLL(None)


class Usage(NamedTuple):
    """What a process holds at a moment."""

    memory: int  # bytes, resident
    threads: int


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, user and system, in all threads.

    By its CPU-time clock, in nanoseconds: /proc counts hundredths of a second.
    """
    clock = ctypes.c_int()
    error = _libc.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, os.strerror(error))
    return time.clock_gettime(clock.value)


def usage(pid: int) -> Usage:
    """Return what a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
    return Usage(int(fields["VmRSS"]) * 1024, int(fields["Threads"]))


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
