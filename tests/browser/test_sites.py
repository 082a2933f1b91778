"""Forms and links from other sites, which cookies Chromium sends with them."""

from __future__ import annotations

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from ..docs.test_docs import run
from ..support.pages import blocks

pytestmark = pytest.mark.browser

PROGRAM = blocks("cross-site.md")[0]


class Account(SessionMixin, RequestHandler):
    """Logs in with ``?login=``; says who is there, and counts what is posted."""

    async def get(self):
        if who := self.get_query_argument("login", ""):
            await self.session.login(who)
        self.tell()

    def post(self):
        self.session["posted"] = self.session.get("posted", 0) + 1
        self.tell()

    def tell(self):
        headers = self.request.headers
        self.settings["seen"] = {
            "cookie": "Cookie" in headers,
            "site": headers.get("Sec-Fetch-Site"),
            "presented": self.session.presented,
        }
        self.write(f"<p>{self.session.principal} {self.session.get('posted')}</p>")


class Other(RequestHandler):
    """A page of another site: a form and a link that lead to ``?to=``."""

    def get(self):
        to = self.get_query_argument("to")
        self.write(
            f"<form method=post action='{to}'><button>Send</button></form>"
            f"<a href='{to}'>Go</a>"
        )


ROUTES = [("/account", Account), ("/other", Other)]


@pytest.fixture
def site(serve):
    return serve(ROUTES)


def told(page):
    return page.text_content("p")


def login(page, site, host):
    page.goto(site.url("/account?login=ann", host))
    assert told(page) == "ann None"


def from_elsewhere(page, site, *, press, other, host="shop.example"):
    """Press a button or follow a link at ``other`` that leads to ``host``."""
    page.goto(site.url(f"/other?to={site.url('/account', host)}", other))
    page.click(press)
    page.wait_for_url("**/account")


# To a host that is not trustworthy (http, not this machine) Chromium sends no
# Sec-Fetch-Site, only Origin.
@pytest.mark.parametrize(
    ("host", "other", "says"),
    [
        ("shop.example", "pay.example", None),
        ("localhost", "127.0.0.1", "cross-site"),
        ("127.0.0.1", "pay.example", "cross-site"),
    ],
)
def test_a_form_of_another_site_begins_no_session(site, tab, host, other, says):
    """Chromium sends no cookie with it; the user's cookie and session survive."""
    login(tab, site, host)
    before = tab.context.cookies()
    from_elsewhere(tab, site, press="button", host=host, other=other)
    assert site.seen["seen"] == {"cookie": False, "site": says, "presented": "none"}
    assert tab.context.cookies() == before
    tab.goto(site.url("/account", host))
    assert told(tab) == "ann None"
    assert site.manager.stats()["withheld_sessions"] == 1


def test_with_allow_it_logs_the_user_out(serve, tab):
    """With ``cross_site="allow"`` the form begins a session over the user's own."""
    site = serve(ROUTES, session={"cross_site": "allow"})
    login(tab, site, "shop.example")
    from_elsewhere(tab, site, press="button", other="pay.example")
    tab.goto(site.url("/account"))
    assert told(tab) == "None 1"


def test_a_link_of_another_site_keeps_the_login(site, tab):
    """Under Lax, Chromium sends the cookie with a link that is followed."""
    login(tab, site, "shop.example")
    from_elsewhere(tab, site, press="a", other="pay.example")
    assert told(tab) == "ann None"


def test_a_form_of_a_sibling_host_is_of_this_site(site, tab):
    """Chromium sends the cookie with a form that comes from the same site."""
    login(tab, site, "shop.example")
    from_elsewhere(tab, site, press="button", other="pay.shop.example")
    assert told(tab) == "ann 1"


def test_another_scheme_is_another_site(serve, tab):
    """A form of one's own http page is another site's for https: nothing begins."""
    secure, plain = serve(ROUTES, secure=True), serve(ROUTES)
    login(tab, secure, "shop.example")
    before = tab.context.cookies()
    tab.goto(plain.url(f"/other?to={secure.url('/account')}"))
    tab.click("button")
    tab.wait_for_url("**/account")
    assert secure.seen["seen"]["cookie"] is False
    assert tab.context.cookies() == before
    tab.goto(secure.url("/account"))
    assert told(tab) == "ann None"


def test_under_strict_a_link_has_no_session(serve, tab):
    """Under Strict the first page has no session; the next one has the login."""
    site = serve(ROUTES, session={"cookie": {"samesite": "Strict"}})
    login(tab, site, "shop.example")
    before = tab.context.cookies()
    from_elsewhere(tab, site, press="a", other="pay.example")
    assert told(tab) == "None None"
    assert site.seen["seen"]["cookie"] is False
    assert tab.context.cookies() == before
    tab.goto(site.url("/account"))
    assert told(tab) == "ann None"


def test_with_samesite_none_a_form_has_the_session(serve, tab):
    """With ``samesite="None"`` Chromium sends the cookie with another site's form."""
    cookie = {"samesite": "None", "secure": True}
    site = serve(ROUTES, secure=True, session={"cookie": cookie})
    login(tab, site, "shop.example")
    from_elsewhere(tab, site, press="button", other="pay.example")
    assert told(tab) == "ann 1"


class Provider(RequestHandler):
    """The page of a payment or identity provider, which posts a form to the shop."""

    def post(self):
        self.form(self.get_argument("state"), "/paid")

    def get(self):
        self.form(self.get_argument("state"), "/signed-on")

    def form(self, state, path):
        to = self.settings["shop"] + path
        self.write(
            f"<form method=post action='{to}'>"
            f"<input name=state value='{state}'>"
            "<input name=order value='7 &lt;b&gt; &quot;ü'>"
            "<button>Return</button></form>"
        )


@pytest.fixture
def provider(serve):
    # The access log would show the state, in which the suite looks for secrets.
    return serve([("/", Provider)], log_function=lambda handler: None)


@pytest.fixture
def shop(serve, provider):
    """The program of docs/guides/cross-site.md, with this provider."""
    text = PROGRAM.replace("memcached://127.0.0.1:11211", "memory://")
    for name in ("pay", "id"):
        old = f"https://{name}.example/"
        assert old in text
        text = text.replace(old, provider.url(host=f"{name}.example"))
    names = run(text)

    def set_default_headers(self):
        if policy := self.settings.get("policy"):
            self.set_header("Content-Security-Policy", policy)

    names["Returning"].set_default_headers = set_default_headers
    site = serve(make=names["make_app"])
    provider.seen["shop"] = site.url("")
    return site


@pytest.mark.parametrize("how", ["script", "no scripts", "refused script"])
def test_the_bridge_page_returns_a_payment(shop, tab, new_context, console, how):
    """With the user's session; by a button where the script does not run."""
    page = tab
    if how == "no scripts":
        page = new_context(java_script_enabled=False).new_page()
    if how == "refused script":
        console.allow("violates the following Content Security Policy")
        shop.seen["policy"] = "script-src 'none'"
    page.goto(shop.url("/buy"))
    before = page.context.cookies()
    page.click("text=Pay")
    page.click("text=Return")
    if how != "script":
        assert page.title() == "One moment, please"
        page.click("text=Continue")
    page.wait_for_url("**/orders")
    orders = page.evaluate("JSON.parse(document.body.innerText)")
    assert orders == {"user": None, "paid": ['7 <b> "ü']}
    assert page.context.cookies()[0]["value"] == before[0]["value"]


def test_the_bridge_page_returns_a_login(shop, tab):
    """The user is logged in, and keeps what was in the session."""
    tab.goto(shop.url("/buy"))
    tab.click("text=Pay")
    tab.click("text=Return")
    tab.wait_for_url("**/orders")
    tab.goto(shop.url("/sign-on"))
    tab.click("text=Return")
    tab.wait_for_url("**/orders")
    orders = tab.evaluate("JSON.parse(document.body.innerText)")
    assert orders == {"user": "user-7", "paid": ['7 <b> "ü']}


def test_the_bridge_page_refuses_a_form_that_nobody_asked_for(shop, tab, console):
    """A page that posts with a state of its own gets a 403, after the bridge."""
    console.allow("a status of 403")
    tab.goto(shop.url("/buy"))
    tab.goto(shop.url("/buy", host="evil.example"))
    tab.set_content(
        f"<form method=post action='{shop.url('/paid')}'>"
        "<input name=state value=guess><input name=order value=1>"
        "<button>Return</button></form>"
    )
    tab.click("text=Return")
    tab.wait_for_selector("text=403: Forbidden")
    tab.goto(shop.url("/orders"))
    assert tab.evaluate("JSON.parse(document.body.innerText)")["paid"] is None
