"""However a request ends, its answer waits for its session."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from tornado.web import (
    Finish,
    HTTPError,
    RequestHandler,
    StaticFileHandler,
    authenticated,
)

from tornado_mcsession import SessionMixin

from ..support.site import session_cookie, settle

pytestmark = pytest.mark.in_both_ways


class Handler(SessionMixin, RequestHandler):
    """Notes each request in the session, then ends as its subclass says."""

    def note(self) -> None:
        self.session["seen"] = self.session.get("seen", 0) + 1


class Plain(Handler):
    def get(self):
        self.note()
        self.write("body")


class Coroutine(Handler):
    async def get(self):
        self.note()
        await asyncio.sleep(0)
        self.write("body")


class Finishes(Handler):
    def get(self):
        self.note()
        self.finish("body")


class AwaitsFinish(Handler):
    async def get(self):
        self.note()
        await self.finish("body")
        self.application.settings["sent"] = True


class RaisesFinish(Handler):
    def get(self):
        self.note()
        self.write("body")
        raise Finish


class RaisesFinishInPrepare(Handler):
    async def prepare(self):
        await super().prepare()
        self.note()
        raise Finish("body")


class Redirects(Handler):
    def get(self):
        self.note()
        self.redirect("/next")


class RedirectsInPrepare(Handler):
    async def prepare(self):
        await super().prepare()
        self.note()
        self.redirect("/next")


class Authenticated(Handler):
    def get_current_user(self):
        self.note()
        return None

    @authenticated
    def get(self):
        raise AssertionError("nobody is logged in")


class Refuses(Handler):
    def get(self):
        self.note()
        raise HTTPError(403)


class RefusesInPrepare(Handler):
    async def prepare(self):
        await super().prepare()
        self.note()
        raise HTTPError(403)


class NoContent(Handler):
    def get(self):
        self.note()
        self.set_status(204)


class Flushes(Handler):
    async def get(self):
        self.note()
        self.write("bo")
        await self.flush()
        self.write("dy")


class FlushesAndGoesOn(Handler):
    def get(self):
        self.note()
        self.write("bo")
        self.flush()
        self.write("dy")


class Static(SessionMixin, StaticFileHandler):
    async def prepare(self):
        await super().prepare()
        self.session["seen"] = self.session.get("seen", 0) + 1


CASES = [
    (Plain, 200, b"body"),
    (Coroutine, 200, b"body"),
    (Finishes, 200, b"body"),
    (AwaitsFinish, 200, b"body"),
    (RaisesFinish, 200, b"body"),
    (RaisesFinishInPrepare, 200, b"body"),
    (Redirects, 302, b""),
    (RedirectsInPrepare, 302, b""),
    (Authenticated, 302, b""),
    (Refuses, 403, None),
    (RefusesInPrepare, 403, None),
    (NoContent, 204, b""),
    (Flushes, 200, b"body"),
    (FlushesAndGoesOn, 200, b"body"),
    (Static, 200, b"body"),
]
NAMES = [case[0].__name__ for case in CASES]


@pytest.fixture
def site(serve, handler, tmp_path):
    """The application of a handler; a static one has a file to send."""
    (tmp_path / "file.txt").write_text("body")
    if issubclass(handler, StaticFileHandler):
        route = ("/(.*)", handler, {"path": str(tmp_path)})
    else:
        route = ("/.*", handler)
    return serve([route], login_url="/login")


@pytest.mark.gen_test
@pytest.mark.parametrize(("handler", "status", "body"), CASES, ids=NAMES)
async def test_a_first_answer_waits_for_the_new_session(
    site, store, handler, status, body
):
    """No byte leaves before a new session is stored; then the cookie comes along."""
    store.hold("add")
    async with await site.open() as wire:
        await wire.ask("GET", "/file.txt")
        await store.reached("add")
        await settle()
        assert wire.received == b""
        store.release("add")
        response = await wire.receive()
        assert response.status == status
        if body is not None:
            assert response.body == body
        assert await site.stored(response) == {"seen": 1}
        assert store.calls == ["add"]
        again = await wire.request("GET", "/file.txt")
        assert again.status == status, "the connection must stay usable"


@pytest.mark.gen_test
@pytest.mark.parametrize(("handler", "status", "body"), CASES, ids=NAMES)
async def test_a_later_answer_waits_for_the_change(site, store, handler, status, body):
    """No byte leaves before a change is stored; the cookie stays as it is."""
    client = await site.client(seen=1)
    store.hold("cas")
    async with await site.open() as wire:
        await wire.ask("GET", "/file.txt", headers=client)
        await store.reached("cas")
        await settle()
        assert wire.received == b""
        store.release("cas")
        response = await wire.receive()
    assert response.status == status
    if body is not None:
        assert response.body == body
    assert session_cookie(response) is None
    assert await site.stored(client) == {"seen": 2}
    assert store.calls == ["get", "cas"]


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [AwaitsFinish])
async def test_an_awaited_finish_returns_when_the_answer_is_out(site, store, handler):
    """``await self.finish()`` waits for the save as well."""
    store.hold("add")
    async with await site.open() as wire:
        await wire.ask()
        await store.reached("add")
        await settle()
        assert "sent" not in site.application.settings
        store.release("add")
        await wire.receive()
        await settle()
        assert site.application.settings["sent"]


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Plain, Static])
async def test_head_and_not_modified_wait_as_well(site, store, handler):
    """Answers without a body are held, saved and given the cookie like others."""
    etag = (await site.get("/file.txt")).header("Etag")
    requests = [("HEAD", {}, 200), ("GET", {"If-None-Match": etag}, 304)]
    handler.head = handler.get
    for method, headers, status in requests:
        store.hold("add")
        async with await site.open() as wire:
            await wire.ask(method, "/file.txt", headers=headers)
            await store.reached("add")
            await settle()
            assert wire.received == b""
            store.release("add")
            response = await wire.receive(method)
        assert response.status == status
        assert await site.stored(response) == {"seen": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize("stream", [False, True])
async def test_compressed_answers_wait_as_well(serve, store, stream):
    """With compress_response the held answer is the compressed one."""

    class Long(Handler):
        async def get(self):
            self.note()
            self.write("long " * 1000)
            if stream:
                await self.flush()
            self.write("end")

    site = serve(Long, compress_response=True)
    store.hold("add")
    async with await site.open() as wire:
        await wire.ask(headers={"Accept-Encoding": "gzip"})
        await store.reached("add")
        await settle()
        assert wire.received == b""
        store.release("add")
        response = await wire.receive()
    assert response.header("Content-Encoding") == "gzip"
    assert gzip.decompress(response.body) == b"long " * 1000 + b"end"
    vary = ", ".join(response.all_headers("Vary"))
    assert sorted(vary.split(", ")) == ["Accept-Encoding", "Cookie"]
    assert await site.stored(response) == {"seen": 1}


@pytest.mark.gen_test
async def test_a_second_finish_is_an_error_as_ever(serve, uncaught):
    """A second finish() raises, and the first answer arrives whole."""

    class Twice(Handler):
        def get(self):
            self.note()
            self.finish("body")
            self.finish("more")

    site = serve(Twice)
    response = await site.get()
    assert (response.status, response.body) == (200, b"body")
    assert await site.stored(response) == {"seen": 1}
    assert len(uncaught()) == 1
