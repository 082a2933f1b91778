"""One request: its handler, its session and its gate, and how they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from http.client import responses
from typing import Any, Protocol

from tornado.escape import json_encode, utf8
from tornado.httputil import HTTPHeaders, ResponseStartLine

from . import _headers
from ._answer import Head, Pending
from .checks import type_error
from ._policy import Plan, Step
from ._state import Delivery
from ._tries import Attempt
from .exceptions import SessionError
from .manager import SessionManager
from .session import Session, state_of
from .stores.base import CasResult

__all__ = ["RequestCycle", "SessionHandler"]

logger = logging.getLogger("tornado_mcsession")


class SessionHandler(Protocol):
    """What a cycle asks of a handler with a session."""

    request: Any
    session_renew: bool
    session_save: bool | None

    def session_error(self, error: Exception) -> str | bytes | dict[str, Any]: ...


class RequestCycle:
    """Ends the session of one request: the `._gate.Cycle` of its gate.

    ``errored`` is set where the handler failed after its headers had left, and
    ``detached`` where the session outlives the answer, as that of a WebSocket.
    """

    def __init__(self, handler: Any, manager: SessionManager, session: Session) -> None:
        self._handler = handler
        self._manager = manager
        self.session = session
        self.errored = False
        self.detached = False
        self._begun: tuple[Plan, bool, Attempt] | None = None

    def take(self, session: Session) -> None:
        """Go on with ``session``, where another one stood for it until now."""
        old, new = state_of(self.session), state_of(session)
        new.accessed, new.sealed, new.closed = old.accessed, old.sealed, old.closed
        self.session = session

    def seal(self) -> None:
        """Note that the headers have left."""
        state_of(self.session).sealed = True

    def decide(self, status: int, *, final: bool) -> Pending | None:
        """Return what the answer must wait for, or `None` if it need not."""
        manager, state = self._manager, state_of(self.session)
        if final:
            state.closed = True
        renew = self._may_renew()
        failed = status >= 500 or self.errored
        if state.moving:
            # A login that nobody waits for any more must still be told.
            manager.counts["held_answers"] += 1
            return self._commit_later(renew, failed)
        plan = self._plan(renew, failed=failed)
        if plan.step is Step.NOTHING:
            return None
        if self._may_leave_first(plan.step, renew):
            work = self._commit(plan, renew)
            manager.start(self._afterwards(work, self._handler), state.id)
            return None
        manager.counts["held_answers"] += 1
        return self._begin(plan, renew) or self._commit(plan, renew)

    def save_untouched(self, status: int) -> None:
        """Save a session that was not used: no answer need wait for that."""
        state = state_of(self.session)
        state.closed = True
        plan = self._plan(False, failed=status >= 500)
        if plan.step is Step.UPDATE:
            work = self._commit(plan, renew=False)
            self._manager.start(self._afterwards(work, self._handler), state.id)

    def _plan(self, renew: bool, *, failed: bool) -> Plan:
        save = self._handler.session_save
        policy = self._manager.policy
        return policy.plan(
            state_of(self.session), failed=failed, save=save, renew=renew
        )

    def _may_renew(self) -> bool:
        # Record and cookie expire together: not without headers for the cookie,
        # which goes only with answers that depend on the session.
        state = state_of(self.session)
        renew: bool = self._handler.session_renew
        return renew and state.accessed and not state.sealed

    def _may_leave_first(self, step: Step, renew: bool) -> bool:
        # With its session's renewal an answer carries the cookie, and what the
        # cookie says must be stored.
        state = state_of(self.session)
        return (
            self._manager.config.persist == "on_finish"
            and step is Step.UPDATE
            and not state.options
            and not (renew and self._manager.policy.renewal_due(state))
        )

    def _begin(self, plan: Plan, renew: bool) -> Pending | None:
        """Begin a save that is one operation, as most are.

        A store that answers by a future is waited for without a task, and all
        that a task and its coroutines keep alive meanwhile: 7 µs of a request
        that writes, half of it in the garbage collector (python -m benchmarks).
        """
        state, policy = state_of(self.session), self._manager.policy
        if not self._is_alone():
            return None
        attempt = policy.attempt(state, plan, renew)
        if attempt is None:
            return None
        if not isinstance(attempt.answer, asyncio.Future):
            return policy.commit(state, plan, renew=renew, attempt=attempt)
        self._begun = plan, renew, attempt
        self._manager.tasks.watch(attempt.answer)
        return attempt.answer

    def settle(self, answer: asyncio.Future[Any]) -> Coroutine[Any, Any, None] | None:
        """Return what is left to do when the store has answered."""
        assert self._begun is not None
        (plan, renew, attempt), self._begun = self._begun, None
        self._manager.tasks.forget(answer)
        state, policy = state_of(self.session), self._manager.policy
        if (
            answer.cancelled()
            or answer.exception()
            or answer.result() is not CasResult.STORED
        ):
            return policy.commit(state, plan, renew=renew, attempt=attempt)
        policy.stored(state, plan, attempt)
        return None

    def _is_alone(self) -> bool:
        # Nothing was begun on the session, and nothing can be any more.
        state = state_of(self.session)
        hooked = self._manager.config.before_save is not None
        return state.closed and state.turn is None and not hooked

    async def _commit(self, plan: Plan, renew: bool) -> None:
        state, policy = state_of(self.session), self._manager.policy
        if self._is_alone():
            await policy.commit(state, plan, renew=renew)
            return
        # In turn with what the handler began and did not wait for.
        async with state.in_turn():
            await policy.commit(state, plan, renew=renew)

    async def _commit_later(self, renew: bool, failed: bool) -> None:
        async with state_of(self.session).in_turn():
            plan = self._plan(renew, failed=failed)
            await self._manager.policy.commit(state_of(self.session), plan, renew=renew)

    async def _afterwards(self, work: Coroutine[Any, Any, None], handler: Any) -> None:
        # ``handler`` is only held here, for the application's hooks.
        try:
            await work
        except SessionError as error:
            request = handler.request
            logger.error(
                "a session could not be saved after its answer to %s %s: %s",
                request.method,
                request.path,
                error,
            )
        except Exception:
            logger.exception("a session could not be saved after its answer")

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work``, which goes on when the client leaves."""
        self._manager.start(work, None)

    def leave(self, headers: HTTPHeaders, *, final: bool) -> None:
        """Put the cookie and Vary into headers that are leaving."""
        if not final:
            self.seal()
        self._manager.policy.deliver(
            self._handler, headers, self.session, early=not final
        )

    def replacement(self, head: Head, error: Exception) -> tuple[Head, bytes]:
        """Return the error page for an answer whose session is not stored."""
        known = isinstance(error, SessionError)
        status = error.status if isinstance(error, SessionError) else 500
        retry_after = error.retry_after if isinstance(error, SessionError) else None
        # Tornado's access log has the handler's own status.
        logger.log(
            logging.ERROR if status >= 500 else logging.INFO,
            "%d in place of %d for %s %s: %s",
            status,
            head.start_line.code,
            self._handler.request.method,
            self._handler.request.path,
            error if known else type(error).__name__,
            exc_info=None if known else error,
        )
        body, kind = self._page(error)
        headers = head.headers
        _headers.drop_representation(headers)
        # A logout takes the cookie away even so; a new id that an earlier
        # login() stored is told: the old one is dead.
        try:
            self._manager.policy.deliver(self._handler, headers, self.session)
        except Exception:
            logger.exception("the session's id cannot be told to the client")
        headers["Cache-Control"] = "no-store"
        headers["Content-Type"] = kind
        headers["Content-Length"] = str(len(body))
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        line = ResponseStartLine("", status, responses.get(status, "Unknown"))
        if self._handler.request.method == "HEAD":
            body = b""
        return Head(line, headers), body

    def _page(self, error: Exception) -> tuple[bytes, str]:
        try:
            page = self._handler.session_error(error)
            if isinstance(page, dict):
                return utf8(json_encode(page)), "application/json; charset=UTF-8"
            if not isinstance(page, str | bytes):
                raise type_error("session_error's page", page, "text, bytes or a dict")
            return utf8(page), "text/html; charset=UTF-8"
        except Exception:
            logger.exception("session_error failed")
            return b"Session not saved", "text/plain; charset=UTF-8"

    def finished(self) -> None:
        """Note that the handler can change nothing any more."""
        self.seal()
        if not self.detached:
            state_of(self.session).closed = True
        self._handler = None

    async def before_handshake(self, headers: HTTPHeaders) -> None:
        """Save what was done before a WebSocket opens; put the cookie in ``headers``.

        A 101 cannot wait in the gate: Tornado detaches the stream at once.
        """
        state = state_of(self.session)
        renew = self._may_renew()
        plan = self._plan(renew, failed=False)
        if plan.step is not Step.NOTHING:
            await self._commit(plan, renew)
        if state.delivery is not Delivery.NOTHING:
            self._manager.policy.deliver(self._handler, headers, self.session)
        self.seal()
        self.detached = True
