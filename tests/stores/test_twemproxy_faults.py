"""MemcachedStore through twemproxy, when it or a memcached behind it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tornado_mcsession import (
    CasResult,
    MemcachedStore,
    SessionManager,
    StoreUnavailable,
)
from tornado_mcsession.testing.contract import OPERATIONS, TTL

from ..support.requests import begin, visit
from .test_twemproxy import KEYS, fill

pytestmark = [pytest.mark.integration, pytest.mark.gen_test]

# How long twemproxy waits for a server that hangs, in milliseconds; on a busy machine
# one that does not hang may take 50.
SHORT = "250"


@pytest.fixture
def store(twemproxy, connect):
    """A patient client of ``twemproxy``."""
    return connect(twemproxy.url + "?timeout=10")


async def outcomes(store: MemcachedStore, keys: list[str]) -> list[object]:
    """What gets of one turn of the loop, and so of one command, come to."""
    return await asyncio.gather(*map(store.get, keys), return_exceptions=True)


def state(store: MemcachedStore) -> tuple[bool, str]:
    """Whether the store takes its one node as connected, and its breaker."""
    (node,) = store.stats()["nodes"].values()
    return node["connected"], node["breaker"]


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what nobody tells of."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_dead_server_is_an_outage_of_its_own_keys(store, servers, operation):
    """What a dead server held cannot be told; what the other one holds is answered."""
    await fill(store)
    lost, kept = (server.keys() for server in servers)
    servers[0].kill()
    for key in lost:
        with pytest.raises(StoreUnavailable):
            await OPERATIONS[operation](store, key)
    for key in kept:
        await OPERATIONS[operation](store, key)
    assert state(store) == (True, "closed")


async def test_a_dead_server_spoils_no_neighbours_answer(store, servers):
    """Where one command asks both servers, those that are there are still found."""
    await fill(store)
    lost, kept = (server.keys() for server in servers)
    servers[0].kill()
    for _ in range(5):
        answers = dict(zip(KEYS, await outcomes(store, KEYS), strict=True))
        assert all(isinstance(answers[key], StoreUnavailable) for key in lost)
        assert all(answers[key].data == b"1" for key in kept)
    assert state(store) == (True, "closed")


async def test_a_server_that_comes_back_is_used_at_once(store, servers):
    """When a server was restarted, its keys are free again, and the others stay."""
    await fill(store)
    lost, kept = (server.keys() for server in servers)
    servers[0].restart()
    assert sorted(await store.get_many(KEYS)) == kept
    servers[0].kill()
    for key in lost:
        with pytest.raises(StoreUnavailable):
            await store.add(key, b"2", TTL)
    servers[0].start()
    assert all([await store.add(key, b"2", TTL) for key in lost])


async def test_a_hanging_server_spoils_no_neighbours_answer(
    twemproxy_factory, servers, connect
):
    """When twemproxy gives a server up in time, its neighbours are still answered."""
    proxy = twemproxy_factory(servers, timeout=SHORT)
    store = connect(proxy.url + "?timeout=10")
    await fill(store)
    hung, kept = (server.keys() for server in servers)
    servers[0].stop()
    answers = dict(zip(KEYS, await outcomes(store, KEYS), strict=True))
    assert all(isinstance(answers[key], StoreUnavailable) for key in hung)
    assert all(answers[key].data == b"1" for key in kept)
    with pytest.raises(StoreUnavailable) as raised:
        await store.touch(hung[0], TTL)
    assert raised.value.outcome_unknown
    assert state(store) == (True, "closed")
    servers[0].cont()
    assert len(await store.get_many(KEYS)) == len(KEYS)


async def test_a_proxy_that_waits_too_long_spreads_the_trouble(
    twemproxy_factory, servers, connect
):
    """Without twemproxy's own timeout, one hanging server stops the whole node."""
    proxy = twemproxy_factory(servers, timeout=None)
    await fill(connect(proxy.url + "?timeout=10"))
    store = connect(proxy.url + "?timeout=0.5")
    hung, kept = (server.keys() for server in servers)
    servers[0].stop()
    for key in (hung * 3)[:3]:
        with pytest.raises(StoreUnavailable):
            await store.get(key)
    await until(lambda: state(store) == (False, "open"))
    with pytest.raises(StoreUnavailable):
        await store.get(kept[0])


async def test_ejecting_a_server_takes_an_outage_for_a_logout(
    twemproxy_factory, servers, connect
):
    """With auto_eject_hosts, sessions seem to end, and one that ended comes back."""
    proxy = twemproxy_factory(
        servers,
        auto_eject_hosts="true",
        server_failure_limit="1",
        server_retry_timeout="1500",
        timeout=SHORT,
    )
    store = connect(proxy.url + "?timeout=10")
    await fill(store)
    key, *_ = servers[0].keys()
    servers[0].stop()
    with pytest.raises(StoreUnavailable):
        await store.get(key)
    assert await store.get(key) is None  # the other server was asked
    assert await store.delete(key) is False  # a logout, it seems
    servers[0].cont()
    async with asyncio.timeout(10):
        while await store.get(key) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await store.get(key)).data == b"1"


async def test_a_proxy_that_comes_back_is_used_at_once(store, twemproxy):
    """After a restart of twemproxy the first operation of each kind works."""
    for operation in OPERATIONS.values():
        await store.add("key", b"1", TTL)
        twemproxy.restart()
        await operation(store, "key")


async def test_no_stale_connection_to_a_proxy_is_seen(twemproxy, connect):
    """When twemproxy was restarted, none of several connections costs an error."""
    store = connect(twemproxy.url + "?timeout=10&threads=4")
    await fill(store)
    await asyncio.gather(*(store.touch(key, TTL) for key in KEYS * 30))
    twemproxy.restart()
    answers = await asyncio.gather(*(store.touch(key, TTL) for key in KEYS * 30))
    assert all(answers)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_proxy_that_is_gone_is_an_outage(
    twemproxy, servers, connect, operation
):
    """A twemproxy that hangs or is dead is told in time, and is never a miss."""
    await fill(connect(twemproxy.url + "?timeout=10"))
    store = connect(twemproxy.url + "?timeout=0.3")
    twemproxy.stop()
    start = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await OPERATIONS[operation](store, KEYS[0])
    twemproxy.kill()
    with pytest.raises(StoreUnavailable) as raised:
        await OPERATIONS[operation](store, KEYS[0])
    assert time.monotonic() - start < 2
    assert not raised.value.outcome_unknown
    assert sum(len(server.keys()) for server in servers) >= len(KEYS) - 1


async def test_a_late_answer_of_a_server_reaches_nobody(
    twemproxy_factory, servers, connect
):
    """What a server says after twemproxy gave it up is not another key's answer."""
    proxy = twemproxy_factory(servers, timeout=SHORT)
    store = connect(proxy.url + "?timeout=10")
    await fill(store)
    hung = servers[0].keys()
    token = (await store.get(hung[0])).token
    servers[0].stop()
    late = [store.cas(key, b"2", TTL, token) for key in hung]
    results = await asyncio.gather(*late, return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    servers[0].cont()
    assert await store.cas(hung[0], b"3", TTL, b"999") is CasResult.CONFLICT
    assert await store.get("nothing") is None
    assert {entry.data for entry in (await store.get_many(KEYS)).values()} <= {
        b"1",
        b"2",
    }


async def test_health_is_that_of_one_server_behind(store, servers):
    """A proxy is one node: its health is that of the server its probe falls to."""
    manager = SessionManager(store=store)
    assert (await manager.health())["status"] == "ok"
    told = []
    for server in servers:
        server.kill()
        told.append((await manager.health())["status"])
        server.start()
    assert sorted(told) == ["down", "ok"]


async def test_a_logout_is_finished_when_its_server_is_back(store, servers):
    """A logout that a dead server could not confirm is tried again until it does."""
    manager = SessionManager(store=store)
    session_id = await begin(manager, a=1)
    ended = await visit(manager, session_id)
    (holder,) = (server for server in servers if server.keys())
    holder.kill()
    with pytest.raises(StoreUnavailable):
        await ended.session.destroy()
    assert manager.stats()["pending_destroys"] == 1
    holder.start()
    await until(lambda: manager.stats()["pending_destroys"] == 0)
    await manager.close()
