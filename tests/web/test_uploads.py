"""An upload that was refused is over, also while its response waits for a save."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tornado.web import Finish, HTTPError, RequestHandler, stream_request_body

from tornado_mcsession import SessionMixin

from ..support.site import is_closed, settle, upload

SIZE = 250_000
PIECE = 50_000


def raises(error):
    raise error


REFUSALS = {
    "finish": (200, lambda handler: handler.finish("no")),
    "redirect": (302, lambda handler: handler.redirect("/login")),
    "send_error": (413, lambda handler: handler.send_error(413)),
    "raise_HTTPError": (403, lambda handler: raises(HTTPError(403))),
    "raise_Finish": (200, lambda handler: raises(Finish("no"))),
}
# An exception in data_received() closes the connection.
RETURNS = ["finish", "redirect", "send_error"]


@stream_request_body
class Plain(RequestHandler):
    """Refuses an upload where its path says, and how."""

    async def prepare(self):
        result = super().prepare()
        if result is not None:
            await result
        self.place, self.how = self.request.path.split("/")[1:]
        self.use()
        if self.place == "prepare":
            self.refuse()

    def refuse(self):
        REFUSALS[self.how][1](self)

    def data_received(self, chunk):
        seen = self.settings["seen"]
        seen.append(len(chunk))
        if self.place == "data":
            self.refuse()
        if self.place == "later":
            return self.refuse_later()
        return None

    async def refuse_later(self):
        await asyncio.sleep(0)
        self.refuse()

    def put(self):
        self.settings["seen"].append("put")
        if self.place == "verb":
            self.refuse()

    def on_finish(self):
        super().on_finish()
        self.settings["seen"].append("on_finish")

    def use(self):
        """What it does to its session."""


class Flashes(SessionMixin, Plain):
    def use(self):
        self.session.flash("please log in")


class Reads(SessionMixin, Plain):
    """Its session is to be renewed."""

    def use(self):
        len(self.session)


class Ends(SessionMixin, Plain):
    def use(self):
        self.session = None


class Forgets(Flashes):
    """Saves by its flushed headers alone."""

    def on_finish(self):
        self.settings["seen"].append("on_finish")


SESSIONS = [Flashes, Reads, Ends, Forgets]
HANDLERS = [Plain, *SESSIONS]
each_handler = pytest.mark.parametrize("handler", HANDLERS)


async def uploaded(site, wire, head, *, chunked=False):
    """Send an upload as fast as it is taken, and go on when nobody takes it."""
    with contextlib.suppress(ConnectionError):
        await wire.send(head)
        for _ in range(SIZE // PIECE):
            await settle()
            piece = b"x" * PIECE
            await wire.send(b"%x\r\n%s\r\n" % (PIECE, piece) if chunked else piece)
        if chunked:
            await wire.send(b"0\r\n\r\n")
    await settle()


async def refused(serve, store, clock, handler, path, *, chunked=False, **headers):
    """Refuse an upload whose save takes longer than the upload; see what was seen."""
    site = serve(handler, seen=[])
    client = await site.client(a=1)
    clock.advance(80_000)
    store.hold("cas")
    async with await site.open() as wire:
        if chunked:
            head = upload(path, 0, **client, **headers).replace(
                b"Content-Length: 0", b"Transfer-Encoding: chunked"
            )
        else:
            head = upload(path, SIZE, **client, **headers)
        await uploaded(site, wire, head, chunked=chunked)
        if handler is not Plain:
            assert b"HTTP/1.1 3" not in wire.received, "it left before its save"
        store.release("cas")
        await settle()
        closed = await is_closed(wire)
        return site, bytes(wire.received), closed, client


@pytest.mark.gen_test
@each_handler
@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("chunked", [False, True])
async def test_nothing_is_received_after_a_refusal_in_prepare(
    serve, store, clock, handler, how, chunked
):
    """No byte reaches data_received(), and the verb does not run."""
    path = f"/prepare/{how}"
    site, received, closed, _ = await refused(
        serve, store, clock, handler, path, chunked=chunked
    )
    assert site.seen["seen"] == ["on_finish"]
    assert received.startswith(b"HTTP/1.1 %d " % REFUSALS[how][0])
    assert received.count(b"HTTP/1.1") == 1
    assert closed


@pytest.mark.gen_test
@each_handler
@pytest.mark.parametrize("how", RETURNS)
@pytest.mark.parametrize("place", ["data", "later"])
async def test_nothing_is_received_after_a_refusal_of_a_piece(
    serve, store, clock, handler, how, place
):
    """The piece that it refused is the last one that a handler sees."""
    path = f"/{place}/{how}"
    site, received, closed, _ = await refused(serve, store, clock, handler, path)
    assert site.seen["seen"] == [PIECE, "on_finish"]
    assert received.startswith(b"HTTP/1.1 %d " % REFUSALS[how][0])
    assert closed


@pytest.mark.gen_test
@each_handler
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_that_is_taken_is_whole(serve, store, clock, handler, chunked):
    """All of it is received before the verb, and the connection stays open."""
    site = serve(handler, seen=[])
    client = await site.client(a=1)
    head = upload("/verb/finish", SIZE, **client)
    if chunked:
        head = head.replace(b"Content-Length: %d" % SIZE, b"Transfer-Encoding: chunked")
    async with await site.open() as wire:
        await uploaded(site, wire, head, chunked=chunked)
        assert (await wire.receive()).body == b"no"
        assert sum(site.seen["seen"][:-2]) == SIZE
        assert site.seen["seen"][-2:] == ["put", "on_finish"]
        await wire.send(upload("/prepare/finish", 0, **client))
        assert (await wire.receive()).body == b"no"


@pytest.mark.gen_test
@each_handler
async def test_a_refused_upload_is_not_asked_for(serve, store, clock, handler):
    """A client that waits for 100 (Continue) is told the refusal alone."""
    site = serve(handler, seen=[])
    client = await site.client(a=1)
    clock.advance(80_000)
    store.hold("cas")
    async with await site.open() as wire:
        head = upload("/prepare/redirect", SIZE, Expect="100-continue", **client)
        await wire.send(head)
        await settle()
        store.release("cas")
        await settle()
        assert wire.received.startswith(b"HTTP/1.1 302 ")
        assert b" 100 " not in wire.received


@pytest.mark.gen_test
@each_handler
async def test_an_upload_that_is_taken_is_asked_for(serve, store, clock, handler):
    """100 (Continue) leaves as soon as prepare() has ended."""
    site = serve(handler, seen=[])
    client = await site.client(a=1)
    store.hold("cas")
    async with await site.open() as wire:
        await wire.send(upload("/verb/finish", 4, Expect="100-continue", **client))
        await settle()
        assert bytes(wire.received) == b"HTTP/1.1 100 (Continue)\r\n\r\n"
        await wire.send(b"body")
        await settle()
        store.release("cas")
        assert (await wire.receive()).body == b"no"


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", SESSIONS)
async def test_the_session_of_a_refused_upload_is_saved(serve, store, clock, handler):
    """The redirect to the login brings its message, or the logout has happened."""
    site, received, _, client = await refused(
        serve, store, clock, handler, "/prepare/redirect"
    )
    assert b"Set-Cookie: session=" in received
    session = await site.manager.get(client["Cookie"].removeprefix("session="))
    if handler is Ends:
        assert session is None
    elif handler is not Reads:
        assert session.flashes() == [("info", "please log in")]


@pytest.mark.gen_test
@each_handler
async def test_the_access_log_is_written_when_the_handler_finishes(
    serve, store, clock, handler
):
    """Once, with the handler's status, and without the time that a save takes."""
    logs = []
    site = serve(
        handler, seen=[], log_function=lambda handler: logs.append(handler.get_status())
    )
    client = await site.client(a=1)
    clock.advance(80_000)
    store.hold("cas")
    async with await site.open() as wire:
        await wire.send(upload("/prepare/redirect", SIZE, **client))
        await settle()
        assert logs == [302]
        store.release("cas")
        await settle()
        assert logs == [302]


# A renewal that fails is no error.
@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Plain, Flashes, Ends, Forgets])
async def test_a_failing_save_of_a_refused_upload_is_a_503(
    serve, store, clock, handler
):
    """The page takes the place of the refusal; no byte is received all the same."""
    site = serve(handler, seen=[])
    client = await site.client(a=1)
    async with await site.open() as wire:
        head = upload("/prepare/redirect", SIZE, **client)
        store.fail("cas")
        await uploaded(site, wire, head)
        status = b"302" if handler is Plain else b"503"
        assert wire.received.startswith(b"HTTP/1.1 " + status)
        assert site.seen["seen"] == ["on_finish"]


@pytest.mark.gen_test
@each_handler
async def test_a_client_that_leaves_after_the_end_is_not_told_of(
    serve, store, clock, handler
):
    """on_connection_close() is for requests that have not finished."""

    class Notes(handler):
        def on_connection_close(self):
            super().on_connection_close()
            self.settings["seen"].append("on_connection_close")

    site = serve(Notes, seen=[])
    client = await site.client(a=1)
    clock.advance(80_000)
    store.hold("cas")
    async with await site.open() as wire:
        await wire.send(upload("/verb/finish", 4, **client) + b"body")
        await settle()
    await settle()
    store.release("cas")
    await settle()
    assert site.seen["seen"] == [4, "put", "on_finish"]
