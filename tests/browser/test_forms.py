"""Logins, messages, uploads and outages, as a user with forms and links meets them."""

from __future__ import annotations

import pytest
from tornado.web import HTTPError, RequestHandler, stream_request_body

from tornado_mcsession import SessionMixin

from .serving import wait_for

pytestmark = pytest.mark.browser

LIMIT = 100_000


class Home(SessionMixin, RequestHandler):
    def get(self):
        visits = self.session["visits"] = self.session.get("visits", 0) + 1
        messages = " ".join(text for _, text in self.session.flashes())
        self.write(
            f"<h1>{self.session.principal} {visits}</h1><p>{messages}</p>"
            "<form method=post action=/login>"
            "<input name=name><button>Log in</button></form>"
            "<form method=post action=/logout><button>Log out</button></form>"
            "<form method=post action=/upload enctype=multipart/form-data>"
            "<input type=file name=file><button>Upload</button></form>"
        )


class Login(SessionMixin, RequestHandler):
    async def post(self):
        await self.session.login(self.get_body_argument("name"))
        self.session.flash("Welcome!")
        self.redirect("/", status=303)


class Logout(SessionMixin, RequestHandler):
    async def post(self):
        await self.session.destroy()
        self.session.flash("Goodbye!")
        self.redirect("/", status=303)


@stream_request_body
class Upload(SessionMixin, RequestHandler):
    """Refuses what is too long before it has come."""

    async def prepare(self):
        await super().prepare()
        self.session["uploads"] = self.session.get("uploads", 0) + 1
        if int(self.request.headers["Content-Length"]) > LIMIT:
            raise HTTPError(413)

    def data_received(self, chunk):
        pass

    def post(self):
        self.write(f"<h2>Upload {self.session['uploads']}</h2>")


ROUTES = [("/", Home), ("/login", Login), ("/logout", Logout), ("/upload", Upload)]


def test_a_user_without_scripts_logs_in_and_out(serve, new_context):
    """Each message comes once, after the redirect; the session goes with the user."""
    site = serve(ROUTES)
    page = new_context(java_script_enabled=False).new_page()

    def shown():
        return page.text_content("h1"), page.text_content("p")

    page.goto(site.url())
    assert shown() == ("None 1", "")
    page.fill("input[name=name]", "ann")
    page.click("text=Log in")
    assert shown() == ("ann 2", "Welcome!")
    page.reload()
    assert shown() == ("ann 3", "")
    page.click("text=Log out")
    assert shown() == ("None 1", "Goodbye!")
    page.reload()
    assert shown() == ("None 2", "")


def file(size):
    return {
        "name": "a.bin",
        "mimeType": "application/octet-stream",
        "buffer": b"x" * size,
    }


def test_a_refused_upload_shows_its_answer_and_keeps_the_session(serve, tab, console):
    """The browser shows the 413, and the session goes on with the next upload."""
    console.allow("a status of 413")
    site = serve(ROUTES)
    tab.goto(site.url())
    before = tab.context.cookies()[0]["value"]
    tab.set_input_files("input[type=file]", file(3 * LIMIT))
    tab.click("text=Upload")
    tab.wait_for_selector("text=413")
    tab.goto(site.url())
    assert tab.text_content("h1") == "None 2"
    tab.set_input_files("input[type=file]", file(LIMIT // 2))
    tab.click("text=Upload")
    assert tab.text_content("h2") == "Upload 2"
    assert tab.context.cookies()[0]["value"] == before


@pytest.mark.integration
def test_an_outage_leaves_the_cookie(serve, tab, console, own_memcached):
    """While memcached hangs, pages are 503s; then the same user goes on."""
    console.allow("a status of 503")
    site = serve(ROUTES, session={"store": own_memcached.url + "/?timeout=0.2"})
    tab.goto(site.url())
    tab.fill("input[name=name]", "ann")
    tab.click("text=Log in")
    assert tab.text_content("h1") == "ann 2"
    before = tab.context.cookies()
    own_memcached.stop()
    for _ in range(2):
        response = tab.goto(site.url())
        assert response.status == 503
        assert response.header_value("Retry-After") == "1"
        assert tab.context.cookies() == before
    own_memcached.cont()
    wait_for(lambda: tab.goto(site.url()).status == 200, tab)
    assert tab.text_content("h1") == "ann 3"
    assert tab.context.cookies()[0]["value"] == before[0]["value"]
