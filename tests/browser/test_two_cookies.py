"""Two cookies of one name in Chromium, from a sibling host or for another path."""

from __future__ import annotations

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from ..support.site import new_id

pytestmark = pytest.mark.browser

SHOP, EVIL = "shop.example", "evil.shop.example"


class Account(SessionMixin, RequestHandler):
    async def get(self, act):
        if act == "login":
            await self.session.login("ann")
        elif act == "logout":
            self.session = None
            return
        session = self.session
        cookies = self.request.headers.get("Cookie", "").count("session=")
        self.write(f"<p>{session.principal} {session.presented} {cookies}</p>")


class Plant(RequestHandler):
    """Sets a cookie as the query says."""

    def get(self):
        self.set_header("Set-Cookie", self.settings["planted"])


@pytest.fixture
def site(serve):
    routes = [("/plant", Plant), ("/(?:account/)?(.*)", Account)]
    return serve(routes, session={"signed": False})


def told(page, site, path):
    page.goto(site.url(path))
    return page.text_content("p")


def alive(site, value):
    """Whether the session of a cookie is alive."""
    return site.run(site.manager.get(value)) is not None


def plant(page, site, value, attributes, host=SHOP):
    site.seen["planted"] = f"session={value}; {attributes}"
    page.goto(site.url("/plant", host))


# The attributes, from where they are set, and which of the two Chromium sends first.
PLANTED = pytest.mark.parametrize(
    ("attributes", "host"),
    [
        ("Domain=shop.example; Path=/", EVIL),
        ("Domain=shop.example; Path=/account", EVIL),
        ("Path=/account", SHOP),
    ],
)


@pytest.fixture
def foreign(site):
    """The id of another visitor's living session."""
    session_id = new_id()
    site.run(site.manager.set(session_id, {"n": 1}))
    return session_id


def test_a_planted_dead_id_changes_nothing(site, tab):
    """Chromium sends both cookies, and the living session is used."""
    told(tab, site, "/account/login")
    plant(tab, site, "A" * 43, "Domain=shop.example; Path=/account", EVIL)
    assert told(tab, site, "/account/look") == "ann live 2"


@PLANTED
def test_of_two_alive_none_is_used_until_a_login(site, tab, foreign, attributes, host):
    """A planted living session leaves nobody logged in; a login ends both."""
    told(tab, site, "/account/login")
    (own,) = tab.context.cookies()
    plant(tab, site, foreign, attributes, host)
    assert told(tab, site, "/account/look") == "None ambiguous 2"
    told(tab, site, "/account/login")
    assert not alive(site, own["value"])
    assert not alive(site, foreign)
    assert told(tab, site, "/account/look") == "ann live 2"
    assert told(tab, site, "/").startswith("ann live")


def test_a_logout_ends_both(site, tab, foreign):
    """After a logout neither cookie is that of a living session."""
    told(tab, site, "/account/login")
    (own,) = tab.context.cookies()
    plant(tab, site, foreign, "Domain=shop.example; Path=/", EVIL)
    tab.goto(site.url("/account/logout"))
    assert not alive(site, own["value"])
    assert not alive(site, foreign)
    told(tab, site, "/account/login")
    assert told(tab, site, "/account/look") == "ann live 2"


def test_a_cookie_of_another_path_is_not_sent(site, tab, foreign):
    """A living session planted for another path disturbs the pages there only."""
    told(tab, site, "/login")
    plant(tab, site, foreign, "Path=/account")
    assert told(tab, site, "/") == "ann live 1"
    assert told(tab, site, "/account/look") == "None ambiguous 2"
