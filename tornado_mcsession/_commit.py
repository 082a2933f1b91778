"""How a session's record gets into the store, and is replaced there.

Creation is by ``add``, each change by ``cas``: never a plain set, which would
overwrite what another request saved, and bring back what it ended. A record
remembers the ids of its newest writes, so that a write whose answer was lost is
recognised when it is looked for, and neither taken for failed nor made twice.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

from . import _lifetime
from ._foreign import ForeignRecords
from ._record import Record, new_write_id
from ._record_store import RecordStore, Stored
from ._tries import Attempt, Make, Tries
from .codec import Codec
from .config import SessionConfig
from .exceptions import (
    DecodeError,
    SessionConflict,
    SessionGone,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from .stores.base import CasResult

__all__ = ["Committer", "Replaced"]

# The deadline bounds them: with 400 requests at once on one session, tries that
# were fewer or closer to each other ran out while it was far away.
MAX_ATTEMPTS = 1000
MAX_PAUSE = 0.1


class Replaced(SessionGone):
    """The id was replaced; ``record`` is the retired one that stayed behind."""

    def __init__(self, record: Record) -> None:
        super().__init__("session was given a new id by another request")
        self.record = record


class Committer:
    """Creates, replaces and moves records; knows no handler and no request."""

    def __init__(
        self,
        records: RecordStore,
        codec: Codec,
        config: SessionConfig,
        foreign: ForeignRecords,
        counts: Counter[str],
    ) -> None:
        self._records = records
        self._codec = codec
        self._config = config
        self._foreign = foreign
        self._counts = counts

    async def read(self, key: str) -> Stored:
        """Return the living record under ``key``.

        Raises `.SessionGone` where there is none: no entry, or one that has
        ended, was replaced, or cannot be read.
        """
        return self._living(await self._find(key))

    def _living(self, stored: Stored | None) -> Stored:
        if stored is not None and stored.record.retired:
            raise Replaced(stored.record)
        if stored is None or self._is_over(stored.record):
            raise SessionGone("session was ended by another request")
        return stored

    def _is_over(self, record: Record) -> bool:
        return _lifetime.is_over(self._config, record, self._config.clock())

    async def _find(
        self, key: str, lost: StoreUnavailable | None = None
    ) -> Stored | None:
        """Return the record under ``key``, living or retired.

        ``lost`` is the write that is looked for; it is raised where the store
        cannot tell.
        """
        try:
            entry = await self._records.get(key)
        except StoreUnavailable:
            if lost is None:
                raise
            raise lost from None
        try:
            stored = self._records.examine(key, entry)
            if stored is not None and not stored.record.retired:
                self._codec.values(stored.record)
        except DecodeError as error:
            self._foreign.note(error)
            return None
        return stored

    async def create(self, key: str, record: Record) -> Record | None:
        """Add ``record`` under ``key``; return it, or `None` if the key is taken."""
        try:
            async with asyncio.timeout(self._records.limit):
                return await self._create(key, record)
        except TimeoutError as error:
            raise self._records.too_late("save") from error

    async def _create(self, key: str, record: Record) -> Record | None:
        stamped = record.stamped(new_write_id(), None)
        unknown: StoreUnavailable | None = None
        # Once more where it is not known to be done, which harms nothing: it is
        # the same, should the first come late.
        for _ in range(2):
            try:
                if await self._records.add(key, stamped):
                    return stamped
                is_taken = True
            except StoreUnavailable as error:
                if not error.outcome_unknown:
                    raise unknown or error from error.__cause__
                unknown, is_taken = error, False
            # Not stored: unless this very add was done, and its answer lost.
            found = await self._find(key, unknown)
            if found is not None and found.record.written_by(stamped.writes):
                return stamped
            if is_taken or found is not None:
                return None
        assert unknown is not None
        raise unknown

    async def supersede(self, key: str, record: Record) -> bool:
        """Put ``record`` over one that has ended or cannot be read.

        Returns whether that was done. Raises `.SessionGone` for a retired one:
        its id stays dead.
        """
        entry = await self._records.get(key)
        if entry is None:
            return False
        try:
            stored = self._records.examine(key, entry)
            if stored is not None and stored.record.retired:
                raise SessionGone("session was ended by another request")
            if stored is not None:
                self._codec.values(stored.record)
                return False
        except DecodeError:
            pass
        stamped = record.stamped(new_write_id(), None)
        return await self._records.cas(key, stamped, entry.token) is CasResult.STORED

    def attempt(self, key: str, stored: Stored, record: Record) -> Attempt:
        """Begin to put ``record`` in the place of the ``stored`` one."""
        return self._begin(key, self._living(stored), record, time.monotonic())

    def _begin(self, key: str, stored: Stored, record: Record, began: float) -> Attempt:
        stamped = record.stamped(new_write_id(), stored.record)
        answer = self._records.begin_cas(key, stamped, stored.token)
        return Attempt(stamped, answer, began)

    async def replace(
        self,
        key: str,
        start: Stored | None,
        make: Make,
        *,
        counted: bool = False,
        attempt: Attempt | None = None,
    ) -> Record:
        """Put ``make(stored)`` in the place of the record that is stored.

        ``start`` is what the request loaded, if it has not been replaced since;
        ``attempt`` is under way for it. ``make`` is called again for each newer
        record that is met, and the time it takes is not the store's, unless it
        is ``counted``. Returns what was stored. Raises `.SessionGone`,
        `.SessionConflict`, `.StoreError`, and whatever ``make`` raises.
        """
        tries = Tries(make, counted)
        if start is not None:
            # Mostly one operation does it, which has a deadline of its own.
            record = await self._try(key, start, tries, attempt=attempt)
            if record is not None:
                return record
        scope = asyncio.timeout(self._records.limit - tries.seconds)
        try:
            async with scope:
                return await self._try_again(key, tries, scope)
        except StoreError as error:
            raise tries.outcome(error) from error.__cause__
        except TimeoutError as error:
            if not scope.expired():
                raise  # an own one of ``make``
            if tries.unknown is not None:
                raise tries.unknown from None
            if tries.count and not tries.is_writing:
                raise SessionConflict(tries.count) from None
            raise self._records.too_late("save") from error

    async def _try_again(
        self, key: str, tries: Tries, scope: asyncio.Timeout
    ) -> Record:
        while tries.count < MAX_ATTEMPTS:
            if tries.count:
                await self._pause(tries.count)
            stored = await self._find(key, tries.unknown)
            mine = stored and stored.record.written_by(tries.written.keys())
            if mine:
                return tries.written[mine]
            record = await self._try(key, stored, tries, scope)
            if record is not None:
                return record
        raise tries.unknown or SessionConflict(tries.count)

    async def _try(
        self,
        key: str,
        stored: Stored | None,
        tries: Tries,
        scope: asyncio.Timeout | None = None,
        attempt: Attempt | None = None,
    ) -> Record | None:
        """Replace ``stored``; return what by, or `None` if to look again."""
        if attempt is None:
            stored = self._living(stored)
            began = time.monotonic()
            made = await tries.made(stored.record, scope)
            if not tries.counted:
                began = time.monotonic()
            attempt = self._begin(key, stored, made, began)
        record = attempt.record
        tries.begin(record)
        try:
            result = await attempt.answer
        except StoreRejected as error:
            self._records.refuse_size(error, key, record)
            raise
        except StoreUnavailable as error:
            if not error.outcome_unknown:
                raise
            tries.unknown = error
            result = CasResult.CONFLICT  # look whether it was done
        finally:
            tries.seconds += time.monotonic() - attempt.began
        tries.is_writing = False
        if result is CasResult.MISSING:
            raise SessionGone("session was ended by another request")
        return record if result is CasResult.STORED else None

    async def _pause(self, attempt: int) -> None:
        self._counts["conflicts"] += 1
        longest = min(0.001 * 2 ** min(attempt, 7), MAX_PAUSE)
        await asyncio.sleep(
            random.uniform(0, longest)  # nosec B311 # spreads retries, guards nothing
        )

    async def try_once(self, key: str, start: Stored, record: Record) -> bool:
        """Replace the record of ``start``, if it is still there, by ``record``."""
        if self._is_over(start.record):
            return False
        stamped = record.stamped(new_write_id(), start.record)
        result = await self._records.cas(key, stamped, start.token, "renew")
        return result is CasResult.STORED
