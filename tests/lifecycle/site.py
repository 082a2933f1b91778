"""An application under test, as its clients and its store see it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application

from tornado_mcsession import SessionManager
from tornado_mcsession.manager import attached_manager

from ..support.browser import Cookie
from ..support.clock import ManualClock
from ..support.controllable import ControllableStore
from ..support.http import RawConnection, Response, encode_request

# What is ready to run, and all that it leads to, has run after so many turns.
TURNS = 100


async def settle() -> None:
    """Let everything run that waits for nothing, arrived bytes included."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


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
    """An application on a port of 127.0.0.1 with sessions in a store of its own."""

    def __init__(
        self, routes: list[Any], session: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        self.store: ControllableStore = session["store"]
        self.clock: ManualClock = session["clock"]
        self.application = Application(routes, session=session, **settings)
        self._server = HTTPServer(self.application)
        socket, self.port = bind_unused_port()
        self._server.add_socket(socket)
        # Looks at the stored sessions without the calls being counted.
        self._observer = SessionManager(store=self.store.inner, clock=self.clock)

    async def close(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()

    @property
    def manager(self) -> SessionManager:
        return attached_manager(self.application, "session")

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
