"""Answers that leave in pieces, and what the session may do meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin
from tornado_mcsession.exceptions import StoreUnavailable

from ..support.site import held_until_stored, session_cookie, settle

pytestmark = pytest.mark.in_both_ways


class Changes(SessionMixin, RequestHandler):
    """Changes its session before and after the headers, and after the body."""

    async def get(self):
        self.session["before"] = 1
        self.write("first,")
        await self.flush()
        self.session["after"] = 1
        self.write("last")


class Late(SessionMixin, RequestHandler):
    """Looks at its session for the first time when the headers have left."""

    async def get(self):
        self.write("first,")
        await self.flush()
        self.session["after"] = 1
        self.write("last")


class Sized(SessionMixin, RequestHandler):
    """Says beforehand how long its answer is, so that its end needs no mark."""

    async def get(self):
        self.set_header("Content-Length", "10")
        self.write("first,")
        await self.flush()
        self.session["after"] = 1
        self.write("last")


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Changes, Late, Sized])
async def test_the_end_waits_for_changes_after_the_first_flush(serve, store, handler):
    """A second commit holds the end of the answer until it is stored."""
    site = serve(handler)
    client = await site.client(before=1)
    store.hold("cas")
    async with await site.open() as wire:
        await wire.ask(headers=client)
        await store.reached("cas")
        await settle()
        assert b"first," in wire.received
        assert not wire.received.endswith((b"0\r\n\r\n", b"last"))
        store.release("cas")
        assert (await wire.receive()).body == b"first,last"
    assert await site.stored(client) == {"before": 1, "after": 1}
    assert store.calls == ["get", "cas"]


@pytest.mark.gen_test
async def test_pieces_after_the_first_pass_at_once(serve, store):
    """What is flushed between the first save and the end is not held."""

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            for piece in ("one", "two", "three"):
                self.session["a"] = piece
                self.write(piece)
                await self.flush()
            await release.wait()

    release = asyncio.Event()
    site = serve(Handler)
    async with await site.open() as wire:
        await wire.ask()
        await settle()
        assert wire.received.endswith(b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n")
        assert store.calls == ["add"]
        release.set()
        response = await wire.receive()
    assert response.body == b"onetwothree"
    assert await site.stored(response) == {"a": "three"}


@pytest.mark.gen_test
async def test_a_first_flush_and_the_end_save_what_came_before_them(serve, store):
    """What was changed before the flush is stored with it, the rest at the end."""
    site = serve(Changes)
    response = await site.get()
    assert store.calls == ["add", "get", "cas"]
    assert await site.stored(response) == {"before": 1, "after": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Changes, Late, Sized])
async def test_a_failing_second_commit_closes_without_the_end(
    serve, store, handler, caplog
):
    """The client can see that its answer is not whole, and the log says why."""
    site = serve(handler)
    client = await site.client(before=1)
    store.fail("cas")
    async with await site.open() as wire:
        await wire.ask(headers=client)
        with pytest.raises(asyncio.IncompleteReadError):
            await wire.receive()
    assert "could not be saved" in caplog.text
    assert await site.stored(client) == {"before": 1}


@pytest.mark.gen_test
async def test_a_failing_first_commit_is_raised_by_the_flush(serve, store):
    """``await self.flush()`` raises what the save raised; the client gets a page."""
    raised = []

    class Handler(Changes):
        async def get(self):
            try:
                await super().get()
            except StoreUnavailable as error:
                raised.append(error)
                raise

    site = serve(Handler)
    store.fail("add")
    async with await site.open() as wire:
        response = await wire.request("GET", "/")
        assert response.status == 503
        assert response.header("Retry-After") == "1"
        assert b"first" not in response.body
        assert session_cookie(response) is None
        assert len(raised) == 1
        assert (await wire.request("GET", "/")).status == 200


@pytest.mark.gen_test
async def test_a_failing_first_commit_ends_what_does_not_wait_for_it(serve, store):
    """A handler that flushes without waiting writes into nothing; nobody hangs."""

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            self.session["a"] = 1
            self.write("first")
            self.flush()
            await release.wait()
            self.write("second")
            self.flush()
            self.finish("third")
            ended.set()

        async def post(self):
            await never.wait()

        def on_connection_close(self):
            super().on_connection_close()
            never.set()

    release, ended, never = asyncio.Event(), asyncio.Event(), asyncio.Event()
    site = serve(Handler)
    store.fail("add")
    async with await site.open() as wire:
        assert (await wire.request("GET", "/")).status == 503
        await wire.ask("POST", body=b"")
        await settle()
        release.set()  # the first request ends while the second is under way
        await ended.wait()
        assert not wire.received.endswith(b"third")
    async with asyncio.timeout(5):
        await never.wait()  # which still hears that its client has left


@pytest.mark.gen_test
async def test_an_error_after_the_headers_discards_what_came_after(
    serve, store, uncaught
):
    """What the first flush saved stays; the changes of the failed rest do not."""

    class Handler(Changes):
        async def get(self):
            self.session["before"] = 1
            await self.flush()
            self.session["after"] = 1
            raise ZeroDivisionError

    site = serve(Handler)
    response = await site.get()
    assert response.status == 200
    assert await site.stored(response) == {"before": 1}
    assert len(uncaught()) == 1


@pytest.mark.gen_test
async def test_a_handler_may_go_on_while_its_flush_is_held(serve, store):
    """Pieces queue behind the held headers, and arrive in their order."""

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            self.session["a"] = 1
            self.flush()
            await asyncio.sleep(0)
            for piece in "bcd":
                self.write(piece)
                self.flush()
                await asyncio.sleep(0)
            self.session["b"] = 1
            self.write("e")

    site = serve(Handler)
    response = await held_until_stored(site, "add")
    assert response.body == b"bcde"
    assert await site.stored(response) == {"a": 1, "b": 1}


@pytest.mark.gen_test
async def test_a_save_beside_a_flush_creates_one_session(serve, store):
    """A commit under way and an explicit save() go one after another."""

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            self.session["a"] = 1
            self.flush()
            await store.reached("add")
            saved = asyncio.create_task(self.session.save())
            await settle()
            store.release("add")
            await saved

    site = serve(Handler)
    store.hold("add")
    response = await site.get()
    assert await site.stored(response) == {"a": 1}
    assert site.sessions() == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("awaits", [True, False])
async def test_too_long_an_answer_ends_the_connection(serve, awaits, uncaught):
    """What Tornado cannot send closes the connection; a waiting handler is told."""
    told = []

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            self.session["a"] = 1
            self.set_header("Content-Length", "1")
            self.write("too long")
            flushed = self.flush()
            try:
                if awaits:
                    await flushed
            finally:
                told.append(True)

    site = serve(Handler)
    async with await site.open() as wire:
        await wire.ask()
        assert await wire.is_closed()
    await settle()
    assert told
    assert len(uncaught()) == int(awaits)
