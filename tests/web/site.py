"""An application with sessions, as its clients, its logs and its store see it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, create_signed_value

from tornado_mcsession import SessionManager
from tornado_mcsession.exceptions import StoreUnavailable

from ..lifecycle.site import Site as LifecycleSite
from ..lifecycle.site import Wire, is_cleared, session_cookie, settle
from ..support.controllable import ControllableStore
from ..support.http import Response, encode_request

__all__ = [
    "DownableStore",
    "Site",
    "Wire",
    "carrying",
    "is_cleared",
    "is_closed",
    "new_id",
    "session_cookie",
    "settle",
    "signed",
    "until",
    "upload",
]

DURATIONS = ("idle_timeout", "lifetime", "renew_after")
SECRET = "the secret of the application"


def new_id() -> str:
    """An id of the right form that no store knows."""
    return secrets.token_urlsafe(32)


class DownableStore(ControllableStore):
    """A store that cannot be asked while ``is_down``."""

    is_down = False

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._callbacks: list[Callable[[str], object]] = []

    def on_connect(self, callback: Callable[[str], object]) -> None:
        self._callbacks.append(callback)

    def come_back(self) -> None:
        """Answer again, and tell so, as a store with connections does."""
        self.is_down = False
        for callback in self._callbacks:
            callback("node")

    async def _turn(self, operation: str) -> None:
        if self.is_down:
            self.calls.append(operation)
            raise StoreUnavailable(operation, "", "the test says so")
        await super()._turn(operation)


class Site(LifecycleSite):
    """An application on a port of 127.0.0.1.

    ``xheaders`` is an option of the server, the rest are the application's.
    """

    store: DownableStore

    def __init__(
        self, routes: list[Any], session: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        self.store = session["store"]
        self.clock = session["clock"]
        settings = dict(settings)
        xheaders = settings.pop("xheaders", False)
        self.application = Application(routes, **settings)
        self.sessions_manager = SessionManager(self.application, **session)
        self._server = HTTPServer(self.application, xheaders=xheaders)
        socket, self.port = bind_unused_port()
        self._server.add_socket(socket)
        seen = {name: session[name] for name in DURATIONS if name in session}
        self._observer = SessionManager(
            store=getattr(self.store, "inner", self.store), clock=self.clock, **seen
        )

    @property
    def manager(self) -> SessionManager:
        return self.sessions_manager

    @property
    def seen(self) -> dict[str, Any]:
        """What handlers note; see the ``settings`` of an application."""
        return self.application.settings

    async def new(self, **data: Any) -> str:
        """The id of a new session that holds ``data``."""
        session_id = new_id()
        await self._observer.set(session_id, data)
        return session_id

    async def login(self, principal: str, path: str = "/login") -> str:
        """The id of a session that a handler at ``path`` has logged in."""
        response = await self.get(f"{path}?who={principal}")
        assert response.status == 200, response
        cookie = session_cookie(response)
        assert cookie is not None
        return cookie.value

    async def is_alive(self, session_id: str) -> bool:
        """Whether a request with this id would find a session."""
        session = await self._observer.get(session_id)
        return session is not None

    async def data(self, session_id: str) -> dict[str, Any] | None:
        """What is stored in a session."""
        session = await self._observer.get(session_id)
        return None if session is None else session.copy()

    async def send(self, method: str, path: str, line: str) -> Response:
        """Send a request without a body, with a header line of any bytes."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
        data = "\r\n".join([*lines, line, "", ""]).encode("latin-1")
        async with await self.open() as wire:
            await wire.send(data)
            return await wire.receive(method)


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so, for at most ten seconds."""
    for _ in range(200):
        if await is_so():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


async def is_closed(wire: Wire) -> bool:
    """Whether the server closes the connection, whatever it sends before."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(0.3):
            while await wire._reader.read(65536):
                pass
            return True
    return wire._reader.exception() is not None


def carrying(*session_ids: str, name: str = "session") -> dict[str, str]:
    """The headers of a client whose browser sends these cookies."""
    pairs = [f"{name}={session_id}" for session_id in session_ids]
    return {"Cookie": "; ".join(pairs)}


def signed(session_id: str, now: float, name: str = "session") -> str:
    """The value of a cookie, as an application with `SECRET` signs it."""
    value = create_signed_value(SECRET, name, session_id, clock=lambda: now)
    return value.decode("ascii")


def upload(path: str, size: int, **headers: str) -> bytes:
    """The head of a PUT whose body of ``size`` bytes follows."""
    fields = {"Content-Length": str(size), **headers}
    return encode_request("PUT", path, fields)
