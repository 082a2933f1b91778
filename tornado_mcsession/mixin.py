"""The session in a Tornado handler."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from tornado.httputil import HTTPHeaders
from tornado.web import Finish, HTTPError, RequestHandler
from tornado.websocket import WebSocketHandler

from .checks import kind_of
from .exceptions import (
    SessionError,
    SessionGone,
    SessionNotLoaded,
    StoreUnavailable,
)
from .manager import SessionManager
from .session import Session
from .sessions.state import (
    CLOSED,
    DETACHED,
    UNLOADED,
)
from .web.request import RequestSession, default_page
from .web.response import HeldResponse
from .web.transport import Carried

if TYPE_CHECKING:
    from types import TracebackType

    from tornado.iostream import IOStream

    _Handler = RequestHandler
else:
    _Handler = object

__all__ = ["SessionMixin", "SessionStatusHandler"]

logger: logging.Logger = logging.getLogger("tornado_mcsession")

_NEVER_PREPARED = (
    "the session was not loaded: SessionMixin.prepare() was not called; a handler that "
    "overrides prepare() must await super().prepare()"
)
_NOT_AWAITED = (
    "the session was not loaded: super().prepare() was called, but not awaited; a "
    "handler that overrides prepare() must await super().prepare()"
)
_LAZY = (
    "the session was not loaded: session_load is 'lazy'; await self.load_session() "
    "first"
)
_OFF = "the session was not loaded: session_load is 'off' for this handler"
_READING = (
    "the session is not loaded yet: what the request carries is being read, for which "
    "the settings are asked"
)
_FAILED = "the session was not loaded: the store could not tell"
_PREPARED = ""
_NOT_SET = object()
_LOADS = kind_of(Literal["eager", "lazy", "off"])
# What a class sets; a property of these names is seen when a request asks for it.
_ATTRIBUTES = {
    "session_load": _LOADS,
    "session_renew": kind_of(bool),
    "session_save": kind_of(bool | None),
    "session_manager_name": kind_of(str),
}


class _Prepared:
    """What `SessionMixin.prepare` returns where there is nothing to load.

    Awaiting it notes that it was awaited, as it must be on requests with a cookie.
    """

    __slots__ = ("_mixin", "_rest", "_why")

    def __init__(
        self, mixin: Any, reason: str, rest: Callable[[], Awaitable[None] | None]
    ) -> None:
        self._mixin = mixin
        self._why = reason
        self._rest = rest

    def __await__(self) -> Generator[Any, None, None]:
        self._mixin._SessionMixin__reason = self._why
        rest = self._rest()
        if rest is not None:
            yield from rest.__await__()


class _WebSocketGet:
    """The verb that opens a WebSocket; for any other handler it is not there.

    A mixin that had a ``get`` of its own would change what ``super().get()`` finds,
    and which methods a handler allows.
    """

    def __get__(self, handler: Any, owner: type[Any]) -> Any:
        if isinstance(handler, WebSocketHandler):
            return handler._SessionMixin__get  # type: ignore[attr-defined]
        if handler is None:
            return getattr(super(SessionMixin, owner), "get")  # noqa: B009
        return super(SessionMixin, handler).get  # type: ignore[misc]


class SessionMixin(_Handler):
    """Gives a `~tornado.web.RequestHandler` its user's session.

    Put it before the handler class. The session is loaded in ``prepare``, and saved
    when the request finishes, before its response leaves::

        class Visits(SessionMixin, RequestHandler):
            def get(self):
                self.session["visits"] = self.session.get("visits", 0) + 1
                self.write(f"visit {self.session['visits']}")

    A handler that overrides ``prepare`` awaits ``super().prepare()``; one that
    overrides ``on_finish`` should call ``super().on_finish()``. A response whose
    session cannot be saved is replaced by an error page, see `session_error`.
    """

    session_load: Literal["eager", "lazy", "off"] = "eager"
    """When the session is loaded. ``"eager"`` means in ``prepare``, ``"lazy"`` by
    `load_session`, ``"off"`` never. A logout handler should be lazy: it needs no
    loading, and then works while the store is slow."""
    session_renew: bool = True
    """Whether using the session keeps it alive; False for polling routes."""
    session_save: bool | None = None
    """``True`` saves an existing session even unchanged. ``False`` saves nothing at the
    end of the request; what is awaited (``save()``, ``login()``) is stored all the
    same."""
    session_manager_name: str = "session"
    """Which of the application's managers keeps this handler's session."""

    __session: Session | None = None
    __manager: SessionManager | None = None
    __request: RequestSession | None = None
    __response: HeldResponse | None = None
    __reason: str = _NEVER_PREPARED
    __carried: Carried | None = None
    __told: tuple[tuple[str, str], ...] = ()  # headers of each page, errors too
    __task: asyncio.Task[Any] | None = None
    __loop: asyncio.AbstractEventLoop | None = None
    __flushed: bool = False  # headers have been sent to the connection
    __ended: bool = False  # so has all else
    __refused: bool = False  # the response is an error page
    __retry_after: int | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, kind in _ATTRIBUTES.items():
            value = cls.__dict__.get(name, _NOT_SET)
            if value is not _NOT_SET and not hasattr(value, "__get__"):
                kind.check(f"{cls.__name__}.{name}", value)
        order = cls.__mro__
        if RequestHandler not in order:
            return
        if order.index(RequestHandler) < order.index(SessionMixin):
            raise TypeError(
                f"{cls.__name__}: SessionMixin must stand before the handler class, as "
                f"in class {cls.__name__}(SessionMixin, RequestHandler)"
            )
        if cls.data_received is not RequestHandler.data_received:
            # A streamed upload: Tornado must not read on while a finished response
            # is held, or it would hand the rest to a handler that has finished.
            for name in ("prepare", "data_received"):
                method = getattr(cls, name)
                if not hasattr(method, "_waits_for_response"):
                    setattr(cls, name, _waiting(name, method))

    # What handlers use.

    @property
    def session(self) -> Session:
        """The session of this request's user; `None` may be assigned, to end it.

        Raises `.SessionNotLoaded` if it was never loaded. While an error page is
        made for such a request, it is an empty one that is not saved.
        """
        session = self.__session
        if session is None:
            session = self.__session = self.__made()
        if self.__refused and session._phase is UNLOADED:
            session._failed()
        if self.__request is None:
            self.__watch(session)
        return session

    @session.setter
    def session(self, value: Mapping[str, Any] | None) -> None:
        if value is None:
            self.session._doom()
        else:
            self.session.replace(value)

    @property
    def session_id(self) -> str | None:
        """The id of the session; `None` before it is first saved."""
        return self.session.id

    async def load_session(self) -> Session:
        """Load the session, if `session_load` is ``"lazy"``, and return it.

        Loaded before, it is returned as it is. Raises `.StoreError`.
        """
        session = self.session
        if self.__manager is not None:
            await self.__manager.load(session)
        return session

    def session_error(self, error: Exception) -> str | bytes | dict[str, Any]:
        """Return the page for a response whose session could not be saved.

        Override it. The handler has finished by then: it can neither write nor
        render (nor ``render_string``: Tornado has taken its UI modules down; a
        template loader of your own works), and its status and headers are set. Text
        is sent as HTML, a dict as JSON. ``error`` is a `.SessionError`, or what a
        hook raised.
        """
        return default_page(error)

    # What Tornado calls.

    def prepare(self) -> Awaitable[None]:
        """Load the session, then let other classes prepare."""
        manager = SessionManager.of(self)
        self.__manager = manager
        self.__task = task = asyncio.current_task()
        # Python 3.11 asks the system for the process each time it is asked for a loop.
        self.__loop = task.get_loop() if task else asyncio.get_running_loop()
        if self.session_load == "eager":
            self.__reason = _READING
            carried = manager.transport.present(self)
            self.__reason = _NOT_AWAITED
            if carried.ids:
                session = manager.session_for(self, carried, self.__loop)
                self.__session = session
                return self.__load(manager, session)
            self.__carried = carried  # a session is made when it is used: most are not
            return _Prepared(self, _PREPARED, super().prepare)
        _LOADS.check("session_load", self.session_load)
        self.__reason = _NOT_AWAITED
        reason = _LAZY if self.session_load == "lazy" else _OFF
        return _Prepared(self, reason, super().prepare)

    async def __load(self, manager: SessionManager, session: Session) -> None:
        self.__reason = session._why_unloaded = _FAILED
        await manager.load(session)
        self.__reason = _PREPARED
        rest = super().prepare()
        if rest is not None:
            await rest

    def on_finish(self) -> None:
        """Save the session, if there is anything to save, and let the response go."""
        super().on_finish()
        if self.__response is not None:
            self.__response.commit()
        elif (
            self.session_save and self.__request is None and self.__session is not None
        ):
            # Neither used, nor that of a WebSocket which has just opened.
            assert self.__manager is not None
            request = RequestSession(self, self.__manager.requests, self.__session)
            request.save_untouched(self.get_status())

    def on_connection_close(self) -> None:
        """Save what there is where the client left before its request was whole.

        Where a WebSocket closes, warn of changes that nobody has saved.
        """
        super().on_connection_close()
        session = self.__session
        if session is not None and session._reach is DETACHED:
            session._reach = CLOSED
            assert self.__manager is not None
            self.__manager.unsaved.socket_closed(session, type(self))
        elif self.__task is not None:
            # Tornado then ends the task without finishing the response.
            self.__task.add_done_callback(self.__abandon)

    def __abandon(self, task: asyncio.Task[Any]) -> None:
        if self.__response is not None:
            self.__response.abandon()

    def flush(self, include_footers: bool = False) -> asyncio.Future[None]:
        """Flush, with a Vary header where the headers leave before the end."""
        if self.__reason is _NOT_AWAITED:
            self.__refuse_unprepared()
        if include_footers:
            self.__ended = True
            if self.__response is not None:
                self.__response.begin_end()
        elif not self.__flushed:
            self.__flushed = True
            manager = self.__manager
            if manager and self.__request is None and self.session_load != "off":
                # Whether the rest will depend on the session is not known yet.
                for name in manager.transport.vary:
                    self.add_header("Vary", name)
        return super().flush(include_footers)

    if not TYPE_CHECKING:  # handlers may give their own get any signature
        get = _WebSocketGet()

    async def __get(self, *arguments: Any, **keywords: Any) -> None:
        """Save what was done before a WebSocket opens, then open it."""
        self.__refuse_unprepared()
        manager = self.__manager
        if self.__session is None and self.__carried is not None:
            self.__session = self.__made()
        session = self.__session
        if session is not None and manager is not None:
            if self.__request is None:
                self.__request = RequestSession(self, manager.requests, session)
            headers = HTTPHeaders()
            await self.__request.before_handshake(headers)
            self.tell_client(headers)
            if self.__response is None:
                self.__request.finished()
        result = super().get(*arguments, **keywords)
        if result is not None:
            await result

    def __refuse_unprepared(self) -> None:
        # On every request, not only on those that have a session.
        if self.__reason is _NOT_AWAITED and not self.__refused:
            raise SessionNotLoaded(_NOT_AWAITED)

    def detach(self) -> IOStream:
        """Take the stream over; raises where changes to the session are unsaved."""
        if self.__response is not None:
            self.__response.refuse_detaching()
        return super().detach()

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Send an error page; a session's error has a status of its own."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        self.__refused = True
        if isinstance(error, SessionError):
            status_code, self.__retry_after = error.status, error.retry_after
        if self.__request is not None:
            self.__request.failed |= status_code >= 500
        super().send_error(status_code, **kwargs)

    def tell_client(self, headers: HTTPHeaders) -> None:
        """Put ``headers`` into the response, and into the error page in its place.

        What was stored must be told, whatever becomes of the request:
        `.SessionManager.commit` puts the cookie of a further session here.
        """
        told = [*headers.get_all()]
        self.__told = (*self.__told, *told)
        for name, value in told:
            self.add_header(name, value)

    def clear(self) -> None:
        """Begin the response anew; that an error page may be retried stays said."""
        super().clear()
        for name, value in self.__told:
            self.add_header(name, value)
        if self.__retry_after is not None:
            self.set_header("Retry-After", str(self.__retry_after))
            self.set_header("Cache-Control", "no-store")

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log an outage of the store in one line, and everything else as usual."""
        status = value.status if isinstance(value, SessionError) else 500
        if status != 500:
            level = logging.ERROR if status == 503 else logging.INFO
            method, path = self.request.method, self.request.path
            logger.log(level, "%d for %s %s: %s", status, method, path, value)
        else:
            super().log_exception(typ, value, tb)

    def __made(self) -> Session:
        """Return the session where `prepare` has not made it."""
        manager, reason = self.__manager, self.__reason
        if manager is not None and self.__carried and reason is _PREPARED:
            return manager.session_for(self, self.__carried, self.__loop)
        if manager is not None and reason is _LAZY:
            session = manager.session_of(self, self.__loop)
            session._why_unloaded = _LAZY
            return session
        if not self.__refused:
            raise SessionNotLoaded(reason)
        # An error page for a request that was refused before prepare().
        if manager is None:
            manager = SessionManager.of(self)
            self.__manager = manager
        session = Session(manager, self)
        session._failed()
        return session

    def __watch(self, session: Session) -> None:
        if self.__reason is _NOT_AWAITED:
            self.__refuse_unprepared()
        assert self.__manager is not None
        request = RequestSession(self, self.__manager.requests, session)
        self.__request = request
        if self.__ended:
            if self.get_status() == 101:
                session._reach = DETACHED
            request.finished()
            return
        if self.__flushed:
            request.seal()
        connection = self.request.connection
        assert connection is not None
        loop = self.__loop or asyncio.get_running_loop()
        self.__response = HeldResponse(
            connection, request, loop, headers_left=self.__flushed
        )
        self.request.connection = self.__response

    def _refuses_upload(self, error: Exception) -> bool:
        """Send the error page of `prepare` now, where the client waits for a 100.

        Tornado would send the page when `prepare` has ended, and then, since the
        page is held, tell the client to send its body. Does what Tornado does.
        """
        headers = self.request.headers
        if self.__response is None or self.__ended or "Expect" not in headers:
            return False
        if isinstance(error, Finish):
            self.finish(*error.args)
            return True
        about = (type(error), error, error.__traceback__)
        self.log_exception(*about)
        if not self.__ended:
            status = error.status_code if isinstance(error, HTTPError) else 500
            self.send_error(status, exc_info=about)
        return True

    def _until_response_is_sent(self) -> asyncio.Future[None] | None:
        return None if self.__response is None else self.__response.until_sent()

    def _status_sent(self) -> int:
        """Return the status that was sent, which may be that of a failed save."""
        replaced = None if self.__response is None else self.__response.replaced_by
        return self.get_status() if replaced is None else replaced


class SessionStatusHandler(SessionMixin, RequestHandler):
    """Tells a page how long its session lasts, and renews it when asked to.

    For "you will be logged out in a minute". ``GET`` renews nothing, saves nothing and
    sets no cookie. ``POST`` renews the session by `.Session.touch`, and sends the
    cookie again. Both respond with JSON::

        {"seconds_left": 58, "logged_in": true}

    ``seconds_left`` is a whole number, rounded down; 0 if there is no session. If
    the store cannot tell, the response is a 503. For a manager with a name, set
    ``session_manager_name`` in a subclass.
    """

    session_renew = False
    session_save: bool | None = False

    def get(self) -> None:
        """Tell the session's seconds."""
        self.__tell()

    async def post(self) -> None:
        """Renew the session, if there is one, then tell its seconds."""
        try:
            if self.session.exists:
                await self.session.touch()
        except SessionGone:
            pass  # another request has ended it, so it has no seconds left
        self.__tell()

    def __tell(self) -> None:
        session = self.session
        if not session.available:
            raise StoreUnavailable("load", "", "the session could not be loaded")
        left = 0
        if session.exists:
            manager = SessionManager.of(self)
            now = manager.settings.clock()
            left = max(math.floor(session.expires_at.timestamp() - now), 0)
        logged_in = session.exists and session.principal is not None
        self.set_header("Cache-Control", "no-store")
        self.write({"seconds_left": left, "logged_in": logged_in})


def _waiting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a handler's method that ends once a response that it finished is sent."""

    async def rest(handler: SessionMixin, result: Awaitable[Any] | None) -> None:
        try:
            if result is not None:
                await result
        except Exception as error:
            if not handler._refuses_upload(error):
                raise
        sent = handler._until_response_is_sent()
        if sent is not None:
            await sent

    @functools.wraps(method)
    def waiting(handler: SessionMixin, *arguments: Any) -> Awaitable[None] | None:
        if name == "data_received" and handler._until_response_is_sent() is not None:
            return rest(handler, None)  # it has finished: what still comes is dropped
        try:
            result = method(handler, *arguments)
        except Exception as error:
            if not handler._refuses_upload(error):
                raise
            result = None
        if result is None and handler._until_response_is_sent() is None:
            return None
        return rest(handler, result)

    waiting._waits_for_response = True  # type: ignore[attr-defined]
    return waiting
