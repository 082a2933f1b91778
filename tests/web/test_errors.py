"""Handlers that fail, loads that fail, and what becomes of the session."""

from __future__ import annotations

import pytest
from tornado.web import Finish, HTTPError, RequestHandler

from tornado_mcsession import SessionMixin
from tornado_mcsession.exceptions import (
    SessionConflict,
    StoreRejected,
    StoreUnavailable,
)

from ..support.site import session_cookie


class Ends(SessionMixin, RequestHandler):
    """Changes its session, then ends with the status that the path names."""

    def get(self):
        self.session["a"] = self.session.get("a", 0) + 1
        self.end()

    async def post(self):
        self.session["a"] = self.session.get("a", 0) + 1
        await self.session.save()
        self.session["b"] = 1
        self.end()

    async def put(self):
        await self.session.login("ann")
        self.session["b"] = 1
        self.end()

    def delete(self):
        self.session = None
        self.end()

    def end(self):
        kind, _, status = self.request.path[1:].partition("-")
        if kind == "raise":
            raise ZeroDivisionError
        if kind == "error":
            raise HTTPError(int(status))
        self.set_status(int(status))
        if kind == "finish":
            raise Finish
        self.write("body")


SERVER_ERRORS = ["/raise-500", "/error-500", "/error-503", "/status-500", "/finish-502"]
OTHERS = ["/error-400", "/error-404", "/status-409", "/finish-403", "/status-302"]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", SERVER_ERRORS)
async def test_a_server_error_discards_changes(serve, store, path, uncaught):
    """Nothing is stored, and nothing held back; a new session gets no cookie."""
    site = serve(Ends)
    response = await site.get(path)
    assert response.status == int(path[-3:])
    assert session_cookie(response) is None
    client = await site.client(a=1)
    await site.get(path, client)
    await site.request("DELETE", path, client)
    assert await site.stored(client) == {"a": 1}
    assert store.calls == ["get", "get"]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", SERVER_ERRORS)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_what_was_saved_before_stays(serve, store, path, method, uncaught):
    """An awaited save() or login() is not taken back, and its cookie goes out."""
    site = serve(Ends)
    response = await site.request(method, path, body=b"")
    assert response.status == int(path[-3:])
    assert await site.stored(response) == ({"a": 1} if method == "POST" else {})
    # A login looks for the marker of who logs in, and makes it.
    assert store.calls == (["add"] if method == "POST" else ["get", "add", "add"])


@pytest.mark.gen_test
@pytest.mark.parametrize("path", OTHERS)
async def test_other_errors_keep_changes(serve, path):
    """A 4xx saves like any answer."""
    site = serve(Ends)
    response = await site.get(path)
    assert response.status == int(path[-3:])
    assert await site.stored(response) == {"a": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize("path", SERVER_ERRORS)
async def test_save_on_server_error_keeps_them_too(serve, path, uncaught):
    """With the setting a 5xx saves like any answer."""
    site = serve(Ends, session={"save_on_server_error": True})
    response = await site.get(path)
    assert response.status == int(path[-3:])
    assert await site.stored(response) == {"a": 1}


class Shows(SessionMixin, RequestHandler):
    """Its error page names what it is made for."""

    def get(self):
        self.write(str(self.session["a"]))

    def write_error(self, status_code, exc_info, **kwargs):
        empty = not self.session and not self.session.available
        self.write(f"{status_code} {exc_info[0].__name__} {empty}")


@pytest.mark.gen_test
async def test_a_load_that_fails_is_a_503(serve, store, caplog):
    """write_error gets the StoreError, and an empty session; the cookie stays."""
    site = serve(Shows)
    client = await site.client(a=1)
    store.fail("get")
    async with await site.open() as wire:
        response = await wire.request("GET", "/", client)
        assert (response.status, response.text) == (503, "503 StoreUnavailable True")
        assert response.header("Retry-After") == "1"
        assert response.header("Cache-Control") == "no-store"
        assert session_cookie(response) is None
        assert (await wire.request("GET", "/", client)).body == b"1"
    assert "/: get on faulty: the test says so" in caplog.text


@pytest.mark.gen_test
async def test_a_load_that_fails_in_lazy_mode_is_a_503_too(serve, store):
    """Also where the session was looked at before it was loaded."""

    class Handler(Shows):
        session_load = "lazy"

        async def get(self):
            assert self.session.available
            await self.load_session()

    site = serve(Handler)
    client = await site.client(a=1)
    store.fail("get")
    response = await site.get(headers=client)
    assert (response.status, response.text) == (503, "503 StoreUnavailable True")
    assert response.header("Retry-After") == "1"


@pytest.mark.gen_test
async def test_a_page_may_choose_its_own_retry_after(serve, store):
    """What write_error sets is what goes out."""

    class Handler(SessionMixin, RequestHandler):
        def write_error(self, status_code, **kwargs):
            self.set_header("Retry-After", "30")

    site = serve(Handler)
    store.fail("get")
    response = await site.get(headers=await site.client(a=1))
    assert (response.status, response.header("Retry-After")) == (503, "30")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("save", "", "down"),
        StoreRejected("save", "", "full"),
        SessionConflict(3),
    ],
)
async def test_an_explicit_save_that_fails_is_a_503(serve, store, error, caplog):
    """What the handler does not catch is answered with Retry-After, and not saved."""
    site = serve(Ends)
    store.fail("add", error)
    async with await site.open() as wire:
        response = await wire.request("POST", "/status-200", body=b"")
        assert response.status == 503
        assert response.header("Retry-After") == "1"
        assert response.header("Cache-Control") == "no-store"
        assert session_cookie(response) is None
        assert store.calls == ["add"]
        assert str(error) in caplog.text
        assert (await wire.request("POST", "/status-200", body=b"")).status == 200


@pytest.mark.gen_test
async def test_an_explicit_save_that_fails_may_be_caught(serve, store):
    """The changes stay pending: the end of the request saves them."""

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            self.session["a"] = 1
            try:
                await self.session.save()
            except StoreUnavailable:
                self.write("caught")

    site = serve(Handler)
    store.fail("add")
    response = await site.get()
    assert (response.status, response.body) == (200, b"caught")
    assert await site.stored(response) == {"a": 1}
