"""Operations that wait for their node to come back."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor, Future

import pytest

from tornado_mcsession import (
    CasResult,
    MemcachedStore,
    StoreRejected,
    StoreUnavailable,
)
from tornado_mcsession.stores.memcached.executor import BATCH
from tornado_mcsession.stores.memcached.node import TRIES
from tornado_mcsession.testing.contract import OPERATIONS, TTL

from .recording import ScriptedServer

pytestmark = [pytest.mark.integration, pytest.mark.gen_test(timeout=60)]

PATIENT = "?timeout=5&reconnect_timeout=30"
KEY = "key"


def outage(store) -> asyncio.Event:
    """An event that comes when the store notices that a node is away."""
    event = asyncio.Event()
    store.on_disconnect(lambda _: event.set())
    return event


async def comes(event: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        await event.wait()


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_an_operation_outlives_an_outage(own_memcached, connect, operation):
    """Begun while the node is dead, it is done when the node is back."""
    store = connect(own_memcached.url + PATIENT)
    assert await store.get(KEY) is None
    away = outage(store)
    own_memcached.kill()
    waiting = asyncio.ensure_future(OPERATIONS[operation](store, KEY))
    await comes(away)
    assert not waiting.done()
    own_memcached.start()
    async with asyncio.timeout(10):
        await waiting


async def test_many_wait_and_all_are_woken(own_memcached, connect):
    """They do not ask one after another, and not all the time."""
    store = connect(own_memcached.url + PATIENT)
    await store.get(KEY)
    away = outage(store)
    own_memcached.kill()
    waiting = [
        asyncio.ensure_future(store.add(f"{KEY}{n}", b"1", TTL)) for n in range(500)
    ]
    await comes(away)
    own_memcached.start()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*waiting) == [True] * 500


class OnCue(Executor):
    """Keeps the work that it is given, to be done when a test says so."""

    def __init__(self):
        self.jobs = []

    def submit(self, job, /, *arguments):
        self.jobs.append(lambda: job(*arguments))
        return Future()


async def test_one_that_was_refused_before_others_were_answered_is_asked_again():
    """The node came back before the loop knew that it had been away."""

    def hangs_up(connection):
        connection.recv(10_000)
        connection.close()

    def answers(connection):
        while connection.recv(10_000):
            connection.sendall(b"END\r\n")

    executor = OnCue()
    with ScriptedServer(*[hangs_up] * TRIES, answers) as server:
        store = MemcachedStore(
            [server.url.removeprefix("memcached://")],
            timeout=5,
            reconnect_timeout=30,
            executor=executor,
        )
        waiting = [asyncio.ensure_future(store.get(KEY)) for _ in range(BATCH + 1)]
        async with asyncio.timeout(20):
            while not all(one.done() for one in waiting):
                while executor.jobs:  # on the loop: it hears of a job when that is over
                    executor.jobs.pop()()
                await asyncio.sleep(0.001)
        assert await asyncio.gather(*waiting) == [None] * (BATCH + 1)
        await store.close(timeout=0)


async def test_patience_ends(own_memcached, connect):
    """After reconnect_timeout the outage is reported as usual."""
    store = connect(own_memcached.url + "?timeout=5&reconnect_timeout=0.3")
    await store.get(KEY)
    own_memcached.kill()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await store.get(KEY)
    assert 0.3 <= time.monotonic() - began < 3


async def test_a_hanging_node_is_waited_for_by_reads(own_memcached, connect):
    """A read whose answer did not come in time is asked again, later."""
    store = connect(own_memcached.url + "?timeout=0.2&reconnect_timeout=30")
    await store.add(KEY, b"1", TTL)
    away = outage(store)
    own_memcached.stop()
    waiting = asyncio.ensure_future(store.get(KEY))
    await comes(away)
    own_memcached.cont()
    async with asyncio.timeout(10):
        assert (await waiting).data == b"1"


async def test_a_write_that_may_be_done_is_not_done_twice(memcached, proxy, connect):
    """It is told at once that nobody knows: who knows the record looks for it."""
    store = connect(proxy.url + "?timeout=0.2&reconnect_timeout=30")
    await store.add(KEY, b"1", TTL)
    token = (await store.get(KEY)).token
    proxy.lose_answers()
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable) as raised:
            await store.cas(KEY, b"2", TTL, token)
    assert raised.value.outcome_unknown
    assert memcached.get(KEY) == b"2"


async def test_no_more_wait_than_may(own_memcached, connect):
    """Those above max_pending are told at once; memory stays bounded."""
    store = connect(own_memcached.url + PATIENT + "&max_pending=20")
    await store.get(KEY)
    away = outage(store)
    own_memcached.kill()
    waiting = [asyncio.ensure_future(store.get(f"{KEY}{n}")) for n in range(20)]
    await comes(away)
    (name,) = store.stats()["nodes"]
    while store.stats()["nodes"][name]["waiting"] < 20:  # noqa: ASYNC110
        await asyncio.sleep(0)
    for _ in range(50):
        async with asyncio.timeout(5):
            with pytest.raises(StoreUnavailable):
                await store.get(KEY)
    assert not any(future.done() for future in waiting)
    own_memcached.start()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*waiting) == [None] * 20


async def test_closing_ends_the_waiting(own_memcached, connect):
    """Nobody waits for the node of a store that is closed."""
    store = connect(own_memcached.url + PATIENT)
    await store.get(KEY)
    away = outage(store)
    own_memcached.kill()
    waiting = [asyncio.ensure_future(store.get(KEY)) for _ in range(5)]
    await comes(away)
    async with asyncio.timeout(10):
        await store.close()
        for failed in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(failed, StoreUnavailable)


@pytest.mark.parametrize("how", ["close", "close in time", "stop_waiting"])
async def test_closing_does_not_wait_for_the_node(own_memcached, connect, how):
    """Those who wait are told at once; so is who comes while the rest is ending."""
    store = connect(own_memcached.url + "?timeout=5&reconnect_timeout=60")
    await store.get(KEY)
    away = outage(store)
    own_memcached.kill()
    waiting = [
        asyncio.ensure_future(OPERATIONS[operation](store, KEY))
        for operation in OPERATIONS
    ]
    await comes(away)
    began = time.monotonic()
    if how == "stop_waiting":
        store.stop_waiting()
        with pytest.raises(StoreUnavailable):
            await store.get(KEY)
    elif how == "close":
        await store.close()
    else:
        await store.close(timeout=1)
    for failed in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(failed, StoreUnavailable)
    assert time.monotonic() - began < 2


async def test_closing_takes_no_longer_than_it_may(own_memcached, connect):
    """What hangs is left after the time that close was given."""
    store = connect(own_memcached.url + "?timeout=20")
    await store.get(KEY)
    own_memcached.stop()
    hanging = store.get(KEY)
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await store.close(timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 2
    own_memcached.kill()  # which ends the thread
    with pytest.raises(StoreUnavailable):
        await hanging


async def test_get_many_waits_too(own_memcached, memcached, connect):
    """For the node of each of its keys."""
    store = connect(
        f"memcached://127.0.0.1:{memcached.port},127.0.0.1:{own_memcached.port}/"
        + PATIENT
    )
    keys = [f"{KEY}{n}" for n in range(20)]
    for key in keys:
        await store.add(key, b"1", TTL)
    lost = own_memcached.keys()
    assert lost
    away = outage(store)
    own_memcached.kill()
    waiting = asyncio.ensure_future(store.get_many(keys))
    await comes(away)
    own_memcached.start()
    async with asyncio.timeout(10):
        assert set(await waiting) == set(keys) - set(lost)


async def test_a_refusal_is_not_waited_out(memcached_factory, connect):
    """A node that is there and refuses is an error at once."""
    server = memcached_factory("-C")
    store = connect(server.url + PATIENT)
    await store.add(KEY, b"1", TTL)
    async with asyncio.timeout(5):
        with pytest.raises(StoreRejected):
            await store.get(KEY)


async def test_nobody_waits_unless_told_to(own_memcached, connect):
    """Without reconnect_timeout a dead node is told at once."""
    store = connect(own_memcached.url + "?timeout=20")
    token = b"1"
    own_memcached.kill()
    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailable):
            assert await store.cas(KEY, b"1", TTL, token) is CasResult.MISSING
