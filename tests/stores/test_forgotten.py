"""Connections that a firewall has forgotten: what is sent on them is swallowed.

How long a connection may be idle is a number inside of the package, which is changed
where a test cannot wait for a minute.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from tornado_mcsession import (
    CasResult,
    SessionManager,
    SessionMixin,
    StoreUnavailable,
)
from tornado_mcsession.stores.memcached import node
from tornado_mcsession.testing.contract import OPERATIONS, TTL

from .recording import ForgettingProxy

pytestmark = [pytest.mark.integration, pytest.mark.gen_test(timeout=60)]

TIMEOUT = 1.5


@pytest.fixture
def firewall(memcached):
    """A firewall in front of ``memcached``."""
    with ForgettingProxy(memcached.port) as proxy:
        yield proxy


@pytest.fixture
def store(firewall, connect):
    """A store behind the firewall, of whose nodes no event may come."""
    store = connect(f"{firewall.url}?timeout={TIMEOUT}")
    lost = []
    store.on_disconnect(lost.append)
    yield store
    assert lost == []
    (state,) = store.stats()["nodes"].values()
    assert state["breaker"] == "closed"


async def use_both(store):
    """Let both of the node's threads have a connection."""
    for _ in range(5):
        await asyncio.gather(*(_later(store, n) for n in range(8)))


async def _later(store, number):
    await asyncio.sleep(0.0005 * number)
    await store.get(f"warm{number}")


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_each_operation_goes_on(firewall, store, operation):
    """It is asked again on a new connection, long before its time is over."""
    await use_both(store)
    firewall.forget()
    began = time.monotonic()
    asked = OPERATIONS[operation](store, "key")
    (outcome,) = await asyncio.gather(asked, return_exceptions=True)
    if operation == "cas":
        # That nothing is there may be since the first try, if that was done.
        assert isinstance(outcome, StoreUnavailable)
        assert outcome.outcome_unknown
    else:
        assert not isinstance(outcome, Exception)
    assert time.monotonic() - began < TIMEOUT * 0.9


async def test_writes_do_what_they_say(firewall, store, memcached):
    """What was swallowed is not taken for done."""
    await use_both(store)
    firewall.forget()
    assert await store.add("key", b"1", TTL)
    await use_both(store)
    token = (await store.get("key")).token
    firewall.forget()
    assert await store.cas("key", b"2", TTL, token) is CasResult.STORED
    assert memcached.get("key") == b"2"
    await use_both(store)
    firewall.forget()
    assert await store.delete("key")
    assert memcached.get("key") is None


@pytest.mark.parametrize("count", [6, 200])
async def test_many_at_once_go_on(firewall, store, count):
    """Reads, and then writes, of so many keys."""
    keys = [f"key{number}" for number in range(count)]
    await asyncio.gather(*(store.add(key, b"1", TTL) for key in keys))
    await use_both(store)
    firewall.forget()
    began = time.monotonic()
    entries = await asyncio.gather(*map(store.get, keys))
    results = await asyncio.gather(
        *(
            store.cas(key, b"2", TTL, entry.token)
            for key, entry in zip(keys, entries, strict=True)
        )
    )
    assert set(results) == {CasResult.STORED}
    assert time.monotonic() - began < TIMEOUT
    await use_both(store)
    entries = await asyncio.gather(*map(store.get, keys))
    firewall.forget()
    results = await asyncio.gather(
        *(
            store.cas(key, b"3", TTL, entry.token)
            for key, entry in zip(keys, entries, strict=True)
        )
    )
    assert set(results) == {CasResult.STORED}


async def test_one_that_is_found_out_is_the_last(firewall, store):
    """When one connection was forgotten, the others are not tried any more."""
    await use_both(store)
    firewall.forget()
    await store.get("key")
    began = time.monotonic()
    for number in range(10):
        await store.get(f"key{number}")
    assert time.monotonic() - began < TIMEOUT / 3


async def test_an_idle_connection_is_not_used(firewall, connect, monkeypatch):
    """After a minute without use it is closed, and a new one is made."""
    monkeypatch.setattr(node, "IDLE_TIMEOUT", 0.05)
    store = connect(f"{firewall.url}?timeout={TIMEOUT}")
    await store.get("key")
    assert firewall.connections == 1
    await asyncio.sleep(0.1)
    firewall.forget()
    began = time.monotonic()
    await store.get("key")
    assert time.monotonic() - began < TIMEOUT / 3
    assert firewall.connections == 2


async def test_a_slow_node_is_not_asked_twice_for_ever(proxy, connect):
    """Where new connections are as slow, it is the node: each is asked once."""
    store = connect(proxy.url + "?timeout=1&threads=1")
    await store.get("key")
    proxy.delay(0.4)  # more than a third of the time
    await store.get("key")
    before = proxy.connections
    for _ in range(3):
        await store.get("key")
    assert proxy.connections == before


# A site behind it.


class Visit(SessionMixin, RequestHandler):
    """Reads its session, and counts in it where it is told to."""

    def get(self):
        if self.get_argument("count", ""):
            self.session["n"] = self.session.get("n", 0) + 1
        self.write(str(self.session.get("n", 0)))


@pytest.fixture
def site(store, io_loop):
    """The address of a site on this store."""
    app = Application([("/", Visit)], cookie_secret="s" * 43)
    manager = SessionManager(app, store=store)
    server = HTTPServer(app)
    listener, port = bind_unused_port()
    server.add_socket(listener)
    yield f"http://127.0.0.1:{port}"
    server.stop()
    io_loop.run_sync(manager.close)


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("query", ["", "?count=1"], ids=["read", "write"])
async def test_no_visitor_sees_it(firewall, store, site, count, query):
    """One or six at once, who read or write: 200, and the session is there."""
    client = AsyncHTTPClient()

    async def visit(cookie, query):
        return await client.fetch(
            f"{site}/{query}", headers={"Cookie": cookie}, raise_error=False
        )

    begun = [await visit("", "?count=1") for _ in range(count)]
    cookies = [each.headers["Set-Cookie"].partition(";")[0] for each in begun]
    await use_both(store)
    firewall.forget()
    answers = await asyncio.gather(*(visit(cookie, query) for cookie in cookies))
    assert [answer.code for answer in answers] == [200] * count
    expected = b"2" if query else b"1"
    assert {answer.body for answer in answers} == {expected}


@pytest.mark.parametrize("count", [1, 6])
async def test_no_new_visitor_sees_it(firewall, store, site, count):
    """Nor those whose first session is what is asked first."""
    client = AsyncHTTPClient()
    await use_both(store)
    firewall.forget()
    answers = await asyncio.gather(
        *(client.fetch(f"{site}/?count=1", raise_error=False) for _ in range(count))
    )
    assert [answer.code for answer in answers] == [200] * count
