"""What a session's verbs do: save, reload, regenerate, login, transact, destroy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import msgspec

from . import _drafts, _lifetime
from ._hooks import Hooks
from ._record import NO_CHANGES, Changes, Record
from ._rotation import Rotation
from ._saver import Saver, refuse_sealed
from ._state import Delivery, SessionState
from ._tasks import Tasks
from ._transaction import Transaction
from .codec import Codec
from .config import SessionConfig
from .exceptions import SessionGone, StoreError, StoreRejected, StoreUnavailable
from .session import Session

__all__ = ["Verbs"]


class Verbs:
    """Carries out what sessions ask for; the `._keeper.SessionKeeper` of them all.

    ``undeleted`` gets the store key of a session whose end could not be
    confirmed.
    """

    def __init__(
        self,
        saver: Saver,
        rotation: Rotation,
        codec: Codec,
        config: SessionConfig,
        hooks: Hooks,
        tasks: Tasks,
        undeleted: Callable[[str], None],
    ) -> None:
        self._saver = saver
        self._rotation = rotation
        self._config = config
        self._hooks = hooks
        self._tasks = tasks
        self._undeleted = undeleted
        self._loads = codec.values

    # What a session shows of itself.

    def is_modified(self, state: SessionState) -> bool:
        """Return whether a save would have something to save."""
        return state.unloaded is None and state.is_modified(self._loads)

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
    ) -> Coroutine[Any, Any, None]:
        """Let the hook look at the session, and save it if there is anything to.

        ``changes`` are those of the state as it is, where they are known.
        """
        if self._hooks.looks_at_saves:
            return self._store_as_the_hook_likes(state, always, renew)
        return self._saver.store(state, changes, always=always, renew=renew)

    async def _store_as_the_hook_likes(
        self, state: SessionState, always: bool, renew: bool
    ) -> None:
        if always or state.is_modified(self._loads):
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
        refuse_sealed(state, "give the session a new id")
        refuse_ended(state)
        if state.record is None:
            if not keep:
                state.forget()
            await self.store(state)
            return
        await self._before_save(state)
        changes = self._saver.changes(state)
        now = self._config.clock()

        def make(record: Record) -> Record:
            newer = self._saver.draft(record, changes, state, keep)
            return _lifetime.renewed(self._config, newer, now)

        await self._saver.move(
            state, changes, state.record.principal, make, lambda: keep, grace
        )

    async def login(self, state: SessionState, principal: str) -> None:
        """Remember who is logged in, under a new id."""
        refuse_sealed(state, "log in")
        await self._before_save(state)
        changes = self._saver.changes(state)
        if state.record is not None and not state.gone:
            try:
                await self._login_existing(state, changes, principal)
                return
            except SessionGone:
                pass  # a logout came first: this login stands for itself
        if state.record is not None:
            state.forget()
            state.data.update(changes.delta.changed)
            state.flashed.extend(changes.flashed)
            for name, value in changes.options.as_fields().items():
                setattr(state, name, value)
            changes = self._saver.changes(state)
        state.retired = False
        await self._saver.create(state, changes, principal)

    async def _login_existing(
        self, state: SessionState, changes: Changes, principal: str
    ) -> None:
        now = self._config.clock()
        kept = True

        def make(record: Record) -> Record:
            nonlocal kept
            kept = record.principal in (None, principal)
            newer = self._saver.draft(record, changes, state, kept)
            end = changes.options.as_fields().get("end")
            newer = msgspec.structs.replace(
                newer, created=now, end=end, principal=principal, authenticated_at=now
            )
            return _lifetime.renewed(self._config, newer, now)

        await self._saver.move(state, changes, principal, make, lambda: kept)

    async def transact(
        self, state: SessionState, fn: Callable[[dict[str, Any]], Any]
    ) -> Any:
        """Change what is stored by ``fn``, again until nobody came in between."""
        refuse_ended(state)
        await self._before_save(state)
        changes = self._saver.changes(state)
        transaction = Transaction(state, fn)
        if state.record is None:
            refuse_sealed(state, "begin a session")
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
        if state.retired:
            state.forget()  # a newer id is in use: neither it nor its cookie is ours
            return
        ids = [*state.doomed, state.id or state.presented or ""]
        state.doomed = []
        await self.end_all(state, ids)
        state.forget()
        state.is_new, state.gone, state.unloaded = True, False, None

    async def end_all(self, state: SessionState, ids: Iterable[str]) -> None:
        """Remove sessions from the store, and their id from the client.

        All are tried; the last failure is raised. The client keeps the id that
        has taken the place of one, which is another request's to tell.
        """
        failure: StoreError | None = None
        clear = False
        for session_id in filter(None, ids):
            try:
                clear |= await self.delete(session_id) is not None
            except StoreError as error:
                clear, failure = True, error
        if clear:
            state.delivery = Delivery.CLEAR
        if failure is not None:
            raise failure

    async def delete(self, session_id: str) -> bool | None:
        """Remove a session from the store; return whether it was there.

        `None` where it was given a new id that this one does not lead to. Where
        that cannot be confirmed, it is tried again when the node answers.
        """
        key = self._saver.key_of(session_id)
        try:
            return await self._rotation.end(key, session_id)
        except StoreError as error:
            self._undeleted(key)
            if isinstance(error, StoreUnavailable):
                # Whichever of its steps failed: what failed was a logout.
                raise StoreUnavailable(
                    "destroy",
                    error.node,
                    error.reason,
                    outcome_unknown=error.outcome_unknown,
                ) from error
            raise StoreRejected("destroy", error.node, error.reason) from error
        except asyncio.CancelledError:
            self._undeleted(key)
            raise


def refuse_ended(state: SessionState) -> None:
    """Raise `.SessionGone` for a session that another request has ended."""
    if state.gone or state.retired:
        raise SessionGone("session was ended by another request")
