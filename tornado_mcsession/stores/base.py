"""The contract that every session store keeps."""

from __future__ import annotations

import enum
import math
import os
import re
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ..checks import type_error

__all__ = [
    "CasResult",
    "Entry",
    "NodeCallback",
    "Store",
    "check_data",
    "check_flags",
    "check_key",
    "check_ttl",
    "tell_of_forks",
]

NodeCallback = Callable[[str], object]

# memcached refuses more than 250 bytes, takes an empty key for another command, and
# accepts control characters.
_KEY = re.compile(r"[\x21-\x7e]{1,250}")
# memcached keeps 32 bits of them.
_MOST_FLAGS = 2**32 - 1


def check_key(key: object) -> str:
    """Return ``key`` if it is 1 to 250 printable ASCII characters, no spaces.

    Raises `TypeError` or `ValueError`; neither shows the key.
    """
    if not isinstance(key, str):
        raise type_error("a key", key, "text")
    if _KEY.fullmatch(key) is None:
        raise ValueError("a key must be 1 to 250 printable ASCII characters")
    return key


def check_data(data: object) -> bytes:
    """Return ``data`` if it is bytes, else raise `TypeError`."""
    if not isinstance(data, bytes):
        raise type_error("data", data, "bytes")
    return data


def check_ttl(ttl: object) -> float:
    """Return ``ttl`` if it is a number of seconds, finite and greater than 0.

    Raises `TypeError` or `ValueError`.
    """
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise type_error("ttl", ttl, "seconds")
    if not 0 < ttl < math.inf:
        raise ValueError("ttl must be finite and greater than 0")
    return ttl


def check_flags(flags: object) -> int:
    """Return ``flags`` if it is a whole number of 32 bits.

    Raises `TypeError` or `ValueError`.
    """
    if isinstance(flags, bool) or not isinstance(flags, int):
        raise type_error("flags", flags, "a whole number")
    if not 0 <= flags <= _MOST_FLAGS:
        raise ValueError("flags must be from 0 to 2**32 - 1")
    return flags


class Entry(NamedTuple):
    """What is stored under a key.

    ``token`` stands for this very version. It is opaque, and good only for
    `Store.cas` with the same key. ``flags`` are a number that the writer chose to
    say of what kind ``data`` is.
    """

    data: bytes
    token: Any
    flags: int = 0


class CasResult(enum.Enum):
    """How a `Store.cas` ended."""

    STORED = "stored"
    CONFLICT = "conflict"
    MISSING = "missing"


class Store(ABC):
    """A flat map from keys to opaque bytes, where entries expire.

    A store knows nothing of sessions, cookies or serialization. "Not there" is a
    result; "cannot tell" is a `.StoreUnavailable`. A store must never report the
    second as the first: an outage would log every user out, and the next write would
    replace their data.

    A key is 1 to 250 printable ASCII characters without spaces. A part of it in
    ``{braces}`` alone decides where the key is placed. A TTL is in seconds, greater
    than 0, and may be fractional: an entry lives at least that long, and at most a
    few seconds longer. No entry lives for ever. Flags are a whole number of 32 bits.
    ``check_key``, ``check_data``, ``check_ttl`` and ``check_flags`` refuse everything
    else, when the operation is called or when it is awaited.

    The operations may be ``async def``, or functions that return another awaitable. A
    future is waited for without a task, and its operation is under way already.

    All methods may be called from any event loop, and from several at once.
    """

    timeout: float = 1.0
    """The seconds that one operation may take."""

    reconnect_timeout: float = 0.0
    """The seconds that an operation may also wait for a node to come back."""

    keeps_deadline: bool = False
    """Whether operations end within these times by themselves.

    Where it is false, the manager ends them.
    """

    @abstractmethod
    def get(self, key: str) -> Awaitable[Entry | None]:
        """Return what is stored under ``key``, or `None` if nothing is."""

    @abstractmethod
    def add(self, key: str, data: bytes, ttl: float, flags: int = 0) -> Awaitable[bool]:
        """Store ``data`` under ``key`` if nothing is there.

        Returns whether it was stored. What was there stays as it was.
        """

    @abstractmethod
    def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> Awaitable[CasResult]:
        """Replace the version of ``key`` that ``token`` came with.

        `.CasResult.CONFLICT` where another version is there now,
        `.CasResult.MISSING` where nothing is. Either leaves the store as it was.
        """

    @abstractmethod
    def touch(self, key: str, ttl: float) -> Awaitable[bool]:
        """Give ``key`` a new ``ttl`` and return whether it was there.

        Whether tokens survive it is up to the store.
        """

    @abstractmethod
    def delete(self, key: str) -> Awaitable[bool]:
        """Remove ``key`` and return whether it was there."""

    @abstractmethod
    async def close(self) -> None:
        """Release connections and threads. The store is unusable afterwards.

        Closing twice is not an error.
        """

    def get_many(self, keys: Sequence[str]) -> Awaitable[dict[str, Entry]]:
        """Return what is stored under ``keys``, without those where nothing is.

        This default asks for one after another; a store that can ask for
        several at once does it here.
        """
        return self._one_by_one(keys)

    async def _one_by_one(self, keys: Sequence[str]) -> dict[str, Entry]:
        found = {}
        for key in keys:
            entry = await self.get(key)
            if entry is not None:
                found[key] = entry
        return found

    def node_of(self, key: str) -> str:
        """Return the name of the node that keeps ``key``; empty where there is none."""
        return ""

    def stop_waiting(self) -> None:
        """Let operations that merely wait for a node to come back fail at once."""

    def on_connect(self, callback: NodeCallback) -> None:
        """Call ``callback`` with a node's name when the node begins to respond.

        Called once per change, on the event loop that saw it. A store without
        connections never calls it.
        """

    def on_disconnect(self, callback: NodeCallback) -> None:
        """Call ``callback`` with a node's name when the node stops responding."""

    def stats(self) -> dict[str, Any]:
        """Return counters and states, for people and for metrics."""
        return {}

    async def health(self) -> dict[str, dict[str, Any]]:
        """Ask each node now; return for its name whether it can keep things.

        ``{"ok": True, "seconds": 0.0002}``, or ``{"ok": False, "error": "timed
        out"}``. Raises nothing. A store without nodes returns nothing.
        """
        return {}


class _Forked(Protocol):
    def forked(self) -> None: ...


_inherited: weakref.WeakSet[_Forked] = weakref.WeakSet()


def tell_of_forks(inherited: _Forked) -> None:
    """Call ``inherited.forked()`` in each child process that this one forks.

    There it is the only thread: locks that another thread held at the fork stay
    locked, and connections are shared with the parent. Nothing may be waited for.
    """
    _inherited.add(inherited)


def _tell() -> None:
    for inherited in list(_inherited):
        inherited.forked()


os.register_at_fork(after_in_child=_tell)
