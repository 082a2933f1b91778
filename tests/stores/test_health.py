"""Whether the nodes answer, for a readiness endpoint."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from tornado_mcsession import (
    MemcachedStore,
    MemoryStore,
    SessionManager,
)
from tornado_mcsession.testing.contract import TTL

pytestmark = pytest.mark.gen_test(timeout=60)


async def test_a_store_without_nodes_is_well():
    """What is in the process cannot be away."""
    async with SessionManager(store=MemoryStore()) as manager:
        assert await manager.health() == {"status": "ok", "nodes": {}}


@pytest.mark.integration
async def test_each_node_is_asked(memcached, own_memcached):
    """All answer: ok. Some do: degraded. None does: down."""
    store = MemcachedStore([memcached.server, own_memcached.server])
    here = f"127.0.0.1:{memcached.port}"
    there = f"127.0.0.1:{own_memcached.port}"
    async with SessionManager(store=store) as manager:
        health = await manager.health()
        assert health["status"] == "ok"
        assert list(health["nodes"]) == [here, there]
        for node in health["nodes"].values():
            assert node["ok"] is True
            assert 0 < node["seconds"] < 5
        own_memcached.kill()
        health = await manager.health()
        assert health["status"] == "degraded"
        assert health["nodes"][here]["ok"] is True
        assert health["nodes"][there] == {
            "ok": False,
            "error": "connection failed (ConnectionRefusedError)",
        }
    store = MemcachedStore([own_memcached.server])
    async with SessionManager(store=store) as manager:
        assert (await manager.health())["status"] == "down"


@pytest.mark.integration
async def test_a_check_finds_a_node_that_is_back(own_memcached, connect):
    """It asks also while the breaker is open, and so closes it."""
    store = connect(own_memcached.url + "?timeout=10")
    (name,) = store.stats()["nodes"]
    own_memcached.kill()
    for _ in range(5):
        assert not (await store.health())[name]["ok"]
    assert store.stats()["nodes"][name]["breaker"] == "open"
    own_memcached.start()
    assert (await store.health())[name]["ok"]
    assert await store.add("key", b"1", TTL)


@pytest.mark.integration
async def test_a_check_ends_in_time(own_memcached, connect):
    """A node that hangs is told when an operation's time is over."""
    store = connect(own_memcached.url + "?timeout=0.2")
    own_memcached.stop()
    async with asyncio.timeout(5):
        (node,) = (await store.health()).values()
    assert not node["ok"]
    # The thread that asks, or the loop that waits for it: whichever is first.
    assert node["error"] in ("no answer in time", "no answer within 0.2 s")


@pytest.mark.integration
async def test_a_check_leaves_almost_nothing_behind(memcached, connect):
    """An item of no bytes is stored and removed; many checks leave no more."""
    store = connect(memcached.url)
    for _ in range(5):
        assert all(node["ok"] for node in (await store.health()).values())
    assert memcached.keys() == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["-C"], "cas is disabled"), (["-M", "-m", "2"], "out of memory")],
    ids=["no cas", "full"],
)
async def test_a_node_that_keeps_no_session_is_not_well(
    memcached_factory, connect, arguments, reason
):
    """Though it answers."""
    server = memcached_factory(*arguments)
    store = connect(server.url)
    # To the last byte, with items as large as the check's own.
    added = [True]
    while all(outcome is True for outcome in added) and reason == "out of memory":
        added = await asyncio.gather(
            *(store.add(secrets.token_hex(17), b"", TTL) for _ in range(500)),
            return_exceptions=True,
        )
    (node,) = (await store.health()).values()
    assert node["ok"] is False
    assert reason in node["error"]


@pytest.mark.integration
async def test_a_closed_store_is_not_well(memcached):
    """Nor does a check raise."""
    store = MemcachedStore([memcached.server])
    await store.close()
    (node,) = (await store.health()).values()
    assert node == {"ok": False, "error": "the store is closed"}
