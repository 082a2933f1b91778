"""aiohttp: bare, and with aiohttp-session and its memcached storage."""

from __future__ import annotations

import aiomcache
from aiohttp import web
from aiohttp_session import get_session, setup
from aiohttp_session.memcached_storage import MemcachedStorage

from . import BACKLOG, BARE, first_data, shown


async def nothing(request: web.Request) -> web.Response:
    return web.Response(text=BARE)


async def make(request: web.Request) -> web.Response:
    session = await get_session(request)
    session.update(first_data(int(request.query["user"])))
    return web.Response()


async def read(request: web.Request) -> web.Response:
    return web.Response(text=shown(await get_session(request)))


async def write(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["n"] += 1
    return web.Response(text=shown(session))


async def listen(app: web.Application, port: int) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=BACKLOG).start()


async def bare(port: int, memcached: str) -> None:
    app = web.Application()
    app.add_routes([web.get(path, nothing) for path in ("/make", "/read", "/write")])
    await listen(app, port)


async def all(port: int, memcached: str) -> None:
    host, _, at = memcached.partition(":")
    client = aiomcache.Client(host, int(at), pool_size=8)
    app = web.Application()
    setup(app, MemcachedStorage(client, max_age=86400))
    pages = [("/make", make), ("/read", read), ("/write", write)]
    app.add_routes([web.get(path, handler) for path, handler in pages])
    await listen(app, port)
