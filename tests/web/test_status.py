"""`SessionStatusHandler`: how long a session lasts, and its renewal."""

from __future__ import annotations

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import (
    SessionManager,
    SessionMixin,
    SessionStatusHandler,
    StoreUnavailable,
)

from ..support.site import is_cleared, session_cookie

IDLE = 100
OPTIONS = {"idle_timeout": IDLE, "renew_after": 0.1}


class Acts(SessionMixin, RequestHandler):
    async def get(self, what):
        if what == "login":
            await self.session.login("ann")
        elif what == "logout":
            self.session = None


class Admin(SessionStatusHandler):
    session_manager_name = "admin"


ROUTES = [
    ("/status", SessionStatusHandler),
    ("/admin", Admin),
    ("/(.*)", Acts),
]


@pytest.fixture
def site(serve):
    return serve(ROUTES, session=OPTIONS)


def cookies(response):
    return response.all_headers("Set-Cookie")


@pytest.mark.gen_test
async def test_a_get_tells_the_seconds_and_renews_nothing(site, clock):
    """However often: the end comes when it would have come."""
    client = await site.client(n=1)
    for passed in (0, 50.5, 109):
        clock.advance(passed - (clock.now - site.seen.setdefault("began", clock.now)))
        response = await site.get("/status", headers=client)
        assert response.json() == {
            "seconds_left": int(110 - passed),
            "logged_in": False,
        }
        assert cookies(response) == []
        assert response.header("Cache-Control") == "no-store"
        assert response.header("Vary") == "Cookie"
    clock.advance(1)
    response = await site.get("/status", headers=client)
    assert response.json() == {"seconds_left": 0, "logged_in": False}
    assert cookies(response) == []
    assert set(site.store.calls) == {"get"}


@pytest.mark.gen_test
async def test_a_post_renews(site, clock):
    """Though no renewal is due; the cookie comes along."""
    client = await site.client(n=1)
    clock.advance(5)
    response = await site.request("POST", "/status", client, b"")
    assert response.json() == {"seconds_left": 110, "logged_in": False}
    assert session_cookie(response).attributes["max-age"] == "110"
    clock.advance(50)
    response = await site.get("/status", headers=client)
    assert response.json()["seconds_left"] == 60
    assert await site.stored(client) == {"n": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize("options", [{}, {"allow_empty": True}])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_a_session_there_are_no_seconds(serve, method, options):
    """None begins, also with ``allow_empty``, and no store is asked."""
    site = serve(ROUTES, session={**OPTIONS, **options})
    body = b"" if method == "POST" else None
    response = await site.request(method, "/status", None, body)
    assert response.json() == {"seconds_left": 0, "logged_in": False}
    assert cookies(response) == []
    assert site.store.calls == []


@pytest.mark.gen_test
async def test_it_tells_whether_somebody_is_logged_in(site):
    """Who was logged out elsewhere has a page to load anew."""
    client = {"Cookie": f"session={await site.login('ann')}"}
    assert (await site.get("/status", headers=client)).json()["logged_in"] is True
    assert is_cleared(await site.get("/logout", headers=client))
    for method, body in (("GET", None), ("POST", b"")):
        response = await site.request(method, "/status", client, body)
        assert response.status == 200
        assert response.json() == {"seconds_left": 0, "logged_in": False}


@pytest.mark.gen_test
async def test_a_session_that_ends_meanwhile_has_no_seconds(site):
    """Between its load and its renewal; and nobody is logged in any more."""
    client = {"Cookie": f"session={await site.login('ann')}"}
    site.store.hold("cas")
    async with await site.open() as wire:
        await wire.ask("POST", "/status", headers=client, body=b"")
        await site.store.reached("cas")
        await site.end(client)
        site.store.release("cas")
        response = await wire.receive()
    assert response.status == 200
    assert response.json() == {"seconds_left": 0, "logged_in": False}
    assert cookies(response) == []


@pytest.mark.gen_test
@pytest.mark.parametrize("on_error", ["raise", "degrade"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_outage_is_no_end(serve, on_error, method):
    """A page must not say that the user was logged out."""
    site = serve(ROUTES, session={**OPTIONS, "on_error": on_error})
    client = await site.client(n=1)
    body = b"" if method == "POST" else None
    site.store.is_down = True
    response = await site.request(method, "/status", client, body)
    assert response.status == 503
    assert response.header("Retry-After")
    assert cookies(response) == []
    site.store.is_down = False
    assert (await site.get("/status", headers=client)).json()["seconds_left"] == 110


@pytest.mark.gen_test
async def test_a_renewal_that_fails_is_told(site):
    """It is not passed off as done."""
    client = await site.client(n=1)
    site.store.fail("cas", StoreUnavailable("cas", "", "down"))
    response = await site.request("POST", "/status", client, b"")
    assert response.status == 503


@pytest.mark.gen_test
async def test_a_subclass_is_for_a_manager_with_a_name(site, clock):
    """As any handler."""
    manager = SessionManager(
        site.application, name="admin", store=site.store.inner, clock=clock
    )
    await manager.set("a" * 43, {"n": 1}, ttl=60)
    client = {"Cookie": f"admin={'a' * 43}"}
    assert (await site.get("/admin", headers=client)).json()["seconds_left"] == 60
    assert (await site.get("/status", headers=client)).json()["seconds_left"] == 0


@pytest.mark.gen_test
async def test_a_post_needs_the_token_of_the_application(serve):
    """With ``xsrf_cookies``, as any other form."""
    site = serve(ROUTES, session=OPTIONS, xsrf_cookies=True)
    client = await site.client(n=1)
    response = await site.request("POST", "/status", client, b"")
    assert response.status == 403
    token = {"Cookie": client["Cookie"] + "; _xsrf=abc", "X-XSRFToken": "abc"}
    response = await site.request("POST", "/status", token, b"")
    assert response.json()["seconds_left"] == 110


@pytest.mark.gen_test
async def test_a_function_that_fails_is_a_server_error(serve, logged):
    """At the end of a request that only reads; the session stays as it is."""

    broken = []

    def choose(session):
        if broken:
            raise KeyError("a bug")
        return IDLE

    class Reads(SessionMixin, RequestHandler):
        def get(self):
            self.write({**self.session})

    site = serve(Reads, session={"idle_timeout": choose})
    client = await site.client(n=1)
    assert (await site.get(headers=client)).status == 200
    broken.append(True)
    response = await site.get(headers=client)
    assert response.status == 500
    assert cookies(response) == []
    assert any("500 in place of 200" in line for line in logged())
    broken.clear()
    assert await site.stored(client) == {"n": 1}
