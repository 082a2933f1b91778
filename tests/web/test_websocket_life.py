"""The session of a WebSocket that stays open for long."""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketHandler, websocket_connect

from tornado_mcsession import SessionGone, SessionMixin

from ..support.site import is_cleared, session_cookie, settle

HOUR = 3600


class Socket(SessionMixin, WebSocketHandler):
    """Does with its session what messages say, and tells what came of it."""

    async def on_message(self, message):
        if message == "close":
            self.close()
            return
        try:
            result = await ACTS[message](self.session)
        except (RuntimeError, SessionGone) as error:
            result = type(error).__name__
        await self.write_message(str(result))


async def write(session):
    session["b"] = 1


async def nested(session):
    session["list"].append(1)


async def flash(session):
    session.flash("hello")


async def clear(session):
    session.clear()


async def read(session):
    return session.get("a")


async def same(session):
    session["a"] = 1


async def undo(session):
    session["b"] = 1
    del session["b"]


async def save(session):
    session["n"] = session.get("n", 0) + 1
    await session.save()


async def touch(session):
    await session.touch()


async def reload(session):
    session["b"] = 1
    await session.reload()


async def transact(session):
    await session.transact(lambda data: data.update(n=data.get("n", 0) + 1))


async def left(session):
    return session.expires_at.timestamp()


ACTS = {
    act.__name__: act
    for act in (
        *(write, nested, flash, clear, read, same, undo),
        *(save, touch, reload, transact, left),
    )
}


@contextlib.asynccontextmanager
async def connected(site, client):
    """A function that sends a message and returns the reply."""
    request = HTTPRequest(f"ws://127.0.0.1:{site.port}/", headers=client)
    connection = await websocket_connect(request)

    is_open = True

    async def say(message):
        nonlocal is_open
        await connection.write_message(message)
        told = await connection.read_message()
        is_open = told is not None
        return told

    yield say
    connection.close()
    if is_open:
        assert await connection.read_message() is None
    await settle()


def warnings_of(logged):
    return [message for message in logged(logging.WARNING) if "memory" not in message]


@pytest.mark.gen_test
@pytest.mark.parametrize("act", ["write", "nested", "flash", "clear"])
async def test_changes_that_nobody_saved_are_one_warning(serve, act, logged):
    """When the socket closes, and not before; it says what is to be called."""
    site = serve(Socket)
    client = await site.client(a=1, list=[])
    async with connected(site, client) as say:
        for _ in range(3):
            await say(act)
        assert not warnings_of(logged)
    (warning,) = warnings_of(logged)
    assert "save()" in warning
    assert await site.stored(client) == {"a": 1, "list": []}


@pytest.mark.gen_test
async def test_a_close_by_the_handler_is_one_too(serve, logged):
    """Whoever closes, the changes are lost."""
    site = serve(Socket)
    client = await site.client(a=1)
    async with connected(site, client) as say:
        await say("write")
        assert await say("close") is None
    assert len(warnings_of(logged)) == 1


@pytest.mark.gen_test
async def test_a_lost_connection_is_one_too(serve, logged):
    """Nobody says goodbye where the network is gone."""
    site = serve(Socket)
    client = await site.client(a=1)
    request = HTTPRequest(f"ws://127.0.0.1:{site.port}/", headers=client)
    connection = await websocket_connect(request)
    await connection.write_message("write")
    assert await connection.read_message() == "None"
    connection.stream.close()
    await settle()
    connection.close()
    assert len(warnings_of(logged)) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "acts",
    [
        ["read"],
        ["same"],
        ["undo"],
        ["write", "save"],
        ["write", "transact"],
        ["reload"],
        ["flash", "save"],
        [],
    ],
)
async def test_what_is_saved_or_unchanged_is_not(serve, acts, logged):
    """Nothing is lost, so nothing is said."""
    site = serve(Socket)
    client = await site.client(a=1, list=[])
    async with connected(site, client) as say:
        for act in acts:
            await say(act)
    assert not warnings_of(logged)


@pytest.mark.gen_test
async def test_a_change_after_a_save_is_one(serve, logged):
    """It is the last state that counts."""
    site = serve(Socket)
    client = await site.client(a=1, list=[])
    async with connected(site, client) as say:
        await say("save")
        await say("nested")
    assert len(warnings_of(logged)) == 1


@pytest.mark.gen_test
async def test_a_visitor_without_a_session_cannot_begin_one(serve, logged):
    """Its cookie could not be sent, so the first write says so."""
    site = serve(Socket)
    async with connected(site, {}) as say:
        assert await say("write") == "RuntimeError"
    assert not warnings_of(logged)
    assert site.sessions() == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("act", ["save", "touch"])
async def test_an_open_socket_keeps_its_session_alive(serve, clock, act):
    """Hour by hour, although no response can bring a cookie."""
    site = serve(Socket, session={"idle_timeout": timedelta(days=1)})
    client = await site.client(a=1)
    async with connected(site, client) as say:
        for _ in range(100):
            clock.advance(HOUR)
            assert await say(act) == "None"
        assert float(await say("left")) >= clock() + 24 * HOUR
    assert await site.stored(client) is not None


@pytest.mark.gen_test
async def test_it_does_so_without_a_change(serve, clock):
    """save() of an unchanged session renews it where that is due."""

    class Saves(Socket):
        async def on_message(self, message):
            await self.session.save()
            await self.write_message("saved")

    site = serve(Saves)
    client = await site.client(a=1)
    async with connected(site, client) as say:
        for _ in range(60):
            clock.advance(HOUR)
            assert await say("") == "saved"
    assert await site.stored(client) == {"a": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize("act", ["save", "touch"])
async def test_the_lifetime_ends_it_all_the_same(serve, clock, act):
    """Renewing moves no absolute end."""
    site = serve(Socket, session={"idle_timeout": HOUR, "lifetime": 5 * HOUR})
    client = await site.client(a=1)
    async with connected(site, client) as say:
        told = []
        for _ in range(12):
            clock.advance(HOUR / 2)
            told.append(await say(act))
    assert told[:9] == ["None"] * 9
    assert told[-1] == "SessionGone"
    assert await site.stored(client) is None


@pytest.mark.gen_test
async def test_a_polling_socket_does_not_keep_it_alive(serve, clock):
    """Reading renews nothing; the session ends as if nobody were there."""
    site = serve(Socket)
    client = await site.client(a=1)
    async with connected(site, client) as say:
        for _ in range(30):
            clock.advance(HOUR)
            assert await say("read") == "1"
    assert await site.stored(client) is None


@pytest.mark.gen_test
async def test_the_cookie_outlives_the_first_renewals(serve, clock):
    """The next request of the browser still has it, and gets a new one."""

    class Page(SessionMixin, WebSocketHandler):
        async def get(self, *args, **kwargs):
            self.write(str(self.session.get("a")))

    site = serve([("/", Socket), ("/page", Page)])
    client = await site.client(a=1)
    async with connected(site, client) as say:
        for _ in range(26):
            clock.advance(HOUR)
            await say("touch")
    response = await site.get("/page", headers=client)
    assert response.body == b"1"
    assert session_cookie(response) is not None
    assert not is_cleared(response)
