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

from .browser import Cookie
from .clock import ManualClock
from .controllable import ControllableStore
from .http import RawConnection, Response, encode_request

DURATIONS = ("idle_timeout", "lifetime", "renew_after")
SECRET = "the secret of the application"

# What is ready to run, and all that it leads to, has run after so many turns.
TURNS = 100


async def settle() -> None:
    """Let everything run that waits for nothing, arrived bytes included."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def new_id() -> str:
    """An id of the right form that no store knows."""
    return secrets.token_urlsafe(32)


class Wire(RawConnection):
    """A connection that knows which bytes have arrived, read or not."""

    received: bytearray
    socket: Any

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> Wire:
        received = bytearray()

        class Reader(asyncio.StreamReader):
            def feed_data(self, data: bytes) -> None:
                received.extend(data)
                super().feed_data(data)

        reader = Reader()
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(
            lambda: asyncio.StreamReaderProtocol(reader), host, port
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        wire = cls(reader, writer)
        wire.received = received
        wire.socket = transport.get_extra_info("socket")
        return wire

    async def ask(self, method: str = "GET", path: str = "/", **options: Any) -> None:
        """Send a request, and do not wait for its answer."""
        await self.send(encode_request(method, path, **options))


class Site:
    """An application on a port of 127.0.0.1 with sessions in a store of its own.

    ``xheaders`` is an option of the server. Without ``attached`` the first request
    attaches a manager, by the application's settings. The rest are these settings.
    """

    def __init__(
        self, routes: list[Any], session: dict[str, Any], settings: dict[str, Any]
    ) -> None:
        self.store: ControllableStore = session["store"]
        self.clock: ManualClock = session["clock"]
        settings = dict(settings)
        xheaders = settings.pop("xheaders", False)
        if settings.pop("attached", True):
            self.application = Application(routes, **settings)
            SessionManager(self.application, **session)
        else:
            self.application = Application(routes, session=session, **settings)
        self._server = HTTPServer(self.application, xheaders=xheaders)
        socket, self.port = bind_unused_port()
        self._server.add_socket(socket)
        # Looks at the stored sessions without the calls being counted.
        seen = {name: session[name] for name in DURATIONS if name in session}
        self._observer = SessionManager(
            store=getattr(self.store, "inner", self.store), clock=self.clock, **seen
        )

    async def close(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()

    @property
    def manager(self) -> SessionManager:
        return self.application.settings["session_manager"]

    async def open(self) -> Wire:
        return await Wire.open(self.port)

    async def request(
        self,
        method: str,
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """Send one request over a connection of its own."""
        async with await self.open() as wire:
            return await wire.request(method, path, headers, body)

    async def get(
        self, path: str = "/", headers: Mapping[str, str] | None = None
    ) -> Response:
        return await self.request("GET", path, headers)

    async def client(self, **data: Any) -> dict[str, str]:
        """The headers of a client whose session holds ``data``."""
        session_id = secrets.token_urlsafe(32)
        await self._observer.set(session_id, data)
        return {"Cookie": f"session={session_id}"}

    async def stored(self, who: Mapping[str, str] | Response) -> dict[str, Any] | None:
        """What is stored for a client, or for whom an answer made a cookie."""
        if isinstance(who, Response):
            cookie = session_cookie(who)
            assert cookie is not None, f"no session cookie came with {who}"
            session_id = cookie.value
        else:
            session_id = who["Cookie"].removeprefix("session=")
        session = await self._observer.get(session_id)
        return None if session is None else session.copy()

    async def end(self, client: Mapping[str, str]) -> None:
        """Destroy a client's session, without the store's calls being counted."""
        await self._observer.destroy(client["Cookie"].removeprefix("session="))

    def sessions(self) -> int:
        """How many records are stored."""
        return self.store.inner.stats()["entries"]

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


def session_cookie(response: Response) -> Cookie | None:
    """The session cookie that an answer sets, if it does; never two of them."""
    lines = map(Cookie.parse, response.all_headers("Set-Cookie"))
    found = [cookie for cookie in lines if cookie.name == "session"]
    assert len(found) <= 1, found
    return found[0] if found else None


def is_cleared(response: Response) -> bool:
    """Whether the answer takes the session cookie away."""
    cookie = session_cookie(response)
    return cookie is not None and cookie.attributes.get("max-age") == "0"


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
