"""Starlette: bare, and with starsessions over a store in memcached, by aiomcache."""

from __future__ import annotations

import asyncio

import aiomcache
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starsessions import SessionAutoloadMiddleware, SessionMiddleware, SessionStore

from . import BACKLOG, BARE, first_data, shown

serving: set[asyncio.Task[None]] = set()


class MemcachedStore(SessionStore):
    """The least that starsessions needs; it comes without a store for memcached."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self._client = aiomcache.Client(host, int(port), pool_size=8)

    async def read(self, session_id: str, lifetime: int) -> bytes:
        return await self._client.get(session_id.encode()) or b""

    async def write(self, session_id: str, data: bytes, lifetime: int, ttl: int) -> str:
        await self._client.set(session_id.encode(), data, ttl)
        return session_id

    async def remove(self, session_id: str) -> None:
        await self._client.delete(session_id.encode())


async def nothing(request: Request) -> PlainTextResponse:
    return PlainTextResponse(BARE)


async def make(request: Request) -> PlainTextResponse:
    request.session.update(first_data(int(request.query_params["user"])))
    return PlainTextResponse("")


async def read(request: Request) -> PlainTextResponse:
    return PlainTextResponse(shown(request.session))


async def write(request: Request) -> PlainTextResponse:
    request.session["n"] += 1
    return PlainTextResponse(shown(request.session))


def listen(app: Starlette, port: int) -> None:
    # In the loop that runs already, which is of the same kind as under Tornado.
    quiet = {"access_log": False, "log_level": "warning"}
    config = uvicorn.Config(app, port=port, loop="none", backlog=BACKLOG, **quiet)
    serving.add(asyncio.create_task(uvicorn.Server(config).serve()))


async def bare(port: int, memcached: str) -> None:
    paths = ("/make", "/read", "/write")
    listen(Starlette(routes=[Route(path, nothing) for path in paths]), port)


async def all(port: int, memcached: str) -> None:
    options = {"lifetime": 86400, "cookie_https_only": False}
    sessions = Middleware(SessionMiddleware, store=MemcachedStore(memcached), **options)
    middleware = [sessions, Middleware(SessionAutoloadMiddleware)]
    pages = [("/make", make), ("/read", read), ("/write", write)]
    routes = [Route(path, handler) for path, handler in pages]
    listen(Starlette(routes=routes, middleware=middleware), port)
