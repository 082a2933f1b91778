"""A logout ends what the request presented, and a page can say why nothing counted."""

from __future__ import annotations

import logging

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import (
    MemcachedStore,
    SessionGone,
    SessionMixin,
    StoreUnavailable,
)

from ..support.site import carrying, is_cleared, new_id, session_cookie, until

DAY = 86_400


class Acts(SessionMixin, RequestHandler):
    """Does with its session what the path says."""

    async def get(self, what):
        await ACTS[what](self)

    def session_error(self, error):
        return f"page of {type(error).__name__}"


class Lazy(Acts):
    session_load = "lazy"


async def tell(handler):
    session = handler.session
    handler.write(
        {
            "presented": session.presented,
            "exists": session.exists,
            "data": {**session},
        }
    )


async def login(handler):
    await handler.session.login(handler.get_query_argument("who", "ann"))


async def regenerate(handler):
    await handler.session.regenerate()


async def regenerate_with_grace(handler):
    await handler.session.regenerate(grace=30)


async def end(handler):
    handler.session = None


async def destroy(handler):
    await handler.session.destroy()


async def logout(handler):
    await handler.session.logout()


async def caught(handler):
    try:
        await handler.session.destroy()
    except (StoreUnavailable, SessionGone):
        handler.write("caught")


ACTS = {
    act.__name__: act
    for act in (
        *(tell, login, regenerate, regenerate_with_grace),
        *(end, destroy, logout, caught),
    )
}
ENDS = ["end", "destroy", "logout"]
each_end = pytest.mark.parametrize("how", ENDS)
ROUTES = [("/lazy/(.*)", Lazy), ("/(.*)", Acts)]
PREFIXES = pytest.mark.parametrize("prefix", ["/", "/lazy/"])


async def presented(site, session_id=None):
    headers = carrying(session_id) if session_id is not None else {}
    return (await site.get("/tell", headers=headers)).json()


# What the request presented.


@pytest.mark.gen_test
async def test_nothing_or_a_session(serve):
    """Without an id; with that of a session that lives."""
    site = serve(ROUTES)
    assert await presented(site) == {"presented": "none", "exists": False, "data": {}}
    told = await presented(site, await site.new(a=1))
    assert told == {"presented": "live", "exists": True, "data": {"a": 1}}


@pytest.mark.gen_test
async def test_an_unknown_id(serve):
    """Nobody has heard of it."""
    told = await presented(serve(ROUTES), new_id())
    assert told == {"presented": "unknown", "exists": False, "data": {}}


@pytest.mark.gen_test
async def test_an_expired_session(serve, clock):
    """For five minutes after its end; then nobody knows it any more."""
    site = serve(ROUTES)
    session_id = await site.new(a=1)
    clock.advance(1.1 * DAY + 1)
    told = await presented(site, session_id)
    assert told == {"presented": "expired", "exists": False, "data": {}}
    clock.advance(290)
    assert (await presented(site, session_id))["presented"] == "expired"
    clock.advance(20)
    assert (await presented(site, session_id))["presented"] == "unknown"


@pytest.mark.gen_test
async def test_an_expired_session_stays_dead(serve, clock):
    """It can be read as expired, and nothing else can be done with it."""
    site = serve([("/write", Writes), *ROUTES])
    session_id = await site.new(a=1)
    clock.advance(1.1 * DAY + 1)
    response = await site.get("/write", headers=carrying(session_id))
    cookie = session_cookie(response)
    assert cookie.value != session_id
    assert await site.data(cookie.value) == {"b": 1}
    assert not await site.is_alive(session_id)


class Writes(SessionMixin, RequestHandler):
    def get(self):
        self.session["b"] = 1


@pytest.mark.gen_test
@pytest.mark.parametrize("how", [*ENDS, "login", "regenerate"])
async def test_an_ended_session(serve, clock, how):
    """For a minute; then nobody knows it any more."""
    site = serve(ROUTES)
    session_id = await site.new(a=1)
    await site.get(f"/{how}", headers=carrying(session_id))
    told = await presented(site, session_id)
    assert told == {"presented": "ended", "exists": False, "data": {}}
    clock.advance(61)
    assert (await presented(site, session_id))["presented"] == "unknown"


@pytest.mark.gen_test
async def test_a_refused_session(serve):
    """`validate` said no."""
    site = serve(ROUTES, session={"validate": lambda handler, session: False})
    told = await presented(site, await site.new(a=1))
    assert told == {"presented": "refused", "exists": False, "data": {}}


@pytest.mark.gen_test
async def test_a_login_alone_exists(serve):
    """Without data, `if session` is false, and `exists` is true."""
    site = serve(ROUTES)
    told = await presented(site, await site.login("ann"))
    assert told == {"presented": "live", "exists": True, "data": {}}


class Watches(SessionMixin, RequestHandler):
    async def get(self):
        session = self.session
        seen = [session.exists]
        session["a"] = 1
        seen.append(session.exists)
        await session.save()
        seen.append(session.exists)
        await session.destroy()
        seen.append(session.exists)
        self.write({"seen": seen})


@pytest.mark.gen_test
async def test_exists_follows_the_store(serve):
    """True from the first save to the end."""
    response = await serve(Watches).get()
    assert response.json() == {"seen": [False, False, True, False]}


# Logouts of sessions that do not count.


@pytest.mark.gen_test
@PREFIXES
@each_end
async def test_a_refused_session_is_ended(serve, how, prefix):
    """And its cookie goes: where the address is right again, it is dead."""
    allows = False
    site = serve(ROUTES, session={"validate": lambda handler, session: allows})
    session_id = await site.new(a=1)
    response = await site.get(f"{prefix}{how}", headers=carrying(session_id))
    assert response.status == 200
    assert is_cleared(response)
    allows = True
    assert not await site.is_alive(session_id)
    assert (await presented(site, session_id))["data"] == {}


@pytest.mark.gen_test
@PREFIXES
@each_end
async def test_a_dead_or_unknown_one_costs_its_cookie(serve, how, prefix):
    """The user wants to be logged out, and is."""
    site = serve(ROUTES)
    dead = await site.new(a=1)
    await site.manager.destroy(dead)
    for session_id in (dead, new_id()):
        response = await site.get(f"{prefix}{how}", headers=carrying(session_id))
        assert response.status == 200
        assert is_cleared(response)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("on_error", "prefix"),
    [("degrade", "/"), ("degrade", "/lazy/"), ("raise", "/lazy/")],
)
@each_end
async def test_a_logout_in_an_outage_is_kept(serve, store, how, prefix, on_error):
    """503, the cookie is cleared, and the session ends when the store is back."""
    site = serve(ROUTES, session={"on_error": on_error})
    session_id = await site.new(a=1)
    store.is_down = True
    response = await site.get(f"{prefix}{how}", headers=carrying(session_id))
    assert response.status == 503
    assert response.header("Retry-After")
    assert is_cleared(response)
    assert site.manager.stats()["pending_destroys"] == 1
    store.up()
    await ended(site, session_id)
    assert site.manager.stats()["pending_destroys"] == 0


async def ended(site, session_id):
    """Wait until a kept logout was done."""

    async def is_done():
        pending = site.manager.stats()["pending_destroys"]
        return not pending and not await site.is_alive(session_id)

    await until(is_done)


@pytest.mark.gen_test
@PREFIXES
async def test_a_logout_that_the_handler_thinks_failed_is_kept(serve, store, prefix):
    """It catches StoreUnavailable: the cookie goes, and the session ends later."""
    site = serve(ROUTES, session={"on_error": "degrade"})
    session_id = await site.new(a=1)
    store.is_down = True
    response = await site.get(f"{prefix}caught", headers=carrying(session_id))
    assert is_cleared(response)
    assert site.manager.stats()["pending_destroys"] == 1
    store.up()
    await ended(site, session_id)


@pytest.mark.integration
@pytest.mark.gen_test
@each_end
async def test_a_logout_while_memcached_hangs_is_kept(serve, own_memcached, how):
    """An eager handler that degrades; the node's events bring the end."""
    store = MemcachedStore(f"127.0.0.1:{own_memcached.port}", timeout=0.2)
    site = serve(ROUTES, session={"store": store, "on_error": "degrade"})
    session_id = await site.new(a=1)
    own_memcached.stop()
    response = await site.get(f"/{how}", headers=carrying(session_id))
    assert response.status == 503
    assert is_cleared(response)
    assert site.manager.stats()["pending_destroys"] == 1
    own_memcached.cont()
    await ended(site, session_id)
    await site.manager.close()


@pytest.mark.gen_test
async def test_a_kept_logout_ends_what_the_id_leads_to(serve, store):
    """Another request gave it a new id meanwhile, with grace for the old one."""
    site = serve(ROUTES, session={"on_error": "degrade"})
    old = await site.new(a=1)
    store.is_down = True
    assert (await site.get("/end", headers=carrying(old))).status == 503
    store.is_down = False
    response = await site.get("/regenerate_with_grace", headers=carrying(old))
    cookie = session_cookie(response)
    await ended(site, old)
    if cookie is not None and cookie.value:
        await ended(site, cookie.value)


# Logouts with an id that was replaced.


@pytest.mark.gen_test
@PREFIXES
@each_end
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("by", ["regenerate", "regenerate_with_grace"])
async def test_a_replaced_id_ends_the_same_login(serve, how, prefix, times, by):
    """Tab A got a new id; tab B logs out with the older one."""
    site = serve(ROUTES)
    old = session_id = await site.login("ann")
    for _ in range(times):
        response = await site.get(f"/{by}", headers=carrying(session_id))
        session_id = session_cookie(response).value
    response = await site.get(f"{prefix}{how}", headers=carrying(old))
    assert response.status == 200
    assert is_cleared(response)
    assert not await site.is_alive(session_id)


@pytest.mark.gen_test
@PREFIXES
@each_end
async def test_a_second_login_of_the_same_user_is_the_same(serve, how, prefix):
    """Whoever holds the older id is that user."""
    site = serve(ROUTES)
    old = await site.login("ann")
    response = await site.get("/login?who=ann", headers=carrying(old))
    new = session_cookie(response).value
    response = await site.get(f"{prefix}{how}", headers=carrying(old))
    assert response.status == 200
    assert is_cleared(response)
    assert not await site.is_alive(new)


@pytest.mark.gen_test
@PREFIXES
@each_end
@pytest.mark.parametrize("before", ["bob", None])
async def test_another_login_is_not_ended_by_an_older_id(
    serve, how, prefix, before, logged
):
    """Whoever planted the older id must not end it: 409, a line, a counter."""
    site = serve(ROUTES)
    old = await site.login(before) if before else await site.new(a=1)
    response = await site.get("/login?who=ann", headers=carrying(old))
    new = session_cookie(response).value
    response = await site.get(f"{prefix}{how}", headers=carrying(old))
    assert response.status == 409
    if how == "end":
        assert response.body == b"page of SessionGone"
    assert session_cookie(response) is None
    assert await site.is_alive(new)
    assert site.manager.stats()["refused_ends"] == 1
    told = [
        message
        for message in logged(logging.INFO) + logged(logging.WARNING)
        if "log" in message.lower() or "end" in message.lower()
    ]
    assert told


@pytest.mark.gen_test
@PREFIXES
async def test_a_refused_end_may_be_caught(serve, prefix):
    """The response is the handler's; the cookie is untouched."""
    site = serve(ROUTES)
    old = await site.new(a=1)
    response = await site.get("/login?who=ann", headers=carrying(old))
    new = session_cookie(response).value
    response = await site.get(f"{prefix}caught", headers=carrying(old))
    assert (response.status, response.body) == (200, b"caught")
    assert session_cookie(response) is None
    assert await site.is_alive(new)
    assert site.manager.stats()["refused_ends"] == 1


@pytest.mark.gen_test
@each_end
async def test_a_session_that_was_ended_already_is_no_error(serve, how):
    """Both tabs log out: both are logged out."""
    site = serve(ROUTES)
    session_id = await site.login("ann")
    for _ in range(2):
        response = await site.get(f"/{how}", headers=carrying(session_id))
        assert response.status == 200
        assert is_cleared(response)
    assert site.manager.stats()["refused_ends"] == 0
