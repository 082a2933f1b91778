"""What a node tells of itself: its version, statistics and settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from .asking import Asker
from .findings import Clock, Connections, Findings, Memory

__all__ = ["read_all"]

# memcached's counters have 64 bits; what is larger is none of them.
_MAX_NUMBER = 2**64
_MAX_TEXT = 40

# By setting: the value that lets everybody who can connect do this, and the
# option that takes it away.
_OPEN = {
    "flush_enabled": (b"yes", "end all sessions at once by flush_all", "-F"),
    "dump_enabled": (b"yes", "list the store's keys, which are no session ids", "-X"),
    "shutdown_command": (b"yes", "stop memcached", "no -A"),
}


def read_all(asker: Asker, findings: Findings) -> None:
    """Put what the node tells into ``findings``; the rest stays `None`."""
    findings.version = _plain(_told(asker, lambda client: client.version()))
    began = time.time()
    stats = _told(asker, lambda client: client.stats()) or {}
    ended = time.time()
    settings = _told(asker, lambda client: client.stats("settings")) or {}
    findings.uptime = _number(stats, "uptime")
    findings.item_size_max = _number(settings, "item_size_max")
    findings.memory = _memory(stats, settings)
    findings.connections = _connections(stats)
    findings.clock = _clock(_number(stats, "time"), began, ended)
    _note_silence(findings)
    _note_openness(settings, findings)


def _told(asker: Asker, call: Callable[[Any], Any]) -> Any:
    try:
        return asker.ask(call)
    except Exception:
        return None  # twemproxy, for one, closes the connection


def _memory(stats: Mapping[bytes, Any], settings: Mapping[bytes, Any]) -> Memory | None:
    used, limit = _number(stats, "bytes"), _number(stats, "limit_maxbytes")
    if used is None or limit is None:
        return None
    evicts = {b"on": True, b"off": False}.get(settings.get(b"evictions", b""))
    return Memory(
        used=used,
        limit=limit,
        evicts=evicts,
        evictions=_number(stats, "evictions") or 0,
        refused=_number(stats, "store_no_memory") or 0,
    )


def _connections(stats: Mapping[bytes, Any]) -> Connections | None:
    now, limit = _number(stats, "curr_connections"), _number(stats, "max_connections")
    if now is None or limit is None:
        return None
    return Connections(now, limit, _number(stats, "rejected_connections") or 0)


def _clock(told: int | None, began: float, ended: float) -> Clock | None:
    if told is None:
        return None
    # memcached adds whole seconds of uptime to the whole second of its start: it
    # is between 0 and 2 s behind itself.
    return Clock(
        difference=told + 1 - (began + ended) / 2,
        uncertainty=1 + (ended - began) / 2,
    )


def _note_silence(findings: Findings) -> None:
    if findings.memory is None or findings.item_size_max is None:
        findings.warn(
            "proxy",
            "the node does not tell its statistics and settings: a proxy, such as "
            "twemproxy?",
            "Its auto_eject_hosts must be false, or sessions move to other servers "
            "and logouts come undone. Run doctor on each memcached behind it, too.",
        )


def _note_openness(settings: Mapping[bytes, Any], findings: Findings) -> None:
    can, options = [], []
    for name, (value, what, option) in _OPEN.items():
        if settings.get(name.encode()) == value:
            can.append(what)
            options.append(option)
    if can:
        findings.note(
            "open",
            f"who can connect can {', '.join(can)}",
            f"memcached without it: {' '.join(options)}.",
        )


def _number(told: Mapping[bytes, Any], name: str) -> int | None:
    value = told.get(name.encode())
    if isinstance(value, int) and 0 <= value < _MAX_NUMBER:
        return value
    return None


def _plain(value: object) -> str | None:
    # It goes to a terminal: no control characters, and no end of it.
    if not isinstance(value, bytes):
        return None
    text = value[:_MAX_TEXT].decode("ascii", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)
