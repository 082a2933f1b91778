"""The session cookie as Chromium keeps it, sends it and shows it to scripts."""

from __future__ import annotations

import time

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from .serving import Site

pytestmark = pytest.mark.browser

DAY = 86_400


class Visits(SessionMixin, RequestHandler):
    """Counts the visits of a session."""

    def get(self):
        visits = self.session["visits"] = self.session.get("visits", 0) + 1
        self.write(f"<p>{visits}</p>")


class Remember(SessionMixin, RequestHandler):
    def get(self, word):
        self.session["visits"] = 0
        self.session.remember(word == "yes")


class Logout(SessionMixin, RequestHandler):
    session_load = "lazy"

    def get(self):
        self.session = None


class Plain(RequestHandler):
    """Shows the cookies that have come."""

    def get(self):
        self.write(f"<p>{self.request.headers.get('Cookie', '')}</p>")


ROUTES = [
    ("/remember/(yes|no)", Remember),
    ("/logout", Logout),
    ("/app/logout", Logout),
    ("/app/?", Visits),
    ("/plain", Plain),
    ("/app/plain", Plain),
    ("/", Visits),
]


def visits(page, url):
    page.goto(url)
    return int(page.text_content("p"))


def kept(context):
    """The only cookie of the browser; None if there is none."""
    cookies = context.cookies()
    assert len(cookies) < 2, cookies
    return cookies[0] if cookies else None


def details(page):
    """All cookies, with what Playwright does not tell."""
    session = page.context.new_cdp_session(page)
    return session.send("Network.getAllCookies")["cookies"]


def test_defaults(serve, tab):
    """Chromium keeps a cookie of this host for a day and a tenth, safe from scripts."""
    site = serve(ROUTES)
    assert [visits(tab, site.url()) for _ in range(3)] == [1, 2, 3]
    cookie = kept(tab.context)
    assert cookie["httpOnly"] is True
    assert cookie["sameSite"] == "Lax"
    assert cookie["secure"] is False
    assert (cookie["domain"], cookie["path"]) == ("shop.example", "/")
    assert cookie["expires"] == pytest.approx(time.time() + 1.1 * DAY, abs=60)
    assert tab.evaluate("document.cookie") == ""
    assert cookie["value"] not in tab.content()


def test_scripts_read_it_only_if_they_may(serve, tab):
    """With ``httponly=False`` a script sees it, and cannot without."""
    site = serve(ROUTES, session={"cookie": {"httponly": False}})
    visits(tab, site.url())
    assert tab.evaluate("document.cookie").startswith("session=")


def test_remember_decides_whether_it_ends_with_the_browser(serve, tab):
    """`remember(False)` makes a cookie without an end, `remember(True)` one with."""
    site = serve(ROUTES)
    visits(tab, site.url())
    tab.goto(site.url("/remember/no"))
    assert kept(tab.context)["expires"] == -1
    tab.goto(site.url("/remember/yes"))
    assert kept(tab.context)["expires"] > time.time() + DAY
    assert visits(tab, site.url()) == 1


def test_a_path_keeps_it_from_other_pages(serve, tab):
    """With a path, Chromium sends it below that path only."""
    site = serve(ROUTES, session={"cookie": {"path": "/app"}})
    assert visits(tab, site.url("/app")) == 1
    tab.goto(site.url("/plain"))
    assert tab.text_content("p") == ""
    tab.goto(site.url("/app/plain"))
    assert tab.text_content("p").startswith("session=")
    assert visits(tab, site.url("/app")) == 2


def test_a_domain_takes_it_to_sibling_hosts(serve, tab):
    """With a domain, hosts below it share a session; another site has none of it."""
    site = serve(ROUTES, session={"cookie": {"domain": "shop.example"}})
    hosts = ["shop.example", "www.shop.example", "pay.shop.example", "shop.example"]
    assert [visits(tab, site.url(host=host)) for host in hosts] == [1, 2, 3, 4]
    assert kept(tab.context)["domain"] == ".shop.example"
    tab.goto(site.url("/plain", host="pay.example"))
    assert tab.text_content("p") == ""


HOST_PREFIX = {"name": "__Host-session"}


def test_a_host_cookie_is_kept_over_https(serve, tab):
    """A ``__Host-`` cookie is accepted, sent back, and removed by a logout."""
    site = serve(ROUTES, secure=True, session={"cookie": HOST_PREFIX})
    assert [visits(tab, site.url()) for _ in range(2)] == [1, 2]
    cookie = kept(tab.context)
    assert (cookie["name"], cookie["secure"]) == ("__Host-session", True)
    tab.goto(site.url("/logout"))
    assert kept(tab.context) is None


@pytest.mark.parametrize("host", ["shop.example", "localhost"])
@pytest.mark.parametrize("prefix", ["__Host-", "__Secure-"])
def test_a_prefixed_cookie_is_lost_over_http(serve, tab, host, prefix):
    """Over http, Chromium refuses these names, also from this machine itself."""
    site = serve(ROUTES, session={"cookie": {"name": f"{prefix}session"}})
    assert [visits(tab, site.url(host=host)) for _ in range(2)] == [1, 1]
    assert kept(tab.context) is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "shop.localhost"])
def test_a_secure_cookie_works_on_this_machine(serve, tab, host):
    """Chromium takes a Secure cookie over http from this machine."""
    site = serve(ROUTES, session={"cookie": {"secure": True}})
    assert [visits(tab, site.url(host=host)) for _ in range(2)] == [1, 2]
    tab.goto(site.url("/logout", host=host))
    assert kept(tab.context) is None


def test_a_sibling_host_cannot_plant_a_host_cookie(serve, tab):
    """Chromium refuses a ``__Host-`` cookie with a domain, and takes a plain one."""

    class Plant(RequestHandler):
        def get(self):
            for name in ("__Host-session", "session"):
                line = f"{name}=planted; Path=/; Secure; Domain=shop.example"
                self.add_header("Set-Cookie", line)

    site = serve(
        [*ROUTES, ("/plant", Plant)], secure=True, session={"cookie": HOST_PREFIX}
    )
    tab.goto(site.url("/plant", host="evil.shop.example"))
    assert kept(tab.context)["name"] == "session"
    assert [visits(tab, site.url()) for _ in range(2)] == [1, 2]


def test_a_secure_cookie_is_not_replaced_over_http(serve, tab):
    """A cookie set over http does not replace the Secure one: the login survives."""
    shared = {"session": {"cookie": {"name": "session"}}}
    secure = serve(ROUTES, secure=True, **shared)
    plain = serve(ROUTES, **shared)
    assert visits(tab, secure.url()) == 1
    value = kept(tab.context)["value"]
    assert [visits(tab, plain.url()) for _ in range(2)] == [1, 1]
    assert kept(tab.context)["value"] == value
    assert visits(tab, secure.url()) == 2


@pytest.mark.parametrize("priority", ["Low", "High"])
def test_priority(serve, tab, priority):
    """Chromium knows the priority of the cookie."""
    site = serve(ROUTES, session={"cookie": {"priority": priority}})
    visits(tab, site.url())
    assert [cookie["priority"] for cookie in details(tab)] == [priority]


def test_a_long_life_is_cut_to_400_days(serve, tab):
    """Chromium keeps no cookie longer than 400 days, and a renewal begins anew."""
    session = {"idle_timeout": 1000 * DAY, "lifetime": None}
    site = serve(ROUTES, session=session)
    visits(tab, site.url())
    end = kept(tab.context)["expires"]
    assert end == pytest.approx(time.time() + 400 * DAY, abs=60)


FRAMED = {
    "samesite": "None",
    "secure": True,
    "partitioned": True,
    "name": "__Host-session",
}


def test_a_partitioned_session_belongs_to_the_framing_site(serve, new_context):
    """Framed by two sites, a page has two sessions; framed again, the same one."""

    class Framing(RequestHandler):
        def get(self):
            self.write(f"<iframe src='{site.url()}'></iframe>")

    site: Site = serve(
        [("/framing", Framing), *ROUTES], secure=True, session={"cookie": FRAMED}
    )
    context = new_context()
    page = context.new_page()
    counts = []
    for host in ("news.example", "blog.example", "news.example"):
        page.goto(site.url("/framing", host=host))
        counts.append(int(page.frame_locator("iframe").locator("p").text_content()))
    assert counts == [1, 1, 2]
    assert visits(page, site.url()) == 1
    keys = {cookie["partitionKey"]["topLevelSite"] for cookie in details(page)}
    sites = {f"https://{name}.example" for name in ("news", "blog", "shop")}
    assert keys == sites
    page.goto(site.url("/logout"))
    assert len(context.cookies()) == 2


@pytest.mark.parametrize(
    "cookie",
    [
        {"path": "/app", "domain": "shop.example"},
        {"name": "__Secure-session", "secure": True, "samesite": "None"},
        {"partitioned": True, "secure": True},
        {"samesite": "Strict", "priority": "High"},
        {"samesite": None, "httponly": False, "persistent": False},
    ],
    ids=str,
)
def test_a_logout_removes_it(serve, tab, cookie):
    """After a logout Chromium has no cookie left, whatever its attributes."""
    site = serve(ROUTES, secure=True, session={"cookie": cookie})
    assert [visits(tab, site.url("/app")) for _ in range(2)] == [1, 2]
    assert kept(tab.context) is not None
    tab.goto(site.url("/app/logout"))
    assert kept(tab.context) is None
    assert visits(tab, site.url("/app")) == 1
