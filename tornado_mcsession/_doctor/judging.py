"""What the numbers of a node mean for sessions."""

from __future__ import annotations

from ..config import SessionConfig
from .findings import Connections, Findings, Memory

__all__ = ["judge"]

# An item is more than its value: a header of memcached's, a key of at most 250
# bytes, and what is lost by cutting large ones into chunks.
_ITEM_OVERHEAD = 1024
_NEARLY_FULL = 0.85
_CLOCKS_APART = 2.0
_CERTIFICATE_ENDS_SOON = 14 * 86_400.0


def judge(findings: Findings) -> None:
    """Add warnings to ``findings``, by what else is in there."""
    if findings.item_size_max is not None:
        _judge_item_size(findings.item_size_max, findings)
    if findings.memory is not None:
        _judge_memory(findings.memory, findings)
    if findings.connections is not None:
        _judge_connections(findings.connections, findings)
    _judge_clock(findings)
    _judge_certificate(findings)


def _judge_item_size(limit: int, findings: Findings) -> None:
    fits = limit - _ITEM_OVERHEAD
    if fits < SessionConfig.max_size:
        advice = "Start memcached with a larger -I"
        if fits > 0:
            advice += f", or set max_size={fits}: the error then names the largest keys"
        findings.warn(
            "item-size",
            f"sessions that are larger than about {max(fits, 0)} bytes cannot be "
            f"saved, although max_size is {SessionConfig.max_size} by default",
            f"{advice}.",
        )


def _judge_memory(memory: Memory, findings: Findings) -> None:
    if memory.evictions:
        findings.warn(
            "evictions",
            f"sessions are lost early: {memory.evictions} items were dropped before "
            "their end, to make room",
            "Give memcached more memory (-m), or keep only sessions in it.",
        )
    is_full = memory.limit and memory.used >= memory.limit * _NEARLY_FULL
    if memory.refused and is_full and memory.evicts is False:
        findings.problem(
            "full",
            f"it is full and drops nothing (-M): {memory.refused} items were refused",
            "Give memcached more memory (-m), or start it without -M.",
        )
    elif memory.refused:
        findings.warn(
            "not-stored",
            f"sessions could not be saved: {memory.refused} items were refused for "
            "want of memory",
            "Give memcached more memory (-m), or keep only sessions in it.",
        )
    if memory.limit and memory.used >= memory.limit * _NEARLY_FULL:
        what = "new sessions will be refused"
        if memory.evicts is not False:
            what = "the least recently used sessions will be dropped"
        if not memory.evictions and not memory.refused:
            findings.warn(
                "memory",
                f"the memory is nearly full: {what}",
                "Give memcached more memory (-m), or keep only sessions in it.",
            )


def _judge_connections(connections: Connections, findings: Findings) -> None:
    if connections.refused:
        findings.warn(
            "connections",
            f"{connections.refused} connections were refused: there were too many",
            "Allow memcached more (-c), or let each process have fewer (threads=1 "
            "in the URL).",
        )
    elif connections.now >= connections.limit * _NEARLY_FULL:
        findings.warn(
            "connections",
            "there are nearly as many connections as are allowed",
            "Allow memcached more (-c), or let each process have fewer (threads=1 "
            "in the URL).",
        )


def _judge_clock(findings: Findings) -> None:
    clock = findings.clock
    # The second that memcached's whole seconds hide is no reason for a warning;
    # a slow network is none either.
    if clock and abs(clock.difference) - (clock.uncertainty - 1) > _CLOCKS_APART:
        findings.warn(
            "clock",
            "the clocks differ: sessions that are kept for more than 30 days end "
            "that much too early or too late",
            "Set both by NTP. Then restart memcached: it looks at the clock when it "
            "starts.",
        )


def _judge_certificate(findings: Findings) -> None:
    tls = findings.tls
    if tls and tls.certificate_left < _CERTIFICATE_ENDS_SOON:
        findings.warn(
            "certificate-ends",
            "the certificate expires in "
            f"{tls.certificate_left / 86_400:.1f} days: no session can be used then",
            "Renew it, and let memcached load it (refresh_certs, or a restart).",
        )
