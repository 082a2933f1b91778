"""What happens to a session at the beginning and at the end of a request."""

from __future__ import annotations

import enum
import logging
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

from . import _headers, _ids, _lifetime
from ._hooks import Hooks
from ._record_store import RecordStore, Stored
from ._saver import Saver
from ._state import Delivery, SessionState
from ._tasks import Tasks
from ._verbs import Verbs
from .codec import Codec
from .config import SessionConfig
from .exceptions import DecodeError, SessionError, SessionGone, StoreError
from .session import Session, state_of
from .stores.base import Entry
from .transport import Transport

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders
    from tornado.web import RequestHandler

__all__ = ["Policy", "Step"]

logger = logging.getLogger("tornado_mcsession")


class Step(enum.Enum):
    """What the end of a request must do in the store."""

    NOTHING = "nothing"
    DESTROY = "destroy"
    CREATE = "create"
    UPDATE = "update"
    RENEW = "renew"


class Policy:
    """Opens sessions for requests, decides what becomes of them, and does it."""

    def __init__(
        self,
        config: SessionConfig,
        transport: Transport,
        codec: Codec,
        records: RecordStore,
        saver: Saver,
        verbs: Verbs,
        hooks: Hooks,
        tasks: Tasks,
        counts: Counter[str],
    ) -> None:
        self._config = config
        self._transport = transport
        self._codec = codec
        self._records = records
        self._saver = saver
        self._verbs = verbs
        self._hooks = hooks
        self._tasks = tasks
        self._counts = counts

    # The beginning.

    def state_for(self, handler: RequestHandler | None) -> SessionState:
        """Return the state of an empty session for the request of ``handler``."""
        return SessionState(
            self._codec.serializer,
            self._config.clock(),
            None if handler is None else weakref.ref(handler),
        )

    def session(self, state: SessionState) -> Session:
        """Return the session that shows ``state``."""
        return Session(self._verbs, state)

    def presented_id(self, handler: RequestHandler) -> str | None:
        """Return the id that the request carries, if it has the form of one."""
        session_id = self._transport.read(handler)
        if session_id is None or not _ids.is_valid(session_id):
            return None
        return session_id

    def begin(self, handler: RequestHandler) -> Session | str:
        """Return the session of a request without an id, or the id to `load`."""
        session_id = self.presented_id(handler)
        if session_id is None:
            return self.session(self.state_for(handler))
        return session_id

    async def load(self, handler: RequestHandler, session_id: str) -> Session:
        """Return the session of ``session_id``, or an empty one if there is none.

        Raises `.StoreError` where the store cannot tell, and ``on_error`` does
        not say to go on without.
        """
        state = self.state_for(handler)
        state.presented = session_id
        key = self._saver.key_of(session_id)
        if self._tasks.has(key):
            await self._tasks.wait_for(key)  # read what this process still writes
        self._counts["loads"] += 1
        try:
            entry = await self._records.get(key)
        except StoreError as error:
            if self.on_error("load", error, handler) == "raise":
                raise
            state.available = False
            return self.session(state)
        if entry is not None:
            self._admit(state, session_id, key, entry)
        self._counts["misses" if state.record is None else "hits"] += 1
        session = self.session(state)
        if state.record is not None and not await self._accepted(session, state):
            return self.session(self.state_for(handler))
        return session

    def _admit(
        self, state: SessionState, session_id: str, key: str, entry: Entry
    ) -> None:
        try:
            stored = self._records.examine(key, entry)
            if stored is None:
                return
            if stored.record.retired:
                state.retired = True
                return
            data = self._codec.values(stored.record)
        except DecodeError as error:
            self._counts["corrupt_records"] += 1
            logger.warning("a session record was taken as empty: %s", error.reason)
            return
        state.adopt(session_id, stored.record, stored.token, data)
        state.is_new = False

    async def _accepted(self, session: Session, state: SessionState) -> bool:
        if self._config.validate is None:
            return True
        accepted = await self._hooks.accepts(session, state)
        state.accessed = False
        return accepted

    def show(self, session_id: str, stored: Stored) -> Session:
        """Return the session of a record, for code outside a request."""
        state = self.state_for(None)
        data = self._codec.values(stored.record)
        state.adopt(session_id, stored.record, stored.token, data)
        state.is_new = False
        return self.session(state)

    def unavailable(self, handler: RequestHandler) -> Session:
        """Return an empty session that is not saved, for an error page."""
        state = self.state_for(handler)
        state.available = False
        return self.session(state)

    def unloaded(self, handler: RequestHandler, reason: str) -> Session:
        """Return a session that can only be destroyed, until it is loaded."""
        state = self.state_for(handler)
        state.unloaded = reason
        state.id = state.presented = self.presented_id(handler)
        return self.session(state)

    # The end.

    def doom(self, session: Session) -> None:
        """End the session with the request; what is written now is a new one's."""
        state = state_of(session)
        state.accessed = True
        if state.closed:
            raise RuntimeError("the answer is finished: too late to end the session")
        self._verbs.refuse_unavailable(state, "destroy")
        if not state.retired:
            state.doomed.append(state.id or "")
        state.forget()
        state.is_new, state.gone, state.unloaded = True, False, None

    def plan(
        self, state: SessionState, *, failed: bool, save: bool | None, renew: bool
    ) -> Step:
        """Decide what the end of a request must do. Raises `.EncodeError`."""
        if not state.available or (failed and not self._config.save_on_server_error):
            return Step.NOTHING
        if state.doomed:
            return Step.DESTROY
        if save is False or state.unloaded is not None:
            return Step.NOTHING
        if state.record is None or state.gone:
            return self._plan_new(state)
        if save or self._saver.changes(state):
            return Step.UPDATE
        if renew and state.accessed and self.renewal_due(state):
            return Step.RENEW
        return Step.NOTHING

    def _plan_new(self, state: SessionState) -> Step:
        changed = self._saver.changes(state) if state.gone else state.has_data()
        if not changed:
            return Step.NOTHING
        if state.gone or state.retired:
            self._counts["dropped_saves"] += 1
            logger.info("changes were dropped: another request ended the session")
            return Step.NOTHING
        return Step.CREATE

    def renewal_due(self, state: SessionState) -> bool:
        """Return whether using the session now must put off its end."""
        return state.record is not None and _lifetime.renewal_due(
            self._config, state.record, self._config.clock()
        )

    async def commit(
        self, state: SessionState, step: Step, *, renew: bool = True
    ) -> None:
        """Do what was planned.

        Raises what makes the answer an error. A session that another request
        ended is none: its changes are dropped and counted.
        """
        if step is Step.NOTHING:
            return
        handler = None if state.handler is None else state.handler()
        phase = {Step.DESTROY: "destroy", Step.RENEW: "renew"}.get(step, "save")
        try:
            await self._do(state, step, renew)
        except SessionGone:
            self._counts["dropped_saves"] += 1
            logger.info("changes were dropped: another request ended the session")
        except SessionError as error:
            if phase != "renew" and not isinstance(error, StoreError):
                raise
            chosen = self.on_error(phase, error, handler)
            if phase == "renew":
                return
            # A logout that is not confirmed is never passed off as one.
            if chosen == "raise" or phase == "destroy":
                raise

    async def _do(self, state: SessionState, step: Step, renew: bool) -> None:
        if step is Step.RENEW:
            if await self._saver.renew(state):
                self._counts["renewals"] += 1
            return
        if step is Step.DESTROY:
            await self._destroy_doomed(state)
        await self._verbs.store(state, always=step is Step.UPDATE, renew=renew)

    async def _destroy_doomed(self, state: SessionState) -> None:
        # A new session may have been saved since: its cookie stays.
        ended = any(state.doomed) or state.presented is not None
        if ended and state.id is None:
            state.delivery = Delivery.CLEAR
        doomed, state.doomed, state.presented = state.doomed, [], None
        failure = None
        for session_id in filter(None, doomed):
            try:
                await self._verbs.delete(session_id)
            except StoreError as error:
                failure = error
        if failure is not None:
            raise failure

    def on_error(self, phase: str, error: SessionError, handler: Any) -> str:
        """Count and log a failure; return ``"raise"`` or ``"degrade"``."""
        self._counts[f"errors_{phase}"] += 1
        logger.error("session %s failed: %s", phase, error)
        choose = self._config.on_error
        if isinstance(choose, str):
            return choose
        chosen = choose(phase, error, handler)
        if chosen not in ("raise", "degrade"):
            raise ValueError("on_error must return 'raise' or 'degrade'")
        return chosen

    def deliver(
        self,
        handler: RequestHandler,
        headers: HTTPHeaders,
        session: Session,
        *,
        early: bool = False,
    ) -> None:
        """Tell the client, and the caches on the way, about the session."""
        state = state_of(session)
        vary = getattr(self._transport, "vary", None)
        if vary and (state.accessed or early):
            _headers.add_vary(headers, vary)
        if state.delivery is Delivery.SEND:
            self._transport.write(handler, headers, session)
        elif state.delivery is Delivery.CLEAR:
            self._transport.clear(handler, headers)
        state.delivery = Delivery.NOTHING
