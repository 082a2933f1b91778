"""Connections: kept open, pipelined, of HTTP/1.0, and left by their clients."""

from __future__ import annotations

import asyncio

import pytest
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from tornado_mcsession import SessionMixin

from ..support.http import encode_request
from ..support.site import settle

pytestmark = pytest.mark.in_both_ways


class Counts(SessionMixin, RequestHandler):
    def get(self):
        self.session["n"] = self.session.get("n", 0) + 1
        self.write(str(self.session["n"]))


@pytest.mark.gen_test
async def test_pipelined_requests_see_each_other_in_turn(serve, store):
    """Requests that wait on one connection are answered in order, each saved."""
    site = serve(Counts)
    client = await site.client(n=0)
    store.hold("cas")
    async with await site.open() as wire:
        await wire.send(encode_request("GET", "/", client) * 4)
        await store.reached("cas")
        await settle()
        assert wire.received == b""
        assert store.calls == ["get", "cas"], "the next one waits for this answer"
        store.release("cas")
        bodies = [(await wire.receive()).body for _ in range(4)]
    assert bodies == [b"1", b"2", b"3", b"4"]
    assert store.calls == ["get", "cas"] * 4


@pytest.mark.gen_test
@pytest.mark.parametrize("keep", [True, False])
async def test_http_1_0(serve, store, keep):
    """An old client's answer waits too; its connection is kept only if it asks."""
    site = serve(Counts)
    line = b"Connection: keep-alive\r\n" if keep else b""
    async with await site.open() as wire:
        for _ in range(1 + keep):
            wire.received.clear()
            store.hold("add")
            await wire.send(b"GET / HTTP/1.0\r\n" + line + b"\r\n")
            await store.reached("add")
            await settle()
            assert wire.received == b""
            store.release("add")
            response = await wire.receive()
            assert response.body == b"1"
            assert await site.stored(response) == {"n": 1}
        assert keep or await wire.is_closed()


class Waits(SessionMixin, RequestHandler):
    """Lets the client leave while it is at the place that the path names."""

    async def prepare(self):
        await super().prepare()
        self.session["prepared"] = True
        await self.at("/prepare")

    async def get(self):
        await self.at("/verb")
        self.session["got"] = True
        self.write("body")
        if self.request.path == "/flush":
            await self.flush()
            await self.at("/flush")
            self.session["later"] = True

    async def at(self, path):
        if self.request.path == path:
            self.settings["arrived"].set()
            await self.settings["left"].wait()


@pytest.mark.gen_test
@pytest.mark.parametrize("place", ["/prepare", "/verb", "/flush"])
async def test_a_client_that_leaves_early_does_not_stop_the_save(serve, place):
    """The handler runs to its end, and what it did is stored."""
    arrived, left = asyncio.Event(), asyncio.Event()
    site = serve(Waits, arrived=arrived, left=left)
    client = await site.client(a=1)
    async with await site.open() as wire:
        await wire.ask("GET", place, headers=client)
        await arrived.wait()
    await settle()
    left.set()
    await settle()
    assert await site.manager.drain(5)
    later = {"later": True} if place == "/flush" else {}
    assert await site.stored(client) == {"a": 1, "prepared": True, "got": True, **later}


@pytest.mark.gen_test
@pytest.mark.parametrize("operation", ["get", "cas"])
async def test_a_client_that_leaves_during_a_store_call(serve, store, operation):
    """A load or a held save that nobody waits for any more goes on."""
    site = serve(Counts)
    client = await site.client(n=1)
    store.hold(operation)
    async with await site.open() as wire:
        await wire.ask(headers=client)
        await store.reached(operation)
    await settle()
    store.release(operation)
    await settle()
    assert await site.stored(client) == {"n": 2}
    assert await site.manager.drain(5)


@pytest.mark.gen_test
async def test_a_flush_to_a_client_that_left_raises_as_ever(serve, store):
    """The handler sees StreamClosedError, and what it changed before is stored."""
    raised = []

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            self.session["a"] = 2
            try:
                await self.flush()
            except StreamClosedError as error:
                raised.append(error)

    site = serve(Handler)
    client = await site.client(a=1)
    store.hold("cas")
    async with await site.open() as wire:
        await wire.ask(headers=client)
        await store.reached("cas")
    await settle()
    store.release("cas")
    await settle()
    assert len(raised) == 1
    assert await site.stored(client) == {"a": 2}


@stream_request_body
class Upload(SessionMixin, RequestHandler):
    """Changes its session before, while and after the body arrives."""

    async def prepare(self):
        await super().prepare()
        self.session["prepared"] = True
        if self.request.path == "/slow":
            self.settings["prepared"].set()
            await self.settings["left"].wait()
            self.session["late"] = True

    def data_received(self, chunk):
        self.session["size"] = self.session.get("size", 0) + len(chunk)
        self.settings["received"].set()

    def post(self):
        self.session["done"] = True


@pytest.mark.gen_test
async def test_a_streamed_request_body(serve, store):
    """Its session is saved once, at the end."""
    site = serve(Upload, received=asyncio.Event())
    response = await site.request("POST", "/", body=b"x" * 100)
    assert await site.stored(response) == {"prepared": True, "size": 100, "done": True}
    assert store.calls == ["add"]


@pytest.mark.gen_test
async def test_a_client_that_leaves_in_its_body(serve):
    """Tornado then never finishes the request; what it did so far is stored."""
    received = asyncio.Event()
    site = serve(Upload, received=received)
    client = await site.client(a=1)
    async with await site.open() as wire:
        request = encode_request("POST", "/", {**client, "Content-Length": "9999"})
        await wire.send(request + b"x" * 50)
        await received.wait()
    await settle()
    assert await site.stored(client) == {"a": 1, "prepared": True, "size": 50}


@pytest.mark.gen_test
async def test_a_client_that_leaves_in_its_body_while_prepare_works(serve):
    """What prepare() does after the client left is stored as well."""
    prepared, left = asyncio.Event(), asyncio.Event()
    site = serve(Upload, prepared=prepared, left=left)
    client = await site.client(a=1)
    async with await site.open() as wire:
        await wire.send(
            encode_request("POST", "/slow", {**client, "Content-Length": "9999"})
        )
        await prepared.wait()
    await settle()
    left.set()
    await settle()
    assert await site.stored(client) == {"a": 1, "prepared": True, "late": True}


@pytest.mark.gen_test
async def test_a_failing_save_for_a_client_that_left_is_logged(serve, store, caplog):
    """Nobody gets its error page, but the log tells of it."""
    received = asyncio.Event()
    site = serve(Upload, received=received)
    client = await site.client(a=1)
    store.fail("cas")
    async with await site.open() as wire:
        request = encode_request("POST", "/", {**client, "Content-Length": "9999"})
        await wire.send(request + b"x" * 50)
        await received.wait()
    await settle()
    assert "could not be saved" in caplog.text
    assert await site.stored(client) == {"a": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize("operation", ["add", "cas"])
async def test_a_save_that_is_cancelled_closes_the_connection(serve, store, operation):
    """Where the loop is being shut down, the client is not left to wait."""
    site = serve(Counts)
    client = await site.client(n=0) if operation == "cas" else {}
    store.hold(operation)
    async with await site.open() as wire:
        await wire.ask(headers=client)
        saving = await store.reached(operation)
        saving.cancel()
        assert await wire.is_closed()
    assert site.sessions() == len(client)
    assert site.manager.stats()["running_saves"] == 0


class Broken:
    """Cannot tell the client anything."""

    def __init__(self, name):
        self.name = name

    def read(self, handler):
        return handler.request.headers.get(self.name)

    def write(self, handler, headers, session):
        raise ZeroDivisionError

    def clear(self, handler, headers):
        raise ZeroDivisionError


@pytest.mark.gen_test
@pytest.mark.parametrize("fails", [True, False])
async def test_a_transport_that_raises_is_a_500(serve, store, fails, caplog):
    """No client hangs, or loses its connection without an answer."""

    class Handler(Counts):
        def post(self):
            self.session = None

    site = serve(Handler, session={"transport": Broken("X-Session-ID")})
    client = {"X-Session-ID": (await site.client(n=1))["Cookie"][8:]}
    if fails:
        store.fail("cas")
    async with await site.open() as wire:
        await wire.ask("POST", headers=client, body=b"")
        assert (await wire.receive("POST")).status == (503 if fails else 500)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.gen_test
@pytest.mark.parametrize("sent", [0, 10, 99])
async def test_a_body_may_be_refused_in_prepare(serve, store, sent):
    """The answer waits for the save, and not for the rest of the body."""

    @stream_request_body
    class Handler(SessionMixin, RequestHandler):
        async def prepare(self):
            await super().prepare()
            self.session["refused"] = True
            raise HTTPError(413)

        def data_received(self, chunk):
            pass

    site = serve(Handler)
    store.hold("add")
    async with await site.open() as wire:
        request = encode_request("POST", "/", {"Content-Length": "99"})
        await wire.send(request + b"x" * sent)
        await store.reached("add")
        await settle()
        assert wire.received == b""
        store.release("add")
        response = await wire.receive()
    assert response.status == 413
    assert await site.stored(response) == {"refused": True}
