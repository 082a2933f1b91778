"""Answers whose sessions cannot be saved, and the pages in their place."""

from __future__ import annotations

import asyncio

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin
from tornado_mcsession.exceptions import (
    EncodeError,
    SessionConflict,
    SessionTooLarge,
    StoreUnavailable,
)

from ..support.site import is_cleared, session_cookie

pytestmark = pytest.mark.in_both_ways


class Writes(SessionMixin, RequestHandler):
    """Sends all kinds of headers with a changed session."""

    def set_default_headers(self):
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Content-Security-Policy", "default-src 'self'")

    def get(self):
        self.session["a"] = 1
        self.set_cookie("other", "kept")
        self.set_header("Location", "/next")
        self.set_header("Etag", '"tag"')
        self.set_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.set_header("Expires", "Thu, 01 Jan 2099 00:00:00 GMT")
        self.set_header("Cache-Control", "public, max-age=60")
        self.set_header("Content-Language", "en")
        self.set_header("Content-Disposition", "attachment")
        self.write("the answer")

    head = get

    def post(self):
        self.get()
        self.set_status(201)


@pytest.mark.gen_test
async def test_the_answer_is_replaced(serve, store):
    """503, to be tried again, not to be kept; nothing is left of the body."""
    site = serve(Writes)
    store.fail("add")
    async with await site.open() as wire:
        response = await wire.request("POST", "/", body=b"")
        assert (response.status, response.reason) == (503, "Service Unavailable")
        assert response.header("Retry-After") == "1"
        assert response.header("Cache-Control") == "no-store"
        assert response.header("Content-Type") == "text/html; charset=UTF-8"
        assert b"could not be saved" in response.body
        assert b"the answer" not in response.body
        assert (await wire.request("POST", "/", body=b"")).status == 201


@pytest.mark.gen_test
async def test_what_is_kept_and_what_is_dropped(serve, store):
    """CORS, security and other cookies stay; what described the body goes."""
    site = serve(Writes)
    store.fail("add")
    response = await site.get()
    assert response.header("Access-Control-Allow-Origin") == "*"
    assert response.header("Content-Security-Policy") == "default-src 'self'"
    assert response.header("Set-Cookie") == "other=kept; Path=/"
    assert response.header("Vary") == "Cookie"
    for name in ("Location", "Etag", "Last-Modified", "Expires"):
        assert response.header(name) is None
    for name in ("Content-Language", "Content-Disposition", "Content-Encoding"):
        assert response.header(name) is None


@pytest.mark.gen_test
async def test_a_compressed_or_chunked_answer_is_replaced_whole(serve, store):
    """The page says nothing of the encodings of what it stands for."""

    class Handler(Writes):
        async def get(self):
            self.session["a"] = 1
            self.write("the answer" * 1000)
            await self.flush()

    site = serve(Handler, compress_response=True)
    store.fail("add")
    response = await site.get(headers={"Accept-Encoding": "gzip"})
    assert response.status == 503
    assert response.header("Content-Encoding") is None
    assert response.header("Transfer-Encoding") is None
    assert b"could not be saved" in response.body


@pytest.mark.gen_test
async def test_head_is_answered_without_a_body(serve, store):
    """With the length that the page would have."""
    site = serve(Writes)
    store.fail("add")
    async with await site.open() as wire:
        response = await wire.request("HEAD", "/")
        assert response.status == 503
        assert int(response.header("Content-Length")) > 0
        assert (await wire.request("HEAD", "/")).status == 200


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("page", "kind", "body"),
    [
        ("<p>text é", "text/html; charset=UTF-8", "<p>text é".encode()),
        (b"\xffbytes", "text/html; charset=UTF-8", b"\xffbytes"),
        ({"code": 503}, "application/json; charset=UTF-8", b'{"code": 503}'),
        (ZeroDivisionError(), "text/plain; charset=UTF-8", b"Session not saved"),
        (42, "text/plain; charset=UTF-8", b"Session not saved"),
        (None, "text/plain; charset=UTF-8", b"Session not saved"),
    ],
    ids=["text", "bytes", "dict", "raises", "number", "none"],
)
async def test_the_page_is_the_handlers(serve, store, page, kind, body, caplog):
    """session_error may return text, bytes or a dict; what fails has a plain page."""
    errors = []

    class Handler(Writes):
        def session_error(self, error):
            errors.append(error)
            if isinstance(page, Exception):
                raise page
            return page

    site = serve(Handler)
    store.fail("add")
    response = await site.get()
    assert (response.status, response.body) == (503, body)
    assert response.header("Content-Type") == kind
    assert [type(error) for error in errors] == [StoreUnavailable]
    assert ("session_error failed" in caplog.text) is kind.startswith("text/plain")


@pytest.mark.gen_test
async def test_the_cookie_of_the_client_is_not_touched(serve, store):
    """Neither set nor cleared: the session is what it was."""
    site = serve(Writes)
    client = await site.client(a=0)
    store.fail("cas")
    response = await site.get(headers=client)
    assert response.status == 503
    assert session_cookie(response) is None
    assert await site.stored(client) == {"a": 0}


@pytest.mark.gen_test
async def test_an_id_that_was_told_to_the_store_is_told_to_the_client(serve, store):
    """After a login that was stored the old id is dead: the 503 brings the new one."""

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            await self.session.login("ann")
            self.session["b"] = 1

    site = serve(Handler)
    client = await site.client(a=1)
    store.hold("cas")
    asking = asyncio.create_task(site.get(headers=client))
    await store.reached("cas")
    store.release("cas")
    store.fail("get")  # the commit must read what the login stored
    response = await asking
    assert response.status == 503
    assert await site.stored(response) == {"a": 1}
    assert response.header("Cache-Control") == "no-store"


@pytest.mark.gen_test
async def test_a_logout_that_fails_takes_the_cookie_away(serve, store):
    """It is a 503 that clears the cookie as well, and is finished later."""

    class Handler(SessionMixin, RequestHandler):
        def get(self):
            self.session = None

    site = serve(Handler)
    client = await site.client(a=1)
    store.fail("cas")
    response = await site.get(headers=client)
    assert response.status == 503
    assert is_cleared(response)
    assert b"logged out, but that could not be confirmed" in response.body
    assert site.manager.stats()["pending_destroys"] == 1


class Unencodable(SessionMixin, RequestHandler):
    def get(self):
        self.session["good"] = 1
        self.session["bad"] = {1, 2}
        self.write("body")


class TooLarge(SessionMixin, RequestHandler):
    def get(self):
        self.session["bad"] = b"x" * 2000
        self.write("body")


class FlushesUnencodable(SessionMixin, RequestHandler):
    async def get(self):
        self.session["bad"] = {1, 2}
        self.write("body")
        await self.flush()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (Unencodable, EncodeError),
        (TooLarge, SessionTooLarge),
        (FlushesUnencodable, EncodeError),
    ],
)
@pytest.mark.parametrize("known", [True, False])
async def test_what_cannot_be_stored_is_a_500(
    serve, store, handler, error, known, uncaught
):
    """Nothing of the request is stored, and it need not be tried again."""
    errors = []

    class Handler(handler):
        def session_error(self, error):
            errors.append(error)
            return super().session_error(error)

    site = serve(Handler, session={"max_size": 1000})
    client = await site.client(a=1) if known else {}
    async with await site.open() as wire:
        response = await wire.request("GET", "/", client)
        assert response.status == 500
        assert response.header("Retry-After") is None
        assert response.header("Cache-Control") == "no-store"
        assert session_cookie(response) is None
        assert [type(e) for e in errors] == [error]
        assert (await wire.request("GET", "/nothing", client)).status == 500
    assert not known or await site.stored(client) == {"a": 1}
    assert site.sessions() == int(known)


@pytest.mark.gen_test
async def test_a_session_that_others_keep_changing_is_a_503(serve, store):
    """SessionConflict at the end of a request is answered like an outage."""
    site = serve(Writes)
    store.fail("add", SessionConflict(32))
    response = await site.get()
    assert (response.status, response.header("Retry-After")) == (503, "1")


@pytest.mark.gen_test
async def test_a_hook_that_raises_is_a_500(serve, store, caplog):
    """Whatever an application's hook raises, the client gets an answer."""

    def before_save(handler, session):
        raise ZeroDivisionError

    site = serve(Writes, session={"before_save": before_save})
    response = await site.get()
    assert response.status == 500
    assert site.sessions() == 0
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_hook_that_saves_is_a_500(serve, store, method, uncaught):
    """It would wait for itself: RuntimeError, and no client hangs for it."""

    class Handler(SessionMixin, RequestHandler):
        def get(self):
            self.session["a"] = 1

        async def post(self):
            self.session["a"] = 1
            await self.session.save()

    async def before_save(handler, session):
        await session.save()

    site = serve(Handler, session={"before_save": before_save})
    assert (await site.request(method, body=b"")).status == 500
    assert store.calls == []
