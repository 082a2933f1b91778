"""on_error="degrade": requests that do without their session."""

from __future__ import annotations

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from ..support.site import session_cookie

DEGRADE = {"on_error": "degrade"}


class Writes(SessionMixin, RequestHandler):
    """Writes its session before and after the headers leave."""

    async def get(self):
        self.session["before"] = 1
        self.write("first,")
        await self.flush()
        self.session["after"] = 1
        self.session.flash("still here")
        self.write("last")

    async def post(self):
        self.write("first,")
        await self.flush()
        self.session["after"] = 1
        self.write("last")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.gen_test
async def test_a_stream_that_could_not_load_goes_on(serve, store, method):
    """What it writes is for this request only; the cookie is untouched."""
    site = serve(Writes, session=DEGRADE)
    client = await site.client(a=1)
    store.fail("get")
    answer = await site.request(method, headers=client, body=b"")
    assert (answer.status, answer.body) == (200, b"first,last")
    assert session_cookie(answer) is None
    assert await site.stored(client) == {"a": 1}


@pytest.mark.gen_test
async def test_a_stream_that_could_not_begin_its_session_goes_on(serve, store):
    """The session is lost, the answer is not."""
    site = serve(Writes, session=DEGRADE)
    store.fail("add")
    answer = await site.get()
    assert (answer.status, answer.body) == (200, b"first,last")
    assert session_cookie(answer) is None
    assert site.sessions() == 0


@pytest.mark.gen_test
async def test_what_is_sent_instead_is_logged_with_its_request(serve, store, caplog):
    """Tornado's own log has the handler's status, and no word of the store."""

    class Acts(SessionMixin, RequestHandler):
        def post(self):
            self.session["a"] = 1
            self.set_status(201)

    site = serve(Acts)
    store.fail("add")
    assert (await site.request("POST", "/cart", body=b"")).status == 503
    assert "503 in place of 201 for POST /cart" in caplog.text
