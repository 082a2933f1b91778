"""A session at the beginning of a request: found, or begun."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import TYPE_CHECKING

from . import _ids
from ._failures import Failures
from ._finding import Finding
from ._hooks import Hooks
from ._record_store import Stored
from ._state import SessionState
from ._verbs import Verbs
from .codec import Codec
from .config import SessionConfig
from .exceptions import StoreError
from .session import Session
from .transport import Transport

if TYPE_CHECKING:
    from tornado.web import RequestHandler

__all__ = ["Opening"]


class Opening:
    """Opens the sessions of requests."""

    def __init__(
        self,
        config: SessionConfig,
        transport: Transport,
        codec: Codec,
        finding: Finding,
        verbs: Verbs,
        hooks: Hooks,
        failures: Failures,
        counts: Counter[str],
    ) -> None:
        self._config = config
        self._transport = transport
        self._codec = codec
        self._finding = finding
        self._verbs = verbs
        self._hooks = hooks
        self._failures = failures
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
            await self._finding.find(state, session_id)
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
