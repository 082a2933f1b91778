"""The sessions of one application, and everything that lives as long as it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Unpack

import msgspec
from tornado.httputil import HTTPHeaders

from .checks import principal_name, seconds, text, type_error
from .exceptions import (
    SessionConflict,
    SessionGone,
    SessionRefused,
    StoreError,
)
from .session import Session, WatchedSession
from .sessions import ids
from .sessions.codec import Codec
from .sessions.lifetime import Lifetime
from .sessions.lookup import NOTHING, Found, Lookup
from .sessions.record import Record
from .sessions.repository import Observer, Operations, Repository, Stored
from .sessions.revocation import Revocation, UserSession
from .sessions.rotation import Rotation
from .sessions.serializers import check_items
from .sessions.state import UNLOADED, Presented
from .sessions.tasks import Tasks
from .settings import SessionSettings, Settings, build_codec, build_store
from .stats import COUNTERS
from .stores.base import NodeCallback, Store
from .stores.memcached import MemcachedStore
from .stores.memory import MemoryStore
from .unsaved import Unsaved, place_of_caller
from .web.caching import FOR_SHARED_CACHES
from .web.request import Requests, Step
from .web.transport import Carried, Transport, build_transport

if TYPE_CHECKING:
    from tornado.web import Application, RequestHandler

__all__ = ["SessionManager"]

logger: logging.Logger = logging.getLogger("tornado_mcsession")

# Longer than any save may take with the default timeouts.
DRAIN_TIMEOUT = 30.0
# How many sessions that a request could not use are remembered, so that each is
# reported once.
_MOST_REPORTED = 1024
_SLOT = "session_manager"
_ATTEMPTS = 3


class SessionManager:
    """Loads and saves the sessions of an application, and lives as long as it.

    Attaches itself to ``application``, where `.SessionMixin` finds it. Where none
    is attached, the first handler with a session attaches one built from the
    application's settings; building it at start checks them at start::

        app = Application(handlers, session={"store": "memcached://10.0.0.1"})
        SessionManager(app)

    ``options`` are the settings, see `.SessionSettings`, and override those of
    ``application.settings["session"]``. `of` returns an application's manager. A
    second manager of one application needs
    another ``name``, which is its cookie's name by default. Without an application
    it serves jobs and tests, by session id; ``cookie_secret`` and ``key_version``
    are then the application's settings of these names, which `revoke` needs.

    Raises `ValueError` or `TypeError` for a setting that makes no sense, and
    `RuntimeError` if a manager of this name is attached already. Starts no
    thread, connection or task before its first use.
    """

    def __init__(
        self,
        application: Application | None = None,
        *,
        name: str = "session",
        cookie_secret: ids.CookieSecret | None = None,
        key_version: int | None = None,
        **options: Unpack[SessionSettings],
    ) -> None:
        if application is not None and not hasattr(application, "settings"):
            raise type_error("application", application, "a tornado.web.Application")
        attached = {} if application is None else application.settings
        slot = _slot(name)
        if slot in attached:
            raise RuntimeError(f"a SessionManager named {name!r} is attached already")
        if application is not None:
            if cookie_secret is not None or key_version is not None:
                raise ValueError(
                    "cookie_secret and key_version are settings of the application; as "
                    "arguments they are for a SessionManager without one"
                )
            cookie_secret = attached.get("cookie_secret")
            key_version = attached.get("key_version")
        given = {**_configured(attached), **options}
        self.name = name
        settings = Settings.build(given, name=name)
        self.settings: Settings = settings
        self.transport: Transport = build_transport(
            settings,
            name=name,
            secret=None if application is None else cookie_secret,
            key_version=key_version,
        )
        self.counts: Counter[str] = Counter()
        self.tasks: Tasks = Tasks()
        self.store: Store = build_store(settings)
        idle = settings.idle_timeout
        self.lifetime: Lifetime = Lifetime(
            idle_timeout=None if callable(idle) else idle,
            lifetime=settings.lifetime,
            anonymous_timeout=settings.anonymous_timeout,
            renew_after=settings.renew_after,
            choose=self._choose_timeout if callable(idle) else None,
        )
        self.codec: Codec = build_codec(settings, self.lifetime)
        self._operations = Operations(
            self.store, trusted=type(self.store) in (MemcachedStore, MemoryStore)
        )
        self.records: Repository = Repository(
            self._operations,
            self.codec,
            self.lifetime,
            max_size=settings.max_size,
            clock=settings.clock,
            counts=self.counts,
        )
        keys = settings.encryption_keys
        self.revocation: Revocation = Revocation(
            self._operations,
            self.codec,
            ids.linking_keys(keys, cookie_secret, key_version),
            knows_all=bool(keys or application or cookie_secret is not None),
            most_sessions=settings.most_sessions,
            lifetime=settings.lifetime,
            clock=settings.clock,
        )
        keep_for = math.inf if settings.lifetime is None else settings.lifetime
        self._on_begin: list[Callable[..., object]] = []
        self._on_end: list[Callable[..., object]] = []
        self._reported: set[tuple[str, str]] = set()
        self.rotation: Rotation = Rotation(
            self.records, self.revocation, self.tasks, keep_for, self.report_end
        )
        self.store.on_connect(lambda _: self.rotation.pending.retry_soon())
        self.unsaved: Unsaved = Unsaved(self.counts, debug=bool(attached.get("debug")))
        self.lookup: Lookup = Lookup(self.records, self.revocation, self.tasks)
        self.requests: Requests = Requests(
            settings, self.transport, self.tasks, self.counts
        )
        if "store" not in given and not attached.get("debug"):
            logger.warning(
                "sessions are kept in this process alone, and lost with it; set "
                "session={'store': 'memcached://host:port'}"
            )
        attached[slot] = self

    def __repr__(self) -> str:
        return f"<SessionManager {self.name!r} store={self.store!r}>"

    @classmethod
    def of(
        cls, owner: Application | RequestHandler, name: str | None = None
    ) -> SessionManager:
        """Return the manager of an application, or of a handler's application.

        ``name`` is the manager's; by default it is the one that a handler's
        ``session_manager_name`` names, else ``"session"``. If the application has no
        manager of that name yet, one is attached, built from its settings.

        Raises `RuntimeError` if there is none of another name, and what the
        constructor raises.
        """
        application: Any = getattr(owner, "application", owner)
        settings: dict[str, Any] | None = getattr(application, "settings", None)
        if settings is None:
            raise type_error("owner", owner, "an Application or a RequestHandler")
        if name is None:
            name = getattr(owner, "session_manager_name", "session")
        # The usual one is found for each request: its slot need not be made.
        slot = _SLOT if name == "session" else _slot(name)
        manager = settings.get(slot)
        if manager is None:
            if name != "session":
                raise RuntimeError(
                    f"no SessionManager named {name!r} is attached: "
                    f"SessionManager(application, name={name!r})"
                )
            return cls(application)
        if not isinstance(manager, SessionManager):
            raise TypeError(f"the setting {slot!r} must hold a SessionManager")
        return manager

    # For requests: what SessionMixin calls.

    async def open(self, handler: RequestHandler) -> Session:
        """Return the session of a request, loaded; empty if it has none.

        Raises `.StoreError` if the store cannot tell.
        """
        session = self.session_of(handler)
        await self.load(session)
        return session

    def session_of(
        self, handler: RequestHandler, loop: asyncio.AbstractEventLoop | None = None
    ) -> Session:
        """Return the session of a request, which is still to be `load`-ed."""
        return self.session_for(handler, self.transport.present(handler), loop)

    def session_for(
        self,
        handler: RequestHandler,
        carried: Carried,
        loop: asyncio.AbstractEventLoop | None,
    ) -> Session:
        """Return the session of a request, whose ids were read."""
        session = (
            WatchedSession(self, handler, carried.ids, loop, owner=type(handler))
            if self.unsaved.watches_next()
            else Session(self, handler, carried.ids, loop)
        )
        if not carried.ids:
            session._loaded(_UNREADABLE if carried.seen else NOTHING)
        return session

    async def load(self, session: Session) -> None:
        """Load what the request presented. Raises `.StoreError`.

        Where ``on_error`` says to go on without the store, the session is empty and
        not `.Session.available`.
        """
        session_ids = session._presented_ids
        if session._phase is not UNLOADED:
            if session._validating is not None:
                await session._validating  # another task has begun to load it
            return
        pending = self.rotation.pending
        if pending.ids:
            pending.arm()  # they may have been left behind by a loop that was closed
        self.counts["loads"] += 1
        try:
            if len(session_ids) == 1:
                found = await self.lookup.find(session_ids[0])
            else:
                found = await self.lookup.find_one_of(session_ids)
        except (StoreError, SessionConflict) as error:
            handler = session._handler_now()
            if self.requests.decide("load", error, handler) == "raise":
                raise
            session._failed()
            return
        if session._phase is UNLOADED:  # another task may have been faster
            session._loaded(found)
            self.counts["misses" if found.stored is None else "hits"] += 1
            if found.expired is not None:
                self._report_once("expired", found.expired, session)
            if self.settings.validate is not None and found.stored is not None:
                await self._validate(session)

    async def commit(
        self, session: Session, handler: RequestHandler | None = None
    ) -> None:
        """Save what the request did to ``session``, if it did anything.

        With ``handler``, the cookie is then put into its response, which must not
        have been flushed: for a second session in one request, which `open` returned.
        No cache may keep that response, whatever the handler said before. An error
        page in its place has the cookie too, if the handler is a `.SessionMixin`.
        Raises `.SessionConflict`, `.SessionTooLarge`, `.EncodeError` or
        `.StoreError`; changes to a session that another request ended are dropped
        and counted.
        """
        turn = session._own_turn()
        turn.refuse_holder()
        async with turn:
            plan = self.requests.plan(session, failed=False, save=None, renew=True)
            if plan.step is not Step.NOTHING:
                await self.requests.commit(session, plan, renew=True)
        if handler is not None:
            headers = HTTPHeaders()
            self.deliver(handler, headers, session)
            if "Set-Cookie" in headers:
                # What the handler allowed before cannot be read, so all of it goes.
                for name in FOR_SHARED_CACHES:
                    handler.clear_header(name)
                handler.clear_header("Cache-Control")
                headers["Cache-Control"] = "no-store"
            tell = getattr(handler, "tell_client", None)
            if tell is not None:
                tell(headers)
            else:
                for name, value in headers.get_all():
                    handler.add_header(name, value)

    def deliver(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session
    ) -> None:
        """Put the cookie into ``headers``, if the client must be told something."""
        self.requests.deliver(handler, headers, session)

    # The hooks of the settings. What one raises passes as it is.

    async def mint(self, session: Session, digest: str) -> str:
        """Return a new session id, with a principal's ``digest`` if any."""
        generate = self.settings.generate_id
        if generate is None:
            return ids.new_id(digest)
        base = await _awaited(generate(session._handler_now()))
        return ids.with_digest(base, digest)

    async def admit(self, session: Session) -> None:
        """Raise `.SessionRefused` where the application wants no new session."""
        allow = self.settings.allow_new
        if allow is not None and not await _awaited(allow(session._handler_now())):
            self.counts["refused_sessions"] += 1
            raise SessionRefused

    async def before_save(self, session: Session) -> None:
        """Let the application look at what is about to be saved, and change it."""
        look = self.settings.before_save
        if look is not None:
            await _awaited(look(session._handler_now(), session))

    def _choose_timeout(self, record: Record) -> float | None:
        """Return what the ``idle_timeout`` setting says of a session."""
        choose = self.settings.idle_timeout
        if not callable(choose):
            return choose
        what = "what idle_timeout returns"
        chosen = seconds(what, choose(Session._showing(self, record)))
        if chosen is None and self.settings.lifetime is None:
            raise ValueError(f"{what} must not be None where lifetime is None")
        return chosen

    async def _validate(self, session: Session) -> None:
        assert self.settings.validate is not None
        handler = session._handler_now()
        session._validating = asyncio.get_running_loop().create_future()
        try:
            accepted = await _awaited(self.settings.validate(handler, session))
            if not isinstance(accepted, bool):
                raise type_error("what validate returns", accepted, "True or False")
        except BaseException:
            session._refused()  # nobody has said that it may be used
            raise
        else:
            session._accessed = False
            if not accepted:
                refused = session._stored
                session._refused()
                if refused is not None:
                    self._report_once("refused", refused, session)
        finally:
            session._validating.set_result(None)
            session._validating = None

    # For code outside a request.

    async def get(self, session_id: str) -> Session | None:
        """Return the session of ``session_id``, or `None` if there is none.

        It can be changed like a request's own; nothing is saved by itself: await its
        `~.Session.save`. Raises `ValueError` for an invalid session id, and
        `.StoreError`.
        """
        found = await self.lookup.find(ids.check_id(session_id))
        if found.stored is None:
            return None
        session = WatchedSession(self, owner=place_of_caller())
        session._loaded(found)
        return session

    async def set(
        self,
        session_id: str,
        data: Mapping[str, Any],
        ttl: float | timedelta | None = None,
    ) -> None:
        """Put ``data`` in the place of a session's, or begin the session.

        A session that exists keeps its principal and its beginning. It ends after
        ``ttl`` seconds, within its lifetime; without one it is renewed, as by a
        request. Where there is none it begins under this very id, which must
        therefore never be one that a client has chosen.

        Raises `ValueError` for an invalid session id, `.SessionGone` for one that
        was ended or replaced, and `.StoreError`.
        """
        at = self.records.at(ids.check_id(session_id))
        if not isinstance(data, Mapping):
            raise type_error("data", data, "a mapping")
        serializer = self.codec.serializer
        check_items(serializer, dict(data))
        if self.codec.schema is not None:
            self.codec.schema.check(data)
        encoded, now = serializer.dumps(dict(data)), self.settings.clock()
        lifespan = seconds("ttl", ttl)
        end = None if lifespan is None else now + lifespan
        found = await self.lookup.find(session_id)
        if found.presented is Presented.ENDED:
            raise SessionGone("session was ended by another request")

        def edit(stored: Stored) -> Record:
            record = stored.record
            edited = msgspec.structs.replace(
                record, data=encoded, end=record.end if end is None else end
            )
            return self.lifetime.renewed(edited, now, cookie=False)

        blank = Record(
            created=now, renewed_at=now, expires_at=now, data=encoded, end=end
        )
        blank = self.lifetime.renewed(blank, now)
        for _ in range(_ATTEMPTS):
            if found.stored is not None:
                stored = await self.records.change(at, edit)
                await self.revocation.keep(stored.id, stored.record)
                return
            created = await self.records.create(session_id, blank)
            # What has ended is kept a moment longer, and so is what nobody can read.
            if created is not None or await self.records.supersede(at, blank):
                self.report_begin()
                return
            found = await self.lookup.find(session_id)
        raise SessionConflict(_ATTEMPTS)

    async def destroy(self, session_id: str) -> bool:
        """End the session of ``session_id``; return whether it was there.

        Raises `ValueError` for what is no session id. Where the store cannot tell it
        raises `.StoreUnavailable`, and tries again when it answers.
        """
        return await self.end_session(ids.check_id(session_id))

    async def end_session(
        self, session_id: str, at: Stored | None = None, by: Session | None = None
    ) -> bool:
        """End a session, now or as soon as its node answers.

        Raises `.SessionGone` if another login has taken its place, and
        `.StoreError` if the end is not confirmed yet.
        """
        try:
            ended = await self.rotation.end(session_id, at=at)
        except (StoreError, asyncio.CancelledError):
            self.rotation.pending.add(session_id)
            raise
        if ended is None:
            return False
        self.report_end("logout", ended.principal, by)
        return True

    async def revoke(self, principal: str | int) -> bool:
        """End every session that is logged in as ``principal``.

        None of them can be used any more when it returns: for a locked account, a
        reset password, "log out everywhere". Costs the same however many there are.
        Returns whether there may have been any: whether anybody logged in as
        ``principal`` for as long as a session may live. Later logins are not
        affected.

        Raises `.StoreError` if that cannot be confirmed; it is not tried again
        by itself. Raises `RuntimeError` in a manager that has no application, and
        was not given its ``cookie_secret`` nor ``encryption_keys``: it would look in
        the wrong place.
        """
        who = principal_name(principal)
        ended = await self.revocation.revoke(who)
        if ended:
            self.report_end("revoked", who)
        return ended

    async def sessions(
        self, principal: str | int, current: Session | None = None
    ) -> list[UserSession]:
        """Return the sessions of ``principal``, the last used ones first.

        Those that logged in with the setting ``track_sessions``, at most 100. Where
        ``current`` is the session of this request, its item says ``is_current``.
        Costs one store operation, however many there are.

        Raises `.StoreError`, and `RuntimeError` if the setting is off, or if
        `revoke` raises it.
        """
        self._must_track("sessions")
        handle = None if current is None else current._handle
        return await self.revocation.sessions(principal_name(principal), handle)

    async def end(self, principal: str | int, handle: str) -> bool:
        """End the session of ``principal`` with this ``handle``, see `.UserSession`.

        It cannot be used any more when this returns, in any process. Returns whether
        it was in the list. The handle may come from a form as it is: it ends nothing
        but a session of ``principal``. To end the request's own session, use
        `.Session.logout`, which also clears the cookie.

        Raises `.StoreError` if that cannot be confirmed; it is not tried again by
        itself. Raises `RuntimeError` as `sessions` does.
        """
        self._must_track("end")
        who, name = principal_name(principal), text("handle", handle)
        ended = await self.revocation.end(who, name)
        if ended:
            self.report_end("revoked", who)
        return ended

    def _must_track(self, verb: str) -> None:
        if not self.settings.track_sessions:
            raise RuntimeError(f"{verb} needs the setting track_sessions=True")

    # What it tells of itself.

    def on_connect(self, callback: NodeCallback) -> None:
        """Call ``callback`` with a node's name when the node begins to answer.

        Once per change, on the event loop that saw it.
        """
        self.store.on_connect(callback)

    def on_disconnect(self, callback: NodeCallback) -> None:
        """Call ``callback`` with a node's name when the node ceases to answer."""
        self.store.on_disconnect(callback)

    def observe(self, callback: Observer) -> None:
        """Call ``callback(kind, node, seconds, outcome)`` after each store operation.

        ``kind`` is the operation (``"get"``, ``"get_many"``, ``"add"``, ``"cas"``),
        ``node`` the node's name (empty if the store has none), and ``outcome``
        one of ``"hit"``, ``"miss"``, ``"stored"``, ``"not_stored"``,
        ``"conflict"``, ``"missing"``, ``"unavailable"`` and ``"rejected"``. Also
        called with ``"begin"`` when a session begins, and with ``"end"`` when one
        ends; the outcome is then ``"new"``, or a reason of `on_end`. What it raises
        is logged. For metrics and traces; without an observer nothing is measured.
        """
        self._operations.observers.append(callback)

    def on_begin(self, callback: Callable[[str | None, Any], object]) -> None:
        """Call ``callback(principal, handler)`` when a session begins.

        It has then been stored for the first time. ``principal`` is the text of who
        is logged in, or `None`. ``handler`` is the request's, and `None` outside a
        request; its headers have the session id, so do not log them. A plain
        function, which must be quick. What it raises is logged.
        """
        self._on_begin.append(_plain("on_begin", callback))

    def on_end(self, callback: Callable[[str, str | None, Any], object]) -> None:
        """Call ``callback(reason, principal, handler)`` when a session has ended.

        ``reason`` is one of

        - ``"logout"``: by `.Session.destroy`, `destroy` or a new login;
        - ``"revoked"``: all sessions of ``principal``, or all but one; called once.
          Or one of them, by `end` or since there were more than ``max_sessions``;
        - ``"rotated"``: the session goes on under a new id, for example by a login;
        - ``"expired"``: a request presented a session that had ended by itself;
        - ``"refused"``: the ``validate`` setting refused it; it is stored as before.

        The last two are reported once for each session, by each process that meets
        it. A session that expires is not reported if no request presents it within
        five minutes. The rest is as in `on_begin`; ``principal`` is whose session
        it was.
        """
        self._on_end.append(_plain("on_end", callback))

    def report_begin(
        self, principal: str | None = None, by: Session | None = None
    ) -> None:
        """Count and report a session that has begun; ``by`` is the request's."""
        self.counts["begun"] += 1
        self._operations.report("begin", "", 0.0, "new")
        for callback in self._on_begin:
            try:
                callback(principal, _handler_of(by))
            except Exception:
                logger.exception("a callback of on_begin failed")

    def report_end(
        self, reason: str, principal: str | None = None, by: Session | None = None
    ) -> None:
        """Count and report a session that has ended; `on_end` has the reasons."""
        self.counts[f"ended_{reason}"] += 1
        self._operations.report("end", "", 0.0, reason)
        for callback in self._on_end:
            try:
                callback(reason, principal, _handler_of(by))
            except Exception:
                logger.exception("a callback of on_end failed")

    def _report_once(self, reason: str, found: Stored, session: Session) -> None:
        """Report a session that a request could not use, if it was not yet."""
        if (reason, found.key) in self._reported:
            return
        if len(self._reported) >= _MOST_REPORTED:
            self._reported.clear()
        self._reported.add((reason, found.key))
        self.report_end(reason, found.record.principal, session)

    def count_refused_end(self) -> None:
        """Count a logout by an id that another login has replaced."""
        self.counts["refused_ends"] += 1
        logger.info(
            "a logout was refused: somebody has logged in since, under a new id"
        )

    def stats(self) -> dict[str, Any]:
        """Return counters since the start, and the store's own figures.

        ``loads``, ``hits``, ``misses``, ``saves``, ``renewals``, ``conflicts``
        (saves that were tried again), ``dropped_saves``, ``corrupt_records``,
        ``refused_sessions``, ``withheld_sessions``, ``ambiguous_cookies``,
        ``refused_ends``, ``dropped_ends``, ``held_answers``, ``unsaved_changes``,
        sessions ``begun``, and errors by phase and ends by reason.
        """
        return {
            **dict.fromkeys(COUNTERS, 0),
            **self.counts,
            "running_saves": len(self.tasks),
            "pending_destroys": len(self.rotation.pending),
            "store": self.store.stats(),
        }

    async def health(self) -> dict[str, Any]:
        """Ask each node of the store now whether it can keep sessions.

        ``status`` is ``"ok"``, ``"degraded"`` if some nodes cannot, or ``"down"``
        if none can; ``nodes`` says of each whether it can (``ok``) and in how
        many ``seconds``, or the ``error``. For a readiness endpoint: "degraded" is
        no reason to send users elsewhere, since every process sees the same nodes.
        Takes no longer than two operations, and raises nothing.
        """
        nodes = await self.store.health()
        failing = sum(not node["ok"] for node in nodes.values())
        if not failing:
            status = "ok"
        else:
            status = "down" if failing == len(nodes) else "degraded"
        return {"status": status, "nodes": nodes}

    # Its end.

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait for the saves under way; return whether all of them ended.

        ``timeout`` is in seconds, `None` waits for all. Call it between
        `~tornado.httpserver.HTTPServer.stop` and ``close_all_connections``, which
        would end the responses that wait for their sessions.
        """
        return await self.tasks.drain(timeout)

    async def close(self, timeout: float | None = None) -> None:
        """Wait for the saves under way, then close the store.

        It waits for ``timeout`` seconds at most, 30 if it is `None`. What still
        waits for a node to come back fails then.
        """
        limit = DRAIN_TIMEOUT if timeout is None else timeout
        self.store.stop_waiting()
        if not await self.drain(limit):
            logger.warning("some saves were not done within %g s", limit)
        pending = self.rotation.pending
        if len(pending):
            logger.warning(
                "unconfirmed logouts that were never finished: %d; those sessions "
                "may still be there",
                len(pending),
            )
        pending.close()
        await self.store.close()
        await self.drain(self.store.timeout)  # what waited for a node has failed

    async def __aenter__(self) -> SessionManager:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


_UNREADABLE = Found(Presented.UNKNOWN)


def _handler_of(session: Session | None) -> Any:
    # An empty session is false.
    return None if session is None else session._handler_now()


def _plain(name: str, callback: Callable[..., object]) -> Callable[..., object]:
    if not callable(callback):
        raise type_error(f"the callback of {name}", callback, "a function")
    if inspect.iscoroutinefunction(callback):
        raise TypeError(
            f"the callback of {name} must be a plain function, not async: nobody "
            "awaits it"
        )
    return callback


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _configured(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    given: object = settings.get("session")
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise type_error("the application's setting 'session'", given, "a dict")
    return given


def _slot(name: str) -> str:
    if not text("name", name):
        raise ValueError("name must not be empty")
    return _SLOT if name == "session" else f"{_SLOT}:{name}"
