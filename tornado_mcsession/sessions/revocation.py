"""What all sessions of one principal have in common, so that all can be ended at once.

A principal's *marker* is an entry beside the principal's records, on the same node. A
record repeats the random value that the marker had at the login: while the marker is
there and says the same, the session is alive. So one operation ends all sessions of a
principal, however many there are. Where the store lost the marker, the sessions are
over rather than out of reach. With ``track_sessions`` the marker also lists them, so
that one of them can be ended: a session that has a handle is alive while the list has
that handle.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
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
from .codec import Codec, Layout
from .lifetime import TOMBSTONE_SECONDS, utc
from .marker import Listed, Marker, NewerMarker, Standing
from .record import Aside, Record
from .repository import Operations

__all__ = ["Identity", "Revocation", "UserSession"]

ATTEMPTS = 16
# A marker is kept this much longer than any record that repeats it.
MARGIN = 60.0
# memcached takes a TTL of more than 30 days for a date by its own clock. Markers stay
# below that, and renewals of their sessions put their end off.
KEPT_FOR = 30 * 86_400.0 - 3600.0
_REMEMBERED_DIGESTS = 4096
_VALUE = 16  # bytes
_HANDLE = 12  # bytes
LONGEST_LABEL = 100


class Identity(NamedTuple):
    """Whose session it is, and what makes it theirs.

    ``handle`` names it in the list of the principal's sessions; None: it is not there.
    ``ended`` is how many others were ended for it.
    """

    principal: str
    digest: str
    marker: bytes
    handle: bytes | None = None
    ended: int = 0


class UserSession(NamedTuple):
    """One of a user's sessions, as `.SessionManager.sessions` lists it.

    ``handle`` names it for `.SessionManager.end`. It is no session id, and none can
    be made from it. ``label`` is what `.Session.login` was given. ``begun`` is when
    the user logged in, and ``last_used`` when a request last renewed the session; of
    the current one it is now. ``expires_at`` is when it ends if it is not used.
    """

    handle: str
    label: str
    begun: datetime
    last_used: datetime
    expires_at: datetime
    is_current: bool


class Revocation:
    """The markers of all principals.

    ``keys`` are those of `.ids.linking_keys`. With ``knows_all`` no session counts
    as alive whose digest none of the keys makes: `revoke` would not reach it.
    ``most_sessions`` is how many a principal may have that are listed; 0: new ones
    are not listed. Those that are in a list go on whatever it is. ``lifetime`` is
    the longest life of a session in seconds; None: it has no limit.
    """

    def __init__(
        self,
        operations: Operations,
        codec: Codec,
        keys: Sequence[bytes],
        *,
        knows_all: bool,
        most_sessions: int,
        lifetime: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._operations = operations
        self._codec = codec
        self._prefix = codec.key_prefix
        self._knows_all = knows_all
        self._most = most_sessions
        self._lifetime = lifetime
        self._clock = clock
        self._layout = Layout[Marker](Marker, NewerMarker)
        # Each request of a logged-in session asks for its principal's.
        self._digests: Callable[[str], tuple[str, ...]] = lru_cache(
            _REMEMBERED_DIGESTS
        )(lambda who: tuple(ids.principal_digest(who, key) for key in keys))

    def key_of(self, digest: str) -> str:
        """Return the key of the marker of the principal with this digest."""
        return ids.marker_key(self._prefix, digest)

    def key_beside(self, session_id: str) -> str | None:
        """Return the key of the marker of an id's principal; None if it has none."""
        digest = ids.digest_of(session_id)
        return ids.marker_key(self._prefix, digest) if digest else None

    def standing(
        self,
        session_id: str,
        record: Record,
        entry: Entry | None,
        aside: Aside | None = None,
    ) -> Standing:
        """Return what the marker in ``entry`` says of the record of ``session_id``.

        With ``aside``, which is the record's own, the marker is that of the user who
        acts as another one.
        """
        principal, values = record.principal, record.marker
        if principal is None:
            return Standing.ALIVE
        marker = self._read(entry)
        if marker is None:
            return Standing.DEAD
        digest = ids.digest_of(session_id)
        if aside is not None:
            principal, values, digest = aside.principal, aside.marker, aside.digest
        if self._knows_all and digest not in self._digests(principal):
            return Standing.DEAD
        if values == marker.value or marker.value in _values(values):
            # The list that has a session is that of the user who logged in.
            if record.login is not None and record.aside is aside:
                handle = record.handle
                if handle is not None:
                    return marker.standing_of(handle, self._clock())
            return Standing.ALIVE
        age = self._clock() - marker.since
        return Standing.OVERTAKEN if abs(age) < TOMBSTONE_SECONDS else Standing.DEAD

    def like(self, principal: str) -> Identity:
        """Return an `Identity` of the size of the one that `identify` makes."""
        digest = self._digests(principal)[0]
        handle = bytes(_HANDLE) if self._most else None
        return Identity(principal, digest, bytes(_VALUE), handle)

    async def identify(
        self,
        principal: str,
        until: float,
        *,
        label: str | None = None,
        instead_of: bytes | None = None,
    ) -> Identity:
        """Return what makes a new session that of ``principal``.

        The marker is made where there is none. It lives longer than ``until``, the
        end of the new session. With a ``label`` the session is listed, and the
        oldest are ended where there are too many; the one that it is ``instead_of``
        does not count. Raises `.StoreError`.
        """
        digest = self._digests(principal)[0]
        key = ids.marker_key(self._prefix, digest)
        fresh = self._fresh()
        new: Listed | None = None
        if label is not None and self._most:
            new = self._listed(key, label, until)

        ended = 0

        def keep(marker: Marker | None) -> Marker:
            nonlocal ended
            if marker is None:
                marker = fresh
            if not marker.used:
                marker = msgspec.structs.replace(marker, used=True)
            if new is not None:
                now, before = self._clock(), marker
                marker = before.with_session(
                    new, self._most, instead_of, now, self._is_over
                )
                if marker is not before:
                    ended = sum(
                        not self._has_expired(each) and each not in marker.sessions
                        for each in before.sessions
                    )
            return self._kept(marker, until)

        value = (await self._change(key, keep)).value
        handle = None if new is None else new.handle
        return Identity(principal, digest, value, handle, ended)

    def _listed(self, key: str, label: str, until: float) -> Listed:
        now = int(self._clock())
        name = self._codec.seal(label[:LONGEST_LABEL].encode(), key)
        handle = secrets.token_bytes(_HANDLE)
        return Listed(handle, now, now, math.ceil(until), name)

    def _is_over(self, listed: Listed) -> bool:
        """Return whether a session has certainly ended by itself."""
        if self._codec.renewed_by_others:
            return self._has_expired(listed)
        return listed.is_over(self._clock())

    def _has_expired(self, listed: Listed) -> bool:
        """Return whether a session has ended by itself, as far as the list knows.

        Where others renew it without a note, only its lifetime ends it for certain.
        """
        until: float = listed.until
        if self._codec.renewed_by_others:
            lifetime = self._lifetime
            until = math.inf if lifetime is None else listed.begun + lifetime + 1
        return self._clock() >= until

    async def keep(self, session_id: str, record: Record) -> None:
        """Let the marker outlive a session that was just renewed, and note its use.

        What fails is done by the next renewal, long before it is too late.
        """
        for digest, handle in _homes(session_id, record):

            def keep(
                marker: Marker | None, handle: bytes | None = handle
            ) -> Marker | None:
                if marker is None:
                    return None
                if handle is not None:
                    marker = marker.renewed(handle, self._clock(), record.expires_at)
                return self._kept(marker, record.expires_at)

            with contextlib.suppress(StoreError, SessionConflict):
                await self._change(ids.marker_key(self._prefix, digest), keep)

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
        handle = None if record.aside else record.handle
        now = self._clock()

        def change(marker: Marker | None) -> Marker:
            if marker is None or marker.value not in values:
                raise SessionGone("session was ended by another request")
            if marker.value == values[0]:
                return marker  # done, though its response was lost
            newer = marker.replaced(values[0], now, handle)
            if handle is not None and not newer.sessions:
                raise SessionGone("session was ended by another request")
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
        self._must_know_all("revoke")
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
                sessions=(),
                ended=(),
            )

        await self._change(ids.marker_key(self._prefix, digest), end)
        return was_there

    async def sessions(
        self, principal: str, current: bytes | None
    ) -> list[UserSession]:
        """Return the listed sessions of ``principal``, the last used ones first.

        ``current`` is the handle of the current one. Raises `.StoreError`, and
        `RuntimeError` where it would look in the wrong place.
        """
        self._must_know_all("sessions")
        keys = [self.key_of(digest) for digest in self._digests(principal)]
        entries = await self._operations.get_many(keys)
        now = self._clock()
        found = []
        for key in keys:
            marker = self._read(entries.get(key))
            for listed in marker.sessions if marker else ():
                if self._has_expired(listed):
                    continue
                try:
                    label = self._codec.unseal(listed.label, key)
                except DecodeError:
                    continue  # its record cannot be read either
                is_current = listed.handle == current
                found.append(
                    UserSession(
                        base64.urlsafe_b64encode(listed.handle).decode("ascii"),
                        label.decode(errors="replace"),
                        begun=utc(listed.begun),
                        last_used=utc(int(now) if is_current else listed.used),
                        expires_at=utc(listed.until),
                        is_current=is_current,
                    )
                )
        # Those of one second in the order of their logins, too: the newest first.
        return sorted(found[::-1], key=lambda each: each.last_used, reverse=True)

    async def end(self, principal: str, handle: str) -> bool:
        """End a listed session of ``principal``; return whether it was there.

        Raises `.StoreError` where that cannot be confirmed, and `RuntimeError`
        where it would look in the wrong place.
        """
        self._must_know_all("end")
        try:
            name = base64.b64decode(handle, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return False
        failure: StoreError | SessionConflict | None = None
        for digest in self._digests(principal):
            try:
                if await self._drop(digest, name):
                    return True
            except (StoreError, SessionConflict) as error:
                failure = error
        if failure is not None:
            raise failure
        return False

    async def forget(self, session_id: str, record: Record) -> None:
        """Take a session that has ended off its list.

        Where that fails, the list shows it until it would have expired.
        """
        for digest, handle in _homes(session_id, record):
            if handle is not None:
                await self.take_back(digest, handle)

    async def take_back(self, digest: str, handle: bytes) -> None:
        """Take off the list what was not stored, or has ended. Raises nothing."""
        with contextlib.suppress(StoreError, SessionConflict):
            await self._drop(digest, handle)

    async def _drop(self, digest: str, handle: bytes) -> bool:
        was_there = False

        def drop(marker: Marker | None) -> Marker | None:
            nonlocal was_there
            if marker is None:
                return None
            newer = marker.without(handle, self._clock())
            was_there = was_there or newer is not marker
            return newer

        await self._change(ids.marker_key(self._prefix, digest), drop)
        return was_there

    def _must_know_all(self, verb: str) -> None:
        if not self._knows_all:
            raise RuntimeError(
                f"{verb} needs the secret that the sessions were made with: "
                "SessionManager(cookie_secret=...) as in the application's settings, "
                "or an empty one where it has none"
            )

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


def _homes(session_id: str, record: Record) -> Iterator[tuple[str, bytes | None]]:
    """Give the digests whose markers keep a session alive, and its handle in each."""
    digest = ids.digest_of(session_id)
    if record.principal is None or not digest:
        return
    aside = record.aside
    if aside is None:
        yield digest, record.handle
    else:
        yield digest, None
        yield aside.digest, record.handle
