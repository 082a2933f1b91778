"""Sessions under keys of an older format, and their way to those of today.

For a changed ``key_prefix``, or another digest of the id. A session keeps its
id; what is stored of it is moved when a request presents it.
"""

from __future__ import annotations

from . import _ids
from .checks import type_error
from ._foreign import ForeignRecords
from ._markers import Markers
from ._record_store import RecordStore, Stored
from ._rotation import Rotation, Unclosed
from .config import SessionConfig
from .exceptions import DecodeError, SessionGone, StoreRejected
from .stores.base import check_key

__all__ = ["Legacy", "legacy_key", "legacy_marker_key"]


def legacy_key(config: SessionConfig, session_id: str) -> str | None:
    """Return the key that an id had before; `None` where it had no other."""
    hook = config.legacy_key
    key = None if hook is None else hook(session_id)
    if key is None:
        return None
    if not isinstance(key, str):
        raise type_error("what legacy_key returns", key, "text or None")
    today = _ids.record_key(config.key_prefix, session_id)
    return None if key == today else check_key(key)


def legacy_marker_key(config: SessionConfig, digest: str) -> str | None:
    """Return the key that the marker of a digest had before, if there was one.

    As today, it is what its records' keys begin with, the digest in braces.
    """
    if config.legacy_key is None:
        return None
    key = legacy_key(config, _ids.new_id(digest)) or ""
    before, braces, _ = key.partition(f"{{{digest}}}")
    return before + braces if braces else None


class Legacy:
    """Moves records from their older keys, where the settings name any."""

    def __init__(
        self,
        config: SessionConfig,
        records: RecordStore,
        rotation: Rotation,
        markers: Markers,
        foreign: ForeignRecords,
    ) -> None:
        self._config = config
        self._records = records
        self._rotation = rotation
        self._markers = markers
        self._foreign = foreign

    async def move(self, session_id: str, key: str) -> bool:
        """Move what is stored of an id to ``key``; return whether to look there.

        As with any new key, the record is there before the old one is closed,
        and a logout in between wins. Raises `.StoreError`.
        """
        old_key = legacy_key(self._config, session_id)
        if old_key is None:
            return False
        try:
            stored = self._records.examine(old_key, await self._records.get(old_key))
        except DecodeError as error:
            self._foreign.note(error)
            return False
        if stored is None:
            return False
        if not stored.record.retired:
            if digest := _ids.digest_of(session_id):
                await self._markers.inherit(digest)
            await self._move(old_key, stored, key)
        return True

    async def _move(self, old_key: str, stored: Stored, key: str) -> None:
        try:
            await self._rotation.move(old_key, stored, key, lambda record: record)
        except (SessionGone, Unclosed):
            pass  # ended meanwhile; or moved, and closed later
        except StoreRejected:
            # Another request has moved it, or else there is no room for it.
            if await self._records.get(key) is None:
                raise
