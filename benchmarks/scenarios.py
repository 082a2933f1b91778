"""One server under one kind of load, and the figures made of such."""

from __future__ import annotations

from typing import NamedTuple

from .load import Sample
from .running import NOBODY
from .subjects import OURS

__all__ = [
    "CONNECTIONS",
    "Scenario",
    "added",
    "added_cpu",
    "added_p50_ms",
    "added_ratio",
    "bare",
    "p99_ratio",
    "rate_ratio",
]

CONNECTIONS = 32


class Scenario(NamedTuple):
    """Which server is asked for what, by whose users, on how many connections."""

    subject: str
    path: str = "/read"
    connections: int = CONNECTIONS
    visitors_of: str = ""  # another server, whose cookies are sent

    @property
    def visitors(self) -> str:
        return self.visitors_of or self.subject

    @property
    def servers(self) -> tuple[str, str]:
        """The server that is asked, and the one that its users have visited."""
        return self.subject, self.visitors

    @property
    def load(self) -> str:
        """How it is asked, as the tables say it."""
        of = ", no cookie" if self.visitors_of == NOBODY else ""
        at = "" if self.connections == CONNECTIONS else f" × {self.connections}"
        return f"{self.path}{of}{at}"

    def __str__(self) -> str:
        return f"{self.subject}{self.load}"


def bare(
    kind: str = "bare", visitors_of: str = OURS, connections: int = CONNECTIONS
) -> Scenario:
    """Return a site without sessions, asked exactly as the one with them is."""
    return Scenario(kind, "/read", connections, visitors_of)


def added(path: str, name: str) -> tuple[Scenario, Scenario]:
    """Return a site with sessions, and the same framework without."""
    kind = "bare" if name == OURS else f"{name}-bare"
    return Scenario(name, path), bare(kind, visitors_of=name)


# Each figure is made of the samples that one round has taken of its scenarios.


def rate_ratio(subject: Sample, baseline: Sample) -> float:
    return subject.rate / baseline.rate


def p99_ratio(subject: Sample, baseline: Sample) -> float:
    return subject.p99_us / baseline.p99_us


def added_p50_ms(subject: Sample, baseline: Sample) -> float:
    return (subject.p50_us - baseline.p50_us) / 1000


def added_cpu(subject: Sample, bare: Sample) -> float:
    """Return the microseconds of CPU time that a session costs a request."""
    return subject.cpu_us - bare.cpu_us


def added_ratio(subject: Sample, bare: Sample, peer: Sample, its: Sample) -> float:
    return added_cpu(subject, bare) / added_cpu(peer, its)
