"""The session in a Tornado handler: the request's way through this package."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from tornado.httputil import HTTPHeaders
from tornado.websocket import WebSocketHandler

from .checks import one_of
from ._cycle import RequestCycle
from ._gate import ResponseGate
from ._pages import default_page
from ._tasks import DONE
from .exceptions import SessionError, SessionNotLoaded
from .manager import SessionManager, attached_manager
from .session import Session, state_of

if TYPE_CHECKING:
    from types import TracebackType

    from tornado.web import RequestHandler

    _Handler = RequestHandler
else:
    _Handler = object

__all__ = ["SessionMixin"]

logger = logging.getLogger("tornado_mcsession")

_NEVER_PREPARED = (
    "the session was not loaded: SessionMixin.prepare() was not called, or not "
    "awaited; a handler that overrides prepare() must await super().prepare(), and "
    "SessionMixin must stand before the handler class"
)
_LAZY = (
    "the session was not loaded: session_load is 'lazy'; await self.load_session() "
    "first"
)
_OFF = "the session was not loaded: session_load is 'off' for this handler"
_NEW = "the request presents no session"
_FAILED = "the session was not loaded: the store could not tell"


class SessionMixin(_Handler):
    """Gives a `~tornado.web.RequestHandler` its user's session.

    Put it before the handler class. The session is loaded in `prepare`, and
    saved when the request finishes, before its answer leaves::

        class Visits(SessionMixin, RequestHandler):
            def get(self):
                self.session["visits"] = self.session.get("visits", 0) + 1
                self.write(f"visit {self.session['visits']}")

    A handler that overrides ``prepare`` awaits ``super().prepare()``; one that
    overrides ``on_finish`` should call ``super().on_finish()``. An answer that
    cannot be saved is replaced by an error page, see `session_error`.
    """

    session_load: str = "eager"
    """When the session is loaded: ``"eager"`` in `prepare`, ``"lazy"`` by
    `load_session`, ``"off"`` never."""
    session_renew: bool = True
    """Whether using the session keeps it alive; False for polling routes."""
    session_save: bool | None = None
    """True: save an existing session even unchanged; False: never save."""
    session_manager_name: str = "session"
    """Which of the application's managers keeps this handler's session."""

    __session: Session | None = None
    __manager: SessionManager | None = None
    __cycle: RequestCycle | None = None
    __gate: ResponseGate | None = None
    __reason: str = _NEVER_PREPARED
    __task: asyncio.Task[Any] | None = None
    __flushed: bool = False  # headers have been sent to the connection
    __ended: bool = False  # so has all else
    __refused: bool = False  # the answer is an error page
    __retry_after: int | None = None

    # What handlers use.

    @property
    def session(self) -> Session:
        """The session of this request's user; `None` may be assigned, to end it.

        Raises `.SessionNotLoaded` where it was never loaded. While an error
        page is made for such a request, it is an empty one that is not saved.
        """
        session = self.__session
        if session is None or (self.__refused and not self.__is_loaded(session)):
            session = self.__without_load()
            self.__take(session)
        if self.__cycle is None:
            self.__watch(session)
        return session

    @session.setter
    def session(self, value: Mapping[str, Any] | None) -> None:
        if value is None:
            session = self.session
            assert self.__manager is not None
            self.__manager.policy.doom(session)
        else:
            self.session.replace(value)

    @property
    def session_id(self) -> str | None:
        """The id of the session; `None` before it is first saved."""
        return self.session.id

    async def load_session(self) -> Session:
        """Load the session, where `session_load` is ``"lazy"``, and return it.

        Loaded before, it is returned as it is. Raises `.StoreError`.
        """
        if self.__reason == _LAZY and self.__manager is not None:
            session = self.__session
            # One that was destroyed instead is not loaded again.
            if session is None or not self.__is_loaded(session):
                loaded = await self.__manager.open(self)
                if self.__reason == _LAZY:  # another task may have been faster
                    self.__take(loaded)
            self.__reason = ""
        return self.session

    def session_error(self, error: Exception) -> str | bytes | dict[str, Any]:
        """Return the page for an answer whose session could not be saved.

        Override it. The handler has finished by then: it can neither write nor
        render (nor ``render_string``: Tornado has taken its UI modules down; a
        template loader of your own works), and its status and headers are set.
        Text is sent as HTML, a dict as JSON. ``error`` is a `.SessionError`, or
        what a hook raised.
        """
        return default_page(error)

    # What Tornado calls.

    def prepare(self) -> Awaitable[None]:
        """Load the session, then let other classes prepare."""
        manager = attached_manager(self.application, self.session_manager_name)
        self.__manager = manager
        self.__task = asyncio.current_task()
        if self.session_load == "eager":
            session_id = manager.opening.presented_id(self)
            if session_id is not None:
                return self.__prepare(manager, session_id)
            self.__reason = _NEW  # made when it is used: most are not
        else:
            one_of("session_load", self.session_load, ("eager", "lazy", "off"))
            self.__reason = _LAZY if self.session_load == "lazy" else _OFF
        return super().prepare() or DONE

    async def __prepare(self, manager: SessionManager, session_id: str) -> None:
        try:
            self.__session = await manager.opening.load(self, session_id)
        except Exception:
            self.__reason = _FAILED
            raise
        rest = super().prepare()
        if rest is not None:
            await rest

    def on_finish(self) -> None:
        """Save the session, if there is anything to save, and let the answer go."""
        super().on_finish()
        if self.__gate is not None:
            self.__gate.commit()
        elif self.session_save and self.__cycle is None and self.__session is not None:
            # Neither used, nor that of a WebSocket which has just opened.
            assert self.__manager is not None
            cycle = RequestCycle(self, self.__manager, self.__session)
            cycle.save_untouched(self.get_status())

    def on_connection_close(self) -> None:
        """Save what there is where the client left before its request was whole."""
        super().on_connection_close()
        if self.__task is not None:
            # Tornado then ends the task without finishing the answer.
            self.__task.add_done_callback(self.__abandon)

    def flush(self, include_footers: bool = False) -> asyncio.Future[None]:
        """Flush, with a Vary header where the headers leave before the end."""
        if include_footers:
            self.__ended = True
            if self.__gate is not None:
                self.__gate.begin_end()
        elif not self.__flushed:
            self.__flushed = True
            vary = self.__manager and getattr(self.__manager.transport, "vary", None)
            if vary and self.__cycle is None and self.session_load != "off":
                # Whether the rest will depend on the session is not known yet.
                self.add_header("Vary", vary)
        return super().flush(include_footers)

    if not TYPE_CHECKING:  # handlers may give their own get any signature

        async def get(self, *args: Any, **kwargs: Any) -> None:
            """Save what was done before a WebSocket opens; else only pass on."""
            if isinstance(self, WebSocketHandler):
                await self.__open_websocket()
            result = super().get(*args, **kwargs)
            if result is not None:
                await result

    async def __open_websocket(self) -> None:
        if self.__session is None and self.__reason == _NEW:
            self.__session = self.__without_load()
        if self.__session is None or self.__manager is None:
            return
        if self.__cycle is None:
            self.__cycle = RequestCycle(self, self.__manager, self.__session)
        headers = HTTPHeaders()
        await self.__cycle.before_handshake(headers)
        for name, value in headers.get_all():
            self.add_header(name, value)
        if self.__gate is None:
            self.__cycle.finished()

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Send an error page; a session's error has a status of its own."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        self.__refused = True
        if isinstance(error, SessionError):
            status_code, self.__retry_after = error.status, error.retry_after
        if self.__cycle is not None:
            self.__cycle.errored |= status_code >= 500
        super().send_error(status_code, **kwargs)

    def clear(self) -> None:
        """Begin the answer anew; that an error page may be retried stays said."""
        super().clear()
        if self.__retry_after is not None:
            self.set_header("Retry-After", str(self.__retry_after))
            self.set_header("Cache-Control", "no-store")

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log an outage of the store in a line, and all else as ever."""
        status = value.status if isinstance(value, SessionError) else 500
        if status != 500:
            level = logging.ERROR if status == 503 else logging.INFO
            method, path = self.request.method, self.request.path
            logger.log(level, "%d for %s %s: %s", status, method, path, value)
        else:
            super().log_exception(typ, value, tb)

    def __without_load(self) -> Session:
        manager = self.__manager
        if manager is not None and self.__reason == _NEW:
            return manager.opening.fresh(self)
        if self.__refused:
            # An error page for a request that was refused before prepare().
            if manager is None:
                manager = attached_manager(self.application, self.session_manager_name)
                self.__manager = manager
            return manager.opening.unavailable(self)
        if manager is not None and self.__reason == _LAZY:
            return manager.opening.unloaded(self, _LAZY)
        raise SessionNotLoaded(self.__reason)

    def __is_loaded(self, session: Session) -> bool:
        return state_of(session).unloaded is None

    def __take(self, session: Session) -> None:
        if self.__cycle is not None:
            self.__cycle.take(session)
        self.__session = session

    def __watch(self, session: Session) -> None:
        assert self.__manager is not None
        cycle = self.__cycle = RequestCycle(self, self.__manager, session)
        if self.__ended:
            cycle.detached = self.get_status() == 101
            cycle.finished()
            return
        if self.__flushed:
            cycle.seal()
        connection = self.request.connection
        assert connection is not None
        self.__gate = ResponseGate(connection, cycle, is_open=self.__flushed)
        self.request.connection = self.__gate

    def __abandon(self, task: asyncio.Task[Any]) -> None:
        if self.__gate is not None:
            self.__gate.abandon()
