"""FaultyStore: what fails, when, and what an application makes of it."""

from __future__ import annotations

import asyncio
import time

import pytest
from tornado.web import Application, RequestHandler

from tornado_mcsession import (
    CasResult,
    MemcachedStore,
    MemoryStore,
    SessionMixin,
    StoreRejected,
    StoreUnavailable,
)
from tornado_mcsession.testing import FaultyStore, SessionClient

CALLS = {
    "get": lambda store: store.get("key"),
    "get_many": lambda store: store.get_many(["key"]),
    "add": lambda store: store.add("new", b"1", 100),
    "cas": lambda store: store.cas("key", b"2", 100, store.token),
    "touch": lambda store: store.touch("key", 100),
    "delete": lambda store: store.delete("key"),
}
GOOD = {"add": True, "cas": CasResult.STORED, "touch": True, "delete": True}


async def filled() -> FaultyStore:
    """A store with something under "key"."""
    store = FaultyStore()
    await store.add("key", b"1", 100)
    store.token = (await store.get("key")).token
    store.calls.clear()
    return store


def named(operation: str) -> str:
    return "get" if operation == "get_many" else operation


@pytest.mark.gen_test
@pytest.mark.parametrize("operation", CALLS)
async def test_a_call_fails_with_nothing_done(operation):
    """Once, and what it asked for was not done."""
    store = await filled()
    store.fail(named(operation))
    with pytest.raises(StoreUnavailable) as raised:
        await CALLS[operation](store)
    assert not raised.value.outcome_unknown
    assert raised.value.operation == named(operation)
    assert (await store.inner.get("key")).data == b"1"
    assert await store.inner.get("new") is None
    result = await CALLS[operation](store)
    if operation in GOOD:
        assert result is GOOD[operation]
    assert store.calls == [named(operation)] * 2


@pytest.mark.gen_test
@pytest.mark.parametrize("operation", CALLS)
async def test_a_response_is_lost_when_it_was_done(operation):
    """The call raises that nobody knows, and the inner store knows."""
    store = await filled()
    store.lose(named(operation))
    with pytest.raises(StoreUnavailable) as raised:
        await CALLS[operation](store)
    assert raised.value.outcome_unknown
    entry = await store.inner.get("key")
    data = None if entry is None else entry.data
    assert data == {"cas": b"2", "delete": None}.get(operation, b"1")
    assert (await store.inner.get("new") is not None) == (operation == "add")


@pytest.mark.gen_test
async def test_an_error_may_be_another_one():
    """A server may refuse, too."""
    store = FaultyStore()
    error = StoreRejected("add", "", "out of memory")
    store.fail("add", error=error)
    with pytest.raises(StoreRejected) as raised:
        await store.add("key", b"1", 100)
    assert raised.value is error


async def outcomes(store, *operations) -> str:
    """How calls end: "." or, of those that fail, "F"."""
    said = ""
    for operation in operations:
        try:
            await CALLS[operation](store)
            said += "."
        except StoreUnavailable:
            said += "F"
    return said


@pytest.mark.gen_test
async def test_calls_are_counted():
    """The n-th call from now, some calls, or all until the test ends it."""
    store = await filled()
    store.fail("get", skip=2)
    assert await outcomes(store, *["get"] * 4) == "..F."
    store.fail("get", skip=1, times=2)
    assert await outcomes(store, *["get"] * 5) == ".FF.."
    store.fail("get", times=None)
    assert await outcomes(store, *["get", "touch"] * 3) == "F.F.F."
    store.up()
    assert await outcomes(store, "get", "touch") == ".."
    store.fail()
    assert await outcomes(store, "touch", "get") == "F."
    store.fail("add", "touch", times=2)
    assert await outcomes(store, "get", "touch", "add", "get", "touch") == ".FF.."


@pytest.mark.gen_test
async def test_faults_come_one_after_another():
    """Each takes a call of its own, though all of them count it."""
    store = await filled()
    store.fail("get")
    store.fail("get")
    store.lose("touch", skip=1)
    store.fail("touch")
    assert await outcomes(store, *["get"] * 3, *["touch"] * 3) == "FF.FF."


@pytest.mark.gen_test
async def test_a_call_may_be_slow_and_fail():
    """It waits, and raises then."""
    store = await filled()
    store.delay(0.05, "get")
    store.fail("get")
    start = time.monotonic()
    assert await outcomes(store, "get") == "F"
    assert time.monotonic() - start >= 0.05
    start = time.monotonic()
    assert await outcomes(store, *["get"] * 10) == "." * 10
    assert time.monotonic() - start < 0.05


@pytest.mark.gen_test
async def test_what_is_held_goes_on_when_it_is_released():
    """Calls wait until then, and later ones pass; other faults have their turn."""
    store = await filled()
    held = store.hold("get", times=None)
    waiting = [asyncio.ensure_future(store.get("key")) for _ in range(2)]
    assert await held.reached() in waiting
    await store.touch("key", 100)
    assert not any(task.done() for task in waiting)
    held.release()
    assert [entry.data for entry in await asyncio.gather(*waiting)] == [b"1", b"1"]
    assert held.is_released
    store.hold("get").release()
    store.fail("get")
    assert await outcomes(store, "get", "get") == "F."


@pytest.mark.gen_test
async def test_up_releases_what_is_held():
    """No call waits for a test that has ended its faults."""
    store = await filled()
    held = store.hold("get")
    waiting = asyncio.ensure_future(store.get("key"))
    await held.reached()
    later = store.hold("get")
    store.up()
    # The first took its one call, and is no fault to come any more.
    held.release()
    assert (await waiting).data == b"1"
    assert later.is_released


@pytest.mark.gen_test
async def test_an_outage_is_told():
    """Every call fails; callbacks hear of its beginning and its end, once."""
    store = await filled()
    told = []
    store.on_disconnect(lambda node: told.append(("down", node)))
    store.on_connect(lambda node: told.append(("up", node)))
    store.up()
    assert told == []
    store.down()
    assert store.is_down
    assert await outcomes(store, *CALLS) == "FFFFFF"
    assert [node["ok"] for node in (await store.health()).values()] == [False]
    store.up()
    assert await outcomes(store, *CALLS) == "......"
    assert told == [("down", "faulty"), ("up", "faulty")]
    assert await store.health() == {}


@pytest.mark.gen_test
@pytest.mark.integration
async def test_it_shows_the_store_in_it(memcached):
    """Its nodes, figures and times are those of the inner store."""
    inner = MemcachedStore.from_url(memcached.url + "?timeout=5&reconnect_timeout=3")
    store = FaultyStore(inner)
    assert (store.timeout, store.reconnect_timeout) == (5, 3)
    assert FaultyStore(inner, timeout=7).timeout == 7
    assert store.node_of("key") == inner.node_of("key") != ""
    assert store.stats() == inner.stats()
    (node,) = await store.health()
    store.down()
    assert (await store.health())[node]["ok"] is False
    store.up()
    store.stop_waiting()
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.get("key")


def test_wrong_arguments_are_refused():
    """A misspelt fault must not be one that never comes."""
    store = FaultyStore()
    with pytest.raises(ValueError, match="did you mean 'get'"):
        store.fail("gets")
    with pytest.raises(ValueError, match="times"):
        store.lose("get", times=0)
    with pytest.raises(ValueError, match="skip"):
        store.hold("get", skip=-1)


# In an application.


class Count(SessionMixin, RequestHandler):
    def get(self):
        self.session["n"] = self.session.get("n", 0) + 1
        self.write(str(self.session["n"]))


class Logout(SessionMixin, RequestHandler):
    session_load = "lazy"

    def post(self):
        self.session = None


def client_of(store, **session) -> SessionClient:
    settings = {"store": store, **session}
    routes = [("/", Count), ("/logout", Logout)]
    return SessionClient(Application(routes, cookie_secret="s", session=settings))


@pytest.mark.gen_test
@pytest.mark.parametrize("principal", [None, "ann"])
async def test_an_application_sees_its_store_fail(principal):
    """A load that fails is a 503; a lost response is made good by a second look."""
    store = FaultyStore()
    async with client_of(store) as client:
        await client.begin({"n": 1}, principal=principal)
        store.fail("get")
        assert (await client.fetch("/")).code == 503
        store.lose("cas")
        assert (await client.fetch("/")).body == b"2"
        assert await client.session() == {"n": 2}
        store.fail("cas", times=None)
        assert (await client.fetch("/")).code == 503
        store.up()
        assert (await client.fetch("/")).body == b"3"


@pytest.mark.gen_test
async def test_what_is_too_slow_is_unavailable():
    """The manager waits for ``timeout`` seconds, as for a server."""
    store = FaultyStore(timeout=0.05)
    async with client_of(store) as client:
        await client.begin({"n": 1})
        store.delay(5, "get")
        start = time.monotonic()
        assert (await client.fetch("/")).code == 503
        assert time.monotonic() - start < 4
        held = store.hold("get")
        assert (await client.fetch("/")).code == 503
        assert not held.is_released


@pytest.mark.gen_test
async def test_a_logout_is_finished_when_the_store_is_back():
    """The manager hears of it, and the session has ended."""
    store = FaultyStore(MemoryStore())
    async with client_of(store) as client:
        await client.begin({"n": 1})
        kept = dict(client.cookies)
        store.down()
        assert (await client.fetch("/logout", method="POST", body="")).code == 503
        client.cookies.update(kept)
        store.up()
        async with asyncio.timeout(10):
            while await client.session() is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
