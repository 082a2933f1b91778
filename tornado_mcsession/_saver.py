"""A session's way into the store: created, updated, renewed, or moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from . import _drafts, _ids, _lifetime
from ._commit import Committer, Replaced
from ._hooks import Hooks
from ._markers import Identity, Markers
from ._record import Changes, Record
from ._record_store import Stored
from ._rotation import MAX_STEPS, Rotation, Unclosed, seal_successor, successor_of
from ._state import Delivery, SessionState
from ._tries import Attempt, Make
from .codec import Codec
from .config import SessionConfig
from .exceptions import SessionError, SessionGone, StoreRejected

__all__ = ["Saver"]

_T = TypeVar("_T")

ID_ATTEMPTS = 3


class Saver:
    """Puts what a request did to its session into the store, and notes it there."""

    def __init__(
        self,
        committer: Committer,
        rotation: Rotation,
        codec: Codec,
        config: SessionConfig,
        hooks: Hooks,
        counts: Counter[str],
        markers: Markers,
    ) -> None:
        self._committer = committer
        self._rotation = rotation
        self._codec = codec
        self._config = config
        self._hooks = hooks
        self._counts = counts
        self._markers = markers

    def key_of(self, session_id: str) -> str:
        """Return the store key of a session id."""
        return _ids.record_key(self._config.key_prefix, session_id)

    def _key(self, state: SessionState) -> str:
        """Return the key of the session's id, which was mostly made before."""
        assert state.id is not None
        known, key = state.key
        return key if known == state.id else self.key_of(state.id)

    async def store(
        self,
        state: SessionState,
        changes: Changes | None = None,
        *,
        always: bool = False,
        renew: bool = True,
        attempt: Attempt | None = None,
    ) -> None:
        """Create or update the session; nothing where nothing was changed.

        With ``always`` an existing one is written all the same. A renewal that
        is due goes along. ``attempt`` is the first try, where it is under way.
        """
        if state.record is None:
            if state.has_data():
                state.refuse_sealed("begin a session")
                await self.create(state, state.changes())
            return
        if changes is None:
            changes = state.changes()
        if changes or always:
            known = changes
            await self.update(
                state,
                known,
                lambda record: self.draft(record, known, state, True),
                renew=renew,
                attempt=attempt,
            )

    def attempt(
        self, state: SessionState, changes: Changes, *, renew: bool
    ) -> Attempt | None:
        """Begin the one operation that an update mostly is.

        When it is `CasResult.STORED`, that is `stored`; else `store` goes on from
        it. `None` where there is more to do, or nothing can be begun.
        """
        start = _start(state)
        if start is None or self._renews(start.record, changes, renew):
            return None
        try:
            record = self.draft(start.record, changes, state, True)
            return self._committer.attempt(self._key(state), start, record)
        except SessionError:
            return None  # `store` meets it too, and raises it

    def stored(self, state: SessionState, changes: Changes, record: Record) -> None:
        """Note that ``record`` is stored, with ``changes`` in it."""
        assert state.id is not None
        state.saved(state.id, record, changes, self._codec.values)
        self._counts["saves"] += 1

    def _renews(self, record: Record, changes: Changes, renew: bool) -> bool:
        if changes.options:
            return True
        now = self._config.clock()
        return renew and _lifetime.renewal_due(self._config, record, now)

    async def renew(self, state: SessionState) -> bool:
        """Put off the session's end; return whether nobody came in between."""
        record, session_id = state.record, state.id
        if record is None or session_id is None or state.token is None:
            return False
        newer = _lifetime.renewed(self._config, record, self._config.clock())
        if not await self._committer.try_once(
            self._key(state), Stored(record, state.token), newer
        ):
            return False
        state.record, state.token = newer, None
        state.delivery = Delivery.SEND
        await self._markers.keep(session_id, newer)
        return True

    def draft(
        self, record: Record, changes: Changes, state: SessionState, keep: bool
    ) -> Record:
        """Return the stored ``record`` as this request leaves it, or emptied."""
        if keep:
            return _drafts.applied(self._codec, changes, record, state.record)
        return _drafts.emptied(self._codec, record, changes.options)

    async def create(
        self,
        state: SessionState,
        changes: Changes,
        identity: Identity | None = None,
        data: bytes | None = None,
    ) -> None:
        """Store a session for the first time, under a new id.

        With ``data`` instead of what the request has.
        """
        await self._hooks.admit_new(state)
        now = self._config.clock()
        first = changes if data is None else changes._replace(encoded=data)
        record = _drafts.fresh(self._config, first, now, identity)
        digest = identity.digest if identity else ""
        for _ in range(ID_ATTEMPTS):
            session_id = await self._hooks.mint(state, digest)
            stored = await self._committer.create(self.key_of(session_id), record)
            if stored is not None:
                state.saved(session_id, stored, changes, self._codec.values)
                state.delivery = Delivery.SEND
                self._counts["saves"] += 1
                return
        raise StoreRejected("save", "", f"{ID_ATTEMPTS} new ids in a row were taken")

    async def update(
        self,
        state: SessionState,
        changes: Changes,
        make: Make,
        *,
        renew: bool,
        attempt: Attempt | None = None,
    ) -> None:
        """Put ``make(stored)``, with ``changes`` in it, in the place of the stored.

        Its end is put off where that is due and ``renew``, and where the request
        set an option that bears on it.
        """
        assert state.record is not None
        now = self._config.clock()
        renewing = self._renews(state.record, changes, renew)

        async def renewed(record: Record) -> Record:
            newer = make(record)
            if not isinstance(newer, Record):
                newer = await newer
            return _lifetime.renewed(self._config, newer, now)

        act = renewed if renewing else make
        record = await self._where_it_is(
            state,
            # Behind a replaced id there is nothing to start from.
            lambda key: self._committer.replace(
                key, _start(state), act, attempt=attempt
            ),
        )
        self.stored(state, changes, record)
        if renewing:
            assert state.id is not None
            state.delivery = Delivery.SEND
            await self._markers.keep(state.id, record)

    async def move(
        self,
        state: SessionState,
        changes: Changes,
        digest: str,
        make: Make,
        keep: Callable[[], bool],
        grace: float = 0.0,
    ) -> None:
        """Put ``make(stored)`` under a new id with this ``digest``, if any.

        ``keep``: did the data go along? For ``grace`` seconds the old id leads
        to the new one.
        """
        assert state.id is not None
        session_id = await self._hooks.mint(state, digest)
        try:
            record = await self._rotation.move(
                self._key(state),
                _start(state),
                self.key_of(session_id),
                make,
                seal_successor(state.id, session_id) if grace else None,
                grace,
            )
        except SessionGone as error:
            if not self._follows(state, error):
                raise _gone(state) from None
            if grace:  # another request has just rotated it
                await self.store(state)
            else:
                await self.move(state, changes, digest, make, keep)
            return
        except Unclosed as error:
            self._moved(state, session_id, error.record, changes, keep())
            raise error.failure from error.__cause__
        self._moved(state, session_id, record, changes, keep())

    def _moved(
        self,
        state: SessionState,
        session_id: str,
        record: Record,
        changes: Changes,
        keep: bool,
    ) -> None:
        if keep:
            state.saved(session_id, record, changes, self._codec.values)
        else:
            state.adopt(session_id, record, None, {})
        state.delivery = Delivery.SEND
        self._counts["saves"] += 1

    async def read(self, state: SessionState) -> Stored:
        """Return what is stored of the session; raise `.SessionGone` if nothing is."""
        stored = await self._where_it_is(state, self._committer.read)
        assert state.id is not None
        if not await self._markers.is_alive(state.id, stored.record):
            raise _gone(state)
        return stored

    async def _where_it_is(
        self, state: SessionState, act: Callable[[str], Awaitable[_T]]
    ) -> _T:
        """Return what ``act`` does at the session's key, or at its successor's."""
        for _ in range(MAX_STEPS):
            try:
                return await act(self._key(state))
            except SessionGone as error:
                if not self._follows(state, error):
                    break
        raise _gone(state)

    def _follows(self, state: SessionState, error: SessionGone) -> bool:
        assert state.id is not None
        if not isinstance(error, Replaced):
            return False
        newer = successor_of(state.id, error.record, self._config.clock())
        if newer is None:
            return False
        state.id, state.token = newer, None
        return True


def _start(state: SessionState) -> Stored | None:
    if state.record is None or state.token is None:
        return None
    return Stored(state.record, state.token)


def _gone(state: SessionState) -> SessionGone:
    state.gone = True
    return SessionGone("session was ended by another request")
