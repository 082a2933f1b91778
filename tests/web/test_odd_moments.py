"""Sessions that are ended, or told, where nobody expects it."""

from __future__ import annotations

import pytest
from tornado.httpclient import HTTPRequest
from tornado.web import HTTPError, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

from tornado_mcsession import SessionMixin

from ..support.site import is_cleared, session_cookie

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


class Ends(SessionMixin, WebSocketHandler):
    async def on_message(self, message):
        try:
            self.session = None
        except RuntimeError as error:
            await self.write_message(str(error))


@pytest.mark.gen_test
async def test_an_open_socket_says_how_to_end_a_session(serve):
    """There is no end of a request to do it with."""
    site = serve(Ends)
    client = await site.client(a=1)
    url = f"ws://127.0.0.1:{site.port}/"
    connection = await websocket_connect(HTTPRequest(url, headers=client))
    await connection.write_message("end")
    assert "await self.session.destroy()" in await connection.read_message()
    connection.close()
    assert await site.stored(client) == {"a": 1}


class Writes(SessionMixin, RequestHandler):
    def get(self):
        self.session["b"] = 1


@pytest.mark.gen_test
async def test_a_hook_may_end_the_session(serve):
    """What ``before_save`` ends is ended, and the cookie with it."""

    def end(handler, session):
        handler.session = None

    site = serve(Writes, session={"before_save": end})
    client = await site.client(a=1)
    response = await site.get(headers=client)
    assert response.status == 200
    assert is_cleared(response)
    assert await site.stored(client) is None


class KeptByCaches(Writes):
    def get(self):
        super().get()
        self.set_header("CDN-Cache-Control", "max-age=600")
        self.set_header("Surrogate-Control", "max-age=600")


@pytest.mark.gen_test
async def test_no_cache_keeps_an_id_that_travels_in_a_header(serve):
    """As none keeps one in a cookie."""
    site = serve(KeptByCaches, session={"transport": "header:X-Session-ID"})
    response = await site.get()
    assert response.header("X-Session-ID")
    assert response.header("Cache-Control") == "no-store"
    assert response.header("CDN-Cache-Control") is None
    assert response.header("Surrogate-Control") is None


class RefusesLate(SessionMixin, WebSocketHandler):
    async def prepare(self):
        await super().prepare()
        await self.session.login("ann")

    def check_origin(self, origin):
        raise HTTPError(403)


@pytest.mark.gen_test
async def test_a_login_is_told_though_the_handshake_is_refused(serve):
    """The old id is dead: without the new one the user would be out."""
    site = serve(RefusesLate)
    client = await site.client(a=1)
    headers = {**client, **UPGRADE, "Origin": "http://elsewhere"}
    response = await site.get(headers=headers)
    assert response.status == 403
    cookie = session_cookie(response)
    assert cookie is not None
    assert cookie.value not in client["Cookie"]
