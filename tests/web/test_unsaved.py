"""Changes that nobody will save: one warning for a handler class, and no false ones."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging

import pytest
from tornado.httpclient import HTTPRequest
from tornado.web import HTTPError, RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler, websocket_connect

from tornado_mcsession import SessionMixin

from ..support.site import settle

# All sessions are looked at, as in the development of an application.
DEBUG = {"debug": True, "autoreload": False}


@pytest.fixture
def warnings(logged):
    """What the package warned of, once all that was dropped is gone."""

    def warnings():
        gc.collect()
        return logged(logging.WARNING)

    return warnings


def place_of(cls):
    return f"{__file__}:{inspect.getsourcelines(cls)[1]}"


class Late(SessionMixin, RequestHandler):
    """Changes its session after the response."""

    async def get(self):
        self.session["seen"] = True
        await self.finish("done")
        self.session["list"].append(1)


class Later(Late):
    """The same, in a class of its own."""


@pytest.mark.gen_test
async def test_a_change_after_the_response_is_one_warning(serve, warnings):
    """For each handler class, with its file and line; each time is counted."""
    site = serve([("/late", Late), ("/later", Later)], **DEBUG)
    client = await site.client(list=[])
    for _ in range(3):
        assert (await site.get("/late", client)).body == b"done"
        await settle()
    (warning,) = warnings()
    assert warning.startswith(f"Late ({place_of(Late)}): ")
    assert "manager.get(session_id)" in warning
    assert site.manager.stats()["unsaved_changes"] == 3
    await site.get("/later", client)
    await settle()
    assert len(warnings()) == 2
    assert place_of(Later) in warnings()[1]


@pytest.mark.gen_test
async def test_in_production_some_are_looked_at(serve, warnings):
    """To look costs more than to be called, so not each request pays for it."""
    site = serve(Late)
    client = await site.client(list=[])
    for _ in range(61):
        await site.get("/", client)
        await settle()
    assert len(warnings()) == 1
    assert site.manager.stats()["unsaved_changes"] == 1


@stream_request_body
class Upload(SessionMixin, RequestHandler):
    """Changes its session before the upload has come."""

    async def prepare(self):
        await super().prepare()
        self.session["n"] = 1
        self.settings["begun"].set()

    def data_received(self, chunk):
        pass

    def post(self):
        pass


class Deaf(Upload):
    """Does not tell the mixin that its client has left."""

    def on_connection_close(self):
        RequestHandler.on_connection_close(self)


@pytest.mark.parametrize("handler", [Upload, Deaf])
@pytest.mark.gen_test
async def test_a_request_that_never_ends_is_one(serve, warnings, handler):
    """Where its handler keeps from the mixin that the client has left."""
    begun = asyncio.Event()
    site = serve(handler, begun=begun, **DEBUG)
    client = await site.client(list=[])
    async with await site.open() as wire:
        lines = [f"{name}: {value}" for name, value in client.items()]
        head = ["POST / HTTP/1.1", "Host: a", "Content-Length: 9", *lines, "", ""]
        await wire.send("\r\n".join(head).encode())
        await begun.wait()
    await settle()
    found, stored = warnings(), await site.stored(client)
    if handler is Upload:
        assert (found, stored) == ([], {"list": [], "n": 1})
    else:
        assert stored == {"list": []}
        (warning,) = found
        assert warning.startswith(f"Deaf ({place_of(Deaf)}): ")
        assert "super().on_connection_close()" in warning


class Chat(SessionMixin, WebSocketHandler):
    """Changes its session, and saves nothing."""

    def on_message(self, message):
        self.session["last"] = message
        self.close()


@pytest.mark.gen_test
async def test_a_class_of_sockets_is_one_warning(serve, warnings):
    """However many of them are closed; in production, too."""
    site = serve(Chat)
    client = await site.client(a=1)
    request = HTTPRequest(f"ws://127.0.0.1:{site.port}/", headers=client)
    for _ in range(3):
        connection = await websocket_connect(request)
        await connection.write_message("hello")
        assert await connection.read_message() is None
        connection.close()
        await settle()
    (warning,) = warnings()
    assert warning.startswith(f"Chat ({place_of(Chat)}): a WebSocket was closed")
    assert site.manager.stats()["unsaved_changes"] == 3


# By its id.


@pytest.mark.gen_test
async def test_a_session_by_its_id_is_one(serve, warnings):
    """With the line that got it, once."""
    site = serve(Late)
    session_id = await site.new(list=[])
    for n in range(3):
        session = await site.manager.get(session_id)
        session["n"] = n
        del session
    (warning,) = warnings()
    line = inspect.getsourcelines(test_a_session_by_its_id_is_one)[1] + 6
    assert warning.startswith(f"{__file__}:{line}: a session from manager.get()")
    assert site.manager.stats()["unsaved_changes"] == 3
    session = await site.manager.get(session_id)
    session["list"].append(1)
    del session
    assert len(warnings()) == 2


@pytest.mark.gen_test
async def test_a_session_that_a_task_got_is_one(serve, warnings):
    """There is no line to name where nobody awaits in that moment."""
    site = serve(Late)
    session_id = await site.new()
    session = await asyncio.create_task(site.manager.get(session_id))
    session["n"] = 1
    del session
    await settle()
    assert warnings()[0].startswith("a task: a session from manager.get()")


async def saved(session, manager):
    session["n"] = 2
    await session.save()


async def transacted(session, manager):
    await session.transact(lambda data: data.update(n=2))


async def committed(session, manager):
    session["n"] = 2
    await manager.commit(session)


async def read(session, manager):
    session["list"].append(session.get("n"))
    session["list"].pop()


async def ended(session, manager):
    session["n"] = 2
    await session.destroy()


async def ended_by_others(session, manager):
    session["n"] = 2
    await manager.destroy(session.id)
    with pytest.raises(Exception, match="ended by another"):
        await session.save()


@pytest.mark.parametrize(
    "use", [saved, transacted, committed, read, ended, ended_by_others]
)
@pytest.mark.gen_test
async def test_what_is_saved_ended_or_unchanged_is_none(serve, warnings, use):
    """Nothing is lost, or somebody was told."""
    site = serve(Late)
    session = await site.manager.get(await site.new(list=[], n=1))
    await use(session, site.manager)
    del session
    assert warnings() == []


# No false alarms.


class Uses(SessionMixin, RequestHandler):
    """Changes its session, and ends as the test asks for."""

    async def get(self):
        self.session["n"] = self.session.get("n", 0) + 1
        how = self.get_argument("how")
        if how == "fails":
            raise HTTPError(500)
        if how == "refuses":
            raise HTTPError(404)
        if how == "keeps":
            self.session_save = False
        if how == "ends":
            self.session = None
        if how == "streams":
            await self.flush()
            self.session["later"] = 1
        if how == "is_ended":
            await self.settings["session_manager"].destroy(self.session.id)
        self.write("done")


HOWS = ["ok", "fails", "refuses", "keeps", "ends", "streams", "is_ended"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.gen_test
async def test_no_ending_of_a_request_is_one(serve, warnings, how):
    """Saved, discarded with a server error, or dropped and counted elsewhere."""
    site = serve(Uses, **DEBUG)
    client = await site.client(a=1)
    await site.get(f"/?how={how}", client)
    await site.get(f"/?how={'ok' if how in ('is_ended', 'streams') else how}")
    await settle()
    assert warnings() == []
    assert site.manager.stats()["unsaved_changes"] == 0


@pytest.mark.parametrize("on_error", ["raise", "degrade"])
@pytest.mark.parametrize("operation", ["get", "cas"])
@pytest.mark.gen_test
async def test_no_outage_is_one(serve, store, warnings, on_error, operation):
    """A status, or the log, says what is lost then, as for any other session."""
    site = serve(Uses, session={"on_error": on_error}, **DEBUG)
    client = await site.client(a=1)
    store.fail(operation)
    await site.get("/?how=ok", client)
    await settle()
    assert warnings() == []


@pytest.mark.gen_test
async def test_a_save_in_the_background_is_none(serve, store, warnings):
    """Also where it takes in what another request has saved meanwhile."""
    site = serve(Uses, session={"persist": "on_finish"}, **DEBUG)
    client = await site.client(a=1)
    store.hold("cas")
    await site.get("/?how=ok", client)
    await store.reached("cas")
    other = await site._observer.get(client["Cookie"].removeprefix("session="))
    other["b"] = 2
    await other.save()
    store.release("cas")
    await site.manager.drain(10)
    assert await site.stored(client) == {"a": 1, "b": 2, "n": 1}
    assert warnings() == []
