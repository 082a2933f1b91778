"""Cookie options that depend on the request: tenants by host do not share."""

from __future__ import annotations

import pytest
from tornado.web import HTTPError, RequestHandler

from tornado_mcsession import SessionMixin

from ..support.browser import Browser
from .target import Shop

HOSTS = {"one.example": "one", "two.example": "two"}


def by_host(handler):
    """A name of its own for each tenant; 404 for hosts that are none."""
    tenant = HOSTS.get(handler.request.host_name)
    if tenant is None:
        raise HTTPError(404)
    return {"name": f"__Host-{tenant}"}


def by_domain(handler):
    """A domain of its own for each tenant: all hosts of one share a session."""
    return {"domain": handler.request.host_name.partition(".")[2]}


def tenants(attack, cookie, *hosts):
    """Browsers that speak https, each at one of the hosts of an application."""
    target = attack(Shop, "signed", session={"cookie": cookie})
    target.behind_a_proxy()
    browsers = [Browser(target.port, host=host, secure=True) for host in hosts]
    for browser in browsers:
        browser.jar = browsers[0].jar  # the same user's
    return target, browsers


@pytest.mark.gen_test
async def test_tenants_by_name_do_not_share(attack):
    """Each host has a session of its own, also in one browser."""
    target, (one, two) = tenants(attack, by_host, *HOSTS)
    for browser, name in ((one, "__Host-one"), (two, "__Host-two")):
        assert (await browser.get("/")).json()["n"] is None
        assert (await browser.get("/")).json()["n"] == 1
        assert browser.cookie(name) is not None
    assert len(target.store.keys) == 2


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.gen_test
async def test_a_tenants_signed_cookie_is_nothing_to_another(attack, renamed):
    """Not even where a user gives it the other's name by hand."""
    target, (one, _) = tenants(attack, by_host, *HOSTS)
    await one.get("/")
    value = one.cookie("__Host-one").value
    name = "__Host-two" if renamed else "__Host-one"
    headers = {"Host": "two.example", "Cookie": f"{name}={value}"}
    target.store.calls.clear()
    response = await target.ask("/", {**headers, "X-Forwarded-Proto": "https"})
    assert response.json()["n"] is None
    assert target.store.calls == ["add"]


@pytest.mark.gen_test
async def test_tenants_by_domain_share_within_it(attack):
    """Hosts of one domain have one session, those of another have another."""
    _, (a, b, other) = tenants(
        attack, by_domain, "a.one.example", "b.one.example", "a.two.example"
    )
    assert (await a.get("/")).json()["n"] is None
    assert (await b.get("/")).json()["n"] == 1
    assert (await other.get("/")).json()["n"] is None
    assert a.cookie("session").attributes["domain"] == "one.example"
    assert other.cookie("session").attributes["domain"] == "two.example"


@pytest.mark.gen_test
async def test_a_logout_removes_the_tenants_own_cookie(attack):
    """With the name and the domain that it was set with."""

    class Leave(Shop):
        async def use(self):
            self.session = None

    cookie = {"cookie": by_domain}
    target = attack([("/leave", Leave), ("/", Shop)], session=cookie)
    browser = Browser(target.port, host="a.one.example")
    await browser.get("/")
    assert browser.cookie("session") is not None
    await browser.get("/leave")
    assert browser.cookie("session") is None


def failing(handler):
    raise ZeroDivisionError


WRONG = {
    "raises": (failing, 500),
    "refuses": (by_host, 404),
    "no dict": (lambda handler: None, 500),
    "unknown": (lambda handler: {"nmae": "x"}, 500),
    "domain": (lambda handler: {"domain": "a; Secure"}, 500),
    "too long": (lambda handler: {"name": "n" * 4000}, 500),
    "long path": (lambda handler: {"path": "/" + "p" * 1024}, 500),
    "none secure": (lambda handler: {"samesite": "None"}, 500),
}


@pytest.mark.parametrize(("cookie", "status"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("carried", [None, "session=x"])
@pytest.mark.gen_test
async def test_a_callable_that_fails_stores_nothing(attack, cookie, status, carried):
    """It is asked before the handler: nothing is written that no cookie tells of."""
    target = attack(Shop, session={"cookie": cookie})
    for _ in range(3):
        response = await target.ask("/", {"Cookie": carried} if carried else {})
        assert response.status == status
        assert response.all_headers("Set-Cookie") == []
    assert target.store.calls == []


@pytest.mark.gen_test
async def test_what_is_wrong_with_a_callables_options_is_said(attack, caplog):
    """The log names the attribute, as for options that are given at start."""
    target = attack(Shop, session={"cookie": lambda handler: {"name": "n" * 4000}})
    await target.ask("/")
    assert "cookie name is too long" in caplog.text


@pytest.mark.gen_test
async def test_an_error_page_may_ask_for_the_session(attack):
    """Where the tenant is unknown it gets an empty one, that is not saved."""

    class Page(Shop):
        def write_error(self, status_code, **kwargs):
            self.session["seen"] = True
            self.write(f"{status_code} {self.session.available}")

    target = attack(Page, session={"cookie": by_host})
    response = await target.ask("/", {"Cookie": "session=x"})
    assert (response.status, response.text) == (404, "404 False")
    assert target.store.calls == []


@pytest.mark.gen_test
async def test_a_callable_that_fails_later_is_an_error_page(attack):
    """With what it gave before the save there is no answer that loses a session."""
    answers = [{"name": "x"}]

    class Plain(SessionMixin, RequestHandler):
        def get(self):
            self.session["n"] = 1
            self.write("body")

    target = attack(Plain, session={"cookie": lambda handler: answers.pop()})
    response = await target.ask("/")
    assert (response.status, response.all_headers("Set-Cookie")) == (500, [])
