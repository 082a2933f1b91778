"""When a node that does not answer is asked, and by how many.

The breaker is also tried by itself, with a clock that the test moves.
"""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tornado_mcsession import MemcachedStore, StoreUnavailable
from tornado_mcsession.stores.memcached.node import FAILURES, SHORTEST_PAUSE, Breaker
from tornado_mcsession.testing.contract import OPERATIONS, TTL

from .recording import SpoilingProxy

TIMEOUT = 5.0
KEY = "key"


@pytest.fixture
def breaker(clock):
    return Breaker(TIMEOUT, clock)


def trip(breaker, took=1.0):
    for _ in range(FAILURES):
        breaker.failed(took)


def test_it_is_closed_until_the_node_failed_in_a_row(breaker, clock):
    """An answer in between, or a refusal, and the count begins anew."""
    for heard in (breaker.answered, breaker.refused):
        for _ in range(FAILURES - 1):
            clock.advance(2)
            breaker.failed(1)
            assert breaker.admits()
        heard()
    clock.advance(2)
    assert breaker.state == "closed"
    trip(breaker)
    assert breaker.state == "open"
    assert not breaker.admits()


@pytest.mark.parametrize(("took", "pause"), [(0.001, SHORTEST_PAUSE), (1.5, 1.5)])
def test_the_pause_is_as_long_as_a_failure_takes(breaker, clock, took, pause):
    """And never so short that a node which refuses is asked all the time."""
    trip(breaker, took)
    assert breaker.seconds_to_probe() == pytest.approx(pause)
    clock.advance(pause * 0.99)
    assert not breaker.admits()
    clock.advance(pause * 0.02)
    assert breaker.admits()
    breaker.failed(took)
    assert not breaker.admits()
    assert breaker.seconds_to_probe() == pytest.approx(pause)


def test_one_of_many_is_the_probe(breaker, clock):
    """However many threads ask at once when the pause is over."""
    trip(breaker)
    clock.advance(2)
    start = threading.Barrier(8)
    admitted = []

    def ask():
        start.wait()
        admitted.extend(breaker.admits() for _ in range(100))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 1
    assert breaker.state == "half-open"


@pytest.mark.parametrize("heard", ["answered", "refused"])
def test_a_probe_that_is_heard_closes_it(breaker, clock, heard):
    """Then everybody may ask again."""
    trip(breaker)
    clock.advance(2)
    assert breaker.admits()
    getattr(breaker, heard)()
    assert breaker.state == "closed"
    assert breaker.admits()
    assert breaker.admits()
    # Only an answer tells that the node is well.
    assert breaker.answers is (heard == "answered")


def test_a_lost_probe_is_followed_by_another(breaker, clock):
    """One that was cancelled reports nothing; its time is what an operation has."""
    trip(breaker)
    clock.advance(2)
    assert breaker.admits()
    clock.advance(TIMEOUT * 0.99)
    assert not breaker.admits()
    clock.advance(TIMEOUT * 0.02)
    assert breaker.admits()


def test_a_probe_may_be_ordered(breaker):
    """A health check asks at once; for the others nothing changes."""
    trip(breaker)
    breaker.probe()
    assert breaker.state == "half-open"
    assert not breaker.admits()
    breaker.failed(1)
    assert breaker.state == "open"


def test_who_was_not_answered_while_others_were_is_not_counted(breaker, clock):
    """It is a connection, or a server behind a proxy; the node answers."""
    for _ in range(3 * FAILURES):
        clock.advance(1)
        breaker.answered()
        clock.advance(0.5)
        breaker.failed(took=1)
        assert breaker.answers
    assert breaker.state == "closed"
    breaker.failed(took=0.4)
    assert breaker.answers is False


# On real nodes.


async def outage(awaitable) -> StoreUnavailable:
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailable) as raised:
            await awaitable
    return raised.value


@pytest.mark.integration
@pytest.mark.gen_test
async def test_an_open_breaker_asks_nobody(own_memcached, connect):
    """No operation touches the network, and each is told at once, and why."""
    store = connect(own_memcached.url + "?timeout=10&connect_timeout=10")
    await store.add(KEY, b"1", TTL)
    own_memcached.kill()
    for _ in range(FAILURES):
        await outage(store.get(KEY))
    (state,) = store.stats()["nodes"].values()
    assert state == {"connected": False, "pending": 0, "waiting": 0, "breaker": "open"}
    for operation in OPERATIONS.values():
        began = time.perf_counter()
        error = await outage(operation(store, KEY))
        assert time.perf_counter() - began < 0.05
        assert "breaker open" in str(error)
        assert "ConnectionRefusedError" in str(error)
        assert not error.outcome_unknown


@pytest.mark.integration
@pytest.mark.gen_test(timeout=60)
async def test_a_hanging_node_is_probed_by_one(own_memcached, connect):
    """Of a hundred requests at any time, one waits; when it is back, all is well."""
    store = connect(own_memcached.url + "?timeout=0.5")
    await store.add(KEY, b"1", TTL)
    own_memcached.stop()
    await asyncio.gather(*(outage(store.get(f"{n}")) for n in range(200)))
    while store.stats()["nodes"][_name(own_memcached)]["breaker"] != "open":
        await outage(store.get(KEY))
    asked = []
    while sum(asked) < 3:
        errors = await asyncio.gather(*(outage(store.get(str(n))) for n in range(100)))
        asked.append(sum("breaker open" not in str(error) for error in errors))
    assert max(asked) == 1
    own_memcached.cont()
    async with asyncio.timeout(10):
        while True:
            try:
                assert (await store.get(KEY)).data == b"1"
                break
            except StoreUnavailable:
                await asyncio.sleep(0.01)
    assert await asyncio.gather(*(store.add(f"k{n}", b"1", TTL) for n in range(50)))


@pytest.mark.integration
@pytest.mark.gen_test
async def test_several_keys_are_one_probe(own_memcached, connect):
    """What reads two at a time finds out, too, that a node is back."""
    store = connect(own_memcached.url + "?timeout=100&connect_timeout=10")
    own_memcached.kill()
    for _ in range(FAILURES):
        await outage(store.get_many(["a", "b"]))
    own_memcached.start()
    while store.stats()["nodes"][_name(own_memcached)]["breaker"] != "closed":
        try:
            assert await store.get_many(["a", "b"]) == {}
        except StoreUnavailable:
            # A probe that is lost is followed by another after the timeout only.
            state = store.stats()["nodes"][_name(own_memcached)]["breaker"]
            assert state == "open"
            await asyncio.sleep(0.01)


def _name(server) -> str:
    return "{}:{}".format(*server.server)


@pytest.mark.integration
@pytest.mark.gen_test(timeout=60)
async def test_what_waits_when_it_opens_is_let_go(recorder, connect):
    """Operations in the queue of a node that went away are not asked one by one."""
    store = connect(recorder.url + "?timeout=10&threads=1")
    await store.add(KEY, b"1", TTL)
    recorder.cut()
    began = time.perf_counter()
    errors = await asyncio.gather(
        *(outage(store.touch(str(n), TTL)) for n in range(300))
    )
    assert time.perf_counter() - began < 5
    # Asked together, and then by those before it opened.
    assert 1 <= sum("breaker open" not in str(error) for error in errors) <= FAILURES


@pytest.mark.integration
@pytest.mark.gen_test(timeout=60)
async def test_nonsense_does_not_open_it(proxy, connect):
    """A session whose answers make no sense takes nobody's node away."""
    store = connect(proxy.url + "?timeout=10")
    await store.add(KEY, b"1", TTL)
    proxy.garbage(b"nonsense\r\n")
    for _ in range(3 * FAILURES):
        await outage(store.get(KEY))
    (state,) = store.stats()["nodes"].values()
    assert state == {"connected": True, "pending": 0, "waiting": 0, "breaker": "closed"}
    proxy.pass_through()
    assert (await store.get(KEY)).data == b"1"


@pytest.mark.integration
@pytest.mark.gen_test(timeout=60)
async def test_a_full_queue_does_not_open_it(proxy):
    """Overload is not an outage of the node: what it takes goes on."""
    store = MemcachedStore(f"127.0.0.1:{proxy.port}", max_pending=5, timeout=20)
    proxy.hang()
    waiting = [asyncio.ensure_future(store.get(str(n))) for n in range(5)]
    await asyncio.sleep(0)
    for _ in range(3 * FAILURES):
        assert "too many" in str(await outage(store.get(KEY)))
    proxy.pass_through()
    assert await asyncio.gather(*waiting) == [None] * 5
    assert await store.get(KEY) is None
    await store.close()


SPOILT = [
    b"nonsense\r\n",
    b"SERVER_ERROR Connection refused\r\n",
    b"ERROR\r\n",
    b"VALUE other 0 1 1\r\nx\r\nEND\r\n",
    b"VALUE key4 0 5 1\r\nwrong but longer\r\nEND\r\n",
    b"END\r\nEND\r\n",
    b"",
]


@pytest.mark.integration
@pytest.mark.parametrize("answer", SPOILT, ids=repr)
@pytest.mark.gen_test(timeout=60)
async def test_a_batchs_neighbours_are_answered(memcached, connect, answer):
    """Where one key of a batch gets nonsense, or nothing, the others get theirs."""
    keys = [f"key{number}" for number in range(9)]
    with SpoilingProxy(memcached.port, b"key4", answer) as proxy:
        store = connect(proxy.url + "?timeout=10")
        for key in keys:
            memcached.set(key, key.encode())
        answers = await asyncio.gather(*map(store.get, keys), return_exceptions=True)
        assert isinstance(answers.pop(4), StoreUnavailable)
        del keys[4]
        assert [entry.data.decode() for entry in answers] == keys
        (state,) = store.stats()["nodes"].values()
        assert state["breaker"] == "closed"


@pytest.mark.integration
@pytest.mark.gen_test(timeout=60)
async def test_a_batch_that_breaks_for_all_is_not_asked_key_by_key(proxy, connect):
    """A node that hangs up on everybody is not asked once for each of many keys."""
    store = connect(proxy.url + "?timeout=10&threads=1")
    await store.get(KEY)
    proxy.cut()
    before = proxy.connections
    await asyncio.gather(*(outage(store.get(str(n))) for n in range(64)))
    assert proxy.connections - before < 20
