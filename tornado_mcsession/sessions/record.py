"""What is stored of a session, what a request changed in it, and their merge."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from .serializers import Serializer, values_of

__all__ = [
    "NO_OPTIONS",
    "Changes",
    "Flash",
    "NewerRecord",
    "Record",
    "merge",
    "new_write_id",
    "replace_values",
]

_Struct = TypeVar("_Struct", bound=msgspec.Struct)

# A record remembers the writes of the last seconds, so that a write whose response
# was lost can be recognised: a few whatever their age, and no more than 64.
WRITE = 10  # bytes
FEWEST_WRITES = 4 * WRITE
MOST_WRITES = 64 * WRITE


class Flash(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message for the next page. ``id`` tells it from an equal message."""

    id: bytes
    category: str
    message: str


class Record(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A session as it is stored. Times are seconds since 1970.

    ``data`` is the session's mapping, encoded by the serializer. Everything else
    is kept beside the mapping, never in it. A later release may add fields at the
    end; see `NewerRecord`.
    """

    created: float
    renewed_at: float
    expires_at: float
    data: bytes
    writes: bytes = b""
    """The ids of the newest writes, newest first, one behind the other."""
    flashes: tuple[Flash, ...] = ()
    principal: str | None = None
    authenticated_at: float | None = None
    marker: bytes | None = None
    """The value of the principal's marker when this session logged in."""
    idle_timeout: float | None = None
    """This session's own idle timeout in seconds; None: as the setting says."""
    end: float | None = None
    """This session's own fixed end; None: only that of its lifetime."""
    persistent: bool | None = None
    """Whether the cookie outlives the browser; None: as the setting says."""
    retired: bool = False
    """A tombstone: the session under this id was ended, or got a new id."""
    successor: bytes | None = None
    """The new id, sealed with the old one (`.ids.seal`); None: there is none."""
    successor_until: float | None = None
    """Requests with the old id are led to the new one until then (``grace``)."""
    written: int = 0
    """How many writes this record has seen. ``writes`` are the last of them."""
    same_login: bool = False
    """The new id belongs to the same login, so the old id may end it."""

    def write_of(self, mine: Collection[bytes]) -> bytes | None:
        """Return which of ``mine`` is the newest write that this record knows."""
        writes = self.writes
        known = (writes[at : at + WRITE] for at in range(0, len(writes), WRITE))
        return next((write for write in known if write in mine), None)

    def has_forgotten(self, number: int) -> bool:
        """Return whether write ``number`` is older than all of ``writes``."""
        return (self.written - number) * WRITE >= len(self.writes)

    def stamped(self, write: bytes, before: Record | None, memory: float) -> Record:
        """Return this record as the write that follows ``before``.

        Writes of the last ``memory`` seconds are remembered.
        """
        if before is None:
            return msgspec.structs.replace(self, writes=write, written=1)
        writes = (write + before.writes)[:MOST_WRITES]
        end = len(writes)
        while end > FEWEST_WRITES and _age(writes[end - WRITE : end], write) > memory:
            end -= WRITE
        writes = writes[:end]
        return msgspec.structs.replace(self, writes=writes, written=before.written + 1)


class NewerRecord(Record, frozen=True, kw_only=True, array_like=True, gc=False):
    """A record with fields that a later release has added.

    They are kept as they are, so that processes of both releases can serve the
    same sessions during an update.
    """

    unknown: tuple[msgspec.Raw, ...] = ()


_TICKS = 10  # a second


def new_write_id(now: float) -> bytes:
    """Return the id of a write: its time in tenths of a second, and six random bytes.

    It tells writes apart and is no secret. After a fork Python seeds the
    generator anew.
    """
    time = int(now * _TICKS) & 0xFFFFFFFF
    number = time << 48 | random.getrandbits(48)  # nosec B311 # guards nothing
    return number.to_bytes(WRITE, "big")


def _age(write: bytes, newest: bytes) -> float:
    """Return by how many seconds a write is older than the newest one."""
    ticks = int.from_bytes(newest[:4], "big") - int.from_bytes(write[:4], "big")
    return (ticks & 0xFFFFFFFF) / _TICKS


NO_OPTIONS: Mapping[str, Any] = {}
"""What most requests set of `Changes.options`: one object, so that ``is`` tells."""


class Changes(NamedTuple):
    """What a request did to its session: ``encoded`` is the whole data as it sees it.

    ``changed`` and ``deleted`` are keys of that data, compared with ``base``, the
    data that it started from. ``options`` are fields of the `Record` that it set.
    """

    changed: frozenset[str]
    deleted: frozenset[str]
    base: bytes
    encoded: bytes
    flashed: tuple[Flash, ...]
    read: frozenset[bytes]
    options: Mapping[str, Any]

    def __bool__(self) -> bool:
        return bool(
            self.changed or self.deleted or self.flashed or self.read or self.options
        )

    def made_to(self, theirs: dict[str, Any], serializer: Serializer) -> dict[str, Any]:
        """Return the data of a newer state with these changes made to it.

        A three-way merge: keys that this request left alone are as in ``theirs``,
        at any depth of nested mappings. For the same key this request wins.
        """
        merged = {key: theirs[key] for key in theirs if key not in self.deleted}
        if self.changed:
            base = values_of(serializer, self.base, self.changed)
            mine = values_of(serializer, self.encoded, self.changed)
            for key, value in mine.items():
                merged[key] = _merged(
                    base.get(key), value, theirs.get(key), serializer.dumps
                )
        return merged

    def flashes(self, theirs: tuple[Flash, ...]) -> tuple[Flash, ...]:
        """Return the messages of a newer state with these changes made to them."""
        if not self.flashed and not self.read:
            return theirs
        # A message of this request is there already where an earlier save of it
        # was stored, but its response was lost.
        gone = self.read | {flash.id for flash in self.flashed}
        return tuple(flash for flash in theirs if flash.id not in gone) + self.flashed


def merge(
    base: Mapping[str, Any],
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    dumps: Callable[[Any], object],
) -> dict[str, Any]:
    """Return ``theirs`` with what leads from ``base`` to ``mine`` done to it.

    Values are compared as ``dumps`` encodes them. Mappings are merged key by key
    at any depth; for lists and other values ``mine`` wins where it differs from
    ``base``.
    """
    merged = {}
    for key, value in theirs.items():
        if key not in mine:
            if key not in base:
                merged[key] = value
        elif key in base and dumps(base[key]) == dumps(mine[key]):
            merged[key] = value
        else:
            merged[key] = _merged(base.get(key), mine[key], value, dumps)
    for key, value in mine.items():
        if key not in theirs and not (key in base and dumps(base[key]) == dumps(value)):
            merged[key] = value
    return merged


def _merged(base: Any, mine: Any, theirs: Any, dumps: Callable[[Any], object]) -> Any:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return merge(base if isinstance(base, dict) else {}, mine, theirs, dumps)
    return mine


def replace_values(
    live: dict[str, Any], new: Mapping[str, Any], dumps: Callable[[Any], object]
) -> None:
    """Make ``live`` equal to ``new``, in place.

    Values that do not change keep their objects, and so do nested mappings, since
    a handler may hold references to them.
    """
    for key in [key for key in live if key not in new]:
        del live[key]
    for key, value in new.items():
        if key in live:
            old = live[key]
            if old is value or dumps(old) == dumps(value):
                continue
            if type(old) is dict and isinstance(value, dict):
                replace_values(old, value, dumps)
                continue
        live[key] = value
