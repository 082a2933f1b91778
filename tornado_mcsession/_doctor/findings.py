"""What the doctor finds out about a node."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "COMMANDS",
    "Clock",
    "Connections",
    "Encryption",
    "Findings",
    "Memory",
    "Remark",
    "RoundTrip",
]

COMMANDS = ("gets", "add", "cas", "touch", "delete")
_KINDS = ("problem", "warning", "note")


@dataclass(frozen=True)
class Remark:
    """Something that an operator should know, and what to do about it."""

    kind: str
    """``"problem"``: the node cannot keep sessions. ``"warning"``, ``"note"``."""
    code: str
    """A stable name for scripts."""
    text: str
    advice: str


@dataclass(frozen=True)
class RoundTrip:
    """How long reads took, in seconds."""

    median: float
    worst: float
    reads: int


@dataclass(frozen=True)
class Memory:
    """Bytes for items, and what became of items that found no room."""

    used: int
    limit: int
    evicts: bool | None
    """Whether the oldest items make room; `False`: new ones are refused."""
    evictions: int
    refused: int


@dataclass(frozen=True)
class Connections:
    """Clients of the node, this one among them."""

    now: int
    limit: int
    refused: int


@dataclass(frozen=True)
class Encryption:
    """The connection's TLS."""

    protocol: str
    cipher: str
    certificate_ends: str
    """ISO 8601, in UTC."""
    certificate_left: float
    """Seconds until then."""


@dataclass(frozen=True)
class Clock:
    """How far the node's clock is ahead of the one here, in seconds."""

    difference: float
    uncertainty: float


@dataclass(kw_only=True)
class Findings:
    """All that is known of a node. `None`: it could not be found out."""

    name: str
    share: float
    """Of the sessions, 0 to 1."""
    version: str | None = None
    uptime: int | None = None
    round_trip: RoundTrip | None = None
    commands: dict[str, bool | None] = field(
        default_factory=lambda: dict.fromkeys(COMMANDS)
    )
    cas: bool | None = None
    item_size_max: int | None = None
    memory: Memory | None = None
    connections: Connections | None = None
    authentication: str | None = None
    """``"none"``, ``"accepted"``, ``"not asked for"``, ``"refused"``, ``"missing"``."""
    tls: Encryption | None = None
    clock: Clock | None = None
    remarks: list[Remark] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the node can keep sessions."""
        return all(remark.kind != "problem" for remark in self.remarks)

    def problem(self, code: str, text: str, advice: str) -> None:
        """Note what keeps the node from keeping sessions."""
        self.remarks.append(Remark("problem", code, text, advice))

    def warn(self, code: str, text: str, advice: str) -> None:
        """Note what will cost sessions, or may."""
        self.remarks.append(Remark("warning", code, text, advice))

    def note(self, code: str, text: str, advice: str) -> None:
        """Note what could be better."""
        self.remarks.append(Remark("note", code, text, advice))

    def sort(self) -> None:
        """Put first what matters most."""
        self.remarks.sort(key=lambda remark: _KINDS.index(remark.kind))

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain data, with the same keys for each node."""
        return {"ok": self.ok, **dataclasses.asdict(self)}
