"""Classes above and below the mixin work as without it."""

from __future__ import annotations

import asyncio

import pytest
from tornado.web import HTTPError, RequestHandler
from tornado.websocket import WebSocketHandler

from tornado_mcsession import SessionMixin

from ..support.site import session_cookie


class Page(RequestHandler):
    """A page that knows nothing of sessions."""

    def get(self):
        self.write("page,")
        return None

    async def post(self):
        await asyncio.sleep(0)
        self.write("posted,")

    def put(self, *args, **kwargs):
        self.write(f"{args}{kwargs},")

    def options(self):
        self.set_status(204)
        self.set_header("Allow", "GET, POST")


class Inherits(SessionMixin, Page):
    """Has no verb of its own."""


class Below(SessionMixin, Page):
    """Adds to what the page does."""

    def get(self):
        result = super().get()
        assert result is None
        self.session["a"] = 1
        self.write("mine")

    async def post(self):
        await super().post()
        self.session["a"] = 1
        self.write("mine")

    def put(self, *args, **kwargs):
        super().put(*args, **kwargs)
        self.write("mine")

    def options(self):
        super().options()


class Returns(SessionMixin, Page):
    """Returns what the page returns."""

    def get(self):
        return super().get()

    def post(self):
        return super().post()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("handler", "method", "body"),
    [
        (Inherits, "GET", b"page,"),
        (Inherits, "POST", b"posted,"),
        (Below, "GET", b"page,mine"),
        (Below, "POST", b"posted,mine"),
        (Returns, "GET", b"page,"),
        (Returns, "POST", b"posted,"),
    ],
)
async def test_a_verb_may_call_that_of_the_class_above(serve, handler, method, body):
    """What the page above the mixin writes is there."""
    site = serve(handler)
    sent = b"" if method == "POST" else None
    response = await site.request(method, body=sent)
    assert (response.status, response.body) == (200, body)
    if handler is Below:
        assert await site.stored(response) == {"a": 1}


@pytest.mark.gen_test
async def test_arguments_of_the_path_pass(serve):
    """Positional ones and named ones."""
    site = serve([("/(.*)/(.*)", Below), ("/(?P<name>.*)", Below)])
    assert (await site.request("PUT", "/x/y", body=b"")).text == "('x', 'y'){},mine"
    assert (await site.request("PUT", "/x", body=b"")).text == "(){'name': 'x'},mine"


def test_the_mixin_adds_no_verb():
    """A handler has the verbs that its author gave it."""
    for verb in ("get", "head", "post", "put", "patch", "delete", "options"):
        assert getattr(Inherits, verb) is getattr(Page, verb)


class Bare(SessionMixin, RequestHandler):
    """Has no verb at all."""


class Asks(SessionMixin, RequestHandler):
    """Calls a verb that nothing above it has."""

    def get(self):
        super().get()

    async def post(self):
        await super().post()


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Bare, Asks])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
async def test_a_missing_verb_is_a_405(serve, handler, method):
    """Whether Tornado looks for it, or the handler does by super()."""
    site = serve(handler)
    body = b"" if method == "POST" else None
    client = await site.client(a=1)
    assert (await site.request(method, body=body)).status == 405
    assert (await site.request(method, headers=client, body=body)).status == 405


@pytest.mark.gen_test
async def test_options_of_the_class_above_work(serve):
    """With their own status and headers."""
    for handler in (Inherits, Below):
        response = await serve(handler).request("OPTIONS")
        assert response.status == 204
        assert response.header("Allow") == "GET, POST"


class Prepares(RequestHandler):
    def prepare(self):
        self.settings["seen"].append("page")


class PreparesLater(RequestHandler):
    async def prepare(self):
        await asyncio.sleep(0)
        self.settings["seen"].append("page")


class Refuses(RequestHandler):
    def prepare(self):
        raise HTTPError(403)


@pytest.mark.gen_test
@pytest.mark.parametrize("above", [Prepares, PreparesLater])
@pytest.mark.parametrize("known", [True, False])
async def test_prepare_reaches_the_class_above(serve, above, known):
    """Plain or async, with a session or without one."""

    class Handler(SessionMixin, above):
        async def prepare(self):
            await super().prepare()
            self.settings["seen"].append("handler")

        def get(self):
            self.settings["seen"].append(len(self.session))

    site = serve(Handler, seen=[])
    client = await site.client(a=1) if known else {}
    assert (await site.get(headers=client)).status == 200
    assert site.seen["seen"] == ["page", "handler", int(known)]


@pytest.mark.gen_test
@pytest.mark.parametrize("known", [True, False])
async def test_a_refusal_of_the_class_above_is_one(serve, known):
    """The handler's own prepare() and its verb do not run."""

    class Handler(SessionMixin, Refuses):
        async def prepare(self):
            await super().prepare()
            raise AssertionError

        def get(self):
            raise AssertionError

    site = serve(Handler)
    client = await site.client(a=1) if known else {}
    assert (await site.get(headers=client)).status == 403


@pytest.mark.gen_test
async def test_results_pass(serve):
    """flush(), finish() and detach() return what Tornado's return."""
    seen = []

    class Handler(SessionMixin, RequestHandler):
        def flush(self, include_footers=False):
            future = super().flush(include_footers)
            seen.append(("flush", asyncio.isfuture(future)))
            return future

        def finish(self, chunk=None):
            future = super().finish(chunk)
            seen.append(("finish", asyncio.isfuture(future)))
            return future

        async def get(self):
            self.session["a"] = 1
            self.write("first,")
            assert await self.flush() is None
            assert await self.finish("last") is None

    site = serve(Handler)
    assert (await site.get()).body == b"first,last"
    assert seen == [("flush", True), ("flush", True), ("finish", True)]


@pytest.mark.gen_test
async def test_what_the_class_above_overrides_is_called(serve):
    """on_finish(), send_error(), write_error(), clear(), log_exception()."""
    seen = []

    def noting(name):
        def method(self, *args, **kwargs):
            seen.append(name)
            return getattr(super(Notes, self), name)(*args, **kwargs)

        return method

    class Notes(RequestHandler):
        pass

    names = ["on_finish", "send_error", "write_error", "clear", "log_exception"]
    for name in names:
        setattr(Notes, name, noting(name))

    class Handler(SessionMixin, Notes):
        def get(self):
            self.session["a"] = 1
            raise HTTPError(404)

    site = serve(Handler)
    response = await site.get()
    assert response.status == 404
    assert await site.stored(response) == {"a": 1}
    assert set(seen) == set(names)


KEY = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


class Socket(SessionMixin, WebSocketHandler):
    async def prepare(self):
        await super().prepare()
        self.session["a"] = 1


class SocketBelow(Socket):
    async def get(self, *args, **kwargs):
        self.set_header("X-Below", "1")
        return await super().get(*args, **kwargs)


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Socket, SocketBelow])
async def test_a_websocket_may_override_get(serve, handler):
    """Its session is saved before the handshake all the same."""
    site = serve(handler)
    async with await site.open() as wire:
        response = await wire.request("GET", "/", KEY)
    assert response.status == 101
    assert session_cookie(response) is not None
    assert await site.stored(response) == {"a": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
async def test_other_verbs_of_a_websocket_are_405s(serve, method):
    site = serve(Socket)
    body = b"" if method == "POST" else None
    assert (await site.request(method, body=body)).status == 405
