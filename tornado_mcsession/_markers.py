"""What all sessions of one principal have in common, so that all can be ended.

A principal's *marker* is an entry beside the principal's records, on the same
node. A record repeats the random value that the marker held at the login: while
the marker is there and says the same, the session is alive. So one operation
ends them all, however many there are; and where the store lost the marker, they
are over rather than out of reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import secrets
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from . import _ids
from ._bounded_store import BoundedStore
from ._record import Record
from .config import DAY, SessionConfig
from .exceptions import SessionConflict, SessionGone, StoreError, StoreUnavailable
from .stores.base import CasResult, Entry

__all__ = ["Identity", "Markers", "Standing"]

_ENTRY = struct.Struct(">16sdd")
ATTEMPTS = 16
# How long what an overtaken session writes is dropped, and not taken for a new
# visitor's: as long as a replaced id is remembered.
OVERTAKEN_FOR = 60.0
# Kept this much longer than any record that repeats it, so that it need not be
# put off by each of several logins.
MARGIN = 60.0
# Where sessions have no absolute end; each renewal begins it anew.
WITHOUT_LIFETIME = 366 * DAY
_REMEMBERED_DIGESTS = 4096


class Standing(enum.Enum):
    """What a record's marker says of it."""

    ALIVE = "alive"
    OVERTAKEN = "overtaken"
    """Another value took its place a moment ago."""
    DEAD = "dead"


class Identity(NamedTuple):
    """Whose a session is, and what makes it theirs."""

    principal: str
    digest: str
    marker: bytes


class _Marker(NamedTuple):
    value: bytes
    since: float
    """When it was made, in seconds since 1970."""
    renewed: float
    """When its end was last put off."""


class Markers:
    """The markers of all principals.

    ``keys`` are those of `._keys.linking_keys`. With ``knows_all`` no session is
    alive whose digest none of them makes: `revoke` would not reach it.
    ``legacy_key`` returns where a digest's marker was kept before, if anywhere.
    """

    def __init__(
        self,
        store: BoundedStore,
        config: SessionConfig,
        keys: Sequence[bytes],
        knows_all: bool,
        legacy_key: Callable[[str], str | None],
    ) -> None:
        self._legacy_key = legacy_key
        self._store = store
        self._config = config
        self._knows_all = knows_all
        idle = config.idle_timeout or 0.0
        self._ttl = MARGIN + (config.lifetime or max(WITHOUT_LIFETIME, 2 * idle))
        # Each request of a logged-in session asks for its principal's.
        self._digests: Callable[[str], tuple[str, ...]] = lru_cache(
            _REMEMBERED_DIGESTS
        )(lambda who: tuple(_ids.principal_digest(who, key) for key in keys))

    def digest(self, principal: str) -> str:
        """Return what stands for ``principal`` in new ids."""
        return self._digests(principal)[0]

    def key(self, digest: str) -> str:
        """Return the store key of the marker of a digest."""
        return _ids.marker_key(self._config.key_prefix, digest)

    def standing(self, digest: str, record: Record, entry: Entry | None) -> Standing:
        """Return what the marker in ``entry`` says of a record, whose id has a digest.

        Or none: an empty one.
        """
        if record.principal is None:
            return Standing.ALIVE
        if entry is None or len(entry.data) != _ENTRY.size:
            return Standing.DEAD
        if self._knows_all and digest not in self._digests(record.principal):
            return Standing.DEAD
        if record.marker == entry.data[:16]:
            return Standing.ALIVE
        age = self._config.clock() - _ENTRY.unpack(entry.data)[1]
        return Standing.OVERTAKEN if abs(age) < OVERTAKEN_FOR else Standing.DEAD

    async def is_alive(self, session_id: str, record: Record) -> bool:
        """Return whether its marker lets the record, which was just read, live."""
        digest = _ids.digest_of(session_id)
        if record.principal is None:
            return True
        entry = await self._store.get(self.key(digest)) if digest else None
        return self.standing(digest, record, entry) is Standing.ALIVE

    async def identify(self, principal: str) -> Identity:
        """Return what makes a new session that of ``principal``.

        The marker is made if there is none, and lives from now on as long as a
        session that begins now may. Raises `.StoreError`.
        """
        digest = self.digest(principal)
        key = self.key(digest)

        async def look_or_make() -> bytes | None:
            entry = await self._store.get(key)
            marker = _read(entry)
            if marker is None:
                if entry is None and await self.inherit(digest):
                    return None  # it is there now, unless it was ended meanwhile
                return await self._put(key, self._new(), entry)
            now = self._config.clock()
            if abs(now - marker.renewed) < MARGIN / 2:
                return marker.value
            # By cas: a touch whose answer is lost could not be looked for.
            return await self._put(key, marker._replace(renewed=now), entry)

        marker = await self._until_done(look_or_make)
        return Identity(principal, digest, marker)

    async def replace(self, session_id: str, record: Record) -> bytes:
        """Give the principal of ``record`` a new marker, and return what it holds.

        From then on none of the principal's sessions is alive, but that whose
        record gets the new value. Raises `.SessionGone` where the session of
        ``record`` is not alive itself, and `.StoreError`.
        """
        assert record.principal is not None
        own = _ids.digest_of(session_id)
        key, new = self.key(own), self._new()

        async def look_and_replace() -> bytes | None:
            entry = await self._store.get(key)
            if _read(entry) == new:
                return new.value  # done before, by a try whose answer was lost
            if self.standing(own, record, entry) is not Standing.ALIVE:
                raise SessionGone("session was ended by another request")
            return await self._put(key, new, entry)

        # The own one last: where the others' cannot be ended, nothing is changed.
        others = [d for d in self._digests(record.principal) if d != own]
        await self._delete([*self._legacy_keys([own]), *self._keys(others)])
        return await self._until_done(look_and_replace)

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
        return await self._delete(self._keys(self._digests(principal)))

    async def keep(self, session_id: str, record: Record) -> None:
        """Let the marker live on with a session that was just renewed.

        Only where sessions have no absolute end: it has theirs otherwise. What
        fails is done by the next renewal, long before it is too late.
        """
        if self._config.lifetime is None and record.principal is not None:
            key = self.key(_ids.digest_of(session_id))
            with contextlib.suppress(StoreError):
                entry = await self._store.get(key)
                marker = _read(entry)
                if marker is not None:
                    now = self._config.clock()
                    await self._put(key, marker._replace(renewed=now), entry)

    def _new(self) -> _Marker:
        now = self._config.clock()
        return _Marker(secrets.token_bytes(16), now, now)

    async def _put(self, key: str, new: _Marker, old: Entry | None) -> bytes | None:
        """Put ``new`` in the place of ``old``; return its value if that was done."""
        data = _ENTRY.pack(*new)
        if old is None:
            return new.value if await self._store.add(key, data, self._ttl) else None
        result = await self._store.cas(key, data, self._ttl, old.token)
        return new.value if result is CasResult.STORED else None

    async def _until_done(self, step: Callable[[], Awaitable[bytes | None]]) -> bytes:
        """Return what ``step`` does; again where others came in between.

        Or where its answer was lost: it looks first at what is there.
        """
        failure: StoreUnavailable | None = None
        try:
            async with asyncio.timeout(self._store.limit):
                for _ in range(ATTEMPTS):
                    try:
                        value = await step()
                    except StoreUnavailable as error:
                        if not error.outcome_unknown:
                            raise
                        failure, value = error, None
                    if value is not None:
                        return value
        except TimeoutError as error:
            raise self._store.too_late("save") from error
        raise failure or SessionConflict(ATTEMPTS)

    async def inherit(self, digest: str) -> bool:
        """Keep a marker of an older key where those of today are.

        Who ends it meanwhile looks there after it did; and this one, whether it
        was ended before it was there. Returns whether there was one.
        """
        key, old = self.key(digest), await self._inherited(digest)
        if old is None:
            return False
        try:
            if not await self._store.add(key, _ENTRY.pack(*old), self._ttl):
                return True
        except StoreUnavailable as error:
            if not error.outcome_unknown:
                raise
            await self._take_back(digest, old)  # it may have been done
            raise
        await self._take_back(digest, old)
        return True

    async def _take_back(self, digest: str, old: _Marker) -> None:
        """Remove what was inherited where it was ended before it was there."""
        if await self._inherited(digest) != old:
            key = self.key(digest)
            if _read(await self._store.get(key)) == old:
                await self._store.delete(key)

    async def _inherited(self, digest: str) -> _Marker | None:
        key = self._legacy_key(digest)
        return None if key is None else _read(await self._store.get(key))

    def _legacy_keys(self, digests: Iterable[str]) -> list[str]:
        return [key for key in map(self._legacy_key, digests) if key is not None]

    def _keys(self, digests: Sequence[str]) -> list[str]:
        """Return all keys of the markers of ``digests``, older ones first."""
        return [*self._legacy_keys(digests), *map(self.key, digests)]

    async def _delete(self, keys: Iterable[str]) -> bool:
        """Remove markers; all are tried, and the last failure is raised."""
        failure: StoreError | None = None
        ended = False
        for key in keys:
            try:
                ended |= await self._store.delete(key)
            except StoreError as error:
                failure = error
        if failure is not None:
            raise failure
        return ended


def _read(entry: Entry | None) -> _Marker | None:
    """Return the marker in ``entry``; `None` where it is none."""
    if entry is None or len(entry.data) != _ENTRY.size:
        return None
    return _Marker(*_ENTRY.unpack(entry.data))
