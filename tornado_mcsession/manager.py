"""The sessions of one application, and everything that lives as long as it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from . import _keys, _parts, _report
from ._assembly import Assembly
from .checks import principal_name, text, type_error
from .config import SessionConfig
from .session import Session, state_of
from .stores.base import NodeCallback

if TYPE_CHECKING:
    from tornado.web import Application, RequestHandler

__all__ = ["SessionManager", "attached_manager"]

logger = logging.getLogger("tornado_mcsession")

# Longer than any commit may take with the default timeouts.
DRAIN_TIMEOUT = 30.0
_SLOT = "session_manager"


class SessionManager:
    """Loads and saves the sessions of an application, and lives as long as it.

    Attaches itself to ``application``, where `.SessionMixin` finds it. Where
    none is attached, the first handler with a session attaches one built from
    the application's settings; building it at start checks them at start::

        app = Application(handlers, session={"store": "memcached://10.0.0.1"})
        SessionManager(app)

    ``options`` are the settings, and override those of
    ``application.settings["session"]``. A second manager of one application
    needs another ``name``, which is its cookie's name by default. Without an
    application it serves jobs and tests, by session id; ``cookie_secret`` and
    ``key_version`` are then the application's settings of these names, which
    `revoke` needs.

    Raises `ValueError` or `TypeError` for a setting that makes no sense, and
    `RuntimeError` where a manager of this name is attached already. Starts no
    thread, connection or task before its first use.
    """

    def __init__(
        self,
        application: Application | None = None,
        *,
        name: str = "session",
        cookie_secret: _keys.CookieSecret | None = None,
        key_version: int | None = None,
        **options: Any,
    ) -> None:
        if application is not None and not hasattr(application, "settings"):
            raise type_error("application", application, "a tornado.web.Application")
        settings = {} if application is None else application.settings
        slot = _slot(name)
        if slot in settings:
            raise RuntimeError(f"a SessionManager named {name!r} is attached already")
        given = {**_configured(settings), **options}
        self.name = name
        self.config = SessionConfig.build(given, name=name)
        own = None if application is None else settings
        secret, version = _keys.cookie_secret(own, cookie_secret, key_version)
        keys = self.config.encryption_keys
        self.transport = _parts.build_transport(
            self.config,
            name=name,
            secret=None if own is None else secret,
            key_version=version,
        )
        self.counts: Counter[str] = Counter()
        self.store = _parts.build_store(self.config)
        self._parts = Assembly(
            self.config,
            self.store,
            self.transport,
            self.counts,
            _keys.linking_keys(keys, secret, version),
            knows_all=bool(keys) or own is not None or secret is not None,
        )
        self.opening, self.policy = self._parts.opening, self._parts.policy
        self.tasks = self._parts.tasks
        if "store" not in given and not settings.get("debug"):
            logger.warning(
                "sessions are kept in this process alone, and lost with it; set "
                "session={'store': 'memcached://host:port'}"
            )
        settings[slot] = self

    def __repr__(self) -> str:
        return f"<SessionManager {self.name!r} store={self.store!r}>"

    # For requests: what SessionMixin calls.

    async def open(self, handler: RequestHandler) -> Session:
        """Return the session of a request, loaded; empty where it has none.

        Raises `.StoreError` where the store cannot tell.
        """
        begun = self.opening.begin(handler)
        if isinstance(begun, str):
            return await self.opening.load(handler, begun)
        return begun

    async def commit(self, session: Session) -> None:
        """Save what the request did to ``session``, if it did anything.

        Raises `.SessionConflict`, `.SessionTooLarge`, `.EncodeError` or
        `.StoreError`; changes to a session that another request ended are
        dropped and counted.
        """
        state = state_of(session)
        async with state.in_turn():
            plan = self.policy.plan(state, failed=False, save=None, renew=True)
            await self.policy.commit(state, plan)

    def start(self, work: Coroutine[Any, Any, None], session_id: str | None) -> None:
        """Run ``work``, which `drain` waits for.

        With a ``session_id``, so does the next request for that session.
        """
        key = None if session_id is None else self._parts.records.key_of(session_id)
        self.tasks.start(work, key)

    # For code outside a request.

    async def get(self, session_id: str) -> Session | None:
        """Return the session of ``session_id``, or `None` if there is none.

        It can be changed and saved like a request's own. Raises `ValueError`
        for what is no session id, and `.StoreError`.
        """
        stored = await self._parts.records.get(session_id)
        if stored is None:
            return None
        return self.opening.show(session_id, stored)

    async def set(
        self,
        session_id: str,
        data: Mapping[str, Any],
        ttl: float | timedelta | None = None,
    ) -> None:
        """Put ``data`` in the place of a session's, or begin the session.

        A session that exists keeps its principal and its beginning. It ends
        after ``ttl`` seconds, within its lifetime; without one it is renewed, as
        by a request. Where there is none it begins under this very id, which
        must therefore never be one that a client has chosen.

        Raises `ValueError` for what is no session id, `.SessionGone` for one that
        was replaced or revoked, and `.StoreError`.
        """
        await self._parts.records.set(session_id, data, ttl)

    async def destroy(self, session_id: str) -> bool:
        """End the session of ``session_id``; return whether it was there.

        Raises `ValueError` for what is no session id. Where the store cannot
        tell it raises `.StoreUnavailable`, and tries again when it answers.
        """
        self._parts.records.key_of(session_id)
        return bool(await self._parts.endings.delete(session_id))

    async def revoke(self, principal: str | int) -> bool:
        """End every session that is logged in as ``principal``.

        None of them can be used any more when it returns: for a locked account,
        a reset password, "log out everywhere". Costs the same however many there
        are. Returns whether there may have been any: whether anybody logged in
        as ``principal`` for as long as a session may live. Who logs in afterwards
        is not concerned.

        Raises `.StoreError` where that cannot be confirmed; it is not tried
        again by itself. Raises `RuntimeError` in a manager that has no
        application, and was not given its ``cookie_secret`` nor
        ``encryption_keys``: it would look in the wrong place.
        """
        return await self._parts.markers.revoke(principal_name(principal))

    # The store's events, and the manager's own life.

    def on_connect(self, callback: NodeCallback) -> None:
        """Call ``callback`` with a node's name when the node begins to answer.

        Once per change, on the event loop that saw it.
        """
        self.store.on_connect(callback)

    def on_disconnect(self, callback: NodeCallback) -> None:
        """Call ``callback`` with a node's name when the node ceases to answer."""
        self.store.on_disconnect(callback)

    def stats(self) -> dict[str, Any]:
        """Return counters since the start, and the store's own figures.

        ``loads``, ``hits``, ``misses``, ``saves``, ``renewals``, ``conflicts``
        (saves that were tried again), ``dropped_saves``, ``corrupt_records``,
        ``refused_sessions``, ``held_answers``, and errors by phase.
        """
        return {
            **_report.counters(self.counts),
            "running_saves": len(self.tasks),
            "pending_destroys": len(self._parts.undeleted),
            "store": self.store.stats(),
        }

    async def health(self) -> dict[str, Any]:
        """Ask each node of the store now whether it can keep sessions.

        ``status`` is ``"ok"``, ``"degraded"`` where some nodes cannot, or
        ``"down"`` where none can; ``nodes`` says of each whether it can
        (``ok``) and in how many ``seconds``, or the ``error``. For a readiness
        endpoint: "degraded" is no reason to send users elsewhere, since every
        process sees the same nodes. Takes no longer than two operations, and
        raises nothing.
        """
        return await _report.health(self.store)

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait for the saves under way; return whether all of them ended.

        ``timeout`` is in seconds, `None` waits for all. Call it between
        `~tornado.httpserver.HTTPServer.stop` and ``close_all_connections``,
        which would end the answers that wait for their sessions.
        """
        return await self.tasks.drain(timeout)

    async def close(self) -> None:
        """Wait for the saves under way, then close the store."""
        if not await self.drain(DRAIN_TIMEOUT):
            logger.warning("some saves were not done within %g s", DRAIN_TIMEOUT)
        if len(self._parts.undeleted):
            logger.warning(
                "unconfirmed logouts that were never finished: %d; those sessions "
                "may still be there",
                len(self._parts.undeleted),
            )
        self._parts.undeleted.close()
        await self.store.close()
        await self.drain(self.store.timeout)  # what waited for a node has failed

    async def __aenter__(self) -> SessionManager:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


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


def attached_manager(application: Application, name: str) -> SessionManager:
    """Return the application's manager of this name; attach one if there is none."""
    # The usual one is found for each request: its slot need not be made.
    slot = _SLOT if name == "session" else _slot(name)
    manager = application.settings.get(slot)
    if manager is None and name != "session":
        raise RuntimeError(
            f"no SessionManager named {name!r} is attached: "
            f"SessionManager(application, name={name!r})"
        )
    if manager is None:
        manager = SessionManager(application, name=name)
    elif not isinstance(manager, SessionManager):
        raise TypeError(f"the setting {slot!r} must hold a SessionManager")
    return manager
