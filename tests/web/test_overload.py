"""More requests than memcached can answer: some are refused at once, none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import tracemalloc
from collections import Counter

import pytest

from ..support.http import RawConnection, encode_request
from ..support.remote import (
    PATIENCE,
    answers_again,
    assert_unavailable,
    comes,
    post,
    session_id,
    started,
    until,
)
from ..support.site import settle

pytestmark = [pytest.mark.integration, pytest.mark.gen_test(timeout=120)]

ROUND = 400
CONNECTIONS = 10
# What comes and goes with no request of its own (timers that were cancelled, texts that
# Python caches) is some 15 kB, here and there twice that: enough rounds, so that the
# smallest object kept for each request is more.
WARM_UPS, ROUNDS = 2, 4
NOTHING = ROUNDS * ROUND * 32


@pytest.fixture
def start(io_loop):
    yield from started(io_loop)


@pytest.fixture
def unlogged():
    """Nothing is logged: pytest would keep a line for each refused request."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def refused(site, headers, method="GET", path="/"):
    """Send a round of requests, each of which is refused."""

    async def send():
        async with await RawConnection.open(site.port) as connection:
            for _ in range(ROUND // CONNECTIONS):
                response = await connection.request(method, path, headers, b"")
                assert_unavailable(response)

    await asyncio.gather(*(send() for _ in range(CONNECTIONS)))


def own_memory():
    """The bytes in use, without what the check of the suite's logs remembers."""
    snapshot = tracemalloc.take_snapshot()
    foreign = tracemalloc.Filter(False, "*/log_check.py", all_frames=True)
    return sum(trace.size for trace in snapshot.filter_traces([foreign]).traces)


async def growth(site, headers, method="GET", path="/"):
    """The bytes that some rounds leave, after those that leave what is made once."""
    tracemalloc.start()
    try:
        sizes = []
        for _ in range(WARM_UPS + ROUNDS):
            await refused(site, headers, method, path)
            await settle()
            gc.collect()
            sizes.append(own_memory())
        return sizes[-1] - sizes[WARM_UPS - 1]
    finally:
        tracemalloc.stop()


@contextlib.asynccontextmanager
async def waiting(site, browsers):
    """Connections over which a POST of each browser was sent, and not yet answered."""
    async with contextlib.AsyncExitStack() as stack:
        connections = []
        for browser in browsers:
            connection = await RawConnection.open(site.port)
            connections.append(await stack.enter_async_context(connection))
            headers = cookie_of(browser)
            await connection.send(encode_request("POST", "/count", headers, b""))
        yield connections


def cookie_of(browser):
    return {"Cookie": browser.cookie_header()}


@pytest.mark.parametrize("act", ["GET /", "POST /begin?owner=new"])
async def test_refused_requests_leave_nothing_behind(start, proxy, unlogged, act):
    """Above max_pending each is a 503 at once; thousands of them take no memory."""
    site = start(f"{proxy.url}/?timeout=100&max_pending=5")
    users = [await site.user(f"user{number}") for number in range(5)]
    proxy.hang()
    async with waiting(site, users) as connections:
        await until(lambda: site.node()["pending"] == 5)
        method, _, path = act.partition(" ")
        headers = {} if "begin" in act else cookie_of(users[0])
        assert await growth(site, headers, method, path) < NOTHING
        assert site.node() == {
            "connected": True,
            "pending": 5,
            "waiting": 0,
            "breaker": "closed",
        }
        proxy.pass_through()
        for number, connection in enumerate(connections):
            response = await connection.receive()
            assert (response.status, response.json()["owner"]) == (200, f"user{number}")
    await until(lambda: site.node()["pending"] == 0)
    assert [(await browser.get("/")).json()["n"] for browser in users] == [1] * 5


async def test_refused_requests_of_a_dead_node_leave_nothing_behind(
    start, own_memcached, unlogged
):
    """Nor do those that an open breaker answers, while some wait for the node."""
    site = start(f"{own_memcached.url}/?timeout=5&reconnect_timeout=100&max_pending=5")
    users = [await site.user(f"user{number}") for number in range(5)]
    away = site.outage()
    own_memcached.kill()
    async with waiting(site, users) as connections:
        await comes(away)
        await until(lambda: site.node()["waiting"] == 5)
        assert await growth(site, cookie_of(users[0])) < NOTHING
        assert site.node()["waiting"] == 5
        own_memcached.start()
        for connection in connections:
            # With nothing in it: memcached is new.
            assert (await connection.receive()).status == 200
    await until(lambda: site.node()["waiting"] == 0)
    assert site.node()["pending"] == 0


async def test_each_of_too_many_requests_is_done_or_refused(start, proxy):
    """However the limit falls in a request, what was confirmed is stored, once."""
    site = start(f"{proxy.url}/?timeout=30&max_pending=8")
    users = [await site.user(f"user{number}") for number in range(40)]
    proxy.delay(0.005)
    told: list[Counter[int]] = [Counter() for _ in users]

    async def use(number, browser):
        for _ in range(10):
            response = await post(browser, "count")
            told[number][response.status] += 1
            if response.status == 200:
                assert response.json()["owner"] == f"user{number}"
            else:
                assert_unavailable(response)

    await asyncio.gather(*(use(*user) for user in enumerate(users)))
    proxy.pass_through()
    total = sum(told, Counter())
    assert total.keys() == {200, 503}
    for counts, browser in zip(told, users, strict=True):
        # A refused operation was not sent.
        assert (await browser.get("/")).json()["n"] == counts[200]
    stats = site.manager.stats()
    assert stats["running_saves"] == 0
    assert site.node() == {
        "connected": True,
        "pending": 0,
        "waiting": 0,
        "breaker": "closed",
    }


async def test_a_logout_that_was_refused_is_finished_later(start, proxy):
    """It is a 503 that clears the cookie, and done when there is room."""
    site = start(f"{proxy.url}/?timeout=30&max_pending=1")
    browser, other = await site.user("bob"), await site.user("eve")
    old = {"Cookie": browser.cookie_header()}
    halt = site.halt()
    leaving = asyncio.create_task(post(browser, "logout"))
    await comes(halt.reached)
    proxy.hang()
    reading = asyncio.create_task(other.get("/"))
    await until(lambda: site.node()["pending"] == 1)
    halt.go_on.set()
    assert_unavailable(await leaving, cleared=True)
    assert session_id(browser) is None
    proxy.pass_through()
    assert (await reading).json()["owner"] == "eve"
    await until(lambda: not site.manager.stats()["pending_destroys"])
    assert (await site.browser().get("/", headers=old)).json()["owner"] is None


async def test_overload_of_one_node_refuses_nobody_elsewhere(
    start, memcached, own_memcached
):
    """The limit is each node's own."""
    nodes = f"127.0.0.1:{memcached.port},127.0.0.1:{own_memcached.port}"
    site = start(f"memcached://{nodes}/?timeout=30&max_pending=3")
    users = [await site.user(f"user{number}") for number in range(30)]
    own_memcached.stop()
    asked = [asyncio.create_task(browser.get("/")) for browser in users]
    name = f"127.0.0.1:{own_memcached.port}"
    await until(lambda: sum(not task.done() for task in asked) == 3)
    assert site.manager.stats()["store"]["nodes"][name]["pending"] == 3
    counted = Counter(task.result().status for task in asked if task.done())
    assert counted.keys() == {200, 503}
    for _ in range(5):
        for task, browser in zip(asked, users, strict=True):
            if task.done() and task.result().status == 200:
                assert (await browser.get("/")).status == 200
    own_memcached.cont()
    async with asyncio.timeout(PATIENCE):
        assert {(await task).status for task in asked} == {200, 503}
    for number, browser in enumerate(users):
        assert (await answers_again(browser)).json()["owner"] == f"user{number}"
