"""Pages with scripts: WebSockets, and the warning before a session ends."""

from __future__ import annotations

import pytest
from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from tornado_mcsession import MemoryStore, SessionGone, SessionMixin

from ..docs.test_docs import run
from ..support.pages import blocks
from .serving import wait_for

pytestmark = pytest.mark.browser

TIMEOUTS = blocks("timeouts.md")[-1]


class Page(RequestHandler):
    """A page that touches no session."""

    def get(self):
        self.write("<h1>Chat</h1>")


class Chat(SessionMixin, WebSocketHandler):
    async def prepare(self):
        await super().prepare()
        if self.request.headers.get("Upgrade"):
            self.session.setdefault("said", [])

    async def on_message(self, message):
        try:
            await self.session.reload()
            self.session["said"].append(message)
            await self.session.save()
        except SessionGone:
            self.close(4001, "logged out")
            return
        await self.write_message(f"{self.session.principal}: {message}")


class Said(SessionMixin, RequestHandler):
    def get(self):
        self.write({"said": self.session.get("said")})


class Act(SessionMixin, RequestHandler):
    async def post(self, act):
        if act == "login":
            await self.session.login("ann")
        else:
            self.session = None


ROUTES = [("/", Page), ("/chat", Chat), ("/said", Said), ("/(login|logout)", Act)]

CONNECT = """() => new Promise((resolve, reject) => {
    socket = new WebSocket(`ws://${location.host}/chat`);
    heard = [];
    ended = null;
    socket.onmessage = event => heard.push(event.data);
    socket.onclose = event => { ended = [event.code, event.reason]; reject(ended); };
    socket.onopen = resolve;
})"""


def say(page, text):
    page.evaluate("text => socket.send(text)", text)


def test_a_handshake_sets_the_cookie(serve, page):
    """Chromium keeps the cookie of the 101; its pages share the socket's session."""
    site = serve(ROUTES)
    page.goto(site.url())
    assert page.context.cookies() == []
    page.evaluate(CONNECT)
    assert [cookie["name"] for cookie in page.context.cookies()] == ["session"]
    for text in ("one", "two"):
        say(page, text)
    page.wait_for_function("heard.length == 2")
    found = page.evaluate("fetch('/said').then(response => response.json())")
    assert found == {"said": ["one", "two"]}


def test_a_logout_ends_the_sockets_session(serve, page):
    """After a logout by another request the socket finds its session gone."""
    site = serve(ROUTES)
    page.goto(site.url())
    page.evaluate("fetch('/login', {method: 'POST'})")
    page.evaluate(CONNECT)
    say(page, "one")
    page.wait_for_function("heard[0] == 'ann: one'")
    page.evaluate("fetch('/logout', {method: 'POST'})")
    say(page, "two")
    page.wait_for_function("ended")
    assert page.evaluate("ended") == [4001, "logged out"]
    assert page.evaluate("heard.length") == 1
    assert page.context.cookies() == []


def test_another_site_gets_no_socket(serve, page, console):
    """A page of another site cannot connect; no session begins for it."""
    console.allow("WebSocket connection to .* failed")
    site = serve(ROUTES)
    page.goto(site.url())
    page.evaluate("fetch('/login', {method: 'POST'})")
    before = page.context.cookies()
    page.goto(site.url(host="evil.example"))
    connect = CONNECT.replace("${location.host}", f"shop.example:{site.port}")
    assert page.evaluate(f"({connect})().catch(ended => ended[0])") == 1006
    assert page.context.cookies() == before


@pytest.fixture
def timeouts(serve, clock):
    """The program of docs/guides/timeouts.md, on the clock of the test."""
    names = run(TIMEOUTS)
    names["SESSION"].update(store=MemoryStore(clock=clock), clock=clock)
    return serve(make=names["make_app"])


@pytest.fixture
def logged_in(timeouts, chromium, page):
    """A page of a user whose clock only the test moves."""

    def login():
        page.clock.install()
        page.goto(timeouts.url())
        page.fill("input", "Ann")
        page.click("button")
        page.wait_for_selector("text=Hello Ann")
        wait_for(lambda: seconds(page) == "132", page)

    chromium.run(login)
    return page


def seconds(page):
    return page.text_content("#seconds")


@pytest.fixture
def passes(clock):
    """Lets time pass, for the server and for the page."""

    def passes(page, count):
        clock.advance(count)
        page.clock.run_for(count * 1000)

    return passes


def test_the_guides_script_warns_and_keeps_the_user(logged_in, passes):
    """It asks a minute before the end, and the button renews the session."""
    page = logged_in
    for _ in range(2):
        assert page.is_hidden("#warning")
        passes(page, 71)
        assert page.is_hidden("#warning")
        passes(page, 2)
        page.wait_for_selector("#warning", state="visible")
        wait_for(lambda: seconds(page) == "59", page)
        passes(page, 30)
        wait_for(lambda: int(seconds(page)) < 35, page)
        page.click("#stay")
        page.wait_for_selector("#warning", state="hidden")
        wait_for(lambda: seconds(page) == "132", page)
    page.reload()
    assert page.is_visible("text=Hello Ann")


def test_the_guides_script_says_that_it_timed_out(logged_in, passes):
    """If nobody presses the button, the page of the login says so, once."""
    page = logged_in
    passes(page, 73)
    page.wait_for_selector("#warning", state="visible")
    passes(page, 60)
    page.wait_for_selector("text=Your session timed out.")
    page.fill("input", "Ann")
    page.click("button")
    page.wait_for_selector("text=Hello Ann")


def test_the_guides_script_hears_of_another_tab(logged_in, passes):
    """What another tab renews or logs out is seen in this one, without a click."""
    page = logged_in
    other = page.context.new_page()
    other.clock.install()
    passes(page, 73)
    page.wait_for_selector("#warning", state="visible")
    other.goto(page.url)
    other.wait_for_selector("text=Hello Ann")
    passes(page, 5)
    page.wait_for_selector("#warning", state="hidden")
