"""Headers are those of the moment of flush(); the end waits for the last save."""

from __future__ import annotations

import asyncio

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from ..support.site import is_closed, session_cookie, settle

LATE = {
    "set_header": lambda handler: handler.set_header("X-Late", "1"),
    "add_header": lambda handler: handler.add_header("X-Late", "1"),
    "change": lambda handler: handler.set_header("X-Early", "late"),
    "clear_header": lambda handler: handler.clear_header("X-Early"),
    "set_cookie": lambda handler: handler.set_cookie("late", "1"),
    "set_status": lambda handler: handler.set_status(201),
    "Content-Length": lambda handler: handler.set_header("Content-Length", "3"),
    "clear": lambda handler: handler.clear(),
    "_headers": lambda handler: handler._headers.add("X-Late", "1"),
}


class Plain(RequestHandler):
    """Flushes, and changes its headers when they have left."""

    def use(self):
        pass

    async def get(self, how, late):
        self.set_header("X-Early", "1")
        self.use()
        self.write("first,")
        if how == "awaited":
            await self.flush()
        elif how == "flushed":
            self.flush()
        else:
            self.finish()
        LATE[late](self)
        await asyncio.sleep(0)
        if how != "finished":
            self.write("last")


class Writes(SessionMixin, Plain):
    def use(self):
        self.session["a"] = 1


class Reads(SessionMixin, Plain):
    def use(self):
        len(self.session)


@pytest.mark.gen_test
@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("how", ["flushed", "awaited", "finished"])
@pytest.mark.parametrize("handler", [Plain, Writes, Reads])
async def test_headers_that_are_set_later_are_too_late(serve, handler, how, late):
    """As without a session, although the response is still held."""
    site = serve([("/(.*)/(.*)", handler)])
    response = await site.get(f"/{how}/{late}")
    assert response.status == 200
    assert response.header("X-Late") is None
    assert response.header("X-Early") == "1"
    assert not [
        line for line in response.all_headers("Set-Cookie") if line.startswith("late")
    ]
    if how == "finished":
        assert response.header("Content-Length") == "6"
        assert response.body == b"first,"
    else:
        assert response.header("Transfer-Encoding") == "chunked"
        assert response.header("Content-Length") is None
        assert response.body == b"first,last"
    if handler is Writes:
        assert await site.stored(response) == {"a": 1}


class Sized(SessionMixin, RequestHandler):
    """Says how long its response is, and changes its session twice."""

    async def get(self, how):
        self.set_header("Content-Length", "10")
        self.session["before"] = 1
        self.write("first,")
        if how.startswith("whole"):
            self.write("last")
        if how.endswith("awaited"):
            await self.flush()
        else:
            self.flush()
            await self.settings["store"].reached("cas")
        self.session["after"] = 1
        if not how.startswith("whole"):
            self.finish("last")


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["flushed", "awaited", "whole", "whole-awaited"])
async def test_the_end_of_a_sized_response_waits_for_the_last_save(serve, store, how):
    """Whoever has all of it has both changes, while the first save runs and later."""
    site = serve([("/(.*)", Sized)], store=store)
    client = await site.client(a=1)
    store.hold("cas")
    async with await site.open() as wire:
        await wire.ask(path=f"/{how}", headers=client)
        await store.reached("cas")
        await settle()
        assert wire.received == b""
        store.release("cas")
        store.hold("cas")
        await store.reached("cas")
        await settle()
        assert not wire.received.endswith(b"last")
        store.release("cas")
        assert (await wire.receive()).body == b"first,last"
    assert await site.stored(client) == {"a": 1, "before": 1, "after": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize("length", ["1", "20"])
@pytest.mark.parametrize("handler", [Plain, Writes])
async def test_a_wrong_length_is_logged(serve, handler, length, caplog, uncaught):
    """The connection is closed, and the log tells what the handler did wrong."""

    class Wrong(handler):
        async def get(self):
            self.set_header("Content-Length", length)
            self.use()
            self.write("first")

    site = serve(Wrong)
    async with await site.open() as wire:
        await wire.ask()
        assert await is_closed(wire)
    assert "Content-Length" in caplog.text


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [204, 304])
async def test_a_response_without_a_body_stays_without_one(serve, method, status):
    """Its session is saved, its cookie comes, and the connection stays open."""

    class Empty(SessionMixin, RequestHandler):
        def get(self):
            self.session["a"] = 1
            self.set_status(status)

        head = get

    site = serve(Empty)
    async with await site.open() as wire:
        for _ in range(2):
            response = await wire.request(method, "/")
            assert response.status == status
            assert session_cookie(response) is not None
            assert await site.stored(response) == {"a": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("HEAD", 204), ("GET", 204), ("GET", 304)]
)
async def test_headers_that_are_the_whole_response_wait_for_its_end(
    serve, store, method, status
):
    """Whoever has them has all of it, and sees what was written after the flush."""

    class Empty(SessionMixin, RequestHandler):
        async def get(self):
            self.session["a"] = 2
            self.set_status(status)
            await self.flush()
            self.session["b"] = 3

        head = get

    site = serve(Empty)
    client = await site.client(a=1)
    store.calls.clear()
    async with await site.open() as wire:
        assert (await wire.request(method, "/", client)).status == status
        assert await site.stored(client) == {"a": 2, "b": 3}
    assert store.calls.count("cas") == 1


@pytest.mark.gen_test
async def test_pipelined_requests_are_answered_in_their_order(serve, store):
    """The second waits for the save of the first."""

    class Counts(SessionMixin, RequestHandler):
        def get(self):
            self.session["n"] = self.session.get("n", 0) + 1
            self.write(str(self.session["n"]))

    site = serve(Counts)
    client = await site.client()
    store.hold("cas")
    async with await site.open() as wire:
        await wire.ask(headers=client)
        await wire.ask(headers=client)
        await wire.ask(headers=client)
        await store.reached("cas")
        await settle()
        assert wire.received == b""
        store.release("cas")
        assert [(await wire.receive()).body for _ in range(3)] == [b"1", b"2", b"3"]
