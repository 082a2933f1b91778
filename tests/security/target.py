"""Applications as an attacker sees them, and their stores as nobody else does."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import (
    Application,
    RequestHandler,
    create_signed_value,
    decode_signed_value,
)

from tornado_mcsession import SessionManager, SessionMixin, Store

from ..support.browser import Cookie
from ..support.clock import ManualClock
from ..support.http import Response
from ..support.requests import key_of
from ..support.scripted import ScriptedStore
from ..support.site import Wire

SECRET = "the secret of the application"
HEADER = "X-Session-ID"
WAYS = ["unsigned", "signed", "header"]


def new_id() -> str:
    """An id of the right form that no store knows."""
    return secrets.token_urlsafe(32)


class Shop(SessionMixin, RequestHandler):
    """Counts its requests in the session, and tells what it found there."""

    async def get(self) -> None:
        if self.session_load == "lazy":
            await self.load_session()
        found = {"n": self.session.get("n"), "principal": self.session.principal}
        await self.use()
        self.write(found)

    post = get

    async def use(self) -> None:
        self.session["n"] = self.session.get("n", 0) + 1


class LazyShop(Shop):
    session_load = "lazy"


class Target:
    """An application whose clients carry their session ids in one of `WAYS`."""

    def __init__(
        self,
        store: Store,
        clock: ManualClock,
        routes: Any,
        way: str,
        session: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        self.store = ScriptedStore(store)
        self.clock = clock
        self.way = way
        options = {"store": self.store, "clock": clock, **session}
        secret = {"cookie_secret": SECRET} if way == "signed" else {}
        if way == "header":
            options["transport"] = f"header:{HEADER}"
        if not isinstance(routes, list):
            routes = [("/.*", routes)]
        self.application = Application(
            routes, session=options, **{**secret, **settings}
        )
        self.manager = SessionManager(self.application)
        self._server = HTTPServer(self.application)
        socket, self.port = bind_unused_port()
        self._server.add_socket(socket)

    def behind_a_proxy(self) -> None:
        """Believe what X-Forwarded-Proto says."""
        self._server.xheaders = True

    async def close(self) -> None:
        self._server.stop()
        await self.manager.drain(10)
        await self._server.close_all_connections()

    async def open(self) -> Wire:
        return await Wire.open(self.port)

    async def ask(
        self,
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Response:
        """Send one request over a connection of its own."""
        async with await self.open() as wire:
            return await wire.request(method, path, headers, body)

    def carrying(self, *session_ids: str) -> dict[str, str]:
        """The headers of a client that has these ids, signed where that is asked."""
        if self.way == "header":
            (session_id,) = session_ids
            return {HEADER: session_id}
        values = map(self.sign, session_ids) if self.way == "signed" else session_ids
        return {"Cookie": "; ".join(f"session={value}" for value in values)}

    def sign(self, session_id: str) -> str:
        """What an answer of this application would have told, signed."""
        return create_signed_value(
            SECRET, "session", session_id, clock=self.clock
        ).decode()

    def told(self, response: Response) -> str | None:
        """The session id that an answer tells its client; empty: to forget its own."""
        if self.way == "header":
            return response.header(HEADER)
        lines = map(Cookie.parse, response.all_headers("Set-Cookie"))
        values = [cookie.value for cookie in lines if cookie.name == "session"]
        if not values:
            return None
        (value,) = values
        if self.way == "unsigned" or not value:
            return value
        decoded = decode_signed_value(SECRET, "session", value, clock=self.clock)
        assert decoded is not None, value
        return decoded.decode()

    async def begin(self, **data: Any) -> str:
        """Begin a session, as a job may; return its id."""
        session_id = new_id()
        await self.manager.set(session_id, data or {"n": 7})
        return session_id

    async def data(self, session_id: str) -> dict[str, Any] | None:
        """What is stored of a session; None if there is none."""
        session = await self.manager.get(session_id)
        return None if session is None else session.copy()

    def key_of(self, session_id: str) -> str:
        """The store key of a session."""
        return key_of(self.manager, session_id)

    async def bytes_of(self, session_id: str) -> bytes | None:
        """The bytes under a session's key, whatever they mean."""
        entry = await self.store.inner.get(self.key_of(session_id))
        return None if entry is None else entry.data

    async def overwrite(self, session_id: str, data: bytes) -> None:
        """Put ``data`` under a session's key, as who can write to the store may."""
        key = self.key_of(session_id)
        entry = await self.store.inner.get(key)
        assert entry is not None
        await self.store.inner.cas(key, data, 60, entry.token)
