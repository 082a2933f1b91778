"""The cookie, by OWASP ASVS 5.0 V3.3: what is so by default, and by its name."""

from __future__ import annotations

import pytest
from tornado.web import Application

from tornado_mcsession import MemoryStore, SessionManager
from tornado_mcsession.web.cookie import MAX_ATTRIBUTE, MAX_SIZE

from ..support.browser import Browser, Cookie
from .target import SECRET, Shop

HOST = {"cookie": {"name": "__Host-session"}}


class Login(Shop):
    async def use(self):
        await self.session.login("ann")


async def cookie_of(attack, session=None, protocol="https", **settings):
    """The session cookie of a site behind a proxy that speaks ``protocol``."""
    target = attack(Shop, session=session, **settings)
    target.behind_a_proxy()
    response = await target.ask("/", {"X-Forwarded-Proto": protocol})
    (line,) = response.all_headers("Set-Cookie")
    return Cookie.parse(line)


@pytest.mark.parametrize("name", ["__Host-session", "__Secure-session", "session"])
@pytest.mark.gen_test
async def test_v331_it_is_secure_and_may_be_prefixed(attack, name):
    """V3.3.1: over https it has Secure; its name may have either prefix."""
    cookie = await cookie_of(attack, {"cookie": {"name": name}})
    assert cookie.name == name
    assert "secure" in cookie.attributes


@pytest.mark.parametrize("samesite", ["Lax", "Strict"])
@pytest.mark.gen_test
async def test_v332_samesite_is_lax_or_what_is_set(attack, samesite):
    """V3.3.2: Lax by default, so that other sites' forms come without a session."""
    session = {} if samesite == "Lax" else {"cookie": {"samesite": samesite}}
    assert (await cookie_of(attack, session)).attributes["samesite"] == samesite


@pytest.mark.gen_test
async def test_v333_the_host_prefix_holds_what_it_promises(attack):
    """V3.3.3: with it the cookie is Secure, for this host alone and its root."""
    cookie = await cookie_of(attack, HOST)
    assert cookie.attributes["path"] == "/"
    assert "domain" not in cookie.attributes
    assert "secure" in cookie.attributes
    assert cookie.is_allowed("shop.example", is_secure=True)


@pytest.mark.gen_test
async def test_v333_a_host_cookie_is_kept_and_sent_back(attack):
    """A browser that speaks https keeps it, and finds its session again."""
    target = attack(Shop, session=HOST, cookie_secret=SECRET)
    target.behind_a_proxy()
    browser = Browser(target.port, secure=True)
    assert (await browser.get("/")).json()["n"] is None
    assert (await browser.get("/")).json()["n"] == 1
    # A page of a sibling host cannot set one that would be sent beside it.
    browser.set_cookie("__Host-session=planted; Secure; Path=/; Domain=0.0.1")
    browser.set_cookie("__Host-session=planted; Secure; Path=/deep")
    assert (await browser.get("/deep")).json()["n"] == 2


@pytest.mark.parametrize("settings", [{}, {"cookie_secret": SECRET}])
@pytest.mark.gen_test
async def test_v334_it_is_http_only_and_the_id_is_nowhere_else(attack, settings):
    """V3.3.4: no script can read it, and no other header or body has it."""
    way = "signed" if settings else "unsigned"
    target = attack(Shop, way)
    response = await target.ask("/")
    (line,) = response.all_headers("Set-Cookie")
    assert "httponly" in Cookie.parse(line).attributes
    session_id, value = target.told(response), Cookie.parse(line).value
    rest = [f"{k}: {v}" for k, v in response.headers.items() if k != "Set-Cookie"]
    for secret in (session_id, value):
        assert secret not in "\n".join([*rest, response.text])


# V3.3.5: name and value together have at most 4,096 bytes.


def build(cookie, **settings):
    app = Application(**settings)
    return SessionManager(app, store=MemoryStore(), cookie=cookie)


SECRETS = {
    "unsigned": {},
    "signed": {"cookie_secret": SECRET},
    "rotated": {"cookie_secret": {1: "old", 1000: SECRET}, "key_version": 1000},
}


def longest_name(**settings):
    """The length of the longest name that a manager takes."""
    fits, too_long = 1, MAX_SIZE
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        try:
            build({"name": "n" * middle}, **settings)
            fits = middle
        except ValueError:
            too_long = middle
    return fits


@pytest.mark.parametrize("settings", SECRETS.values(), ids=SECRETS)
@pytest.mark.gen_test
async def test_v335_a_cookie_that_no_browser_keeps_is_refused_at_start(
    attack, settings
):
    """V3.3.5: with the longest name the longest value has just room in 4,096 bytes."""
    longest = longest_name(**settings)
    with pytest.raises(ValueError, match=r"cookie name is too long: .* 4096"):
        build({"name": "n" * (longest + 1)}, **settings)
    session = {
        "cookie": {"name": "n" * longest},
        "generate_id": lambda handler: "i" * 200,
    }
    target = attack(Login, session=session, **settings)
    (line,) = (await target.ask("/")).all_headers("Set-Cookie")
    size = len(line.partition(";")[0]) - len("=")
    # The value of a signature grows in the steps of base64.
    assert MAX_SIZE - 8 <= size <= MAX_SIZE


@pytest.mark.gen_test
async def test_v335_usual_cookies_are_far_from_the_limit(attack):
    """A signed one for a login, with the longest id that a hook may make: 0.5 KB."""
    for secret in (None, SECRET):
        target = attack(Login, cookie_secret=secret)
        (line,) = (await target.ask("/")).all_headers("Set-Cookie")
        assert len(line) < 512


@pytest.mark.parametrize("attribute", ["path", "domain"])
def test_an_attribute_that_browsers_ignore_is_refused(attribute):
    """RFC 6265bis: an attribute of more than 1,024 bytes is as good as none.

    Without its Path a cookie would be one for a folder, without its Domain one
    for the host alone.
    """
    start, step = ("/", "a") if attribute == "path" else ("x", ".a")
    fits = (start + step * MAX_ATTRIBUTE)[: MAX_ATTRIBUTE - 1]
    assert build({attribute: fits})
    fits += step * 2
    with pytest.raises(ValueError, match=rf"cookie {attribute} must not be longer"):
        build({attribute: fits + "a"})


@pytest.mark.gen_test
async def test_a_renewed_cookie_is_signed_with_the_newest_key(attack):
    """So the old key may go when the lifetime, or the idle timeout, has passed."""
    old = attack(Shop, cookie_secret={1: "old"}, key_version=1)
    both = attack(
        Shop,
        store=old.store.inner,
        cookie_secret={1: "old", 2: "new"},
        key_version=2,
    )
    new = attack(Shop, store=old.store.inner, cookie_secret={2: "new"}, key_version=2)
    browser = Browser(old.port)
    assert (await browser.get("/")).json()["n"] is None
    first = browser.cookie("session").value
    browser.port = both.port
    assert (await browser.get("/")).json()["n"] == 1
    assert browser.cookie("session").value == first
    old.clock.advance(50_000)
    assert (await browser.get("/")).json()["n"] == 2
    browser.port = new.port
    assert (await browser.get("/")).json()["n"] == 3
    response = await new.ask("/", {"Cookie": f"session={first}"})
    assert response.json()["n"] is None
