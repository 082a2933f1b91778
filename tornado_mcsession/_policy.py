"""What becomes of a session at the end of a request."""

from __future__ import annotations

import enum
import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from . import _headers, _lifetime
from ._endings import Endings
from ._failures import Failures
from ._record import Changes, Record
from ._saver import Saver
from ._state import Delivery, SessionState
from ._tries import Attempt
from ._verbs import Verbs
from .config import SessionConfig
from .exceptions import SessionError, SessionGone, StoreError
from .session import Session, state_of
from .transport import Transport

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders
    from tornado.web import RequestHandler

__all__ = ["Plan", "Policy", "Step"]

logger = logging.getLogger("tornado_mcsession")


class Step(enum.Enum):
    """What the end of a request must do in the store."""

    NOTHING = "nothing"
    DESTROY = "destroy"
    CREATE = "create"
    UPDATE = "update"
    RENEW = "renew"


_PHASES = {Step.DESTROY: "destroy", Step.RENEW: "renew"}


class Plan(NamedTuple):
    """What the end of a request must do.

    ``changes`` are those made to ``record``: good while that is what is stored.
    """

    step: Step
    changes: Changes | None = None
    record: Record | None = None


NOTHING = Plan(Step.NOTHING)


class Policy:
    """Decides what the end of a request does to its session, and does it."""

    def __init__(
        self,
        config: SessionConfig,
        transport: Transport,
        saver: Saver,
        verbs: Verbs,
        endings: Endings,
        failures: Failures,
        counts: Counter[str],
    ) -> None:
        self._config = config
        self._transport = transport
        self._saver = saver
        self._verbs = verbs
        self._endings = endings
        self._failures = failures
        self._counts = counts

    def doom(self, session: Session) -> None:
        """End the session with the request; what is written now is a new one's."""
        state = state_of(session)
        state.accessed = True
        if state.closed:
            raise RuntimeError("the answer is finished: too late to end the session")
        self._verbs.refuse_unavailable(state, "destroy")
        if not state.retired:
            state.doomed += (state.id or state.presented or "",)
        state.forget()
        state.is_new, state.gone, state.unloaded = True, False, None

    def plan(
        self, state: SessionState, *, failed: bool, save: bool | None, renew: bool
    ) -> Plan:
        """Decide what the end of a request must do. Raises `.EncodeError`."""
        if not state.available or (failed and not self._config.save_on_server_error):
            return NOTHING
        if state.doomed:
            return Plan(Step.DESTROY)
        if save is False or state.unloaded is not None:
            return NOTHING
        if state.record is None or state.gone:
            return self._plan_new(state)
        changes = state.changes() if save else state.changed()
        if changes is not None and (save or changes):
            return Plan(Step.UPDATE, changes, state.record)
        if renew and state.accessed and self.renewal_due(state):
            return Plan(Step.RENEW)
        return NOTHING

    def _plan_new(self, state: SessionState) -> Plan:
        changed = state.changed() if state.gone else state.has_data()
        if not changed:
            return NOTHING
        if state.gone or state.retired:
            self._counts["dropped_saves"] += 1
            logger.info("changes were dropped: another request ended the session")
            return NOTHING
        return Plan(Step.CREATE)

    def renewal_due(self, state: SessionState) -> bool:
        """Return whether using the session now must put off its end."""
        return state.record is not None and _lifetime.renewal_due(
            self._config, state.record, self._config.clock()
        )

    def attempt(self, state: SessionState, plan: Plan, renew: bool) -> Attempt | None:
        """Begin what was planned, where it is an update; `commit` goes on from there.

        `None` where nothing was begun.
        """
        if plan.step is not Step.UPDATE or plan.changes is None:
            return None
        return self._saver.attempt(state, plan.changes, renew=renew)

    def stored(self, state: SessionState, plan: Plan, attempt: Attempt) -> None:
        """Note that ``attempt`` has stored what was planned: there is no more to do."""
        assert plan.changes is not None
        self._saver.stored(state, plan.changes, attempt.record)

    async def commit(
        self,
        state: SessionState,
        plan: Plan,
        *,
        renew: bool = True,
        attempt: Attempt | None = None,
    ) -> None:
        """Do what was planned.

        Raises what makes the answer an error. A session that another request
        ended is none: its changes are dropped and counted.
        """
        step = plan.step
        if step is Step.NOTHING:
            return
        try:
            if step is Step.UPDATE:
                changes = plan.changes if plan.record is state.record else None
                await self._verbs.store(
                    state, changes, always=True, renew=renew, attempt=attempt
                )
            else:
                await self._do(state, step, renew)
        except SessionGone:
            self._counts["dropped_saves"] += 1
            logger.info("changes were dropped: another request ended the session")
        except SessionError as error:
            handler = None if state.handler is None else state.handler()
            phase = _PHASES.get(step, "save")
            if phase != "renew" and not isinstance(error, StoreError):
                raise
            chosen = self._failures.decide(phase, error, handler)
            if phase == "renew":
                return
            # A logout that is not confirmed is never passed off as one.
            if chosen == "raise" or phase == "destroy":
                raise
            # What a stream goes on to write to a session that could not begin is
            # for this request only.
            state.available = state.record is not None

    async def _do(self, state: SessionState, step: Step, renew: bool) -> None:
        if step is Step.RENEW:
            if await self._saver.renew(state):
                self._counts["renewals"] += 1
            return
        if step is Step.DESTROY:
            await self._destroy_doomed(state)
            handler = None if state.handler is None else state.handler()
            if getattr(handler, "session_save", None) is False:
                return
        await self._verbs.store(state, renew=renew)

    async def _destroy_doomed(self, state: SessionState) -> None:
        ids, state.doomed, state.presented = state.doomed, (), None
        told = state.delivery
        try:
            await self._endings.end_all(state, ids)
        finally:
            if state.id is not None:
                state.delivery = told  # a new session was saved since

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
        if state.accessed or early:
            vary = getattr(self._transport, "vary", None)
            if vary:
                _headers.add_vary(headers, vary)
        if state.delivery is Delivery.SEND:
            self._transport.write(handler, headers, session)
        elif state.delivery is Delivery.CLEAR:
            self._transport.clear(handler, headers)
        state.delivery = Delivery.NOTHING
