"""Several cookies of the session's name, and cookies that only look like it."""

from __future__ import annotations

import logging

import pytest
import tornado
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from ..support.browser import Browser
from ..support.site import SECRET, carrying, is_cleared, new_id, session_cookie, signed


class Acts(SessionMixin, RequestHandler):
    """Does with its session what the path says, and tells what it is."""

    async def get(self, what="read"):
        if self.session_load == "lazy" and what != "end":
            await self.load_session()
        await ACTS[what](self)
        if what != "end":
            self.write({"presented": self.session.presented, "data": {**self.session}})


class Lazy(Acts):
    session_load = "lazy"


async def read(handler):
    len(handler.session)


async def write(handler):
    handler.session["new"] = 1


async def save(handler):
    handler.session["new"] = 1
    await handler.session.save()


async def flash(handler):
    handler.session.flash("hello")


async def login(handler):
    await handler.session.login("ann")


async def end(handler):
    handler.session = None


async def destroy(handler):
    await handler.session.destroy()


async def logout(handler):
    await handler.session.logout()


ACTS = {
    act.__name__: act for act in (read, write, save, flash, login, end, destroy, logout)
}
BEGINS = ["write", "save", "flash", "login"]
ENDS = ["end", "destroy", "logout"]


@pytest.fixture
def site(serve):
    return serve([("/lazy/(.*)", Lazy), ("/(.*)", Acts)])


@pytest.mark.gen_test
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("prefix", ["/", "/lazy/"])
async def test_one_alive_is_the_session(site, order, prefix):
    """Whatever its place, beside one that is dead, unknown or badly formed."""
    alive, dead = await site.new(a=1), await site.new(b=1)
    await site.manager.destroy(dead)
    for other in (dead, new_id(), "short", "bad!" * 10):
        headers = carrying(*[alive, other][::order])
        response = await site.get(f"{prefix}read", headers=headers)
        assert response.json() == {"presented": "live", "data": {"a": 1}}
        assert session_cookie(response) is None


@pytest.mark.gen_test
async def test_the_same_one_twice_is_one(site, store):
    """Browsers send it twice where a proxy copied it."""
    alive = await site.new(a=1)
    response = await site.get("/read", headers=carrying(alive, alive))
    assert response.json() == {"presented": "live", "data": {"a": 1}}


@pytest.mark.gen_test
@pytest.mark.parametrize("order", [1, -1])
async def test_of_two_alive_none_is_used(site, order, logged):
    """A planted one must not win: a warning, and a counter."""
    ids = [await site.new(a=1), await site.new(b=1)]
    for _ in range(2):
        response = await site.get("/read", headers=carrying(*ids[::order]))
        assert response.json() == {"presented": "ambiguous", "data": {}}
        assert session_cookie(response) is None
    assert [await site.is_alive(session_id) for session_id in ids] == [True, True]
    assert len(logged(logging.WARNING)) == 1
    assert not [session_id for session_id in ids if session_id in str(logged())]
    assert site.manager.stats()["ambiguous_cookies"] == 2


@pytest.mark.gen_test
@pytest.mark.parametrize("prefix", ["/", "/lazy/"])
@pytest.mark.parametrize("act", BEGINS)
async def test_beginning_a_session_ends_all_that_were_presented(site, act, prefix):
    """The next request, with all three cookies, has the new one."""
    ids = [await site.new(a=1), await site.new(b=1)]
    response = await site.get(f"{prefix}{act}", headers=carrying(*ids))
    assert response.status == 200
    cookie = session_cookie(response)
    assert cookie is not None
    assert cookie.value not in ids
    assert [await site.is_alive(session_id) for session_id in ids] == [False, False]
    response = await site.get("/read", headers=carrying(*ids, cookie.value))
    assert response.json()["presented"] == "live"
    assert session_cookie(response) is None


@pytest.mark.gen_test
@pytest.mark.parametrize("prefix", ["/", "/lazy/"])
@pytest.mark.parametrize("act", ENDS)
async def test_a_logout_ends_all_that_were_presented(site, act, prefix):
    """And takes the cookie away."""
    ids = [await site.new(a=1), await site.new(b=1)]
    response = await site.get(f"{prefix}{act}", headers=carrying(*ids))
    assert response.status == 200
    assert is_cleared(response)
    assert [await site.is_alive(session_id) for session_id in ids] == [False, False]


@pytest.mark.gen_test
@pytest.mark.parametrize("act", [*ENDS, "login"])
async def test_one_alive_beside_a_dead_one_is_ended(site, act):
    """A logout and a login act on what counts, whatever stands beside it."""
    for order in (1, -1):
        alive, dead = await site.new(a=1), await site.new(b=1)
        await site.manager.destroy(dead)
        headers = carrying(*[alive, dead][::order])
        response = await site.get(f"/{act}", headers=headers)
        assert response.status == 200
        assert is_cleared(response) == (act != "login")
        assert not await site.is_alive(alive)


@pytest.mark.gen_test
async def test_a_path_that_was_changed_locks_nobody_out(serve):
    """A browser keeps the cookie of the old path, and sends both."""
    before = serve([("/app/(.*)", Acts)], session={"cookie": {"path": "/app"}})
    after = serve([("/app/(.*)", Acts)])
    browser = Browser(before.port)
    await browser.get("/app/login")
    browser.port = after.port
    assert (await browser.get("/app/read")).json()["presented"] == "live"
    assert (await browser.get("/app/login")).status == 200
    assert browser.cookie_header("/app/").count("session=") == 2
    for _ in range(2):
        assert (await browser.get("/app/read")).json()["presented"] == "live"
        assert (await browser.get("/app/write")).json()["data"] == {"new": 1}
    assert (await browser.get("/app/end")).status == 200
    assert (await browser.get("/app/read")).json()["presented"] != "live"
    sessions = browser.cookie_header("/app/")
    for pair in sessions.split("; "):
        assert not await after.is_alive(pair.partition("=")[2])


@pytest.mark.gen_test
async def test_at_most_four_are_looked_up(site, store):
    """Of as many values as a request may have."""
    ids = [new_id() for _ in range(100)]
    store.calls.clear()
    response = await site.get("/read", headers=carrying(*ids))
    assert response.json()["data"] == {}
    assert 1 <= len(store.calls) <= 4


@pytest.mark.gen_test
async def test_at_most_eight_are_looked_at(site, store):
    """What stands behind eight others is not there."""
    alive = await site.new(a=1)
    store.calls.clear()
    response = await site.get("/read", headers=carrying(*["bad"] * 8, alive))
    assert response.json()["data"] == {}
    assert store.calls == []
    response = await site.get("/read", headers=carrying(*["bad"] * 7, alive))
    assert response.json()["data"] == {"a": 1}


@pytest.mark.gen_test
async def test_a_bad_signature_is_no_candidate(serve, store, clock):
    """Nobody who cannot sign brings a second one."""
    site = serve([("/(.*)", Acts)], cookie_secret=SECRET)
    alive, planted = await site.new(a=1), await site.new(b=1)
    good = signed(alive, clock())
    store.calls.clear()
    altered = signed(planted, clock())[:-64] + "0" * 64
    for forged in (planted, altered, "2|1:0|x"):
        response = await site.get("/read", headers=carrying(good, forged))
        assert response.json() == {"presented": "live", "data": {"a": 1}}
    assert store.calls == ["get"] * 3


@pytest.mark.gen_test
async def test_one_that_cannot_be_looked_up_is_an_error(site, store):
    """Nobody knows whether the other one counts."""
    ids = [await site.new(a=1), await site.new(b=1)]
    store.is_down = True
    response = await site.get("/read", headers=carrying(*ids))
    assert response.status == 503
    assert session_cookie(response) is None


# Bytes round the name or the value. A browser takes them for part of it.

# Before 6.5, Tornado itself strips them from both ends of a header.
only_newer = pytest.mark.skipif(
    tornado.version_info < (6, 5),
    reason="Tornado itself strips them before 6.5; the run on the newest has them",
)
STRANGE = ["\xa0", "\x85", "\xa0\xa0", "\xa0 ", "\x1f", "\x0b", "\x0c", "\x1c"]


@pytest.mark.gen_test
@pytest.mark.parametrize("strange", STRANGE)
async def test_only_spaces_and_tabs_are_stripped_from_a_name(serve, store, strange):
    """Another host below the domain can set a cookie of such a name."""
    site = serve([("/(.*)", Acts)], session={"cookie": {"name": "__Host-session"}})
    evil, good = await site.new(evil=1), await site.new(good=1)
    for name in (f"{strange}__Host-session", f"__Host-session{strange}"):
        for line, data in (
            (f"Cookie: x=1; {name}={evil}; y=2", {}),
            (f"Cookie: x=1; {name}={evil}; __Host-session={good}", {"good": 1}),
            (f"Cookie: __Host-session={good};{name}={evil}; y=2", {"good": 1}),
        ):
            response = await site.send("GET", "/read", line)
            # Newer releases of Tornado refuse some of them.
            assert response.status == 400 or response.json()["data"] == data


@pytest.mark.gen_test
@only_newer
@pytest.mark.parametrize("strange", STRANGE)
async def test_nor_from_the_beginning_of_the_header(serve, strange):
    """Where the name is the first one."""
    site = serve([("/(.*)", Acts)], session={"cookie": {"name": "__Host-session"}})
    evil = await site.new(evil=1)
    line = f"Cookie: {strange}__Host-session={evil}"
    response = await site.send("GET", "/read", line)
    assert response.status == 400 or response.json()["data"] == {}


@pytest.mark.gen_test
@pytest.mark.parametrize("strange", STRANGE)
async def test_only_spaces_and_tabs_are_stripped_from_a_value(site, strange):
    """What stands round an id is part of it."""
    alive = await site.new(a=1)
    for value in (f"{strange}{alive}", f"{alive}{strange}"):
        response = await site.send("GET", "/read", f"Cookie: x=1; session={value};y=2")
        assert response.status == 400 or response.json()["data"] == {}


@pytest.mark.gen_test
async def test_spaces_and_tabs_are_stripped(site):
    """As RFC 6265 says."""
    alive = await site.new(a=1)
    for pair in (
        f" session={alive}",
        f"\tsession = {alive} ",
        f"session\t=\t{alive}\t",
        f'session="{alive}"',
    ):
        response = await site.send("GET", "/read", f"Cookie: x=1;{pair};y=2")
        assert response.json()["data"] == {"a": 1}


@pytest.mark.gen_test
@only_newer
@pytest.mark.parametrize("strange", ["\xa0", "\x85", "\x0c"])
async def test_an_id_in_a_header_is_not_trimmed_either(serve, strange):
    """A header transport knows SP and HTAB, as HTTP does."""
    site = serve([("/(.*)", Acts)], session={"transport": "header:X-Session-ID"})
    alive = await site.new(a=1)
    response = await site.send("GET", "/read", f"X-Session-ID: {alive}")
    assert response.json()["data"] == {"a": 1}
    for value in (f"{strange}{alive}", f"{alive}{strange}"):
        response = await site.send("GET", "/read", f"X-Session-ID: {value}")
        assert response.status == 400 or response.json()["data"] == {}
