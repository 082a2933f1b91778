"""A session as it is stored."""

from __future__ import annotations

import random
import sys
from collections.abc import Collection
from typing import Annotated
from zlib import crc32

import msgspec
from msgspec import Meta

__all__ = [
    "AnyTime",
    "Aside",
    "Flash",
    "Login",
    "NewerRecord",
    "PastTime",
    "Record",
    "Span",
]

# A record remembers the writes of the last seconds, so that a write whose response
# was lost can be recognised: a few whatever their age, and no more than 64.
WRITE = 10  # bytes
FEWEST_WRITES = 4 * WRITE
MOST_WRITES = 64 * WRITE

# Below this, decoding all values costs less than deciding which to decode.
LARGE = 512

# What a time may be, which is checked while a record is decoded: any finite number.
_NEVER = sys.float_info.max
PastTime = Annotated[float, Meta(ge=0, le=_NEVER)]
AnyTime = Annotated[float, Meta(ge=-_NEVER, le=_NEVER)]
Span = Annotated[float, Meta(gt=0, le=_NEVER)]


class Flash(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message for the next page. ``id`` tells it from an equal message."""

    id: bytes
    category: str
    message: str
    """The text; empty where the message is another ``value``."""
    value: bytes | None = None
    """A message that is no text, encoded by the serializer.

    It is a field of its own so that older releases can read the record. They show
    the empty text instead.
    """


class Aside(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a user who acts as another one has left: it comes back afterwards.

    ``digest`` leads to the user's marker, and ``marker`` is what it said.
    """

    principal: str
    digest: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22}\Z")]
    marker: bytes
    data: bytes
    flashes: tuple[Flash, ...] = ()


class Login(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What else is known of the login that a session belongs to.

    A later release must not add fields here: they would be lost in this one.
    """

    at: float | None
    """The record's ``authenticated_at``. Where they differ, a process of an older
    release has logged somebody in since, and this is void."""
    handle: bytes | None = None
    """Names the session in the list of its user's sessions; None: it is not listed."""
    aside: Aside | None = None
    """None: the user acts as nobody else."""


class Record(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A session as it is stored. Times are seconds since 1970.

    ``data`` is the session's mapping, encoded by the serializer. Everything else
    is kept beside the mapping, never in it. A later release may add fields at the
    end; see `NewerRecord`.
    """

    created: PastTime
    renewed_at: PastTime
    expires_at: AnyTime
    data: bytes
    writes: bytes = b""
    """The ids of the newest writes, newest first, one behind the other."""
    flashes: tuple[Flash, ...] = ()
    principal: str | None = None
    authenticated_at: PastTime | None = None
    marker: bytes | None = None
    """The value of the principal's marker when this session logged in."""
    idle_timeout: Span | None = None
    """This session's own idle timeout in seconds; None: as the setting says."""
    end: AnyTime | None = None
    """This session's own fixed end; None: only that of its lifetime."""
    persistent: bool | None = None
    """Whether the cookie outlives the browser; None: as the setting says."""
    retired: bool = False
    """A tombstone: the session under this id was ended, or got a new id."""
    successor: bytes | None = None
    """The new id, sealed with the old one (`.ids.seal`); None: there is none."""
    successor_until: AnyTime | None = None
    """Requests with the old id are led to the new one until then (``grace``)."""
    written: int = 0
    """How many writes this record has seen. ``writes`` are the last of them."""
    same_login: bool = False
    """The new id belongs to the same login, so the old id may end it."""
    login: Login | None = None
    """More of the login: read `handle` and `aside`, which know when it is void."""
    checksum: int | None = None
    """The CRC-32 of large ``data``. With it, a process knows that the data was checked
    when it was written, see `is_checked`. None: it is small, or an older release or
    the application's own serializer wrote it."""

    @property
    def is_checked(self) -> bool:
        """Whether ``data`` is large, and as this or a later release has written it.

        One of the package's serializers made it, and checked it. So its values are not
        nested too deep, and each can be decoded alone. (By the other one, it cannot
        even be split into values.)
        """
        checksum = self.checksum
        return checksum is not None and crc32(self.data) == checksum

    @property
    def handle(self) -> bytes | None:
        """What names the session in the list of its user's sessions, if it is there."""
        login = self.login
        if login is None or login.at != self.authenticated_at:
            return None
        return login.handle

    @property
    def aside(self) -> Aside | None:
        """What was set aside while the user acts as another one."""
        login = self.login
        if login is None or login.at != self.authenticated_at:
            return None
        return login.aside

    @property
    def user(self) -> str | None:
        """Who logged in, whomever they act as."""
        aside = None if self.login is None else self.aside
        return self.principal if aside is None else aside.principal

    def write_of(self, mine: Collection[bytes]) -> bytes | None:
        """Return which of ``mine`` is the newest write that this record knows."""
        writes = self.writes
        known = (writes[at : at + WRITE] for at in range(0, len(writes), WRITE))
        return next((write for write in known if write in mine), None)

    def has_forgotten(self, number: int) -> bool:
        """Return whether write ``number`` is older than all of ``writes``."""
        return (self.written - number) * WRITE >= len(self.writes)

    def stamped(
        self, before: Record | None, now: float, memory: float, is_own: bool
    ) -> Record:
        """Return this record as the write that follows ``before``.

        Writes of the last ``memory`` seconds are remembered. ``is_own``: one of the
        package's serializers made the data.
        """
        write, data = _new_write_id(now), self.data
        checksum = crc32(data) if is_own and len(data) >= LARGE else None
        if before is None:
            return msgspec.structs.replace(
                self, writes=write, written=1, checksum=checksum
            )
        writes = (write + before.writes)[:MOST_WRITES]
        end = len(writes)
        while end > FEWEST_WRITES and _age(writes[end - WRITE : end], write) > memory:
            end -= WRITE
        writes = writes[:end]
        return msgspec.structs.replace(
            self, writes=writes, written=before.written + 1, checksum=checksum
        )


class NewerRecord(Record, frozen=True, kw_only=True, array_like=True, gc=False):
    """A record with fields that a later release has added.

    They are kept as they are, so that processes of both releases can serve the
    same sessions during an update.
    """

    unknown: tuple[msgspec.Raw, ...] = ()


_TICKS = 10  # a second


def _new_write_id(now: float) -> bytes:
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
