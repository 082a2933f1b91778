"""Logouts, in this browser and another, and what the back button shows afterwards."""

from __future__ import annotations

import contextlib

import pytest
from playwright.sync_api import Error
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from ..support.chromium import PATIENCE
from .serving import wait_for

pytestmark = pytest.mark.browser


class Account(SessionMixin, RequestHandler):
    async def get(self, act):
        if act == "login":
            await self.session.login("ann")
        elif act == "others":
            await self.session.revoke_others()
        # A script shows whether the page came from the server or from memory.
        self.write(
            f"<p>{self.session.principal}</p>"
            "<form method=post action=/logout><button>Log out</button></form>"
            "<script>addEventListener('pageshow', e => {"
            "document.documentElement.dataset.kept = e.persisted; })</script>"
        )


class Logout(SessionMixin, RequestHandler):
    session_load = "lazy"

    def post(self):
        self.session = None
        self.redirect("/bye", status=303)


class Bye(RequestHandler):
    def get(self):
        self.write("<h1>Bye</h1>")


ROUTES = [("/logout", Logout), ("/bye", Bye), ("/(.*)", Account)]


def told(page):
    return page.text_content("p")


def visit(page, site, path="/account"):
    page.goto(site.url(path))
    return told(page)


def test_a_logout_ends_one_browser_only(serve, tab, page):
    """The same user stays logged in in another browser."""
    site = serve(ROUTES)
    first, second = tab, page
    for one in (first, second):
        assert visit(one, site, "/login") == "ann"
    first.click("button")
    first.wait_for_selector("h1")
    assert first.context.cookies() == []
    assert visit(first, site) == "None"
    assert visit(second, site) == "ann"


def test_revoke_others_ends_the_other_browser(serve, tab, page):
    """The other browser is logged out; this one goes on, with another cookie."""
    site = serve(ROUTES)
    first, second = tab, page
    for one in (first, second):
        visit(one, site, "/login")
    (before,) = first.context.cookies()
    assert visit(first, site, "/others") == "ann"
    (after,) = first.context.cookies()
    assert after["value"] != before["value"]
    assert visit(second, site) == "None"
    assert visit(first, site) == "ann"


def test_two_tabs_share_a_logout(serve, tab):
    """A logout in one tab is one in the other, at its next request."""
    site = serve(ROUTES)
    first, second = tab, tab.context.new_page()
    visit(first, site, "/login")
    assert visit(second, site) == "ann"
    first.click("button")
    first.wait_for_selector("h1")
    second.reload()
    assert told(second) == "None"


def back_after_logout(page, site):
    """What the back button shows after a logout, and whether it came from memory."""
    visit(page, site, "/login")
    assert visit(page, site) == "ann"
    page.click("button")
    page.wait_for_selector("h1")
    page.evaluate("history.back()")

    def is_there():
        with contextlib.suppress(Error):  # of the page that goes away meanwhile
            return page.evaluate("document.documentElement.dataset.kept")

    wait_for(is_there, page)
    return told(page), is_there()


def test_no_store_hides_private_pages_from_the_back_button(serve, chromium):
    """With ``no_store=True`` Chromium asks again, and else shows a page from memory."""
    private = serve(ROUTES, session={"no_store": True}, secure=True)
    default = serve(ROUTES, secure=True)
    browser = chromium.with_kept_pages()
    try:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        assert back_after_logout(page, default) == ("ann", "true")
        assert back_after_logout(page, private) == ("None", "false")
    finally:
        browser.close()
