"""What docs/guides/csrf.md says is so: its code runs, and does what it is there for."""

from __future__ import annotations

import re

import pytest
from tornado.web import Application, RequestHandler

from tornado_mcsession import MemoryStore, SessionManager, SessionMixin

from ..support.browser import Browser
from ..support.pages import text_of
from .target import HEADER, SECRET, Target, new_id
from .test_csrf import FOREIGN, HAS_CROSS_ORIGIN

TEXT = text_of("csrf.md")
PROGRAM, BY_ORIGIN, BY_TOKEN, API = re.findall(r"```python\n(.*?)```", TEXT, re.S)

NAMES = {
    "Application": Application,
    "SessionMixin": SessionMixin,
    "RequestHandler": RequestHandler,
}


def run(block, **names):
    """The names that a block of the text leaves."""
    left = {**NAMES, **names}
    exec(block, left)
    return left


@pytest.fixture
def serve(attack):
    """Starts an application of the text, as a proxy with https in front sees it."""

    def start(block):
        cart = run(PROGRAM)["Cart"]
        given = run(block, handlers=[], secret=SECRET, store=MemoryStore())
        settings = given["app"].settings
        session = {k: v for k, v in settings["session"].items() if k != "store"}
        others = {k: v for k, v in settings.items() if "xsrf" in k or "orig" in k}
        target: Target = attack([("/cart", cart)], "signed", None, session, **others)
        target.behind_a_proxy()
        return target, Browser(target.port, host="shop.example", secure=True)

    return start


@pytest.mark.gen_test
async def test_the_check_by_origin(serve):
    """Own forms pass, those of other sites but the trusted do not."""
    target, browser = serve(BY_ORIGIN)
    own, partner = "https://shop.example", "https://partner.example"
    for origin, passes in ((own, True), (partner, True), (FOREIGN, False)):
        site = "same-origin" if origin == own else "cross-site"
        headers = {"Sec-Fetch-Site": site, "Origin": origin}
        target.store.calls.clear()
        response = await browser.post("/cart", headers=headers, form={"item": "x"})
        if passes or not HAS_CROSS_ORIGIN:
            assert response.status == 303
            assert browser.cookie("__Host-session") is not None
        else:
            assert response.status == 403
            assert target.store.calls == []


@pytest.mark.gen_test
async def test_the_check_by_token(serve):
    """The form's field passes, once for each browser; without it nothing does."""
    target, browser = serve(BY_TOKEN)
    assert (await browser.post("/cart", form={"item": "x"})).status == 403
    assert target.store.calls == []
    page = await browser.get("/cart")
    token = re.search(r'name="_xsrf" value="([^"]*)"', page.text)[1]
    sent = {"item": "book", "_xsrf": token}
    assert (await browser.post("/cart", form=sent)).status == 303
    assert browser.cookie("__Host-session") is not None
    cookie = browser.cookie("__Host-xsrf")
    assert {"secure", "httponly"} <= set(cookie.attributes)
    assert cookie.attributes["samesite"] == "Lax"
    headers = {"X-XSRFToken": token}
    response = await browser.post("/cart", headers=headers, form={"item": "pen"})
    assert response.status == 303
    # A sibling host's cookies are not taken, so its own token is of no use.
    browser.set_cookie(f"__Host-xsrf={token}; Secure; Path=/; Domain=example")
    assert browser.cookie("__Host-xsrf").value == cookie.value


@pytest.mark.gen_test
async def test_without_cookies_no_check_is_needed(attack):
    """A handler with ids in a header asks for no token, and reads no cookie."""

    class Api(run(API)["Api"]):
        def post(self):
            self.session["n"] = self.session.get("n", 0) + 1
            self.write({"n": self.session["n"]})

    target = attack([("/api", Api)], xsrf_cookies=True)
    header = f"header:{HEADER}"
    api = SessionManager(
        target.application, name="api", transport=header, store=MemoryStore()
    )
    session_id = new_id()
    await api.set(session_id, {"n": 7})
    response = await target.ask("/api", {HEADER: session_id}, method="POST", body=b"")
    assert response.json() == {"n": 8}
    cookie = {"Cookie": f"session={session_id}; api={session_id}"}
    response = await target.ask("/api", cookie, method="POST", body=b"")
    assert response.json() == {"n": 1}
