"""Requests that wait for memcached, whose write may have been done, and the end."""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession import SessionManager, StoreUnavailable
from tornado_mcsession import manager as manager_module

from ..support.remote import comes, post, started, until
from .test_outages import Breaking

pytestmark = [pytest.mark.integration, pytest.mark.gen_test(timeout=60)]

ID = "a" * 43


@pytest.fixture
def start(io_loop):
    yield from started(io_loop)


@pytest.mark.parametrize(
    ("act", "command", "is_done"),
    [
        ("begin?owner=bob", b"add", False),
        ("login", b"add", False),
        ("regenerate", b"add", False),
        ("logout", b"cas", False),
        ("logout", b"cas", True),
        ("destroy", b"cas", True),
    ],
)
async def test_a_write_whose_answer_is_lost_is_waited_for(
    start, memcached, act, command, is_done
):
    """With reconnect_timeout it is looked for when the node is back, and finished."""
    with Breaking(memcached.port, command, 1, is_done=is_done) as proxy:
        site = start(f"{proxy.url}/?timeout=5&reconnect_timeout=30&threads=1")
        browser = site.browser() if "begin" in act else await site.user("bob")
        away = asyncio.create_task(comes(site.outage()))
        proxy.is_armed = True
        asking = asyncio.create_task(post(browser, act))
        await asyncio.wait([asking, away], return_when="FIRST_COMPLETED")
        away.cancel()
        proxy.pass_through()
        assert (await asking).status == 200


async def test_close_leaves_no_save_behind(start, own_memcached, monkeypatch):
    """One that waits for its node fails with the store, before close() returns."""
    monkeypatch.setattr(manager_module, "DRAIN_TIMEOUT", 0.1)
    site = start(own_memcached.url + "/?timeout=1&reconnect_timeout=60")
    browser = await site.user("bob")
    halt = site.halt()
    asking = asyncio.create_task(post(browser, "write_it"))
    await comes(halt.reached)
    own_memcached.kill()
    halt.go_on.set()
    await until(lambda: site.node()["waiting"])
    await site.manager.close()
    assert site.manager.stats()["running_saves"] == 0
    assert (await asking).status == 503


async def test_closed_is_said_also_where_the_node_is_away(own_memcached):
    """Whatever the breaker thinks."""
    manager = SessionManager(store=own_memcached.url + "/?timeout=5")
    own_memcached.kill()
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await manager.get(ID)
    await manager.close()
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        await manager.get(ID)


async def test_a_logout_after_the_end_is_not_kept(own_memcached, caplog):
    """Nobody would finish it: no timer is left behind, and the log says so."""
    manager = SessionManager(store=own_memcached.url + "/?timeout=5")
    await manager.set(ID, {"a": 1})
    await manager.close()
    with pytest.raises(StoreUnavailable):
        await manager.destroy(ID)
    assert manager.stats()["pending_destroys"] == 0
    assert "logout after close()" in caplog.text
