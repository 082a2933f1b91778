"""A session at the beginning of a request: found, or begun."""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from typing import TYPE_CHECKING

from . import _ids
from ._failures import Failures
from ._hooks import Hooks
from ._record import Record
from ._record_store import RecordStore, Stored
from ._rotation import MAX_STEPS, successor_of
from ._saver import Saver
from ._state import SessionState
from ._tasks import Tasks
from ._verbs import Verbs
from .codec import Codec
from .config import SessionConfig
from .exceptions import DecodeError, StoreError
from .session import Session
from .transport import Transport

if TYPE_CHECKING:
    from tornado.web import RequestHandler

__all__ = ["Opening"]

logger = logging.getLogger("tornado_mcsession")


class Opening:
    """Opens the sessions of requests."""

    def __init__(
        self,
        config: SessionConfig,
        transport: Transport,
        codec: Codec,
        records: RecordStore,
        saver: Saver,
        verbs: Verbs,
        hooks: Hooks,
        failures: Failures,
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
        self._failures = failures
        self._tasks = tasks
        self._counts = counts

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
        return self.presented_id(handler) or self.fresh(handler)

    def fresh(self, handler: RequestHandler) -> Session:
        """Return the session of a request that presents no id."""
        return self.session(self.state_for(handler))

    async def load(self, handler: RequestHandler, session_id: str) -> Session:
        """Return the session of ``session_id``, or an empty one if there is none.

        Raises `.StoreError` where the store cannot tell, and ``on_error`` does
        not say to go on without.
        """
        state = self.state_for(handler)
        state.presented = session_id
        self._counts["loads"] += 1
        try:
            await self._find(state, session_id)
        except StoreError as error:
            if self._failures.decide("load", error, handler) == "raise":
                raise
            state.available = False
            return self.session(state)
        self._counts["misses" if state.record is None else "hits"] += 1
        session = self.session(state)
        if state.record is not None and not await self._accepted(session, state):
            return self.session(self.state_for(handler))
        return session

    async def _find(self, state: SessionState, session_id: str) -> None:
        newer: str | None = session_id
        for _ in range(MAX_STEPS):
            assert newer is not None
            retired = await self._admit(state, newer)
            if retired is None:
                state.retired = newer != session_id and state.record is None
                return
            newer = successor_of(newer, retired, self._config.clock())
            if newer is None:
                break
        state.retired = True

    async def _admit(self, state: SessionState, session_id: str) -> Record | None:
        """Take in what is stored of ``session_id``; return it if it is retired."""
        key = self._saver.key_of(session_id)
        if self._tasks.has(key):
            await self._tasks.wait_for(key)  # read what this process still writes
        entry = await self._records.get(key)
        try:
            stored = self._records.examine(key, entry)
            if stored is None:
                return None
            if stored.record.retired:
                return stored.record
            data = self._codec.values(stored.record)
        except DecodeError as error:
            self._counts["corrupt_records"] += 1
            logger.warning("a session record was taken as empty: %s", error.reason)
            return None
        state.adopt(session_id, stored.record, stored.token, data)
        state.is_new = False
        return None

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
