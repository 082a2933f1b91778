"""Ids that travel in a header of an app, or in the cookie of a browser."""

from __future__ import annotations

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionManager, SessionMixin

from ..support.site import SECRET, is_cleared, new_id, session_cookie, signed

NAME = "X-Session-ID"
BOTH = {"transport": [f"header:{NAME}", "cookie"]}


class Acts(SessionMixin, RequestHandler):
    async def get(self, what):
        if what == "write":
            self.session["n"] = self.session.get("n", 0) + 1
        elif what == "login":
            await self.session.login("ann")
        elif what == "end":
            self.session = None
            return
        self.write({**self.session})


@pytest.fixture
def site(serve):
    return serve([("/(.*)", Acts)], session=BOTH)


def told(response):
    """The id in the header and that in the cookie."""
    cookie = session_cookie(response)
    return response.header(NAME), None if cookie is None else cookie.value


@pytest.mark.gen_test
async def test_a_new_session_goes_by_the_last(site):
    """Most who come without an id are browsers."""
    header, cookie = told(await site.get("/write"))
    assert header is None
    assert await site.data(cookie) == {"n": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize("what", ["read", "write"])
async def test_either_is_read(site, what):
    """The session is that of the id, wherever it is."""
    session_id = await site.new(n=5)
    n = 6 if what == "write" else 5
    for headers in ({NAME: session_id}, {"Cookie": f"session={session_id}"}):
        response = await site.get(f"/{what}", headers=headers)
        assert response.json() == {"n": n}
        assert told(response) == (None, None)
        n += what == "write"


@pytest.mark.gen_test
async def test_a_new_id_goes_where_the_old_one_came(site):
    """An app gets no cookie, a browser no header."""
    header, cookie = told(await site.get("/login", headers={NAME: await site.new()}))
    assert header is not None
    assert cookie is None
    old = {"Cookie": f"session={await site.new()}"}
    header, cookie = told(await site.get("/login", headers=old))
    assert header is None
    assert cookie is not None


@pytest.mark.gen_test
async def test_a_logout_clears_where_the_id_came(site):
    """And only there."""
    response = await site.get("/end", headers={NAME: await site.new(a=1)})
    assert response.header(NAME) == ""
    assert session_cookie(response) is None
    old = {"Cookie": f"session={await site.new(a=1)}"}
    response = await site.get("/end", headers=old)
    assert response.header(NAME) is None
    assert is_cleared(response)


@pytest.mark.gen_test
async def test_the_first_of_good_form_counts(site):
    """The header, where both are there; the cookie beside a malformed header."""
    header, cookie = await site.new(n=1), await site.new(n=2)
    both = {NAME: header, "Cookie": f"session={cookie}"}
    assert (await site.get("/read", headers=both)).json() == {"n": 1}
    for malformed in ("", "short", "not an id at all, but rather long"):
        headers = {**both, NAME: malformed}
        assert (await site.get("/read", headers=headers)).json() == {"n": 2}


@pytest.mark.gen_test
async def test_a_dead_id_in_the_header_still_counts(site):
    """Form decides, not life: the client speaks by its header."""
    headers = {NAME: new_id(), "Cookie": f"session={await site.new(n=2)}"}
    assert (await site.get("/read", headers=headers)).json() == {}
    header, cookie = told(await site.get("/write", headers=headers))
    assert header is not None
    assert cookie is None


@pytest.mark.gen_test
@pytest.mark.parametrize("what", ["read", "write"])
async def test_responses_vary_by_each(site, what):
    """A cache must look at all of them."""
    response = await site.get(f"/{what}")
    names = {name.strip() for name in response.header("Vary").split(",")}
    assert names == {NAME, "Cookie"}


@pytest.mark.gen_test
async def test_the_cookie_is_signed_and_the_header_is_not(serve, clock):
    """As each is alone."""
    site = serve([("/(.*)", Acts)], session=BOTH, cookie_secret=SECRET)
    session_id = await site.new(n=1)
    good = {"Cookie": f"session={signed(session_id, clock())}"}
    assert (await site.get("/read", headers=good)).json() == {"n": 1}
    forged = {"Cookie": f"session={session_id}"}
    assert (await site.get("/read", headers=forged)).json() == {}
    assert (await site.get("/read", headers={NAME: session_id})).json() == {"n": 1}


class Bearer:
    """An own transport beside those of the package."""

    vary = "Authorization"

    def read(self, handler):
        kind, _, value = handler.request.headers.get("Authorization", "").partition(" ")
        return value if kind == "Session" else None

    def write(self, handler, headers, session):
        headers["X-Token"] = session.id

    def clear(self, handler, headers):
        headers["X-Token"] = ""


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", [list, tuple])
async def test_own_transports_may_be_in_the_list(serve, kind):
    """A list or a tuple."""
    site = serve([("/(.*)", Acts)], session={"transport": kind([Bearer(), "cookie"])})
    headers = {"Authorization": f"Session {await site.new(n=1)}"}
    assert (await site.get("/read", headers=headers)).json() == {"n": 1}
    response = await site.get("/login", headers=headers)
    assert response.header("X-Token")
    assert session_cookie(response) is None
    assert session_cookie(await site.get("/write")) is not None


@pytest.mark.parametrize("transport", [[], ["cookies"], ["header:"], [5], [None], [[]]])
def test_the_list_is_checked(transport):
    """Where the manager is built."""
    with pytest.raises((ValueError, TypeError), match="transport"):
        SessionManager(transport=transport)


# allow_empty


class Uses(SessionMixin, RequestHandler):
    def get(self, what):
        if what == "read":
            len(self.session)
        self.write("body")


@pytest.mark.gen_test
async def test_an_empty_session_may_begin_with_its_first_use(serve):
    """With ``allow_empty``; a request that uses none begins none."""
    site = serve([("/(.*)", Uses)], session={"allow_empty": True})
    assert session_cookie(await site.get("/nothing")) is None
    response = await site.get("/read")
    assert await site.stored(response) == {}
    cookie = {"Cookie": f"session={session_cookie(response).value}"}
    assert session_cookie(await site.get("/read", headers=cookie)) is None
    assert site.sessions() == 1


@pytest.mark.gen_test
async def test_by_default_reading_begins_none(serve):
    """No record for visitors of whom nothing is known."""
    site = serve([("/(.*)", Uses)])
    assert session_cookie(await site.get("/read")) is None
    assert site.sessions() == 0
