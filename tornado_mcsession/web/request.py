"""One request and its session: what the end of the request does."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import Counter
from collections.abc import Coroutine
from http.client import responses
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from tornado.escape import json_encode, utf8
from tornado.httputil import HTTPHeaders, ResponseStartLine

from ..checks import type_error
from ..exceptions import SessionError, SessionGone, StoreError
from ..sessions.draft import Changes
from ..sessions.repository import Attempt
from ..sessions.state import (
    CLOSED,
    DETACHED,
    ENDED,
    OPEN,
    SEALED,
    STORED,
    UNAVAILABLE,
    UNLOADED,
    Delivery,
    Event,
)
from ..sessions.tasks import Tasks
from ..stores.base import CasResult
from .caching import add_vary, drop_representation, forbid_storing
from .transport import Transport, is_from_another_site

if TYPE_CHECKING:
    from tornado.web import RequestHandler

    from ..session import Session
    from ..settings import Phase, Settings

__all__ = ["Head", "RequestSession", "Requests", "default_page"]

logger: logging.Logger = logging.getLogger("tornado_mcsession")


class Head(NamedTuple):
    """The start line and headers of a response."""

    start_line: ResponseStartLine
    headers: HTTPHeaders


# What a response waits for: a whole save, or the store's answer to the one operation
# that a save mostly is.
Pending = Coroutine[Any, Any, None] | asyncio.Future[Any]


class Step(enum.Enum):
    """What the end of a request must do in the store; its value is its phase."""

    NOTHING = ""
    DESTROY = "destroy"
    CREATE = "create"
    UPDATE = "save"
    RENEW = "renew"


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What the end of a request must do, and the changes that it found."""

    step: Step
    changes: Changes | None = None


_NOTHING = Plan(Step.NOTHING)


class Requests:
    """What the ends of all requests have in common: a manager has one."""

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        tasks: Tasks,
        counts: Counter[str],
    ) -> None:
        self.settings = settings
        self.tasks = tasks
        self.counts = counts
        self._transport = transport

    def plan(
        self, session: Session, *, failed: bool, save: bool | None, renew: bool
    ) -> Plan:
        """Decide what the end of a request must do. Raises `.EncodeError`."""
        if session._end_failed or (failed and not self.settings.save_on_server_error):
            return _NOTHING
        if session._doomed:
            return Plan(Step.DESTROY)
        phase = session._phase
        if save is False or phase is UNLOADED or phase is UNAVAILABLE:
            return _NOTHING
        if phase is STORED:
            assert session._stored is not None
            accessed = session._accessed
            look = session._draft.changes if save else session._draft.changed
            changes = look(session._stored.record, accessed=accessed)
            if changes is not None and (save or changes):
                return Plan(Step.UPDATE, changes)
            if renew and session._accessed and session._renewal_is_due():
                return Plan(Step.RENEW)
        elif phase is ENDED:
            if session._draft if session._stored is None else session._changed():
                self.count_dropped_save(log=not session._is_told)
        elif session._draft or (self.settings.allow_empty and session._accessed):
            if not self._withholds(session):
                return Plan(Step.CREATE, session._changes())
        return _NOTHING

    def _withholds(self, session: Session) -> bool:
        """Return whether this request must not begin a session by itself.

        The browser sent it from another site without the cookie: the cookie of a
        new session would take the place of the user's.
        """
        handler = session._handler_now()
        if handler is None or self.settings.cross_site == "allow":
            return False
        if not is_from_another_site(handler, self._transport):
            return False
        self.counts["withheld_sessions"] += 1
        if self.counts["withheld_sessions"] == 1:
            logger.warning(
                "%s was sent by another site without the session cookie; its changes "
                "to the session were dropped, since a new cookie would log the user "
                "out. See docs/guides/cross-site.md and the setting cross_site",
                handler.request.path,
            )
        return True

    async def commit(
        self,
        session: Session,
        plan: Plan,
        *,
        renew: bool,
        attempt: Attempt | None = None,
    ) -> None:
        """Do what was planned for the end of a request.

        ``attempt`` is the first try of a save, where it is under way. Raises what
        makes the response an error. A session that another request ended is none:
        its changes are dropped and counted. An end that was refused is one.
        """
        step = plan.step
        try:
            if step is Step.RENEW:
                await session._renew(attempt=attempt)
            elif step is Step.DESTROY:
                await self._destroy(session, renew)
            else:
                changes = plan.changes
                assert changes is not None
                if self.settings.before_save is not None and attempt is None:
                    await session._look_before_saving()
                    if session._doomed:  # the hook has ended the session
                        step = Step.DESTROY
                        await self._destroy(session, renew)
                        return
                    changes = session._changes()
                await session._store(changes, always=True, renew=renew, attempt=attempt)
        except SessionGone:
            if step is Step.DESTROY:
                raise
            self.count_dropped_save()
        except SessionError as error:
            phase = _PHASES.get(step, "save")
            if phase != "renew" and not isinstance(error, StoreError):
                raise
            chosen = self.decide(phase, error, session._handler_now())
            if phase == "renew":
                return
            # A logout that is not confirmed is never passed off as one.
            if chosen == "raise" or phase == "destroy":
                raise
            if session._stored is None:
                # What a stream goes on to write to it is for this request only.
                session._advance(Event.FAILED)

    async def _destroy(self, session: Session, renew: bool) -> None:
        """End the session, then begin the one that was written to since."""
        doomed, told = session._doomed, session._delivery
        session._doomed = ()
        try:
            await session._end(doomed)
        finally:
            if session._stored is not None:
                session._delivery = told  # a new session was saved since
        save = getattr(session._handler_now(), "session_save", None)
        if session._draft and save is not False and session._phase is not UNAVAILABLE:
            await session._look_before_saving()
            await session._store(session._changes(), renew=renew)

    def decide(self, phase: Phase, error: SessionError, handler: Any) -> str:
        """Return what ``on_error`` says: ``"raise"`` or ``"degrade"``."""
        self.counts[f"errors_{phase}"] += 1
        choose = self.settings.on_error
        chosen = choose if isinstance(choose, str) else choose(phase, error, handler)
        if chosen not in ("raise", "degrade"):
            raise ValueError("on_error must return 'raise' or 'degrade'")
        # What is raised is logged where it makes the response an error. The end of a
        # session always does, a renewal never.
        if phase == "renew" or (chosen == "degrade" and phase != "destroy"):
            where = ""
            if handler is not None:
                where = f" for {handler.request.method} {handler.request.path}"
            logger.error("session %s failed%s: %s", phase, where, error)
        return chosen

    def count_dropped_save(self, *, log: bool = True) -> None:
        """Count changes to a session that another request has ended."""
        self.counts["dropped_saves"] += 1
        if log:
            logger.info("changes were dropped: another request ended the session")

    def deliver(
        self,
        handler: RequestHandler,
        headers: HTTPHeaders,
        session: Session,
        *,
        early: bool = False,
    ) -> None:
        """Tell the client, and the caches on the way, about the session.

        ``early`` says that the headers leave before the end of the response.
        """
        accessed, delivery = session._accessed, session._delivery
        if accessed or early:
            for name in self._transport.vary:
                add_vary(headers, name)
        if delivery is not Delivery.NOTHING:
            session._delivery = Delivery.NOTHING
            if delivery is Delivery.SEND:
                self._transport.write(handler, headers, session)
            else:
                self._transport.clear(handler, headers)
        if accessed and self.settings.no_store and session._had_principal:
            forbid_storing(headers)


_PHASES: dict[Step, Phase] = {Step.DESTROY: "destroy", Step.RENEW: "renew"}
_ONE_OPERATION = (Step.UPDATE, Step.RENEW)


class RequestSession:
    """One request and its session, from the first use of the session to the end.

    ``failed`` is set where the handler failed after its headers had left.
    """

    def __init__(self, handler: Any, requests: Requests, session: Session) -> None:
        self._handler = handler
        self._requests = requests
        self.session = session
        self.failed = False
        self._begun: tuple[Plan, bool, Attempt] | None = None
        self._was_sealed = False  # the headers left before the end of the response
        self._renews = False  # what has begun puts the session's end off

    def seal(self) -> None:
        """Note that the headers have left."""
        if self.session._reach is OPEN:
            self.session._reach = SEALED

    def is_head(self) -> bool:
        """Return whether the request's method is HEAD."""
        return bool(self._handler.request.method == "HEAD")

    def is_saved(self) -> bool:
        """Return whether nothing of the session is left to be stored."""
        return not self.session._moving and self._plan(False, False) is _NOTHING

    def _plan(self, renew: bool, failed: bool) -> Plan:
        save = self._handler.session_save
        return self._requests.plan(self.session, failed=failed, save=save, renew=renew)

    def begin(self, status: int, *, final: bool) -> Pending | None:
        """Begin what must be done before the response may leave; None: nothing.

        ``final`` tells that the handler has finished its response. Only then it may
        be a future, which is handed to `settle` when it is done.
        """
        session, requests = self.session, self._requests
        renew = self._may_renew()
        if final and session._reach is not DETACHED:
            self._was_sealed = session._reach is SEALED
            session._reach = CLOSED
        failed = status >= 500 or self.failed
        if session._moving:
            # A login that nobody waits for any more must still be told.
            requests.counts["held_answers"] += 1
            return self._commit_in_turn(None, renew, failed)
        save = self._handler.session_save
        plan = requests.plan(session, failed=failed, save=save, renew=renew)
        if plan is _NOTHING:
            return None
        self._refuse_late(plan)
        if requests.settings.persist == "on_finish":
            if self._may_leave_first(plan, renew):
                self.start(plan, renew)
                return None
        attempt = self._first_attempt(plan, renew)
        pending: Pending | None
        if attempt is None:
            pending = self._commit_in_turn(plan, renew, failed)
        elif not isinstance(attempt.answer, asyncio.Future):
            pending = requests.commit(session, plan, renew=renew, attempt=attempt)
        else:
            self._begun = plan, renew, attempt
            pending = attempt.answer
            if pending.done():  # as a MemoryStore's always is
                pending = self.settle(pending)
            else:
                requests.tasks.watch(pending)
        if pending is not None:
            requests.counts["held_answers"] += 1
        return pending

    def _refuse_late(self, plan: Plan) -> None:
        if self._was_sealed and plan.step is Step.CREATE:
            self.session._refuse_sealed_data()

    def _first_attempt(self, plan: Plan, renew: bool) -> Attempt | None:
        """Begin the one operation that a save mostly is; None: there is more to do.

        When it is stored, nothing else has to be awaited, so most saves need no
        task. Otherwise `Requests.commit` goes on from it.
        """
        session, at, changes = self.session, self.session._stored, plan.changes
        manager = session._manager
        if (
            plan.step not in _ONE_OPERATION
            or session._reach is not CLOSED
            or session._turn is not None
            or self._requests.settings.before_save is not None
            or manager.lifetime.choose is not None
            or at is None
            or at.token is None
            or (changes is not None and changes.options)
        ):
            return None
        self._renews = changes is None or (renew and session._renewal_is_due())
        if self._renews and manager.records.is_over(at.record):
            return None
        try:
            record = at.record
            if changes is not None:
                record = changes.edited(record, manager.codec)
            if self._renews:
                record = session._put_off(record)
            loop = session._loop or asyncio.get_running_loop()
            return manager.records.begin(at, record, loop)
        except SessionError:
            return None  # the commit meets it too, and raises it

    def settle(self, answer: asyncio.Future[Any]) -> Coroutine[Any, Any, None] | None:
        """Return what is left to do when the store has answered; None: nothing."""
        assert self._begun is not None
        (plan, renew, attempt), self._begun = self._begun, None
        session, requests = self.session, self._requests
        requests.tasks.forget(answer)
        if (
            answer.cancelled()
            or answer.exception()
            or answer.result() is not CasResult.STORED
        ):
            return requests.commit(session, plan, renew=renew, attempt=attempt)
        stored = session._manager.records.done(attempt, answer.get_loop())
        if plan.changes is None:
            session._stored = stored
            requests.counts["renewals"] += 1
        else:
            session._became(stored, plan.changes)
            requests.counts["saves"] += 1
        return session._renewed(stored) if self._renews else None

    def _may_renew(self) -> bool:
        # Record and cookie expire together: not without headers for the cookie, which
        # goes only with responses that depend on the session.
        session = self.session
        renew: bool = self._handler.session_renew
        return renew and session._accessed and session._reach is OPEN

    def _may_leave_first(self, plan: Plan, renew: bool) -> bool:
        # With its session's renewal a response carries the cookie, and what the cookie
        # says must be stored.
        session = self.session
        return (
            plan.step is Step.UPDATE
            and not session._draft.options
            and session._manager.lifetime.choose is None
            and not (renew and session._renewal_is_due())
        )

    async def _commit_in_turn(
        self, plan: Plan | None, renew: bool, failed: bool = False
    ) -> None:
        # In turn with what the handler began and did not wait for, which may be what
        # there is to save: then it is planned afterwards.
        requests, session = self._requests, self.session
        limit = session._manager.records.operations.limit
        async with session._own_turn().within(limit):
            if plan is None:
                plan = self._plan(renew, failed)
                self._refuse_late(plan)
            if plan is not _NOTHING:
                await requests.commit(session, plan, renew=renew)

    def start(self, plan: Plan, renew: bool) -> None:
        """Save in the background; the session's next request waits for it."""
        stored = self.session._stored
        work = self._save_afterwards(plan, renew, self._handler)
        self._requests.tasks.start(work, None if stored is None else stored.key)

    async def _save_afterwards(self, plan: Plan, renew: bool, handler: Any) -> None:
        # ``handler`` is only held here, for the application's hooks.
        try:
            await self._commit_in_turn(plan, renew)
        except SessionError as error:
            logger.error(
                "a session could not be saved after its response to %s %s: %s",
                handler.request.method,
                handler.request.path,
                error,
            )
        except Exception:
            logger.exception("a session could not be saved after its response")

    def save_untouched(self, status: int) -> None:
        """Save a session that was not used: no response need wait for that."""
        self.session._reach = CLOSED
        plan = self._plan(False, status >= 500)
        if plan.step is Step.UPDATE:
            self.start(plan, renew=False)

    async def before_handshake(self, headers: HTTPHeaders) -> None:
        """Save what was done before a WebSocket opens; put the cookie in ``headers``.

        A 101 cannot be held back: Tornado detaches the stream at once.
        """
        renew = self._may_renew()
        plan = self._plan(renew, failed=False)
        if plan is not _NOTHING:
            await self._commit_in_turn(plan, renew)
        if self.session._delivery is not Delivery.NOTHING:
            self._requests.deliver(self._handler, headers, self.session)
        self.session._reach = DETACHED

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work``, whatever becomes of the request's own task."""
        self._requests.tasks.start(work)

    def leave(self, headers: HTTPHeaders, *, final: bool) -> None:
        """Put the cookie and Vary into headers that are about to leave."""
        if not final:
            self.seal()
        self._requests.deliver(self._handler, headers, self.session, early=not final)

    def error_page(self, head: Head, error: Exception) -> tuple[Head, bytes]:
        """Return the page for a response whose session is not stored."""
        known = isinstance(error, SessionError)
        status = error.status if isinstance(error, SessionError) else 500
        request = self._handler.request
        # Tornado's access log has the handler's own status.
        logger.log(
            logging.ERROR if status >= 500 else logging.INFO,
            "%d in place of %d for %s %s: %s",
            status,
            head.start_line.code,
            request.method,
            request.path,
            error if known else type(error).__name__,
            exc_info=None if known else error,
        )
        body, kind = self._page(error)
        headers = head.headers
        drop_representation(headers)
        # A logout takes the cookie away even so. The new id that an earlier login()
        # stored is sent: the old one is dead.
        try:
            self._requests.deliver(self._handler, headers, self.session)
        except Exception:
            logger.exception("the session's id cannot be sent to the client")
        forbid_storing(headers)
        headers["Content-Type"] = kind
        headers["Content-Length"] = str(len(body))
        retry_after = error.retry_after if isinstance(error, SessionError) else None
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        line = ResponseStartLine("", status, responses.get(status, "Unknown"))
        return Head(line, headers), b"" if request.method == "HEAD" else body

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
        """Make the session read-only, and let go of the handler."""
        session = self.session
        if session._reach is not DETACHED:
            session._reach = CLOSED
            if session._is_watched:
                session._at_end = session._draft.snapshot().encoded
        self._handler = None


_PAGE = "<!doctype html><title>{title}</title><h1>{title}</h1><p>{text}</p>"


def default_page(error: Exception) -> str:
    """Return the page for ``error``, in HTML; it tells nothing of the cause."""
    if isinstance(error, SessionGone):
        return _PAGE.format(
            title="Not logged out",
            text="Somebody has logged in since. Please load the page again.",
        )
    if getattr(error, "operation", "") in ("delete", "destroy"):
        return _PAGE.format(
            title="Not confirmed",
            text="This browser is logged out, but that could not be confirmed "
            "everywhere.",
        )
    again = getattr(error, "retry_after", None) is not None
    return _PAGE.format(
        title="Session not saved",
        text="Your changes could not be saved."
        + (" Please try again in a moment." if again else ""),
    )
