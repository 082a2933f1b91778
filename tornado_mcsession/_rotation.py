"""A session under a new id, while the old one is closed behind it."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import secrets
from collections.abc import Callable

import msgspec

from ._commit import Committer
from ._ids import is_valid, record_key
from ._record import Record, new_write_id
from ._record_store import RecordStore, Stored
from ._tries import Make
from .codec import Codec
from .config import SessionConfig
from .exceptions import DecodeError, StoreError, StoreRejected, StoreUnavailable
from .stores.base import CasResult

__all__ = [
    "MAX_STEPS",
    "RETIRED_FOR",
    "Rotation",
    "Unclosed",
    "seal_successor",
    "successor_of",
]

# How long a replaced id is remembered, for the requests under way with it.
RETIRED_FOR = 60.0
# How often a session may be rotated while one request is under way.
MAX_STEPS = 8
_NONCE = 16


class Unclosed(Exception):
    """Nobody can tell whether the old record was closed; ``record`` is the new."""

    def __init__(self, failure: StoreUnavailable, record: Record) -> None:
        super().__init__()
        self.failure = failure
        self.record = record


class Rotation:
    """Moves records to new keys, and ends them. ``unclosed`` gets the key of one
    that is to be ended later.

    The record that stays behind is *retired*: it reads as an empty session, and
    what a request with the old id writes is dropped, so that it cannot begin a
    second session beside the new one.
    """

    def __init__(
        self,
        committer: Committer,
        records: RecordStore,
        codec: Codec,
        config: SessionConfig,
        unclosed: Callable[[str], None],
    ) -> None:
        self._unclosed = unclosed
        self._committer = committer
        self._records = records
        self._codec = codec
        self._config = config

    async def move(
        self,
        key: str,
        start: Stored | None,
        new_key: str,
        make: Make,
        successor: bytes | None = None,
        grace: float = 0.0,
    ) -> Record:
        """Put ``make(stored)`` under ``new_key``, and retire the record at ``key``.

        The new record is there before the old one is closed, and closing it is a
        `.Committer.replace`: a save that was acknowledged in between is carried
        over, a logout in between wins. Where that fails, the new one is removed
        again; where nobody can tell, it stays (`Unclosed`), and the old one is
        closed later. For ``grace`` seconds ``successor`` leads to it. Returns it.
        """
        moved: Record | None = None

        async def close(record: Record) -> Record:
            nonlocal moved
            made = make(record)
            newer = await made if inspect.isawaitable(made) else made
            if moved is None:
                moved = await self._committer.create(new_key, newer)
                if moved is None:
                    raise StoreRejected("regenerate", "", "the new id is taken")
            else:
                moved = await self._committer.replace(new_key, None, lambda _: newer)
            return self._retired(record, successor, grace)

        try:
            await self._committer.replace(key, start, close, counted=True)
        except Exception as error:
            if moved is None:
                raise
            if isinstance(error, StoreUnavailable) and error.outcome_unknown:
                # The old record may be closed by now, or a moment later: then
                # the new one is all that is left of the session.
                self._unclosed(key)
                raise Unclosed(error, moved) from error
            await self._remove_quietly(new_key)
            raise
        assert moved is not None
        return moved

    async def end(self, key: str, session_id: str | None = None) -> bool | None:
        """Remove the record under ``key``; return whether it was there.

        A retired one stays: it holds its place. With ``session_id`` the session
        is ended where that id leads to; `None` where it leads nowhere, since
        the session that replaced it is another's to end. Raises
        `.StoreUnavailable` where that cannot be done in time.
        """
        try:
            async with asyncio.timeout(self._records.limit):
                return await self._end(key, session_id)
        except TimeoutError as error:
            raise self._records.too_late("destroy") from error

    async def _end(self, key: str, session_id: str | None) -> bool | None:
        mine: set[bytes] = set()
        while True:
            entry = await self._records.get(key)
            try:
                stored = self._records.examine(key, entry)
            except DecodeError:
                stored = None  # unreadable here, but perhaps not everywhere
            if stored is None:
                return await self._delete(key) if entry else bool(mine)
            if stored.record.written_by(mine):
                # A store may do a thing twice, where an answer got lost: then
                # this one's own cas is what the second one met.
                return await self._delete(key)
            if stored.record.retired:
                newer = session_id and successor_of(
                    session_id, stored.record, self._config.clock()
                )
                if not newer:
                    return None
                session_id, key = newer, record_key(self._config.key_prefix, newer)
                continue
            # Closed first, so that a rotation that comes in between finds it so.
            mine.add(write := new_write_id())
            closed = self._retired(stored.record, None, 0).stamped(write, stored.record)
            try:
                result = await self._records.cas(key, closed, stored.token, "destroy")
            except StoreUnavailable as error:
                if not error.outcome_unknown:
                    raise
                result = CasResult.CONFLICT  # look whether it was done
            if result is CasResult.STORED:
                return await self._delete(key)
            await asyncio.sleep(0)  # a store that never waits must not keep the loop

    async def _delete(self, key: str) -> bool:
        """Remove a record that is closed, or of no use; it was there."""
        try:
            await self._records.delete(key)
        except StoreUnavailable as error:
            if not error.outcome_unknown:
                raise
            await self._records.delete(key)
        return True

    def _retired(self, record: Record, successor: bytes | None, grace: float) -> Record:
        now = self._config.clock()
        return msgspec.structs.replace(
            record,
            retired=True,
            expires_at=now + RETIRED_FOR,
            data=self._codec.serializer.dumps({}),
            flashes=(),
            principal=None,
            successor=successor,
            successor_until=now + grace if successor else None,
        )

    async def _remove_quietly(self, key: str) -> None:
        # Nobody was told this id: at worst it stays until its TTL is over.
        try:
            await self._records.delete(key)
        except StoreError:
            pass


def seal_successor(old_id: str, new_id: str) -> bytes:
    """Return ``new_id`` so that only who has ``old_id`` can read it.

    The record that holds it lies open to whoever can read the store, who knows
    the digest of the old id at most.
    """
    nonce = secrets.token_bytes(_NONCE)
    return nonce + _masked(old_id, nonce, new_id.encode("ascii"))


def successor_of(old_id: str, record: Record, now: float) -> str | None:
    """Return the id that a retired record leads to now, if it does."""
    sealed, until = record.successor, record.successor_until
    if sealed is None or until is None or now >= until:
        return None
    opened = _masked(old_id, sealed[:_NONCE], sealed[_NONCE:])
    new_id = opened.decode("latin-1")
    return new_id if is_valid(new_id) else None


def _masked(old_id: str, nonce: bytes, text: bytes) -> bytes:
    # A key stream that is used once: the nonce is new for each old id.
    stream = hashlib.shake_256(nonce + old_id.encode("ascii")).digest(len(text))
    return bytes(a ^ b for a, b in zip(text, stream, strict=True))
