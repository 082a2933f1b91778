"""Nodes that come and go, and logouts that wait for them."""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession import MemoryStore, SessionManager

from ..support.requests import begin, data_of, visit
from ..support.scripted import ScriptedStore, down

ID = "a-session-id-of-forty-three-characters-0123"


class EventfulStore(ScriptedStore):
    def __init__(self):
        super().__init__(MemoryStore())
        self.connected, self.disconnected = [], []

    def on_connect(self, callback):
        self.connected.append(callback)

    def on_disconnect(self, callback):
        self.disconnected.append(callback)


@pytest.mark.gen_test
async def test_a_stores_events_are_passed_on():
    """With the node's name."""
    store = EventfulStore()
    manager = SessionManager(store=store)
    seen = []
    manager.on_connect(lambda node: seen.append(("up", node)))
    manager.on_disconnect(lambda node: seen.append(("down", node)))
    for callback in store.connected:
        callback("a:1")
    for callback in store.disconnected:
        callback("b:2")
    assert seen == [("up", "a:1"), ("down", "b:2")]


@pytest.mark.integration
@pytest.mark.gen_test(timeout=60)
async def test_each_change_of_a_node_is_told_once(own_memcached, caplog):
    """However many operations see it; the log tells of the outage and its end."""
    async with SessionManager(store=own_memcached.url + "/?timeout=5") as manager:
        seen = []
        manager.on_connect(lambda node: seen.append("up"))
        manager.on_disconnect(lambda node: seen.append("down"))
        await asyncio.gather(*(manager.get(ID) for _ in range(5)))
        assert seen == ["up"]
        own_memcached.kill()
        for _ in range(2):
            with pytest.raises(Exception, match="get on"):
                await manager.get(ID)
        assert seen == ["up", "down"]
        own_memcached.start()
        await reachable(manager)
        assert seen == ["up", "down", "up"]
    host, port = own_memcached.server
    told = [r.getMessage() for r in caplog.records if "answer" in r.getMessage()]
    refused = "connection failed (ConnectionRefusedError)"
    assert told == [
        f"{host}:{port} does not answer: {refused}",
        f"{host}:{port} answers again",
    ]


async def reachable(manager):
    """Ask until the node answers again."""
    for _ in range(1000):
        try:
            await manager.get(ID)
        except Exception:
            await asyncio.sleep(0.01)
        else:
            return
    raise AssertionError("the node never came back")


# Logouts that could not be confirmed.


@pytest.mark.integration
@pytest.mark.gen_test(timeout=60)
async def test_a_logout_is_finished_when_the_node_is_back(memcached, proxy):
    """The record, which outlived the outage, is deleted then."""
    async with SessionManager(store=proxy.url) as manager:
        ids = [await begin(manager, a=n) for n in range(3)]
        late = await visit(manager, ids[0])
        proxy.cut()
        with pytest.raises(Exception, match="destroy"):
            await late.session.destroy()
        with pytest.raises(Exception, match="destroy"):
            await manager.destroy(ids[1])
        assert manager.stats()["pending_destroys"] == 2
        proxy.pass_through()
        await reachable(manager)
        assert await manager.drain(10)
        assert manager.stats()["pending_destroys"] == 0
        assert await data_of(manager, ids[2]) == {"a": 2}


@pytest.mark.gen_test
async def test_unconfirmed_logouts_are_bounded(clock):
    """None is kept longer than its session."""
    store = EventfulStore()
    manager = SessionManager(store=store, clock=clock, lifetime=100)
    store.script("get", *[down] * 30)
    for number in range(30):
        with pytest.raises(Exception, match="down"):
            await manager.destroy(f"{number:043}")
    assert manager.stats()["pending_destroys"] == 30
    clock.advance(101)
    store.calls.clear()
    for callback in store.connected:
        callback("node")
    await manager.drain()
    assert store.calls == []
    assert manager.stats()["pending_destroys"] == 0


@pytest.mark.gen_test
async def test_logouts_that_were_never_finished_are_told(clock, caplog):
    """When the manager closes, which is the end of trying."""
    store = EventfulStore()
    async with SessionManager(store=store, clock=clock) as manager:
        store.script("get", down)
        with pytest.raises(Exception, match="down"):
            await manager.destroy(ID)
    assert "logouts that were never finished: 1" in caplog.text


@pytest.mark.gen_test
async def test_a_logout_that_fails_again_is_kept(clock):
    """Until the node really answers."""
    store = EventfulStore()
    manager = SessionManager(store=store, clock=clock)
    store.script("get", down, down)
    with pytest.raises(Exception, match="down"):
        await manager.destroy(ID)
    for expected in (1, 0):
        for callback in store.connected:
            callback("node")
        await manager.drain()
        assert manager.stats()["pending_destroys"] == expected
