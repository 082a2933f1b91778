"""Tornado's protections against other sites' requests, with sessions."""

from __future__ import annotations

import pytest
import tornado
from tornado.websocket import WebSocketHandler

from tornado_mcsession import SessionMixin

from ..lifecycle.site import session_cookie
from ..lifecycle.test_websocket import UPGRADE
from ..support.browser import Browser
from ..support.scripted import down
from .target import Shop

# Older releases ignore the setting cross_origin_protection.
HAS_CROSS_ORIGIN = tornado.version_info >= (6, 6)

OWN, FOREIGN = "http://127.0.0.1", "https://evil.example"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Page(Shop):
    """A form, and an error page that shows one: both ask who is logged in."""

    def get_current_user(self):
        return self.session.principal

    async def get(self):
        if self.settings.get("xsrf_cookies"):
            self.write(self.xsrf_token)

    async def post(self):
        await self.use()

    def write_error(self, status_code, **kwargs):
        if self.settings.get("xsrf_cookies"):
            self.xsrf_form_html()
        self.write(f"{status_code} {self.current_user} {self.session.available}")


@pytest.fixture
def tokens(attack):
    """A site that asks for tokens, and a browser that has a session there."""
    return attack(Page, xsrf_cookies=True)


async def member(target, **options):
    """A browser with a session whose count is 7."""
    browser = Browser(target.port, **options)
    session_id = await target.begin()
    browser.set_cookie(f"session={session_id}; Path=/")
    target.store.calls.clear()
    return browser, session_id


@pytest.mark.parametrize("how", ["form", "X-XSRFToken", "X-CSRFToken"])
@pytest.mark.gen_test
async def test_a_request_with_its_token_has_its_session(tokens, how):
    """In a field or in a header, whether or not there was a session before."""
    for begun in (True, False):
        browser, session_id = await member(tokens)
        if not begun:
            browser.jar.forget_session_cookies()
        token = (await browser.get("/")).text
        if how == "form":
            response = await browser.post("/", form={"_xsrf": token})
        else:
            response = await browser.post("/", headers={how: token}, body=b"")
        assert response.status == 200
        if begun:
            assert await tokens.data(session_id) == {"n": 8}
        else:
            assert await tokens.data(browser.cookie("session").value) == {"n": 1}


WITHOUT = {
    "no token": {},
    "an empty one": {"_xsrf": ""},
    "an invented one": {"_xsrf": "2|aaaaaaaa|" + "b" * 40 + "|1800000000"},
    "no form of one": {"_xsrf": "ä|2|"},
}


@pytest.mark.parametrize("form", WITHOUT.values(), ids=WITHOUT)
@pytest.mark.parametrize("has_token", [True, False])
@pytest.mark.gen_test
async def test_a_request_without_its_token_costs_nothing(tokens, form, has_token):
    """403, before any session is looked for, and none is begun or renewed."""
    browser, session_id = await member(tokens)
    tokens.clock.advance(80_000)
    if has_token:
        await browser.get("/")
    tokens.store.calls.clear()
    response = await browser.post("/", form=form)
    assert (response.status, response.text) == (403, "403 None False")
    assert session_cookie(response) is None
    assert response.header("Vary") == "Cookie"
    assert tokens.store.calls == []
    assert await tokens.data(session_id) == {"n": 7}


@pytest.mark.gen_test
async def test_another_browsers_token_is_none(tokens):
    """An attacker's own token does not go with the cookie of the victim."""
    attacker, _ = await member(tokens)
    victim, session_id = await member(tokens)
    token = (await attacker.get("/")).text
    await victim.get("/")
    tokens.store.calls.clear()
    assert (await victim.post("/", form={"_xsrf": token})).status == 403
    assert tokens.store.calls == []
    assert await tokens.data(session_id) == {"n": 7}


@pytest.mark.gen_test
async def test_a_token_needs_no_store(tokens):
    """The check holds in an outage too: what it lets pass gets the 503."""
    browser, _ = await member(tokens)
    token = (await browser.get("/")).text
    assert (await browser.post("/", form={})).status == 403
    tokens.store.script("get", down)
    assert (await browser.post("/", form={"_xsrf": token})).status == 503


ORIGINS = {
    "same origin": ({"Sec-Fetch-Site": "same-origin", "Origin": OWN}, True),
    "typed": ({"Sec-Fetch-Site": "none"}, True),
    "no browser": ({}, True),
    "old browser": ({"Origin": OWN}, True),
    "cross site": ({"Sec-Fetch-Site": "cross-site", "Origin": FOREIGN}, False),
    "same site": (
        {"Sec-Fetch-Site": "same-site", "Origin": "http://sibling.0.0.1"},
        False,
    ),
    "no origin": ({"Sec-Fetch-Site": "cross-site"}, False),
    "opaque": ({"Origin": "null"}, False),
    "old, foreign": ({"Origin": FOREIGN}, False),
    "trusted": (
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://partner.example"},
        True,
    ),
}


@pytest.mark.parametrize(("headers", "allowed"), ORIGINS.values(), ids=ORIGINS)
@pytest.mark.gen_test
async def test_the_origin_is_looked_at_before_the_session(attack, headers, allowed):
    """cross_origin_protection, of Tornado 6.6: a foreign request costs no store call.

    Older releases ignore it, and let all of them pass.
    """
    site = attack(
        Page,
        cross_origin_protection=True,
        trusted_origins=["https://partner.example"],
    )
    browser, session_id = await member(site)
    response = await browser.post("/", headers=headers, body=b"")
    if allowed or not HAS_CROSS_ORIGIN:
        assert response.status == 200
        assert await site.data(session_id) == {"n": 8}
        return
    assert (response.status, response.text) == (403, "403 None False")
    assert session_cookie(response) is None
    assert site.store.calls == []
    assert await site.data(session_id) == {"n": 7}


class Socket(SessionMixin, WebSocketHandler):
    def open(self):
        self.write_message(str(self.session.get("n")))


@pytest.mark.gen_test
async def test_a_foreign_page_opens_no_socket(attack):
    """Its handshake is refused by its origin, after the session was loaded."""
    site = attack(Socket)
    _, session_id = await member(site)
    headers = {**UPGRADE, **site.carrying(session_id)}
    for origin, status in ((FOREIGN, 403), (OWN, 101)):
        async with await site.open() as wire:
            await wire.ask("GET", "/", headers={**headers, "Origin": origin})
            response = await wire.receive()
        assert response.status == status
    assert set(site.store.calls) == {"get"}


@pytest.mark.gen_test
async def test_the_cookie_does_not_go_with_other_sites_forms(attack):
    """SameSite=Lax is said, and not left to the browser's own default."""
    response = await attack(Shop).ask("/")
    assert session_cookie(response).attributes["samesite"] == "Lax"


@pytest.mark.gen_test
async def test_a_header_is_added_by_no_other_site(attack):
    """Where the id travels in a header, a request with cookies alone has none."""
    site = attack(Shop, "header")
    session_id = await site.begin()
    for cookie in (f"session={session_id}", f"X-Session-ID={session_id}"):
        response = await site.ask("/", {"Cookie": cookie})
        assert response.json()["n"] is None
    assert await site.data(session_id) == {"n": 7}
