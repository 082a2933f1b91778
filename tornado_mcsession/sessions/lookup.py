"""What a presented session id leads to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from ..exceptions import DecodeError
from ..stores.base import Entry
from . import ids
from .codec import Codec
from .marker import Standing
from .repository import MAX_STEPS, Place, Repository, Stored
from .revocation import Revocation
from .state import Presented
from .tasks import Tasks

__all__ = ["NOTHING", "Found", "Lookup"]

_REMEMBERED = 1024

logger: logging.Logger = logging.getLogger("tornado_mcsession")


class Found(msgspec.Struct, frozen=True, gc=False):
    """The session that an id, or several, lead to."""

    presented: Presented
    stored: Stored | None = None
    values: dict[str, Any] = {}
    others: tuple[str, ...] = ()
    """The ids of several living sessions, none of which is used."""
    is_ended: bool = False
    """The session was ended a moment ago, so what is written to it is dropped."""
    expired: Stored | None = None
    """What ended by itself in the last five minutes."""


NOTHING = Found(Presented.NONE)


class Lookup:
    """Finds sessions by their ids, also behind an id that was just replaced."""

    def __init__(
        self, records: Repository, revocation: Revocation, tasks: Tasks
    ) -> None:
        self._records = records
        self._revocation = revocation
        self._tasks = tasks
        self._warned = False
        # The requests of a page present the same id, whose hash costs a microsecond.
        self._places = lru_cache(_REMEMBERED)(self._places_of)

    async def find_one_of(self, session_ids: Sequence[str]) -> Found:
        """Return the one living session of ``session_ids``. Raises `.StoreError`.

        Where several are alive, none is used: one may have been planted.
        """
        operations = self._records.operations
        try:
            async with asyncio.timeout(operations.limit):
                found = await asyncio.gather(*map(self.find, session_ids))
        except TimeoutError as error:
            raise operations.too_late("load") from error
        living = [each for each in found if each.stored is not None]
        # Two ids may lead to one session, an old one to its new one.
        different = {each.stored.id for each in living if each.stored}
        if len(different) == 1:
            return living[0]
        if not living:
            return max(found, key=lambda each: _PREFERRED.index(each.presented))
        self._records.counts["ambiguous_cookies"] += 1
        if not self._warned:
            self._warned = True
            logger.warning(
                "a request presented several living sessions, and none was used: the "
                "browser has cookies of one name for several paths or domains; they "
                "are ended when the user logs in"
            )
        return Found(Presented.AMBIGUOUS, others=tuple(different))

    async def find(self, session_id: str) -> Found:
        """Return the session of ``session_id``. Raises `.StoreError`."""
        at, beside = self._places(session_id)
        for _ in range(MAX_STEPS):
            if at.key in self._tasks.of_key:
                # Read what is still being written.
                await self._tasks.wait_for(at.key, self._records.operations.limit)
            if beside is None:
                entry, marker = await self._records.operations.get(at.key), None
            else:
                entries = await self._records.operations.get_many((at.key, beside))
                entry, marker = entries.get(at.key), entries.get(beside)
            found = self._judge(at, entry, marker)
            login = None if found.stored is None else found.stored.record.login
            if login is not None and login.aside is not None:
                found = await self._judge_impersonator(found)
            if found.presented is not Presented.ENDED or found.stored is None:
                return found
            newer = self._successor(found.stored)
            if newer is None:
                break
            at, beside = self._places(newer)
        return _ENDED

    def _places_of(self, session_id: str) -> tuple[Place, str | None]:
        """Return where the record of an id is, and the key of its marker, if any."""
        beside = self._revocation.key_beside(session_id)
        return self._records.at(session_id), beside

    def _judge(self, at: Place, entry: Entry | None, marker: Entry | None) -> Found:
        if entry is None:
            return _UNKNOWN
        records = self._records
        try:
            record = records.codec.decode(entry.data, entry.flags, at.key)
            stored = Stored(at.id, at.key, record, entry.token)
            is_over = records.lifetime.is_over(record, records.clock())
            if record.retired:
                # Of a tombstone that is over nothing is known any more.
                return _UNKNOWN if is_over else Found(Presented.ENDED, stored)
            if is_over:
                return Found(Presented.EXPIRED, expired=stored)
            values = records.codec.values(record, lazily=True)
            schema = records.codec.schema
            if schema is not None and schema.upgrade is not None:
                stored = _in_shape(stored, values, records.codec)
        except DecodeError as error:
            records.note_foreign(error)
            return _UNKNOWN
        if record.principal is not None:
            standing = self._revocation.standing(at.id, record, marker)
            if standing is not Standing.ALIVE:
                return _ENDED if standing is Standing.OVERTAKEN else _REVOKED
        return Found(Presented.LIVE, stored, values)

    async def _judge_impersonator(self, found: Found) -> Found:
        """Return ``found`` if the user who acts as its principal still may.

        That user's marker is mostly on another node.
        """
        stored = found.stored
        aside = None if stored is None else stored.record.aside
        if stored is None or aside is None or found.presented is not Presented.LIVE:
            return found
        key = self._revocation.key_of(aside.digest)
        entry = await self._records.operations.get(key)
        standing = self._revocation.standing(stored.id, stored.record, entry, aside)
        if standing is Standing.ALIVE:
            return found
        return _ENDED if standing is Standing.OVERTAKEN else _REVOKED

    def _successor(self, tombstone: Stored) -> str | None:
        record = tombstone.record
        until = record.successor_until
        if until is None or self._records.clock() >= until:
            return None
        return ids.successor_of(tombstone.id, record)


def _in_shape(stored: Stored, values: dict[str, Any], codec: Codec) -> Stored:
    """Return what was found with ``values``, which may be in a newer shape.

    So a request that changes nothing writes nothing, and changes are merged with those
    of other requests in the shape of today.
    """
    try:
        data = codec.serializer.dumps(values)
    except Exception as error:
        name = type(error).__name__
        raise DecodeError(f"with data of which upgrade made a {name}") from None
    record = msgspec.structs.replace(stored.record, data=data)
    return msgspec.structs.replace(stored, record=record)


_UNKNOWN = Found(Presented.UNKNOWN)
_ENDED = Found(Presented.ENDED, is_ended=True)
# A while ago: what a request writes now begins a new session.
_REVOKED = Found(Presented.ENDED)
# Of several ids without a living session, what is told is the last of these.
_PREFERRED = [
    Presented.NONE,
    Presented.UNKNOWN,
    Presented.ENDED,
    Presented.EXPIRED,
]
