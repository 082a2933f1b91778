"""Records in a store: encoded, of allowed size, and within the deadline."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple

from . import _lifetime
from ._bounded_store import BoundedStore
from ._record import Record
from .codec import Codec
from .config import SessionConfig
from .exceptions import SessionTooLarge, StoreRejected
from .stores.base import CasResult, Entry

__all__ = ["RecordStore", "Stored"]

logger = logging.getLogger("tornado_mcsession")

# The store keeps entries whole seconds longer by itself; the record's own
# deadline decides, and must not find its record gone a moment before.
TTL_MARGIN = 1.0
LARGE = 64 * 1024


class Stored(NamedTuple):
    """A record as it was found, with the token to replace it."""

    record: Record
    token: Any


class RecordStore:
    """A `.BoundedStore` of records instead of bytes."""

    def __init__(
        self, store: BoundedStore, codec: Codec, config: SessionConfig
    ) -> None:
        self._store = store
        self._codec = codec
        self._config = config
        self._warned = False
        self.limit = store.limit
        self.too_late = store.too_late
        self.delete = store.delete

    def get(self, key: str) -> Awaitable[Entry | None]:
        """Return what is stored under ``key``, for `examine`."""
        return self._store.get(key)

    def get_many(self, keys: Sequence[str]) -> Awaitable[dict[str, Entry]]:
        """Return what is stored under ``keys``, asked for together."""
        return self._store.get_many(keys)

    def examine(self, key: str, entry: Entry | None) -> Stored | None:
        """Return the record in ``entry``, retired or not; `None` if it is over.

        Raises `.DecodeError`.
        """
        if entry is None:
            return None
        record = self._codec.decode(entry.data, key)
        if _lifetime.is_over(self._config, record, self._config.clock()):
            return None
        return Stored(record, entry.token)

    async def add(self, key: str, record: Record) -> bool:
        """Store ``record`` if nothing is under ``key``; return whether it was."""
        data = self._encode(record, key)
        try:
            return await self._store.add(key, data, self._ttl(record))
        except StoreRejected as error:
            self.refuse_size(error, key, record)
            raise

    async def cas(
        self, key: str, record: Record, token: Any, operation: str = "save"
    ) -> CasResult:
        """Replace the version that ``token`` came with by ``record``."""
        try:
            return await self.begin_cas(key, record, token, operation)
        except StoreRejected as error:
            self.refuse_size(error, key, record)
            raise

    def begin_cas(
        self, key: str, record: Record, token: Any, operation: str = "save"
    ) -> Awaitable[CasResult]:
        """Begin what `cas` does; who waits calls `refuse_size` where that is due."""
        data = self._encode(record, key)
        return self._store.cas(key, data, self._ttl(record), token, operation)

    def refuse_size(self, error: StoreRejected, key: str, record: Record) -> None:
        """Raise `.SessionTooLarge` where that is what ``error`` says of ``record``."""
        # The node's item size may be set below ``max_size``.
        if error.too_large:
            raise SessionTooLarge(len(self._encode(record, key)), None) from error

    def _ttl(self, record: Record) -> float:
        left = record.expires_at - self._config.clock()
        return max(left, 0.0) + TTL_MARGIN

    def _encode(self, record: Record, key: str) -> bytes:
        data = self._codec.encode(record, key)
        size = len(data)
        if size > self._config.max_size:
            raise SessionTooLarge(size, self._config.max_size, self._largest(record))
        if size > LARGE:
            self._warn_of_size()
        return data

    def _warn_of_size(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "a session is larger than %d bytes, all of which each request loads; "
                "keep large data elsewhere",
                LARGE,
            )

    def _largest(self, record: Record) -> list[tuple[str, int]]:
        dumps = self._codec.serializer.dumps
        sizes = [
            (key, len(dumps(value)))
            for key, value in self._codec.values(record).items()
        ]
        return sorted(sizes, key=lambda pair: -pair[1])[:3]
