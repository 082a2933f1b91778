"""Sessions by their id, for code outside a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import msgspec

from . import _drafts, _ids, _lifetime
from .checks import seconds, type_error
from ._commit import Committer
from ._legacy import Legacy
from ._markers import Markers
from ._merge import Delta
from ._record import Changes, Options, Record
from ._record_store import Stored
from .codec import Codec
from .config import SessionConfig
from .exceptions import SessionConflict, SessionGone
from .serializers import check_items

__all__ = ["Records"]

_ATTEMPTS = 3


class _Revoked(SessionGone):
    """The record is there, and its principal's marker ends it."""


class Records:
    """Reads and writes the records of given session ids."""

    def __init__(
        self,
        committer: Committer,
        markers: Markers,
        legacy: Legacy,
        codec: Codec,
        config: SessionConfig,
        key_of: Callable[[str], str],
    ) -> None:
        self._committer = committer
        self._markers = markers
        self._legacy = legacy
        self._codec = codec
        self._config = config
        self._key_of = key_of

    def key_of(self, session_id: object) -> str:
        """Return the store key of ``session_id``; raise `ValueError` if it is bad."""
        if not isinstance(session_id, str) or not _ids.is_valid(session_id):
            raise ValueError("a session id must be 22 to 200 of A-Z, a-z, 0-9, _ and -")
        return self._key_of(session_id)

    async def get(self, session_id: str) -> Stored | None:
        """Return the record of ``session_id``, or `None` if there is none."""
        key = self.key_of(session_id)
        try:
            stored = await self._read(key, session_id)
        except SessionGone:
            return None
        alive = await self._markers.is_alive(session_id, stored.record)
        return stored if alive else None

    async def _read(self, key: str, session_id: str) -> Stored:
        try:
            return await self._committer.read(key)
        except SessionGone:
            if not await self._legacy.move(session_id, key):
                raise
            return await self._committer.read(key)

    async def set(
        self, session_id: str, data: object, ttl: float | timedelta | None
    ) -> None:
        """Put ``data`` in the place of what ``session_id`` holds, or begin it."""
        key = self.key_of(session_id)
        if not isinstance(data, Mapping):
            raise type_error("data", data, "a mapping")
        values = dict(data)
        check_items(self._codec.serializer, values)
        encoded = self._codec.serializer.dumps(values)
        lifespan = seconds("ttl", ttl)

        async def make(record: Record) -> Record:
            if not await self._markers.is_alive(session_id, record):
                raise _Revoked("session was ended by another request")
            return self._with(record, encoded, lifespan)

        for attempt in range(_ATTEMPTS):
            try:
                await self._committer.replace(key, None, make)
                return
            except _Revoked:
                raise  # what is written there, nobody would read
            except SessionGone:
                if not attempt and await self._legacy.move(session_id, key):
                    continue
            fresh = self._fresh(encoded, lifespan)
            if await self._committer.create(key, fresh):
                return
            # memcached keeps what has ended a moment longer.
            if await self._committer.supersede(key, fresh):
                return
        raise SessionConflict(_ATTEMPTS)

    def _end(self, lifespan: float | None) -> float | None:
        return None if lifespan is None else self._config.clock() + lifespan

    def _with(self, record: Record, encoded: bytes, lifespan: float | None) -> Record:
        end = record.end if lifespan is None else self._end(lifespan)
        newer = msgspec.structs.replace(record, data=encoded, end=end)
        return _lifetime.renewed(self._config, newer, self._config.clock())

    def _fresh(self, encoded: bytes, lifespan: float | None) -> Record:
        changes = Changes(
            delta=Delta({}, frozenset()),
            encoded=encoded,
            flashed=(),
            read=frozenset(),
            options=Options(end=self._end(lifespan)),
        )
        return _drafts.fresh(self._config, changes, self._config.clock())
