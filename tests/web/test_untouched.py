"""A request that does not use its session pays nothing for it."""

from __future__ import annotations

import select

import pytest
from tornado.http1connection import HTTP1Connection
from tornado.web import HTTPError, RequestHandler

from tornado_mcsession import SessionMixin

from ..support.site import session_cookie


class Untouched(SessionMixin, RequestHandler):
    def get(self):
        self.write("body")

    def post(self):
        raise HTTPError(500)

    def on_finish(self):
        super().on_finish()
        self.application.settings["connection"] = type(self.request.connection)


class Reads(SessionMixin, RequestHandler):
    def get(self):
        self.write(str(len(self.session)))


@pytest.mark.gen_test
async def test_without_a_cookie_there_is_no_store_call_and_no_gate(serve, store):
    """An untouched session of a new visitor costs no call, and holds nothing back."""
    site = serve(Untouched)
    response = await site.get()
    assert store.calls == []
    assert site.application.settings["connection"] is HTTP1Connection
    assert session_cookie(response) is None
    assert response.header("Vary") is None
    assert response.header("Cache-Control") is None


@pytest.mark.gen_test
async def test_with_a_cookie_an_untouched_session_is_only_loaded(serve, store, clock):
    """Even where it would be renewed, had it been used."""
    site = serve(Untouched)
    client = await site.client(a=1)
    clock.advance(80_000)
    response = await site.get(headers=client)
    assert store.calls == ["get"]
    assert site.application.settings["connection"] is HTTP1Connection
    assert session_cookie(response) is None
    assert response.header("Vary") is None


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_errors_need_no_gate_either(serve, store, method):
    """An error page that does not ask for the session costs no store call."""
    site = serve(Untouched)
    response = await site.request(method, body=b"")
    assert response.status == (500 if method == "POST" else 405)
    assert store.calls == []
    assert site.application.settings["connection"] is HTTP1Connection
    assert response.header("Vary") is None


@pytest.mark.gen_test
async def test_reading_a_new_session_creates_nothing(serve, store):
    """A session that is only read is neither stored nor given a cookie."""
    site = serve(Reads)
    response = await site.get()
    assert (response.body, store.calls) == (b"0", [])
    assert session_cookie(response) is None
    assert response.header("Vary") == "Cookie"


@pytest.mark.gen_test
async def test_an_answer_that_has_nothing_to_save_leaves_at_once(serve, store):
    """Where the session was only read, the answer is out when finish() returns."""

    class Handler(SessionMixin, RequestHandler):
        def get(self):
            self.write(str(self.session["a"]))
            self.finish()
            readable, _, _ = select.select([socket], [], [], 0)
            self.application.settings["left"] = bool(readable)

    site = serve(Handler)
    client = await site.client(a=1)
    async with await site.open() as wire:
        socket = wire.socket
        assert (await wire.request("GET", "/", client)).body == b"1"
    assert site.application.settings["left"]
    assert site.manager.stats()["held_answers"] == 0
    assert store.calls == ["get"]
