"""Sessions of WebSockets: saved before the handshake, by hand afterwards."""

from __future__ import annotations

import contextlib

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketHandler, websocket_connect

from tornado_mcsession import SessionGone, SessionMixin

from ..support.site import Site, session_cookie, settle

pytestmark = pytest.mark.in_both_ways

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


class Socket(SessionMixin, WebSocketHandler):
    """Does with its session what messages say, and answers what came of it."""

    async def on_message(self, message):
        try:
            result = await self.act(message)
        except (RuntimeError, SessionGone) as error:
            result = f"{type(error).__name__}: {error}"
        self.write_message(str(result))

    async def act(self, message):
        if message == "read":
            return self.session.get("a")
        if message == "save":
            self.session["a"] = 2
            return await self.session.save()
        if message == "reload":
            await self.session.reload()
            return self.session["a"]
        if message == "count":
            return await self.session.transact(lambda d: d.update(a=d["a"] + 1))
        if message == "login":
            return await self.session.login("ann")
        if message == "load":
            return len(await self.load_session())
        assert message == "regenerate"
        return await self.session.regenerate()


class Prepares(Socket):
    async def prepare(self):
        await super().prepare()
        self.session["prepared"] = True


class Forced(Socket):
    session_save = True


class Lazy(Socket):
    session_load = "lazy"


@contextlib.asynccontextmanager
async def connected(site: Site, client: dict[str, str]):
    """A function that sends a message and returns the answer to it."""
    request = HTTPRequest(f"ws://127.0.0.1:{site.port}/", headers=client)
    connection = await websocket_connect(request)

    async def say(message: str) -> str:
        await connection.write_message(message)
        return await connection.read_message()

    yield say
    connection.close()
    assert await connection.read_message() is None
    await settle()


@pytest.mark.gen_test
async def test_the_cookie_comes_with_the_handshake(serve, store):
    """What prepare() did is stored before the 101, which brings the cookie."""
    site = serve(Prepares)
    store.hold("add")
    async with await site.open() as wire:
        await wire.ask("GET", "/", headers=UPGRADE)
        await store.reached("add")
        await settle()
        assert wire.received == b""
        store.release("add")
        response = await wire.receive()
    assert response.status == 101
    assert await site.stored(response) == {"prepared": True}
    await settle()
    assert store.calls == ["add"]


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Socket, Prepares, Forced])
async def test_an_open_socket_saves_by_hand(serve, store, handler):
    """save() and reload() work as long as the socket is open."""
    site = serve(handler)
    client = await site.client(a=1)
    async with connected(site, client) as say:
        assert await say("read") == "1"
        assert await say("save") == "None"
        assert (await site.stored(client))["a"] == 2
        session = await site.manager.get(client["Cookie"].removeprefix("session="))
        session["a"] = 3
        await session.save()
        assert await say("reload") == "3"
        assert await say("save") == "None"
    assert (await site.stored(client))["a"] == 2


@pytest.mark.gen_test
async def test_an_open_socket_counts_with_others(serve, store):
    """transact() changes what is stored by then, whatever the socket had loaded."""
    site = serve(Socket)
    client = await site.client(a=1)
    session_id = client["Cookie"].removeprefix("session=")
    async with connected(site, client) as say:
        for _ in range(3):
            assert await say("count") == "None"
            await site.manager.set(session_id, {"a": 10})
        assert await say("count") == "None"
        assert await say("read") == "11"
    assert await site.stored(client) == {"a": 11}


@pytest.mark.gen_test
@pytest.mark.parametrize("message", ["save", "reload", "count"])
async def test_an_open_socket_is_told_of_a_logout_elsewhere(serve, store, message):
    """Each of its verbs raises SessionGone, and brings nothing back."""
    site = serve(Socket)
    client = await site.client(a=1)
    async with connected(site, client) as say:
        await site.manager.destroy(client["Cookie"].removeprefix("session="))
        assert (await say(message)).startswith("SessionGone")
    assert await site.stored(client) is None


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Socket, Prepares])
@pytest.mark.parametrize("verb", ["login", "regenerate"])
async def test_an_open_socket_cannot_change_the_id(serve, store, handler, verb):
    """RuntimeError, before any call to the store."""
    site = serve(handler)
    client = await site.client(a=1)
    async with connected(site, client) as say:
        calls = list(store.calls)
        assert (await say(verb)).startswith("RuntimeError: the headers have left")
        assert store.calls == calls


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Socket, Lazy])
@pytest.mark.parametrize("message", ["save", "login"])
async def test_an_open_socket_cannot_begin_a_session(serve, store, handler, message):
    """No cookie could be set for it any more: RuntimeError, and nothing stored."""
    site = serve(handler)
    async with connected(site, {}) as say:
        if handler is Lazy:
            assert await say("load") == "0"
        assert (await say(message)).startswith("RuntimeError: the headers have left")
    assert store.calls == []


@pytest.mark.gen_test
async def test_a_lazy_socket_loads_when_it_likes(serve, store):
    """load_session() works after the handshake, and save() with what it loaded."""
    site = serve(Lazy)
    client = await site.client(a=1)
    async with connected(site, client) as say:
        assert store.calls == []
        assert await say("load") == "1"
        assert await say("read") == "1"
        assert await say("save") == "None"
    assert await site.stored(client) == {"a": 2}


@pytest.mark.gen_test
async def test_a_handshake_that_cannot_be_saved_is_a_503(serve, store):
    """No socket is opened over a session that is not stored."""
    site = serve(Prepares)
    store.fail("add")
    with pytest.raises(HTTPClientError) as caught:
        await websocket_connect(f"ws://127.0.0.1:{site.port}/")
    assert caught.value.code == 503
    assert caught.value.response.headers["Retry-After"] == "1"
    assert "Set-Cookie" not in caught.value.response.headers


@pytest.mark.gen_test
async def test_a_refused_handshake_is_answered_like_any_request(serve, store):
    """A foreign origin gets its 403, and the session that prepare() began."""
    site = serve(Prepares)
    headers = {**UPGRADE, "Origin": "https://elsewhere.example"}
    async with await site.open() as wire:
        response = await wire.request("GET", "/", headers)
        assert response.status == 403
        assert await site.stored(response) == {"prepared": True}
        assert store.calls == ["add"]
        plain = await wire.request("GET", "/")
        assert plain.status == 400
        assert session_cookie(plain) is not None


@pytest.mark.gen_test
@pytest.mark.parametrize("used", [True, False])
async def test_a_handshake_under_way_cannot_begin_a_session(serve, store, used):
    """What check_origin() would do comes too late for the 101 and its cookie."""
    raised = []

    class Handler(Socket):
        async def prepare(self):
            await super().prepare()
            if used:
                len(self.session)

        def check_origin(self, origin):
            try:
                self.session["a"] = 1
            except RuntimeError as error:
                raised.append(str(error))
            return True

    site = serve(Handler)
    async with await site.open() as wire:
        headers = {**UPGRADE, "Origin": "https://elsewhere.example"}
        assert (await wire.request("GET", "/", headers)).status == 101
    assert "headers have left" in raised[0]
    assert store.calls == []


@pytest.mark.gen_test
async def test_an_untouched_socket_costs_one_load(serve, store, clock):
    """A handshake renews nothing that it does not use."""
    site = serve(Socket)
    client = await site.client(a=1)
    clock.advance(80_000)
    async with await site.open() as wire:
        response = await wire.request("GET", "/", {**client, **UPGRADE})
    assert response.status == 101
    assert session_cookie(response) is None
    assert store.calls == ["get"]
