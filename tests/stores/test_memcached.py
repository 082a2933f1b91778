"""MemcachedStore on real servers: times, limits, sharing, events, the end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tornado_mcsession import (
    CasResult,
    MemcachedStore,
    StoreRejected,
    StoreUnavailable,
)
from tornado_mcsession.testing.contract import (
    BAD_FLAGS,
    BAD_KEYS,
    BAD_TTLS,
    DAY,
    MONTH,
    OPERATIONS,
    TTL,
)

pytestmark = [pytest.mark.integration, pytest.mark.gen_test]


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("mcsession")]


@pytest.mark.parametrize("verb", ["add", "cas", "touch"])
@pytest.mark.parametrize(
    "ttl",
    [1e-9, 0.5, 1, 1.5, 59.9, MONTH - 1, MONTH, MONTH + 1, 400 * DAY],
    ids=repr,
)
async def test_memcached_keeps_what_was_asked(memcached, connect, verb, ttl):
    """memcached itself says: not shorter than the TTL, and hardly longer."""
    store = connect(memcached.url)
    await store.add("key", b"1", ttl if verb == "add" else TTL)
    if verb == "cas":
        await store.cas("key", b"1", ttl, (await store.get("key")).token)
    elif verb == "touch":
        await store.touch("key", ttl)
    left = memcached.ttl("key")
    # memcached counts in whole ticks, the first of which may be almost over; on a busy
    # machine its clock is late.
    assert ttl <= left <= ttl + 5


@pytest.mark.parametrize("ttl", [1e10, 1e300, 2**32, 2**64, 10**400], ids=repr)
async def test_nothing_is_immortal(memcached, connect, ttl):
    """A TTL beyond memcached's numbers is long, and neither endless nor over."""
    store = connect(memcached.url)
    await store.add("key", b"1", ttl)
    assert 400 * DAY < memcached.ttl("key") < math.inf


async def test_what_is_refused_is_not_sent(recorder, connect):
    """A bad key, TTL, version or value opens no connection."""
    store = connect(recorder.url)
    refused = [
        *(
            (ask, store, key)
            for ask in OPERATIONS.values()
            for key in BAD_KEYS.values()
        ),
        *((store.get_many, ["good", key]) for key in BAD_KEYS.values()),
        *((store.add, "key", b"1", ttl) for ttl in BAD_TTLS),
        *((store.touch, "key", ttl) for ttl in BAD_TTLS),
        *((store.cas, "key", b"1", TTL, token) for token in (None, 1, "1", 1.5)),
        *((store.add, "key", b"1", TTL, flags) for flags in BAD_FLAGS),
        (store.add, "key", "1", TTL),
    ]
    for operation, *arguments in refused:
        with pytest.raises((TypeError, ValueError)):
            await operation(*arguments)
    assert recorder.connections == 0


async def test_reads_of_one_turn_are_one_command(recorder, connect):
    """Fifty gets in a turn of the loop are a single gets, on one connection."""
    store = connect(recorder.url)
    keys = [f"key{number}" for number in range(50)]
    await asyncio.gather(*(store.add(key, key.encode(), TTL) for key in keys[::2]))
    entries = await asyncio.gather(*map(store.get, keys))
    assert [entry and entry.data.decode() for entry in entries] == [
        key if number % 2 == 0 else None for number, key in enumerate(keys)
    ]
    assert recorder.commands(b"gets") == [("gets " + " ".join(keys)).encode()]
    assert recorder.connections == 1


async def test_a_key_that_many_want_is_asked_for_once(recorder, connect):
    """Concurrent gets of one key put it into the command once; all get it."""
    store = connect(recorder.url)
    await store.add("key", b"1", TTL)
    entries = await asyncio.gather(*(store.get("key") for _ in range(20)))
    assert {entry.data for entry in entries} == {b"1"}
    assert recorder.commands(b"gets") == [b"gets key"]


async def test_get_many_is_one_command(recorder, connect):
    """get_many asks a node for all its keys at once."""
    store = connect(recorder.url)
    await store.add("a", b"1", TTL)
    assert list(await store.get_many(["a", "b", "c"])) == ["a"]
    assert recorder.commands(b"gets") == [b"gets a b c"]


async def test_keys_in_braces_share_a_node(memcached, own_memcached):
    """Of two nodes each has some of the keys; one principal's are on one."""
    store = MemcachedStore([memcached.server, own_memcached.server])
    for number in range(40):
        await store.add(f"key{number}", b"1", TTL)
        await store.add(f"{{ann}}{number}", b"1", TTL)
    await store.close()
    here, there = memcached.keys(), own_memcached.keys()
    assert len(here) + len(there) == 80
    assert here
    assert there
    anns = [[key for key in keys if key.startswith("{ann}")] for keys in (here, there)]
    assert sorted(map(len, anns)) == [0, 40]


async def test_a_name_keeps_its_sessions(memcached, own_memcached, memcached_factory):
    """A server with a name of its own may move: no key is placed elsewhere."""
    servers = [memcached, own_memcached, memcached_factory()]
    store = MemcachedStore([f"n{n}=127.0.0.1:{s.port}" for n, s in enumerate(servers)])
    for number in range(60):
        await store.add(f"key{number}", b"1", TTL)
    await store.close()
    new = memcached_factory()
    store = MemcachedStore(
        [f"n2=localhost:{new.port}", *(f"n{n}=127.1:{servers[n].port}" for n in (1, 0))]
    )
    found = await store.get_many([f"key{number}" for number in range(60)])
    assert sorted(found) == sorted([*memcached.keys(), *own_memcached.keys()])
    assert {store.node_of(key) for key in found} == {"n0", "n1"}
    assert list(store.stats()["nodes"]) == ["n2", "n1", "n0"]
    await store.close()


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("localhost:1,cache1:2", "LOCALHOST:1,Cache1.:2"),
        ("[::1]:1,[fe80::1%a]:2", "[0:0::1]:1,[FE80::0001%a]:2"),
        ("127.0.0.1:1,10.0.0.1:2", "127.1:1,[::ffff:10.0.0.1]:2"),
    ],
)
async def test_spelling_places_no_key_elsewhere(here, there):
    """Host names and addresses are the same however they are written."""
    one, other = MemcachedStore(here), MemcachedStore(there)
    keys = [f"key{number}" for number in range(200)]
    assert [one.node_of(key) for key in keys] == [other.node_of(key) for key in keys]
    assert len({one.node_of(key) for key in keys}) == 2


async def test_weights_are_shares(memcached, own_memcached):
    """Of two nodes the one with weight 3 gets three of four keys."""
    store = MemcachedStore.from_url(
        f"memcached://127.0.0.1:{memcached.port},127.0.0.1:{own_memcached.port}"
        "/?weights=3,1"
    )
    await asyncio.gather(*(store.add(f"key{n}", b"1", TTL) for n in range(1000)))
    await store.close()
    assert len(memcached.keys()) == pytest.approx(750, abs=60)


async def test_nothing_is_begun_before_it_is_needed(own_memcached):
    """Making a store opens nothing; closing it leaves no thread and no connection."""
    before = threads()
    store = MemcachedStore([own_memcached.server], threads=3)
    assert threads() == before
    await asyncio.gather(*(store.get(f"key{n}") for n in range(500)))
    assert 1 <= len(threads()) - len(before) <= 3
    connections = int(own_memcached.stats()["curr_connections"])
    await store.close()
    assert threads() == before
    deadline = time.monotonic() + 10  # for memcached to see the end of them
    while int(own_memcached.stats()["curr_connections"]) >= connections:
        assert time.monotonic() < deadline


async def test_close_loses_no_write(memcached, own_memcached):
    """What was begun before close is done, and says so."""
    store = MemcachedStore([memcached.server, own_memcached.server])
    adding = [store.add(f"key{number}", b"1", TTL) for number in range(300)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*adding) == [True] * 300
    assert len(memcached.keys()) + len(own_memcached.keys()) == 300


async def test_an_executor_of_the_users_is_used(memcached):
    """The blocking calls run where the user wants, and close leaves that running."""
    with ThreadPoolExecutor(1) as executor:
        store = MemcachedStore([memcached.server], executor=executor)
        assert await store.add("key", b"1", TTL)
        assert threads() == []
        await store.close()
        assert executor.submit(int).result(5) == 0


async def test_an_executor_that_is_shut_down_is_an_outage(memcached):
    """Without threads an operation fails at once, and was certainly not done."""
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    store = MemcachedStore([memcached.server], executor=executor, timeout=20)
    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailable) as raised:
            await store.add("key", b"1", TTL)
        await store.close()
    assert not raised.value.outcome_unknown


async def test_events_come_once_per_change(own_memcached, connect):
    """Each change of a node is told once, by name, on the loop that saw it."""
    store = connect(own_memcached.url)
    events = []
    loop = asyncio.get_running_loop()
    for kind in ("connect", "disconnect"):
        getattr(store, f"on_{kind}")(
            lambda name, kind=kind: events.append(
                (kind, name, asyncio.get_running_loop() is loop)
            )
        )
    name = f"127.0.0.1:{own_memcached.port}"

    async def ask():
        asked = (store.get(f"key{number}") for number in range(20))
        return await asyncio.gather(*asked, return_exceptions=True)

    for change in (lambda: None, own_memcached.kill, own_memcached.start):
        change()
        await ask()
        await ask()
    assert events == [
        ("connect", name, True),
        ("disconnect", name, True),
        ("connect", name, True),
    ]
    assert store.stats() == {
        "nodes": {
            name: {"connected": True, "pending": 0, "waiting": 0, "breaker": "closed"}
        }
    }


async def test_a_failing_callback_harms_nobody(memcached, connect, caplog):
    """A callback's exception is logged; the operation and other callbacks go on."""
    store = connect(memcached.url)
    seen = []
    store.on_connect(lambda name: 1 / 0)
    store.on_connect(seen.append)
    assert await store.add("key", b"1", TTL)
    assert len(seen) == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_server_without_cas_is_refused(memcached_factory, connect):
    """Where memcached runs with -C, a read says so instead of conflicting for ever."""
    store = connect(memcached_factory("-C").url)
    await store.add("key", b"1", TTL)
    with pytest.raises(StoreRejected, match="cas is disabled"):
        await store.get("key")
    assert await store.get("nothing") is None


async def test_what_the_server_finds_too_large_is_said_so(memcached_factory, connect):
    """Above the item size a write is rejected as too large; the old value stays."""
    server = memcached_factory("-I", "16k", "-o", "slab_chunk_max=8192")
    store = connect(server.url)
    await store.add("key", b"1", TTL)
    token = (await store.get("key")).token
    for refused in (
        store.add("large", b"x" * 20_000, TTL),
        store.cas("key", b"x" * 20_000, TTL, token),
    ):
        with pytest.raises(StoreRejected) as raised:
            await refused
        assert raised.value.too_large
    assert (await store.get("key")).data == b"1"
    assert await store.cas("key", b"2", TTL, token) is CasResult.STORED


async def test_a_full_server_rejects_and_keeps(memcached_factory, connect):
    """With -M a full memcached refuses writes, and no value that was there is lost."""
    store = connect(memcached_factory("-M", "-m", "2").url)
    data = os.urandom(8000)

    async def fill():
        for number in range(10_000):
            await store.add(f"key{number}", data, TTL)

    with pytest.raises(StoreRejected, match="out of memory") as raised:
        await fill()
    assert not raised.value.too_large
    entry = await store.get("key0")
    with pytest.raises(StoreRejected, match="out of memory"):
        await store.cas("key0", data[::-1], TTL, entry.token)
    assert (await store.get("key0")).data == data


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_server_with_too_many_connections_is_an_outage(
    memcached_factory, connect, operation
):
    """A refused connection is "cannot tell", and passes when there is room."""
    server = memcached_factory("-c", "30", "-t", "1")
    store = connect(server.url)
    with contextlib.ExitStack() as held:
        answer = b"VERSION"
        while answer.startswith(b"VERSION"):
            other = held.enter_context(socket.create_connection(server.server, 5))
            other.sendall(b"version\r\n")
            answer = other.recv(100)
        assert answer.startswith(b"ERROR")
        with pytest.raises(StoreUnavailable):
            await OPERATIONS[operation](store, "key")
    await eventually(lambda: store.add("key", b"1", TTL))
    assert (await store.get("key")).data == b"1"


async def eventually(ask):
    """Ask until the store answers."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(StoreUnavailable):
                return await ask()
            await asyncio.sleep(0.005)
