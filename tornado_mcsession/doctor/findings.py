"""What the doctor finds out about a node, and what it means for sessions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..sessions.repository import MAX_SIZE

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

COMMANDS = ("gets", "add", "cas")
_KINDS = ("problem", "warning", "note")

# An item is larger than its value: it has a header, a key of at most 250 bytes, and
# what memcached wastes when it cuts a large value into chunks.
_ITEM_OVERHEAD = 1024
_NEARLY_FULL = 0.85
_CLOCKS_APART = 2.0
_CLOCK_FAR_OFF = 86_400.0
_CERTIFICATE_ENDS_SOON = 14 * 86_400.0

_MORE_MEMORY = "Give memcached more memory (-m), or keep only sessions in it."
_MORE_CONNECTIONS = (
    "Allow memcached more (-c), or let each process have fewer (threads=1 in the URL)."
)
_SET_CLOCKS = "Set both clocks by NTP, then restart memcached: it reads them at start."


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
    """Bytes for items, and how many items found no room."""

    used: int
    limit: int
    evicts: bool | None
    """Whether the node drops the oldest items; `False`: it refuses new ones."""
    evictions: int
    refused: int


@dataclass(frozen=True)
class Connections:
    """Clients of the node, including the doctor."""

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
    """How far the node's clock is ahead of the doctor's, in seconds."""

    difference: float
    uncertainty: float


@dataclass(kw_only=True)
class Findings:
    """What is known of a node; `None`: the doctor could not find it out."""

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
    same_server: bool | None = None
    """Whether new connections find an item that was written on another one."""
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
        """Note what loses sessions, or may lose some."""
        self.remarks.append(Remark("warning", code, text, advice))

    def note(self, code: str, text: str, advice: str) -> None:
        """Note what could be better."""
        self.remarks.append(Remark("note", code, text, advice))

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain data, with the same keys for each node."""
        return {"ok": self.ok, **dataclasses.asdict(self)}

    def judge(self) -> None:
        """Add the remarks that follow from the numbers, and put problems first."""
        if self.item_size_max is not None:
            self._judge_item_size(self.item_size_max - _ITEM_OVERHEAD)
        if self.memory is not None:
            self._judge_memory(self.memory)
        if self.connections is not None:
            self._judge_connections(self.connections)
        if self.clock is not None:
            self._judge_clock(self.clock)
        if self.tls and self.tls.certificate_left < _CERTIFICATE_ENDS_SOON:
            days = self.tls.certificate_left / 86_400
            self.warn(
                "certificate-ends",
                f"the certificate expires in {days:.1f} days: no session can be used "
                "after that",
                "Renew it, and let memcached load it (refresh_certs, or a restart).",
            )
        self.remarks.sort(key=lambda remark: _KINDS.index(remark.kind))

    def _judge_item_size(self, fits: int) -> None:
        if fits >= MAX_SIZE:
            return
        advice = "Start memcached with a larger -I"
        if fits > 0:
            advice += f", or set max_size={fits}: the error then names the largest keys"
        self.warn(
            "item-size",
            f"sessions that are larger than about {max(fits, 0)} bytes cannot be "
            f"saved, although max_size is {MAX_SIZE} by default",
            f"{advice}.",
        )

    def _judge_memory(self, memory: Memory) -> None:
        nearly_full = memory.limit and memory.used >= memory.limit * _NEARLY_FULL
        if memory.evictions:
            self.warn(
                "evictions",
                f"sessions are lost early: memcached dropped {memory.evictions} items "
                "before they expired, to make room",
                _MORE_MEMORY,
            )
        if memory.refused and nearly_full and memory.evicts is False:
            self.problem(
                "full",
                f"the memory is full, and memcached drops nothing (-M): "
                f"{memory.refused} items were refused",
                "Give memcached more memory (-m), or start it without -M.",
            )
        elif memory.refused:
            self.warn(
                "not-stored",
                "sessions could not be saved: memcached had no memory for "
                f"{memory.refused} items",
                _MORE_MEMORY,
            )
        elif nearly_full and not memory.evictions:
            what = "the least recently used sessions will be dropped"
            if memory.evicts is False:
                what = "new sessions will be refused"
            self.warn("memory", f"the memory is nearly full: {what}", _MORE_MEMORY)

    def _judge_connections(self, connections: Connections) -> None:
        if connections.refused:
            text = f"memcached refused {connections.refused} connections: too many"
        elif connections.now >= connections.limit * _NEARLY_FULL:
            text = "there are nearly as many connections as memcached allows"
        else:
            return
        self.warn("connections", text, _MORE_CONNECTIONS)

    def _judge_clock(self, clock: Clock) -> None:
        # memcached's whole seconds, or a slow network, make no clock wrong.
        apart = abs(clock.difference) - (clock.uncertainty - 1)
        if apart > _CLOCK_FAR_OFF:
            self.problem(
                "clock",
                f"its clock is {apart / 86_400:.0f} days off: sessions that are kept "
                "for more than 30 days expire at once, or much too late",
                _SET_CLOCKS,
            )
        elif apart > _CLOCKS_APART:
            self.warn(
                "clock",
                "the clocks differ: sessions that are kept for more than 30 days "
                "expire that much too early or too late",
                _SET_CLOCKS,
            )
