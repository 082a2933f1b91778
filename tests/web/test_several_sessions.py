"""Several sessions in one request, each with a manager and a cookie of its own."""

from __future__ import annotations

import pytest
from tornado.web import HTTPError, RequestHandler

from tornado_mcsession import SessionManager, SessionMixin

from ..support.browser import Browser
from ..support.site import SECRET

NAMES = ("one", "two")


class Acts:
    """Does to the session ``name`` what the path says, and shows both."""

    async def get(self, name, what):
        shown = {}
        for each in NAMES:
            manager = self.settings[f"session_manager:{each}"]
            session = await manager.open(self)
            if each == name and what == "write":
                session["n"] = session.get("n", 0) + 1
            elif each == name and what == "login":
                await session.login("ann")
            elif each == name and what == "logout":
                await session.logout()
            shown[each] = {**session, "who": session.principal}
            await manager.commit(session, self)
        self.write(shown)


class Plain(Acts, RequestHandler):
    pass


class Mixed(Acts, SessionMixin, RequestHandler):
    """Has the usual session beside them."""

    async def get(self, name, what):
        self.session["visits"] = self.session.get("visits", 0) + 1
        await super().get(name, what)


@pytest.fixture(params=[Plain, Mixed])
def site(request, serve, clock):
    site = serve([("/(.*)/(.*)", request.param)], cookie_secret=SECRET)
    for name in NAMES:
        SessionManager(site.application, name=name, store=site.store.inner, clock=clock)
    return site


def names(response):
    lines = response.all_headers("Set-Cookie")
    return {line.partition("=")[0] for line in lines} - {"session"}


@pytest.mark.gen_test
async def test_each_has_its_own_cookie_and_data(site, clock):
    """What is done to one leaves the other."""
    browser = Browser(site.port, clock=clock)
    nobody = {"who": None}
    response = await browser.get("/one/read")
    assert names(response) == set()
    assert set(response.all_headers("Vary")) == {"Cookie"}
    response = await browser.get("/one/write")
    assert names(response) == {"one"}
    assert response.json() == {"one": {"n": 1, "who": None}, "two": nobody}
    caching = ", ".join(response.all_headers("Cache-Control"))
    assert caching.startswith("no-store")
    assert names(await browser.get("/two/login")) == {"two"}
    response = await browser.get("/one/write")
    assert names(response) == set()
    assert response.json() == {"one": {"n": 2, "who": None}, "two": {"who": "ann"}}
    response = await browser.get("/two/logout")
    assert names(response) == {"two"}
    assert browser.cookie("two") is None
    assert browser.cookie("one") is not None
    response = await browser.get("/one/read")
    assert response.json() == {"one": {"n": 2, "who": None}, "two": nobody}


@pytest.mark.gen_test
async def test_each_is_renewed_with_its_cookie(site, clock):
    """As the session of any request."""
    browser = Browser(site.port, clock=clock)
    for name in NAMES:
        await browser.get(f"/{name}/write")
    clock.advance(86_400 / 2)
    assert names(await browser.get("/one/read")) == set(NAMES)
    clock.advance(86_400 - 10)
    assert (await browser.get("/one/read")).json()["two"]["n"] == 1


ALLOWING = {
    "Cache-Control": "public, s-maxage=600",
    "CDN-Cache-Control": "max-age=600",
    "Cloudflare-CDN-Cache-Control": "max-age=600",
    "Surrogate-Control": "max-age=600",
    "Expires": "Thu, 01 Jan 2099 00:00:00 GMT",
}


class Fails:
    """Logs in on a further session, and then fails."""

    async def get(self):
        for name, value in ALLOWING.items():
            self.set_header(name, value)
        manager = self.settings["session_manager:one"]
        session = await manager.open(self)
        await session.login("ann")
        await manager.commit(session, self)
        if self.get_argument("status", ""):
            raise HTTPError(int(self.get_argument("status")))


class FailsPlain(Fails, RequestHandler):
    pass


class FailsMixed(Fails, SessionMixin, RequestHandler):
    pass


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [FailsPlain, FailsMixed])
async def test_no_shared_cache_keeps_the_cookie_of_a_further_session(
    serve, clock, handler
):
    """Whatever the handler allowed before."""
    site = serve(handler)
    SessionManager(site.application, name="one", store=site.store.inner, clock=clock)
    response = await site.get()
    assert names(response) == {"one"}
    assert response.headers["Cache-Control"].split(", ")[0] == "no-store"
    assert not (ALLOWING.keys() - {"Cache-Control"}) & set(response.headers)


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [400, 500])
async def test_an_error_page_tells_the_new_id_of_a_further_session(
    serve, clock, status
):
    """The old one is dead: what is stored must be told."""
    site = serve(FailsMixed)
    SessionManager(site.application, name="one", store=site.store.inner, clock=clock)
    response = await site.get(f"/?status={status}")
    assert response.status == status
    assert names(response) == {"one"}
    assert response.headers["Cache-Control"] == "no-store"
