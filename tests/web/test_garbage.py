"""What a request leaves behind for the garbage collector: nothing of ours."""

from __future__ import annotations

import gc
import weakref

import pytest
from tornado.web import HTTPError, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

from tornado_mcsession import SessionMixin

from ..support.site import settle

pytestmark = pytest.mark.in_both_ways

REQUESTS = 200


class Stock(RequestHandler):
    async def get(self):
        self.write("body")


class Untouched(SessionMixin, RequestHandler):
    async def get(self):
        self.write("body")


class Reads(SessionMixin, RequestHandler):
    async def get(self):
        self.write(str(len(self.session)))


class Writes(SessionMixin, RequestHandler):
    async def get(self):
        self.session["n"] = self.session.get("n", 0) + 1
        self.write("body")


class Streams(Writes):
    async def get(self):
        self.write("body")
        await self.flush()
        self.session["n"] = self.session["n"] + 1


class Saves(SessionMixin, RequestHandler):
    async def get(self):
        self.session["n"] = self.session["n"] + 1
        await self.session.save()
        self.write("body")


class ForgetsSuper(Writes):
    def on_finish(self):
        pass


class UsesItTooLate(SessionMixin, RequestHandler):
    def get(self):
        self.write("body")

    def on_finish(self):
        len(self.session)
        super().on_finish()


class Refuses(SessionMixin, RequestHandler):
    def get(self):
        self.session["n"] = 1
        raise HTTPError(403)


class StockRefuses(RequestHandler):
    def get(self):
        raise HTTPError(403)


async def garbage_of(site, client) -> int:
    """How many objects of 200 requests only the collector can free."""
    async with await site.open() as wire:
        for _ in range(10):  # what is made once is not counted
            await wire.request("GET", "/", client)
        await settle()
        gc.collect()
        gc.disable()
        try:
            for _ in range(REQUESTS):
                await wire.request("GET", "/", client)
            await settle()
            return gc.collect()
        finally:
            gc.enable()


@pytest.mark.gen_test
@pytest.mark.parametrize("persist", ["before_response", "on_finish"])
@pytest.mark.parametrize(
    ("handler", "stock"),
    [
        (Untouched, Stock),
        (Reads, Stock),
        (Writes, Stock),
        (Streams, Stock),
        (Saves, Stock),
        (ForgetsSuper, Stock),
        (UsesItTooLate, Stock),
        (Refuses, StockRefuses),
    ],
)
async def test_requests_leave_no_more_garbage_than_plain_ones(
    serve, handler, stock, persist
):
    """200 requests leave as little to collect as those of a handler without session."""
    site = serve(handler, session={"persist": persist})
    expected = await garbage_of(serve(stock), {})
    found = await garbage_of(site, await site.client(n=1))
    assert found <= expected


class Socket(SessionMixin, WebSocketHandler):
    async def prepare(self):
        await super().prepare()
        self.settings["seen"].append(weakref.ref(self))
        if self.settings["used"]:
            self.session["prepared"] = True

    def on_message(self, message):
        self.write_message(str(len(self.session)))


@pytest.mark.gen_test
@pytest.mark.parametrize("used", [True, False])
async def test_a_closed_socket_is_gone(serve, used):
    """Its handler needs no collector either, whenever it used its session."""
    handlers = []
    site = serve(Socket, seen=handlers, used=used)
    gc.disable()
    try:
        connection = await websocket_connect(f"ws://127.0.0.1:{site.port}/")
        await connection.write_message("use the session")
        assert await connection.read_message() == str(int(used))
        connection.close()
        assert await connection.read_message() is None
        await settle()
        assert [handler() for handler in handlers] == [None]
    finally:
        gc.enable()
