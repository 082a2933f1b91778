"""A request of another site, whose cookie the browser held back, begins no session."""

from __future__ import annotations

import logging

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionManager, SessionMixin

from ..support.site import new_id, session_cookie

CROSS = {"Sec-Fetch-Site": "cross-site"}
FOREIGN = {"Origin": "https://pay.example"}


class Writes(SessionMixin, RequestHandler):
    """What a payment provider posts to."""

    def post(self):
        self.session["paid"] = True
        self.write("thank you")

    get = put = delete = post


class Flashes(Writes):
    def post(self):
        self.session.flash("paid")
        self.write("thank you")

    get = put = delete = post


class Reads(Writes):
    def post(self):
        self.write("thank you" if not self.session.get("a") else "welcome")


class Login(SessionMixin, RequestHandler):
    """What an identity provider posts to."""

    async def post(self):
        await self.session.login("ann")
        self.write("hello")


async def posted(site, headers, method="POST"):
    body = None if method in ("GET", "DELETE") else b""
    return await site.request(method, headers=headers, body=body)


def is_withheld(site, response, handler=Writes):
    """No session began: no cookie, no record; it is counted."""
    assert response.status == 200
    assert response.body == b"thank you"
    count = site.manager.stats()["withheld_sessions"]
    withheld = session_cookie(response) is None
    assert withheld == (site.sessions() == 0) == (count > 0)
    return withheld


@pytest.mark.gen_test
@pytest.mark.parametrize("headers", [CROSS, FOREIGN, {**CROSS, **FOREIGN}])
@pytest.mark.parametrize("handler", [Writes, Flashes])
async def test_no_session_begins(serve, headers, handler):
    """Its cookie would replace the one that the browser did not send."""
    site = serve(handler)
    assert is_withheld(site, await posted(site, headers))


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_each_method_that_is_no_navigation_counts(serve, method):
    """SameSite=Lax lets only GET and HEAD bring the cookie."""
    site = serve(Writes)
    assert is_withheld(site, await posted(site, CROSS, method))


@pytest.mark.gen_test
async def test_it_is_logged_once_and_counted_each_time(serve, logged):
    """The message names the page of the documentation."""
    site = serve(Writes)
    for _ in range(3):
        await posted(site, CROSS)
    assert site.manager.stats()["withheld_sessions"] == 3
    told = [message for message in logged() if "cross-site" in message]
    assert len(told) == 1
    assert "docs/" in told[0] or "http" in told[0]


@pytest.mark.gen_test
async def test_reading_is_not_counted(serve, logged):
    """Nothing was withheld where nothing was to be stored."""
    site = serve(Reads)
    response = await posted(site, CROSS)
    assert response.body == b"thank you"
    assert site.manager.stats()["withheld_sessions"] == 0
    assert not logged(logging.WARNING)


@pytest.mark.gen_test
@pytest.mark.parametrize("headers", [CROSS, FOREIGN])
async def test_a_login_begins_one_all_the_same(serve, headers):
    """Single sign-on: its cookie comes, and the next request has the session."""
    site = serve(Login)
    response = await posted(site, headers)
    assert response.status == 200
    assert session_cookie(response) is not None
    assert site.manager.stats()["withheld_sessions"] == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("known", [True, False])
async def test_a_request_with_its_cookie_is_as_any_other(serve, known):
    """The browser held nothing back, whether the session still lives or not."""
    site = serve(Writes)
    session_id = await site.new(a=1) if known else new_id()
    headers = {**CROSS, "Cookie": f"session={session_id}"}
    response = await posted(site, headers)
    assert response.status == 200
    if known:
        assert await site.data(session_id) == {"a": 1, "paid": True}
    else:
        assert await site.stored(response) == {"paid": True}


OWN = ["same-origin", "same-site", "none"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("headers", "method"),
    [
        *[({"Sec-Fetch-Site": site}, "POST") for site in OWN],
        *[({"Sec-Fetch-Site": site, **FOREIGN}, "POST") for site in OWN],
        ({"Origin": "http://127.0.0.1"}, "POST"),
        ({}, "POST"),
        (CROSS, "GET"),
        ({**CROSS, **FOREIGN}, "GET"),
    ],
)
async def test_other_requests_begin_sessions(serve, headers, method):
    """Those of the own site, of no browser, and navigations under SameSite=Lax."""
    site = serve(Writes)
    assert not is_withheld(site, await posted(site, headers, method))


@pytest.mark.gen_test
async def test_the_port_belongs_to_the_origin(serve):
    """An origin is compared with the Host header as it came."""
    site = serve(Writes)
    own = {"Origin": "http://127.0.0.1:8080", "Host": "127.0.0.1:8080"}
    assert not is_withheld(site, await posted(site, own))


@pytest.mark.gen_test
async def test_under_strict_a_navigation_counts(serve):
    """SameSite=Strict holds the cookie back there too."""
    site = serve(Writes, session={"cookie": {"samesite": "Strict"}})
    assert is_withheld(site, await posted(site, CROSS, "GET"))


@pytest.mark.gen_test
@pytest.mark.parametrize("setting", ["allow", "None", "header"])
async def test_where_nothing_is_held_back_nothing_is_withheld(serve, setting):
    """By the setting; with SameSite=None; and with an id in a header."""
    session = {
        "allow": {"cross_site": "allow"},
        "None": {"cookie": {"samesite": "None", "secure": True}},
        "header": {"transport": "header:X-Session-ID"},
    }[setting]
    site = serve(Writes, session=session)
    response = await posted(site, CROSS)
    assert response.status == 200
    assert site.sessions() == 1
    assert site.manager.stats()["withheld_sessions"] == 0


def test_the_setting_is_checked():
    """The key is named, and what is allowed."""
    with pytest.raises(ValueError, match=r"cross_site.*'allow'"):
        SessionManager(cross_site="alow")
