"""persist="on_finish": updates of a session may leave before their save."""

from __future__ import annotations

import asyncio

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from ..support.site import is_cleared, session_cookie, settle

pytestmark = pytest.mark.in_both_ways

ON_FINISH = {"persist": "on_finish"}


class Acts(SessionMixin, RequestHandler):
    def get(self):
        self.session["n"] = self.session.get("n", 0) + 1
        self.write(str(self.session["n"]))

    async def post(self):
        await getattr(self, self.request.path[1:])()

    async def login(self):
        await self.session.login("ann")

    async def regenerate(self):
        await self.session.regenerate()

    async def destroy(self):
        await self.session.destroy()

    async def doom(self):
        self.session = None

    async def remember(self):
        self.session["n"] = 0
        self.session.remember(False)


@pytest.mark.gen_test
async def test_an_update_leaves_first(serve, store):
    """Its save goes on in the background; drain() waits for it."""
    site = serve(Acts, session=ON_FINISH)
    client = await site.client(n=1)
    store.hold("cas")
    assert (await site.get(headers=client)).body == b"2"
    await store.reached("cas")
    assert await site.stored(client) == {"n": 1}
    assert await site.manager.drain(0.01) is False
    store.release("cas")
    assert await site.manager.drain(5) is True
    assert await site.stored(client) == {"n": 2}


@pytest.mark.gen_test
async def test_the_next_request_of_the_session_waits_for_it(serve, store):
    """In this process each request sees what the one before it left."""
    site = serve(Acts, session=ON_FINISH)
    client, stranger = await site.client(n=1), await site.client(n=5)
    store.hold("cas")
    assert (await site.get(headers=client)).body == b"2"
    await store.reached("cas")
    following = asyncio.create_task(site.get(headers=client))
    assert (await site.get(headers=stranger)).body == b"6"
    await settle()
    assert not following.done()
    assert store.calls.count("get") == 2, "only the stranger's request may load"
    store.release("cas")
    assert (await following).body == b"3"
    assert await site.manager.drain(5)
    assert await site.stored(client) == {"n": 3}


@pytest.mark.gen_test
@pytest.mark.parametrize("persist", ["before_response", "on_finish"])
@pytest.mark.parametrize(
    ("method", "path", "operation", "known"),
    [
        ("GET", "/", "add", False),
        ("POST", "/login", "add", False),
        ("POST", "/login", "cas", True),
        ("POST", "/regenerate", "cas", True),
        ("POST", "/destroy", "cas", True),
        ("POST", "/doom", "cas", True),
        ("POST", "/remember", "cas", True),
    ],
)
async def test_what_changes_the_cookie_is_held_in_both_modes(
    serve, store, persist, method, path, operation, known
):
    """An answer that brings or takes the cookie waits for the store."""
    site = serve(Acts, session={"persist": persist})
    client = await site.client(n=1) if known else {}
    store.hold(operation)
    async with await site.open() as wire:
        await wire.ask(method, path, headers=client, body=b"")
        await store.reached(operation)
        await settle()
        assert wire.received == b""
        store.release(operation)
        response = await wire.receive()
    assert session_cookie(response) is not None
    assert is_cleared(response) is (path in ("/destroy", "/doom"))


@pytest.mark.gen_test
async def test_an_answer_with_a_renewal_is_held(serve, store, clock):
    """Its cookie says how long the session lives, which must be stored."""
    site = serve(Acts, session=ON_FINISH)
    client = await site.client(n=1)
    clock.advance(80_000)
    store.hold("cas")
    async with await site.open() as wire:
        await wire.ask(headers=client)
        await store.reached("cas")
        await settle()
        assert wire.received == b""
        store.release("cas")
        assert session_cookie(await wire.receive()) is not None


@pytest.mark.gen_test
async def test_a_failing_save_is_logged(serve, store, caplog):
    """The answer is out: the log has the error's kind, and nothing else breaks."""
    site = serve(Acts, session=ON_FINISH)
    client = await site.client(n=1)
    store.fail("cas")
    assert (await site.get(headers=client)).body == b"2"
    assert await site.manager.drain(5)
    assert "after its response to GET" in caplog.text
    assert (await site.get(headers=client)).body == b"2"
    assert await site.manager.drain(5)


@pytest.mark.gen_test
async def test_what_cannot_be_encoded_is_still_a_500(serve, store):
    """Whether values can be stored is known before the answer leaves."""

    class Handler(SessionMixin, RequestHandler):
        def get(self):
            self.session["bad"] = {1, 2}

    site = serve(Handler, session=ON_FINISH)
    client = await site.client(n=1)
    assert (await site.get(headers=client)).status == 500
    assert store.calls == ["get"]


@pytest.mark.gen_test
async def test_saves_of_a_streaming_answer_go_in_turn(serve, store):
    """The save of the first flush and that of the end do not overtake each other."""

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            self.session["a"] = 1
            await self.flush()
            self.session["b"] = 2
            self.write("end")

    site = serve(Handler, session=ON_FINISH)
    client = await site.client(n=1)
    store.hold("cas")
    assert (await site.get(headers=client)).body == b"end"
    await store.reached("cas")
    await settle()
    assert store.calls == ["get", "cas"]
    store.release("cas")
    assert await site.manager.drain(5)
    assert await site.stored(client) == {"n": 1, "a": 1, "b": 2}
    assert site.manager.stats()["conflicts"] == 0


@pytest.mark.gen_test
async def test_hooks_still_get_their_handler(serve, store):
    """The handler lives until its save is over, though its answer is out."""
    seen = []

    class Streams(SessionMixin, RequestHandler):
        async def get(self):
            self.session["a"] = 1
            await self.flush()
            self.session["b"] = 2

    def before_save(handler, session):
        seen.append(type(handler).__name__)

    site = serve(Streams, session={**ON_FINISH, "before_save": before_save})
    store.hold("cas")
    await site.get(headers=await site.client(n=1))
    await settle()
    store.release("cas")
    assert await site.manager.drain(5)
    assert seen == ["Streams", "Streams"]


@pytest.mark.gen_test
async def test_a_hook_that_raises_afterwards_is_logged(serve, store, caplog):
    """With its traceback, since it is the application's own."""

    def before_save(handler, session):
        raise ZeroDivisionError

    site = serve(Acts, session={**ON_FINISH, "before_save": before_save})
    assert (await site.get(headers=await site.client(n=1))).status == 200
    assert await site.manager.drain(5)
    assert "ZeroDivisionError" in caplog.text
