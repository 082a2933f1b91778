"""What is stored of the id that a request presents."""

from __future__ import annotations

from . import _ids
from ._foreign import ForeignRecords
from ._legacy import Legacy
from ._markers import Markers, Standing
from ._record import Record
from ._record_store import RecordStore
from ._rotation import MAX_STEPS, successor_of
from ._state import SessionState
from ._tasks import Tasks
from .codec import Codec
from .config import SessionConfig
from .exceptions import DecodeError
from .stores.base import Entry

__all__ = ["Finding"]


class Finding:
    """Finds sessions: by their id, behind a replaced one, under an older key."""

    def __init__(
        self,
        records: RecordStore,
        markers: Markers,
        legacy: Legacy,
        foreign: ForeignRecords,
        codec: Codec,
        config: SessionConfig,
        tasks: Tasks,
    ) -> None:
        self._records = records
        self._markers = markers
        self._legacy = legacy
        self._foreign = foreign
        self._codec = codec
        self._config = config
        self._tasks = tasks

    async def find(self, state: SessionState, session_id: str) -> None:
        """Take in what is stored of ``session_id``. Raises `.StoreError`."""
        newer: str | None = session_id
        for _ in range(MAX_STEPS):
            assert newer is not None
            key, beside, digest = _ids.keys_of(self._config.key_prefix, newer)
            if self._tasks.has(key):
                await self._tasks.wait_for(key)  # read what this process still writes
            entry, marker = await self._read(key, beside)
            if entry is None and await self._is_moved(newer, key):
                entry, marker = await self._read(key, beside)
            retired = self._admit(state, newer, key, entry, digest, marker)
            if retired is None:
                state.retired = newer != session_id and state.record is None
                return
            newer = successor_of(newer, retired, self._config.clock())
            if newer is None:
                break
        state.retired = True

    async def _read(self, key: str, beside: str) -> tuple[Entry | None, Entry | None]:
        """Return what is stored at ``key``, and the marker ``beside`` it."""
        if not beside:
            return await self._records.get(key), None
        found = await self._records.get_many((key, beside))
        return found.get(key), found.get(beside)

    async def _is_moved(self, session_id: str, key: str) -> bool:
        """Return whether a session that was kept under an older key is here now."""
        if self._config.legacy_key is None:
            return False
        return await self._legacy.move(session_id, key)

    def _admit(
        self,
        state: SessionState,
        session_id: str,
        key: str,
        entry: Entry | None,
        digest: str,
        marker: Entry | None,
    ) -> Record | None:
        """Take in what was read of ``session_id``; return it if it is retired.

        So it is where the marker that it repeats has just been replaced.
        """
        try:
            stored = self._records.examine(key, entry)
            if stored is None:
                return None
            record, token = stored
            if record.retired:
                return record
            data = self._codec.values(record)
        except DecodeError as error:
            self._foreign.note(error)
            return None
        if record.principal is not None:
            standing = self._markers.standing(digest, record, marker)
            if standing is not Standing.ALIVE:
                return record if standing is Standing.OVERTAKEN else None
        state.adopt(session_id, record, token, data)
        state.key = (session_id, key)
        state.is_new = False
        return None
