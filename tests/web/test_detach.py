"""A handler that takes the stream over loses no change of its session."""

from __future__ import annotations

import asyncio

import pytest
from tornado.web import RequestHandler, stream_request_body

from tornado_mcsession import SessionMixin

from ..support.site import settle

RAW = b"HTTP/1.1 200 Raw\r\nContent-Length: 3\r\n\r\nraw"


class Detaches(SessionMixin, RequestHandler):
    """Uses its session as its path says, and takes the stream over."""

    async def get(self, how):
        await USES[how](self)
        try:
            stream = self.detach()
        except RuntimeError as error:
            self.settings["raised"].append(str(error))
            raise
        await stream.write(RAW)
        stream.close()


async def nothing(handler):
    pass


async def reads(handler):
    assert handler.session.get("a") == 1


async def writes(handler):
    handler.session["b"] = 1


async def nested(handler):
    handler.session["list"].append(1)


async def flashes(handler):
    handler.session.flash("hello")


async def ends(handler):
    handler.session = None


async def remembers(handler):
    handler.session.remember(True)
    handler.session["b"] = 1


async def saves(handler):
    handler.session["b"] = 1
    await handler.session.save()


async def transacts(handler):
    await handler.session.transact(lambda data: data.update(b=1))


async def destroys(handler):
    await handler.session.destroy()


async def writes_the_same(handler):
    handler.session["a"] = 1


async def writes_in_vain(handler):
    handler.session["b"] = 1
    del handler.session["b"]


CHANGES = [writes, nested, flashes, ends, remembers]
SAVED = [saves, transacts]
HARMLESS = [nothing, reads, writes_the_same, writes_in_vain]
USES = {use.__name__: use for use in (*CHANGES, *SAVED, *HARMLESS, destroys)}


@pytest.mark.gen_test
@pytest.mark.parametrize("use", [*HARMLESS, *SAVED, destroys])
async def test_a_stream_is_taken_over_where_nothing_is_to_be_saved(serve, store, use):
    """The handler gets the stream, and sends what it likes."""
    site = serve([("/(.*)", Detaches)], raised=[])
    client = await site.client(a=1, list=[])
    async with await site.open() as wire:
        await wire.ask(path=f"/{use.__name__}", headers=client)
        assert await wire._reader.read() == RAW
    stored = await site.stored(client)
    if use is destroys:
        assert stored is None
    else:
        expected = {"a": 1, "list": [], **({"b": 1} if use in SAVED else {})}
        assert stored == expected


@pytest.mark.gen_test
@pytest.mark.parametrize("use", CHANGES)
async def test_changes_are_not_lost_in_silence(serve, store, use, uncaught):
    """detach() raises where something is to be saved, and says what to do."""
    site = serve([("/(.*)", Detaches)], raised=[])
    client = await site.client(a=1, list=[])
    async with await site.open() as wire:
        response = await wire.request("GET", f"/{use.__name__}", client)
    assert response.status == 500
    assert len(site.seen["raised"]) == 1
    assert "save()" in site.seen["raised"][0]
    assert len(uncaught()) == 1


@pytest.mark.gen_test
async def test_a_new_session_is_not_lost_in_silence(serve, store, uncaught):
    """Its cookie could not be sent."""
    site = serve([("/(.*)", Detaches)], raised=[])
    response = await site.get("/writes")
    assert response.status == 500
    assert len(site.seen["raised"]) == 1
    assert len(uncaught()) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("awaits", [True, False])
@pytest.mark.parametrize("use", [nothing, reads, saves])
async def test_what_was_flushed_leaves_before(serve, store, use, awaits):
    """Headers and pieces that are still held go out in their order."""

    class Flushes(SessionMixin, RequestHandler):
        async def get(self):
            await use(self)
            self.set_header("Content-Length", "6")
            self.write("abc")
            if awaits:
                await self.flush()
            else:
                self.flush()
            stream = self.detach()
            await stream.write(b"def")
            stream.close()

    site = serve(Flushes)
    client = await site.client(a=1)
    async with await site.open() as wire:
        assert (await wire.request("GET", "/", client)).body == b"abcdef"


@pytest.mark.gen_test
@pytest.mark.parametrize("use", [nothing, reads, saves])
async def test_an_upload_is_taken_over_in_prepare(serve, store, use):
    """The body is then the handler's to read."""

    @stream_request_body
    class Takes(SessionMixin, RequestHandler):
        async def prepare(self):
            await super().prepare()
            await use(self)
            stream = self.detach()
            self.settings["got"].append(await stream.read_bytes(4))
            await stream.write(RAW)
            stream.close()

        def data_received(self, chunk):
            raise AssertionError("the handler reads it itself")

    site = serve(Takes, got=[])
    client = await site.client(a=1)
    async with await site.open() as wire:
        headers = {**client, "Content-Length": "4"}
        await wire.ask("POST", headers=headers)
        await wire.send(b"body")
        assert await wire._reader.read() == RAW
    assert site.seen["got"] == [b"body"]


@pytest.mark.gen_test
async def test_an_end_under_way_is_not_left_behind(serve, store, uncaught):
    """What ends the session was taken note of, and is not done yet."""

    class Ends(SessionMixin, RequestHandler):
        async def get(self):
            self.session = None
            self.flush()
            await store.reached("cas")
            try:
                self.detach()
            except RuntimeError as error:
                self.settings["raised"].append(str(error))
            store.release("cas")

    site = serve(Ends, raised=[])
    client = await site.client(a=1)
    store.hold("cas")
    async with await site.open() as wire:
        assert (await wire.request("GET", "/", client)).status == 200
    assert len(site.seen["raised"]) == 1
    assert await site.stored(client) is None


@pytest.mark.gen_test
async def test_changes_after_it_are_refused_or_saved_by_hand(serve, store, logged):
    """A handler that has the stream may still save() a stored session."""
    done = asyncio.Event()

    class Goes(SessionMixin, RequestHandler):
        async def get(self):
            len(self.session)
            stream = self.detach()
            try:
                self.session["b"] = 1
                await self.session.save()
            except RuntimeError as error:
                self.settings["raised"].append(error)
            stream.close()
            done.set()

    site = serve(Goes, raised=[])
    client = await site.client(a=1)
    async with await site.open() as wire:
        await wire.ask(headers=client)
        await done.wait()
        await settle()
    assert site.seen["raised"] or await site.stored(client) == {"a": 1, "b": 1}
