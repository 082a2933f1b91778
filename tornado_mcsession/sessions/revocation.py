"""What all sessions of one principal have in common, so that all can be ended at once.

A principal's *marker* is an entry beside the principal's records, on the same node. A
record repeats the random value that the marker had at the login: while the marker is
there and says the same, the session is alive. So one operation ends all sessions of a
principal, however many there are. Where the store lost the marker, the sessions are
over rather than out of reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from ..exceptions import (
    DecodeError,
    SessionConflict,
    SessionGone,
    StoreError,
    StoreUnavailable,
)
from ..stores.base import CasResult, Entry
from . import ids
from .codec import Layout
from .lifetime import TOMBSTONE_SECONDS
from .record import Record
from .repository import Operations

__all__ = ["Identity", "Revocation", "Standing"]

ATTEMPTS = 16
# A marker is kept this much longer than any record that repeats it.
MARGIN = 60.0
# memcached takes a TTL of more than 30 days for a date by its own clock. Markers stay
# below that, and renewals of their sessions put their end off.
KEPT_FOR = 30 * 86_400.0 - 3600.0
_REMEMBERED_DIGESTS = 4096
_VALUE = 16  # bytes


class Standing(enum.Enum):
    """What a record's marker says of it."""

    ALIVE = "alive"
    OVERTAKEN = "another value took its place a moment ago"
    DEAD = "dead"


class Identity(NamedTuple):
    """Whose session it is, and what makes it theirs."""

    principal: str
    digest: str
    marker: bytes


class Marker(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is stored beside the records of a principal."""

    value: bytes
    since: float
    """When the value was made, in seconds since 1970."""
    until: float
    """When the store drops the marker, if nobody puts that off."""
    used: bool = True
    """Whether anybody has logged in with this value."""


class NewerMarker(Marker, frozen=True, array_like=True, gc=False):
    """A marker with fields that a later release has added."""

    unknown: tuple[msgspec.Raw, ...] = ()


class Revocation:
    """The markers of all principals.

    ``keys`` are those of `.ids.linking_keys`. With ``knows_all`` no session counts
    as alive whose digest none of the keys makes: `revoke` would not reach it.
    """

    def __init__(
        self,
        operations: Operations,
        key_prefix: str,
        keys: Sequence[bytes],
        *,
        knows_all: bool,
        clock: Callable[[], float],
    ) -> None:
        self._operations = operations
        self._prefix = key_prefix
        self._knows_all = knows_all
        self._clock = clock
        self._layout = Layout[Marker](Marker, NewerMarker)
        # Each request of a logged-in session asks for its principal's.
        self._digests: Callable[[str], tuple[str, ...]] = lru_cache(
            _REMEMBERED_DIGESTS
        )(lambda who: tuple(ids.principal_digest(who, key) for key in keys))

    def key_beside(self, session_id: str) -> str | None:
        """Return the key of the marker of an id's principal; None if it has none."""
        digest = ids.digest_of(session_id)
        return ids.marker_key(self._prefix, digest) if digest else None

    def standing(
        self, session_id: str, record: Record, entry: Entry | None
    ) -> Standing:
        """Return what the marker in ``entry`` says of the record of ``session_id``."""
        if record.principal is None:
            return Standing.ALIVE
        marker = self._read(entry)
        if marker is None:
            return Standing.DEAD
        digest = ids.digest_of(session_id)
        if self._knows_all and digest not in self._digests(record.principal):
            return Standing.DEAD
        if record.marker == marker.value or marker.value in _values(record.marker):
            return Standing.ALIVE
        age = self._clock() - marker.since
        return Standing.OVERTAKEN if abs(age) < TOMBSTONE_SECONDS else Standing.DEAD

    async def identify(self, principal: str, until: float) -> Identity:
        """Return what makes a new session that of ``principal``.

        The marker is made where there is none. It lives longer than ``until``, the
        end of the new session. Raises `.StoreError`.
        """
        digest = self._digests(principal)[0]
        fresh = self._fresh()

        def keep(marker: Marker | None) -> Marker:
            if marker is None:
                return self._kept(fresh, until)
            if not marker.used:
                marker = msgspec.structs.replace(marker, used=True)
            return self._kept(marker, until)

        key = ids.marker_key(self._prefix, digest)
        return Identity(principal, digest, (await self._change(key, keep)).value)

    async def keep(self, session_id: str, record: Record) -> None:
        """Let the marker outlive a session that was just renewed.

        What fails is done by the next renewal, long before it is too late.
        """
        key = self.key_beside(session_id)
        if record.principal is None or key is None:
            return

        def keep(marker: Marker | None) -> Marker | None:
            return marker and self._kept(marker, record.expires_at)

        with contextlib.suppress(StoreError, SessionConflict):
            await self._change(key, keep)

    def next_value(self, record: Record) -> bytes:
        """Return what ``record`` repeats before and after `replace`.

        A new value, behind which those stand that it has today: the session is
        alive whether or not the marker gets the new one.
        """
        assert record.marker is not None
        return secrets.token_bytes(_VALUE) + record.marker[: 3 * _VALUE]

    async def replace(self, session_id: str, record: Record) -> None:
        """Let the marker say the newest of the values that ``record`` repeats.

        Of the principal's sessions only this one is alive from then on. Raises
        `.SessionGone` where the marker says none of them by now, and
        `.StoreError`; in both cases the marker is as it was.
        """
        assert record.principal is not None
        values = _values(record.marker)
        digest = ids.digest_of(session_id)
        now = self._clock()

        def change(marker: Marker | None) -> Marker:
            if marker is None or marker.value not in values:
                raise SessionGone("session was ended by another request")
            newer = msgspec.structs.replace(
                marker, value=values[0], since=now, used=True
            )
            return self._kept(newer, record.expires_at)

        # The own one first: where that says something else, nothing was done. With
        # older secrets the principal has other digests, too.
        await self._change(ids.marker_key(self._prefix, digest), change)
        for other in self._digests(record.principal):
            if other != digest:
                await self._end(other)

    async def revoke(self, principal: str) -> bool:
        """End all sessions of ``principal``; return whether there may be any.

        Raises `.StoreError` where that cannot be confirmed, and `RuntimeError`
        where it would look in the wrong place.
        """
        if not self._knows_all:
            raise RuntimeError(
                "revoke needs the secret that the sessions were made with: "
                "SessionManager(cookie_secret=...) as in the application's settings, "
                "or an empty one where it has none"
            )
        failure: StoreError | SessionConflict | None = None
        ended = False
        for digest in self._digests(principal):
            try:
                ended |= await self._end(digest)
            except (StoreError, SessionConflict) as error:
                failure = error
        if failure is not None:
            raise failure
        return ended

    async def _end(self, digest: str) -> bool:
        """Give a marker a new value; return whether it had one.

        It is not deleted: a late write of the old value must meet the new one.
        """
        fresh = self._fresh()
        was_there = False

        def end(marker: Marker | None) -> Marker:
            nonlocal was_there
            if marker is not None:
                was_there = was_there or marker.used
                if not marker.used:
                    return marker  # nobody has logged in since the last time
            return msgspec.structs.replace(
                marker or fresh,
                value=fresh.value,
                since=fresh.since,
                until=fresh.until,
                used=False,
            )

        await self._change(ids.marker_key(self._prefix, digest), end)
        return was_there

    def _fresh(self) -> Marker:
        now = self._clock()
        return Marker(secrets.token_bytes(_VALUE), now, now + KEPT_FOR)

    def _kept(self, marker: Marker, until: float) -> Marker:
        """Return ``marker``, with its end put off where that is before ``until``."""
        if marker.until >= until + MARGIN:
            return marker
        later = max(self._clock() + KEPT_FOR, until + 2 * MARGIN)
        return msgspec.structs.replace(marker, until=later)

    def _read(self, entry: Entry | None) -> Marker | None:
        if entry is None:
            return None
        try:
            return self._layout.decode(entry.data)
        except DecodeError:
            return None

    async def _change(
        self, key: str, edit: Callable[[Marker | None], Marker | None]
    ) -> Marker:
        """Put ``edit(marker)`` in the place of a marker; return what is there then.

        Done again where another request came in between, and where a response was
        lost: ``edit`` meets what was written, and leaves it as it is.
        """
        lost: StoreUnavailable | None = None
        try:
            async with asyncio.timeout(self._operations.limit):
                for _ in range(ATTEMPTS):
                    try:
                        entry = await self._operations.get(key)
                    except StoreError:
                        if lost is None:
                            raise
                        raise lost from lost.__cause__
                    old = self._read(entry)
                    new = edit(old)
                    if new is None or new == old:
                        return old or self._fresh()
                    try:
                        if await self._write(key, entry, new):
                            return new
                    except StoreUnavailable as error:
                        if not error.outcome_unknown:
                            failure = lost or error
                            raise failure from failure.__cause__
                        lost = error
        except TimeoutError as error:
            if lost is None:
                raise self._operations.too_late("save") from error
            raise lost from lost.__cause__
        raise lost or SessionConflict(ATTEMPTS)

    async def _write(self, key: str, entry: Entry | None, marker: Marker) -> bool:
        data = self._layout.encode(marker)
        ttl = max(marker.until - self._clock(), MARGIN)
        if entry is None:
            return await self._operations.add(key, data, ttl, 0)
        result = await self._operations.cas(key, data, ttl, entry.token, 0)
        return result is CasResult.STORED


def _values(marker: bytes | None) -> list[bytes]:
    """Return the values of a marker with which a record is alive, newest first."""
    text = marker or b""
    return [text[start : start + _VALUE] for start in range(0, len(text), _VALUE)]
