"""Tornado without the library: no session at all, a dict, and what is obvious."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import msgspec
from pymemcache.client.base import PooledClient
from tornado.web import Application, RequestHandler

from tornado_mcsession import Entry, MemcachedStore

from . import BACKLOG, BARE, SECRET, first_data, shown

encode = msgspec.msgpack.encode
decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
kept: dict[str, bytes] = {}


class Bare(RequestHandler):
    """Has no session."""

    def get(self) -> None:
        self.write(BARE)


class Signed(RequestHandler):
    """Keeps the id of its session in a signed cookie, as the library does."""

    def session_id(self) -> str:
        cookie = self.get_signed_cookie("session", min_version=2)
        assert cookie is not None
        return cookie.decode()

    def new_id(self) -> str:
        session_id = secrets.token_urlsafe(32)
        self.set_signed_cookie("session", session_id, httponly=True, samesite="Lax")
        return session_id

    def first_data(self) -> dict[str, Any]:
        size = int(self.get_argument("size", "0"))
        return first_data(int(self.get_argument("user")), size)


class MakeInDict(Signed):
    """Keeps encoded sessions in a dict of this process."""

    def get(self) -> None:
        kept[self.new_id()] = encode(self.first_data())


class ReadInDict(Signed):
    def get(self) -> None:
        self.write(shown(decode(kept[self.session_id()])))


class WriteInDict(Signed):
    def get(self) -> None:
        session_id = self.session_id()
        session = decode(kept[session_id])
        session["n"] += 1
        kept[session_id] = encode(session)
        self.write(shown(session))


class Hop(Signed):
    """Keeps encoded sessions in memcached, a thread hop for each call."""

    def initialize(self, client: PooledClient) -> None:
        self.client = client

    async def load(self, session_id: str) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        return decode(await loop.run_in_executor(None, self.client.get, session_id))

    async def save(self, session_id: str, session: dict[str, Any]) -> None:
        save = self.client.set, session_id, encode(session), 86400
        await asyncio.get_running_loop().run_in_executor(None, *save)


class MakeByHop(Hop):
    async def get(self) -> None:
        await self.save(self.new_id(), self.first_data())


class ReadByHop(Hop):
    async def get(self) -> None:
        self.write(shown(await self.load(self.session_id())))


class WriteByHop(Hop):
    async def get(self) -> None:
        session_id = self.session_id()
        session = await self.load(session_id)
        session["n"] += 1
        await self.save(session_id, session)
        self.write(shown(session))


class Stored(Signed):
    """Keeps encoded sessions in the library's store, and does nothing else for them.

    It is what a session cannot cost less than, as long as memcached is asked from
    threads.
    """

    def initialize(self, store: MemcachedStore) -> None:
        self.store = store

    async def load(self, session_id: str) -> Entry:
        entry = await self.store.get(session_id)
        assert entry is not None
        return entry


class MakeInStore(Stored):
    async def get(self) -> None:
        await self.store.add(self.new_id(), encode(self.first_data()), 86400)


class ReadInStore(Stored):
    async def get(self) -> None:
        self.write(shown(decode((await self.load(self.session_id())).data)))


class WriteInStore(Stored):
    async def get(self) -> None:
        session_id = self.session_id()
        entry = await self.load(session_id)
        session = decode(entry.data)
        session["n"] += 1
        await self.store.cas(session_id, encode(session), 86400, entry.token)
        self.write(shown(session))


def serve(port: int, pages: list[Any]) -> None:
    app = Application(pages, cookie_secret=SECRET)
    app.listen(port, "127.0.0.1", backlog=BACKLOG)


async def bare(port: int, memcached: str) -> None:
    paths = ["/make", "/read", "/write", "/login", "/untouched"]
    serve(port, [(path, Bare) for path in paths])


async def kept_in_a_dict(port: int, memcached: str) -> None:
    pages = [("/make", MakeInDict), ("/read", ReadInDict), ("/write", WriteInDict)]
    serve(port, pages)


async def hop(port: int, memcached: str) -> None:
    # The plain way, without its two usual mistakes: waiting for ever, and 40 ms
    # for each response to a small packet.
    client = PooledClient(
        memcached, timeout=1, connect_timeout=1, no_delay=True, default_noreply=False
    )
    to = {"client": client}
    pages = [("/make", MakeByHop, to), ("/read", ReadByHop, to)]
    serve(port, [*pages, ("/write", WriteByHop, to)])


async def store_alone(port: int, memcached: str) -> None:
    to = {"store": MemcachedStore(memcached)}
    pages = [("/make", MakeInStore, to), ("/read", ReadInStore, to)]
    serve(port, [*pages, ("/write", WriteInStore, to)])
