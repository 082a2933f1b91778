"""How a session's record gets into the store, and is replaced there.

Creation is by ``add``, each change by ``cas``: never a plain set, which would
overwrite what another request saved, and bring back what it ended. A record
remembers the ids of its newest writes, so that a write whose answer was lost is
recognised when it is looked for, and neither taken for failed nor made twice.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec

from . import _lifetime
from ._record import Record, new_write_id
from ._record_store import RecordStore, Stored
from .codec import Codec
from .config import SessionConfig
from .exceptions import (
    DecodeError,
    SessionConflict,
    SessionGone,
    StoreRejected,
    StoreUnavailable,
)
from .stores.base import CasResult

__all__ = ["RETIRED_FOR", "Committer"]

# How long a replaced id is remembered, for the requests under way with it.
RETIRED_FOR = 60.0
# With fifty requests at once on one session the unluckiest needed 13.
MAX_ATTEMPTS = 32

Make = Callable[[Record], Record | Awaitable[Record]]


class Committer:
    """Creates, replaces and moves records; knows no handler and no request."""

    def __init__(
        self,
        records: RecordStore,
        codec: Codec,
        config: SessionConfig,
        counts: Counter[str],
    ) -> None:
        self._records = records
        self._codec = codec
        self._config = config
        self._counts = counts

    async def read(self, key: str) -> Stored:
        """Return the living record under ``key``.

        Raises `.SessionGone` where there is none: no entry, or one that has
        ended, was replaced, or cannot be read.
        """
        entry = await self._records.get(key)
        try:
            stored = self._records.examine(key, entry)
        except DecodeError:
            stored = None
        if stored is None or stored.record.retired:
            raise SessionGone("session was ended by another request")
        return stored

    async def create(self, key: str, record: Record) -> Record | None:
        """Add ``record`` under ``key``; return it, or `None` if the key is taken."""
        stamped = record.stamped(new_write_id(), None)
        unknown: StoreUnavailable | None = None
        try:
            if await self._records.add(key, stamped):
                return stamped
        except StoreUnavailable as error:
            if not error.outcome_unknown:
                raise
            unknown = error
        # Not stored: unless this very add was done before, and its answer lost.
        found = await self._look(key, {stamped.writes[0]})
        if found is not None:
            return stamped
        if unknown is not None:
            raise unknown
        return None

    async def replace(self, key: str, start: Stored | None, make: Make) -> Record:
        """Put ``make(stored)`` in the place of the record that is stored.

        ``start`` is what the request loaded, if it has not been replaced since;
        ``make`` is called again for each newer record that is met. Returns what
        was stored. Raises `.SessionGone`, `.SessionConflict`, `.StoreError`, and
        whatever ``make`` raises.
        """
        limit = time.monotonic() + 2 * self._records.timeout
        written: dict[bytes, Record] = {}
        stored = start
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                await self._pause(attempt, limit)
            if stored is None:
                stored = await self.read(key)
                mine = stored.record.written_by(written.keys())
                if mine is not None:
                    return written[mine]
            began = time.monotonic()
            made = make(stored.record)
            record = await made if inspect.isawaitable(made) else made
            limit += time.monotonic() - began  # what ``make`` took is not the store's
            record = record.stamped(new_write_id(), stored.record)
            written[record.writes[0]] = record
            try:
                result = await self._records.cas(key, record, stored.token)
            except StoreUnavailable as error:
                if not error.outcome_unknown or time.monotonic() >= limit:
                    raise
                result = CasResult.CONFLICT  # look whether it was done
            if result is CasResult.STORED:
                return record
            if result is CasResult.MISSING:
                raise SessionGone("session was ended by another request")
            stored = None
        raise SessionConflict(MAX_ATTEMPTS)

    async def _pause(self, attempt: int, limit: float) -> None:
        self._counts["conflicts"] += 1
        if time.monotonic() >= limit:
            raise SessionConflict(attempt)
        await asyncio.sleep(random.uniform(0, min(0.001 * 2**attempt, 0.02)))

    async def try_once(self, key: str, start: Stored, record: Record) -> bool:
        """Replace the record of ``start``, if it is still there, by ``record``."""
        stamped = record.stamped(new_write_id(), start.record)
        result = await self._records.cas(key, stamped, start.token, "renew")
        return result is CasResult.STORED

    async def move(
        self, key: str, start: Stored | None, new_key: str, make: Make
    ) -> Record:
        """Put ``make(stored)`` under ``new_key``, and retire the record at ``key``.

        The new record is there before the old one is closed, and closing it is a
        `replace`: a save that was acknowledged in between is carried over, a
        logout in between wins. Where the old one cannot be closed, the new one
        is removed again. Returns the record at ``new_key``.
        """
        moved: Record | None = None

        async def close(record: Record) -> Record:
            nonlocal moved
            made = make(record)
            successor = await made if inspect.isawaitable(made) else made
            if moved is None:
                moved = await self.create(new_key, successor)
                if moved is None:
                    raise StoreRejected("regenerate", "", "the new id is taken")
            else:
                moved = await self.replace(new_key, None, lambda _: successor)
            return self._retired(record)

        try:
            await self.replace(key, start, close)
        except BaseException:
            if moved is not None:
                await self._remove_quietly(new_key)
            raise
        assert moved is not None
        return moved

    def _retired(self, record: Record) -> Record:
        now = self._config.clock()
        return msgspec.structs.replace(
            record,
            retired=True,
            expires_at=min(now + RETIRED_FOR, _lifetime.ends_at(self._config, record)),
            data=self._codec.serializer.dumps({}),
            flashes=(),
            principal=None,
        )

    async def _look(self, key: str, writes: set[bytes]) -> Record | None:
        try:
            stored = await self.read(key)
        except SessionGone:
            return None
        return stored.record if stored.record.written_by(writes) else None

    async def _remove_quietly(self, key: str) -> None:
        # Nobody was told this id: at worst it stays until its TTL is over.
        try:
            await self._records.delete(key)
        except StoreUnavailable:
            pass
