"""MemcachedStore when nodes and networks fail: in time, honest, and soon well."""

from __future__ import annotations

import asyncio
import time

import pytest

from tornado_mcsession import CasResult, MemcachedStore, StoreUnavailable
from tornado_mcsession.testing.contract import OPERATIONS, TTL

from ..support.proxy import FaultProxy

pytestmark = [pytest.mark.integration, pytest.mark.gen_test]

SHORT = 0.2
WRITES = [name for name in OPERATIONS if not name.startswith("get")]
OK_ANSWERS = {
    "add": {b"STORED\r\n", b"NOT_STORED\r\n"},
    "cas": {b"STORED\r\n", b"EXISTS\r\n", b"NOT_FOUND\r\n"},
    "touch": {b"TOUCHED\r\n", b"NOT_FOUND\r\n"},
    "delete": {b"DELETED\r\n", b"NOT_FOUND\r\n"},
}
GARBAGE = [
    *set().union(*OK_ANSWERS.values()),
    b"\x00nonsense\r\n",
    b"\r\n",
    b"OK\r\n",
    b"ERROR\r\n",
    b"CLIENT_ERROR bad command line format\r\n",
    b"SERVER_ERROR busy\r\n",
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    b"VALUE other 0 5 1\r\nwrong\r\nEND\r\n",
    b"VALUE key 0 5\r\nwrong\r\nEND\r\n",
    b"VALUE key 0 five 1\r\nwrong\r\nEND\r\n",
    b"VALUE key 0 5 1\r\nwrong but longer\r\nEND\r\n",
    b"STAT pid 1\r\nEND\r\n",
    b"END\r\nEND\r\nVALUE",
    b"NOT_FOUND\r\nDELETED\r\n",
    b"nonsense\r\nNOT_FOUND\r\n",
]


async def failure(awaitable) -> StoreUnavailable:
    """The outage that ``awaitable`` ends with, within its time and a bit."""
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable) as raised:
            await awaitable
    return raised.value


async def both_ways(store: MemcachedStore) -> None:
    """The store works."""
    await store.delete("works")
    assert await store.add("works", b"1", TTL)
    assert (await store.get("works")).data == b"1"


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_dead_server_is_told_at_once(own_memcached, connect, operation):
    """Refused connections are an outage long before the deadline; nothing was done."""
    store = connect(own_memcached.url + "?timeout=30")
    await both_ways(store)
    own_memcached.kill()
    error = await failure(OPERATIONS[operation](store, "key"))
    assert (error.operation, error.node) == (
        operation.removesuffix("_many"),
        f"127.0.0.1:{own_memcached.port}",
    )
    assert not error.outcome_unknown
    assert isinstance(error.__cause__, ConnectionRefusedError)


async def test_a_server_that_comes_back_is_used_at_once(own_memcached, connect):
    """After a restart the first operation of each kind works, on a new connection."""
    store = connect(own_memcached.url)
    for operation in OPERATIONS:
        await both_ways(store)
        own_memcached.restart()
        await OPERATIONS[operation](store, "key")


async def test_no_stale_connection_is_seen(proxy, connect):
    """When all connections have broken, no operation that follows fails."""
    await outlives_its_connections(connect(proxy.url + "?threads=4&timeout=10"), proxy)


async def outlives_its_connections(store: MemcachedStore, proxy: FaultProxy) -> None:
    """Use all four connections at once, break them, and see nothing of it."""
    proxy.delay(0.05)
    asked = []
    for number in range(4):
        asked.append(store.get(f"key{number}"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*asked)
    assert proxy.connections == 4
    proxy.cut()
    proxy.pass_through()
    for number in range(8):
        assert await store.add(f"key{number}", b"1", TTL)
    assert 5 <= proxy.connections <= 8


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_hanging_server_is_left_in_time(own_memcached, connect, operation):
    """No answer is an outage at the deadline; a write may have been done."""
    store = connect(own_memcached.url + f"?timeout={SHORT}")
    await both_ways(store)
    own_memcached.stop()
    start = time.monotonic()
    error = await failure(OPERATIONS[operation](store, "key"))
    assert SHORT <= time.monotonic() - start + 0.01 < SHORT + 1
    assert error.outcome_unknown == (operation in WRITES)
    own_memcached.cont()
    await both_ways(store)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_an_answer_in_drips_is_left_in_time(proxy, connect, operation):
    """Bytes that go on arriving do not put off the deadline."""
    store = connect(proxy.url + f"?timeout={SHORT}")
    await both_ways(store)
    proxy.drip(1, SHORT / 2)
    start = time.monotonic()
    error = await failure(OPERATIONS[operation](store, "key"))
    await store.close()  # the thread has ended as well
    assert time.monotonic() - start < SHORT + 1
    assert error.outcome_unknown == (operation in WRITES)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_network_that_swallows_all_is_left_in_time(proxy, connect, operation):
    """A new connection that leads nowhere does not put off the deadline."""
    proxy.hang()
    store = connect(proxy.url + f"?timeout={SHORT}")
    start = time.monotonic()
    await failure(OPERATIONS[operation](store, "key"))
    assert time.monotonic() - start < SHORT + 1


async def test_what_waited_too_long_is_not_sent(recorder, connect):
    """A write whose time was over in the queue is an outage, and is not done."""
    store = connect(recorder.url + f"?timeout={SHORT}&threads=1")
    await both_ways(store)
    recorder.lose_answers()
    writes = [
        asyncio.ensure_future(store.add(f"key{number}", b"1", TTL))
        for number in range(5)
    ]
    read = asyncio.ensure_future(store.get("key"))  # reads of a batch go first
    for each in (*writes, read):
        await failure(each)
    recorder.pass_through()
    await both_ways(store)
    assert await store.get_many([f"key{number}" for number in range(5)]) == {}


async def test_too_many_operations_are_refused_at_once(proxy, connect):
    """Above max_pending an operation fails at once, nothing sent; then all is well."""
    store = connect(proxy.url + "?timeout=20&max_pending=5")
    proxy.hang()
    waiting = [asyncio.ensure_future(store.get(f"key{n}")) for n in range(5)]
    await asyncio.sleep(0)
    for operation in OPERATIONS:
        error = await failure(OPERATIONS[operation](store, "key"))
        assert "too many" in str(error)
        assert not error.outcome_unknown
    assert list(store.stats()["nodes"].values()) == [
        {"connected": None, "pending": 5, "waiting": 0, "breaker": "closed"}
    ]
    proxy.pass_through()
    assert await asyncio.gather(*waiting) == [None] * 5
    await both_ways(store)


async def test_get_many_is_one_operation(recorder, connect):
    """One command, and one of the operations that may wait, however many keys."""
    store = connect(recorder.url + "?max_pending=1")
    assert await store.get_many([f"new{n}" for n in range(5)]) == {}
    assert recorder.commands(b"gets") == [b"gets new0 new1 new2 new3 new4"]


async def test_a_hanging_node_holds_up_no_other(memcached, own_memcached):
    """Operations of a healthy node end while another's fill their queue."""
    store = MemcachedStore([memcached.server, own_memcached.server], timeout=2)
    keys = [f"key{number}" for number in range(200)]
    await asyncio.gather(*(store.add(key, b"1", TTL) for key in keys))
    healthy = memcached.keys()
    own_memcached.stop()
    stuck = [
        asyncio.ensure_future(store.get(key)) for key in keys if key not in healthy
    ]
    async with asyncio.timeout(1):
        assert len(await store.get_many(healthy)) == len(healthy)
        for key in healthy:
            assert await store.touch(key, TTL)
    assert not any(future.done() for future in stuck)
    own_memcached.cont()
    assert all(await asyncio.gather(*stuck))
    await store.close()


@pytest.mark.parametrize("garbage", sorted(GARBAGE), ids=repr)
async def test_garbage_is_an_outage(proxy, connect, garbage):
    """What makes no sense as an answer is "cannot tell"; the next one is right."""
    store = connect(proxy.url + "?timeout=10")
    await both_ways(store)
    await store.add("key", b"right", TTL)
    proxy.garbage(garbage)
    for name, operation in OPERATIONS.items():
        if garbage not in OK_ANSWERS.get(name, ()):
            error = await failure(operation(store, "key"))
            assert error.outcome_unknown == (name in WRITES)
    proxy.pass_through()
    assert (await store.get("key")).data == b"right"
    assert await store.get("other") is None
    assert await store.delete("key")


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"VALUE key 0 99999 1\r\nx"])
async def test_garbage_without_an_end_is_left_in_time(proxy, connect, garbage):
    """An answer that never ends is an outage at the deadline."""
    store = connect(proxy.url + f"?timeout={SHORT}")
    proxy.garbage(garbage)
    await failure(store.get("key"))


@pytest.mark.parametrize("size", [1, 5, 30])
async def test_an_answer_that_breaks_off_is_not_a_miss(proxy, connect, size):
    """A connection that ends in an answer is an outage, never "not there"."""
    store = connect(proxy.url)
    await store.add("key", b"x" * 100, TTL)
    proxy.cut_after(size)
    await failure(store.get("key"))


async def test_a_write_whose_answer_is_lost_is_unknown(memcached, proxy, connect):
    """Where the answer is lost, the write may be there, and the error says so."""
    store = connect(proxy.url + f"?timeout={SHORT}")
    proxy.lose_answers()
    error = await failure(store.add("key", b"1", TTL))
    assert error.outcome_unknown
    assert memcached.get("key") == b"1"
    proxy.pass_through()
    entry = await store.get("key")
    assert await store.cas("key", b"2", TTL, entry.token) is CasResult.STORED


async def test_what_is_cancelled_disturbs_nobody(proxy, connect):
    """After a thousand cancelled operations every answer is that to its question."""
    store = connect(proxy.url + "?timeout=20")
    keys = [f"key{number}" for number in range(100)]
    await asyncio.gather(*(store.add(key, key.encode(), TTL) for key in keys))
    proxy.delay(0.002)
    for turn in range(10):
        asked = [asyncio.ensure_future(store.get(key)) for key in keys]
        await asyncio.sleep(0.001 * (turn % 4))
        for future in asked[turn % 3 :: 3]:
            future.cancel()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        for key, outcome in zip(keys, outcomes, strict=True):
            if not isinstance(outcome, asyncio.CancelledError):
                assert outcome.data == key.encode()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "garbage",
    [
        b"VALUE secret-key 0 secret-value\r\n",
        b"VALUE secret-other 0 1 1\r\nx\r\nEND\r\n",
        b"secret-value\r\n",
        b"CLIENT_ERROR secret-key\r\n",
        b"SERVER_ERROR secret-value\r\n",
    ],
)
async def test_errors_show_no_key_and_no_value(proxy, connect, operation, garbage):
    """Neither an error, its causes nor their frames hold what was asked or said."""
    store = connect(proxy.url + "?timeout=5")
    proxy.garbage(garbage)
    error = await failure(OPERATIONS[operation](store, "secret-key"))
    assert error.__cause__ is not None
    while error is not None:
        assert "secret" not in f"{error!r} {error} {vars(error)}"
        error = error.__cause__ or error.__context__
        assert error is None or error.__traceback__ is None
