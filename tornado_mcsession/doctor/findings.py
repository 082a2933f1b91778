"""What the doctor finds out about a node, and what it means for sessions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..settings import Settings

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

# An item is more than its value: a header of memcached's, a key of at most 250
# bytes, and what is lost by cutting large ones into chunks.
_ITEM_OVERHEAD = 1024
_NEARLY_FULL = 0.85
_CLOCKS_APART = 2.0
_CLOCK_FAR_OFF = 86_400.0
_CERTIFICATE_ENDS_SOON = 14 * 86_400.0

_MORE_MEMORY = "Give memcached more memory (-m), or keep only sessions in it."
_MORE_CONNECTIONS = (
    "Allow memcached more (-c), or let each process have fewer (threads=1 in the URL)."
)


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

    @property
    def is_nearly_full(self) -> bool:
        """Whether little room is left."""
        return bool(self.limit) and self.used >= self.limit * _NEARLY_FULL


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
    same_server: bool | None = None
    """Whether what is written on one connection is found on new ones."""
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

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain data, with the same keys for each node."""
        return {"ok": self.ok, **dataclasses.asdict(self)}

    def judge(self) -> None:
        """Add the remarks that follow from the numbers; put first what matters most."""
        if self.item_size_max is not None:
            self._judge_item_size(self.item_size_max - _ITEM_OVERHEAD)
        if self.memory is not None:
            self._judge_memory(self.memory)
        if self.connections is not None:
            self._judge_connections(self.connections)
        if self.clock is not None:
            self._judge_clock(self.clock)
        if self.tls and self.tls.certificate_left < _CERTIFICATE_ENDS_SOON:
            self.warn(
                "certificate-ends",
                "the certificate expires in "
                f"{self.tls.certificate_left / 86_400:.1f} days: no session can be "
                "used then",
                "Renew it, and let memcached load it (refresh_certs, or a restart).",
            )
        self.remarks.sort(key=lambda remark: _KINDS.index(remark.kind))

    def _judge_item_size(self, fits: int) -> None:
        if fits >= Settings.max_size:
            return
        advice = "Start memcached with a larger -I"
        if fits > 0:
            advice += f", or set max_size={fits}: the error then names the largest keys"
        self.warn(
            "item-size",
            f"sessions that are larger than about {max(fits, 0)} bytes cannot be "
            f"saved, although max_size is {Settings.max_size} by default",
            f"{advice}.",
        )

    def _judge_memory(self, memory: Memory) -> None:
        if memory.evictions:
            self.warn(
                "evictions",
                f"sessions are lost early: {memory.evictions} items were dropped "
                "before their end, to make room",
                _MORE_MEMORY,
            )
        if memory.refused and memory.is_nearly_full and memory.evicts is False:
            self.problem(
                "full",
                f"it is full and drops nothing (-M): {memory.refused} items were "
                "refused",
                "Give memcached more memory (-m), or start it without -M.",
            )
        elif memory.refused:
            self.warn(
                "not-stored",
                f"sessions could not be saved: {memory.refused} items were refused for "
                "want of memory",
                _MORE_MEMORY,
            )
        elif memory.is_nearly_full and not memory.evictions:
            what = "the least recently used sessions will be dropped"
            if memory.evicts is False:
                what = "new sessions will be refused"
            self.warn("memory", f"the memory is nearly full: {what}", _MORE_MEMORY)

    def _judge_connections(self, connections: Connections) -> None:
        if connections.refused:
            self.warn(
                "connections",
                f"{connections.refused} connections were refused: there were too many",
                _MORE_CONNECTIONS,
            )
        elif connections.now >= connections.limit * _NEARLY_FULL:
            self.warn(
                "connections",
                "there are nearly as many connections as are allowed",
                _MORE_CONNECTIONS,
            )

    def _judge_clock(self, clock: Clock) -> None:
        # The second that memcached's whole seconds hide is no reason for a warning;
        # a slow network is none either.
        apart = abs(clock.difference) - (clock.uncertainty - 1)
        advice = (
            "Set both by NTP. Then restart memcached: it looks at the clock when it "
            "starts."
        )
        if apart > _CLOCK_FAR_OFF:
            self.problem(
                "clock",
                f"its clock is {apart / 86_400:.0f} days off: what is kept for more "
                "than 30 days ends at once, or much too late",
                advice,
            )
        elif apart > _CLOCKS_APART:
            self.warn(
                "clock",
                "the clocks differ: sessions that are kept for more than 30 days end "
                "that much too early or too late",
                advice,
            )
