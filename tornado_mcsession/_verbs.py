"""What a session's verbs do: save, reload, regenerate, login, transact, destroy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from . import _drafts, _ids, _lifetime
from ._endings import Endings
from ._hooks import Hooks
from ._markers import Identity, Markers
from ._record import NO_CHANGES, Changes, Record
from ._saver import Saver
from ._state import SessionState
from ._tasks import Tasks
from ._transaction import Transaction
from ._tries import Attempt
from .codec import Codec
from .config import SessionConfig
from .exceptions import SessionGone, StoreUnavailable
from .session import Session

__all__ = ["Verbs"]


class Verbs:
    """Carries out what sessions ask for; the `._keeper.SessionKeeper` of them all."""

    def __init__(
        self,
        saver: Saver,
        markers: Markers,
        endings: Endings,
        codec: Codec,
        config: SessionConfig,
        hooks: Hooks,
        tasks: Tasks,
    ) -> None:
        self._saver = saver
        self._markers = markers
        self._endings = endings
        self._config = config
        self._hooks = hooks
        self._tasks = tasks
        self._loads = codec.values

    # What a session shows of itself.

    def is_modified(self, state: SessionState) -> bool:
        """Return whether a save would have something to save."""
        return state.unloaded is None and state.is_modified()

    def expires_at(self, state: SessionState) -> float:
        """Return when the session ends, as it is or as it would be saved."""
        record = self._as_it_would_be(state)
        if record is state.record:
            return record.expires_at
        return _lifetime.renewed(self._config, record, self._config.clock()).expires_at

    def idle_timeout(self, state: SessionState) -> float | None:
        """Return the session's idle timeout in seconds."""
        return _lifetime.idle_timeout(self._config, self._as_it_would_be(state))

    def _as_it_would_be(self, state: SessionState) -> Record:
        record = state.record or _drafts.fresh(self._config, NO_CHANGES, state.started)
        if not state.options:
            return record
        return msgspec.structs.replace(record, **state.options.as_fields())

    def refuse_unavailable(self, state: SessionState, verb: str) -> None:
        """Raise where the store could not tell what the session is."""
        if not state.available:
            raise StoreUnavailable(verb, "", "the session could not be loaded")

    async def whole(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` to its end, also where who waits for it is cancelled.

        Half of a login would leave the old id dead, and the new one untold.
        """
        task = self._tasks.start(work)
        # Where nobody waits any more, nobody asks what it raised.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)

    # The verbs.

    async def save(self, state: SessionState) -> None:
        """Store what was changed."""
        refuse_ended(state)
        await self.store(state, renew=self._may_renew(state))

    def store(
        self,
        state: SessionState,
        changes: Changes | None = None,
        *,
        always: bool = False,
        renew: bool = True,
        attempt: Attempt | None = None,
    ) -> Coroutine[Any, Any, None]:
        """Let the hook look at the session, and save it if there is anything to.

        ``changes`` are those of the state as it is, where they are known, and
        ``attempt`` is the first try to store them, where it is under way.
        """
        if self._hooks.looks_at_saves:
            return self._store_as_the_hook_likes(state, always, renew)
        return self._saver.store(
            state, changes, always=always, renew=renew, attempt=attempt
        )

    async def _store_as_the_hook_likes(
        self, state: SessionState, always: bool, renew: bool
    ) -> None:
        if always or state.is_modified():
            await self._before_save(state)
        await self._saver.store(state, always=always, renew=renew)

    def _may_renew(self, state: SessionState) -> bool:
        # Record and cookie expire together: not where no cookie can be sent.
        handler = None if state.handler is None else state.handler()
        renews = handler is not None and getattr(handler, "session_renew", True)
        return bool(renews) and not state.sealed

    async def _before_save(self, state: SessionState) -> None:
        # The handler may not change it any more at the end of a request; the
        # hook may.
        closed, state.closed = state.closed, False
        try:
            await self._hooks.before_save(Session(self, state), state)
        finally:
            state.closed = closed

    async def reload(self, state: SessionState) -> None:
        """Take what is stored, and drop the own changes."""
        refuse_ended(state)
        if state.id is None:
            state.forget()
            return
        stored = await self._saver.read(state)
        state.adopt(state.id, *stored, self._loads(stored.record))

    async def regenerate(self, state: SessionState, keep: bool, grace: float) -> None:
        """Give the session a new id, and retire the old one."""
        state.refuse_sealed("give the session a new id")
        refuse_ended(state)
        if state.record is None:
            if not keep:
                state.forget()
            await self.store(state)
            return
        await self._before_save(state)
        await self._move(state, keep=keep, grace=grace)

    async def _move(
        self,
        state: SessionState,
        *,
        keep: bool = True,
        grace: float = 0.0,
        **fields: object,
    ) -> None:
        """Give the session a new id, and its record these ``fields``."""
        assert state.id is not None
        changes = state.changes()
        now = self._config.clock()

        def make(record: Record) -> Record:
            newer = self._saver.draft(record, changes, state, keep)
            newer = msgspec.structs.replace(newer, **fields)
            return _lifetime.renewed(self._config, newer, now)

        digest = _ids.digest_of(state.id)
        await self._saver.move(state, changes, digest, make, lambda: keep, grace)

    async def revoke_others(self, state: SessionState) -> None:
        """End all other sessions of who is logged in, and give this a new id."""
        state.refuse_sealed("give the session a new id")
        refuse_ended(state)
        record, session_id = state.record, state.id
        if record is None or session_id is None or record.principal is None:
            raise RuntimeError("nobody is logged in, whose sessions could be ended")
        await self._before_save(state)
        try:
            marker = await self._markers.replace(session_id, record)
        except SessionGone:
            state.gone = True
            raise
        await self._move(state, marker=marker)

    async def login(self, state: SessionState, principal: str) -> None:
        """Remember who is logged in, under a new id."""
        state.refuse_sealed("log in")
        await self._before_save(state)
        changes = state.changes()
        identity = await self._markers.identify(principal)
        if state.record is not None and not state.gone:
            try:
                await self._login_existing(state, changes, identity)
                return
            except SessionGone:
                pass  # a logout came first: this login stands for itself
        if state.record is not None:
            state.forget()
            state.data.update(changes.delta.changed)
            state.flashed += changes.flashed
            for name, value in changes.options.as_fields().items():
                setattr(state, name, value)
            changes = state.changes()
        state.retired = False
        await self._saver.create(state, changes, identity)

    async def _login_existing(
        self, state: SessionState, changes: Changes, identity: Identity
    ) -> None:
        now = self._config.clock()
        kept = True

        def make(record: Record) -> Record:
            nonlocal kept
            kept = record.principal in (None, identity.principal)
            newer = self._saver.draft(record, changes, state, kept)
            newer = msgspec.structs.replace(
                newer,
                created=now,
                end=changes.options.as_fields().get("end"),
                principal=identity.principal,
                authenticated_at=now,
                marker=identity.marker,
            )
            return _lifetime.renewed(self._config, newer, now)

        await self._saver.move(state, changes, identity.digest, make, lambda: kept)

    async def transact(
        self, state: SessionState, fn: Callable[[dict[str, Any]], Any]
    ) -> Any:
        """Change what is stored by ``fn``, again until nobody came in between."""
        refuse_ended(state)
        await self._before_save(state)
        changes = state.changes()
        transaction = Transaction(state, fn)
        if state.record is None:
            state.refuse_sealed("begin a session")
            draft = await transaction.run(state.data)
            if draft or state.flashed:
                data = state.serializer.dumps(draft)
                await self._saver.create(state, changes, data=data)
            else:
                state.set_data(draft)
            return transaction.result

        async def make(record: Record) -> Record:
            draft = await transaction.run(changes.made_to(self._loads(record)))
            newer = self._saver.draft(record, changes, state, True)
            return msgspec.structs.replace(newer, data=state.serializer.dumps(draft))

        await self._saver.update(state, changes, make, renew=self._may_renew(state))
        return transaction.result

    async def destroy(self, state: SessionState) -> None:
        """Remove the session from the store, and its id from the client."""
        await self._endings.destroy(state)


def refuse_ended(state: SessionState) -> None:
    """Raise `.SessionGone` for a session that another request has ended."""
    if state.gone or state.retired:
        raise SessionGone("session was ended by another request")
