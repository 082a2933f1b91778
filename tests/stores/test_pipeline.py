"""Writes of one turn, sent together and answered one by one."""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession import (
    CasResult,
    MemcachedStore,
    StoreRejected,
    StoreUnavailable,
)
from tornado_mcsession.testing.contract import TTL

from .recording import AnsweringProxy, ScriptedServer

pytestmark = [pytest.mark.integration, pytest.mark.gen_test(timeout=60)]

KEYS = [f"key{number}" for number in range(10)]


async def filled(store):
    """The entries of all keys, each holding its own name."""
    await asyncio.gather(*(store.add(key, key.encode(), TTL) for key in KEYS))
    return await store.get_many(KEYS)


def writes(store, entries):
    """One cas for each key, in a turn."""
    return asyncio.gather(
        *(
            store.cas(key, b"new " + key.encode(), TTL, entries[key].token)
            for key in KEYS
        ),
        return_exceptions=True,
    )


async def test_writes_of_one_turn_leave_together(recorder, connect):
    """Ten cas are one piece on one connection, and each gets its own answer."""
    store = connect(recorder.url)
    entries = await filled(store)
    await store.delete("key1")
    await store.cas("key2", b"by another", TTL, entries["key2"].token)
    pieces = len(recorder.pieces)
    results = await writes(store, entries)
    assert len(recorder.pieces) == pieces + 1
    assert results[1:3] == [CasResult.MISSING, CasResult.CONFLICT]
    assert [*results[:1], *results[3:]] == [CasResult.STORED] * 8
    assert (await store.get("key3")).data == b"new key3"
    assert recorder.connections == 1


async def test_kinds_of_writes_may_be_mixed(memcached, connect):
    """add, cas, touch and delete of one turn each do what they say."""
    store = connect(memcached.url)
    entries = await filled(store)
    results = await asyncio.gather(
        store.add("fresh", b"1", TTL),
        store.add("key0", b"1", TTL),
        store.cas("key1", b"2", TTL, entries["key1"].token),
        store.touch("key2", 5000.0),
        store.touch("nothing", TTL),
        store.delete("key3"),
        store.delete("nothing"),
    )
    assert results == [True, False, CasResult.STORED, True, False, True, False]
    assert memcached.get("fresh") == b"1"
    assert memcached.get("key0") == b"key0"
    assert memcached.get("key3") is None
    assert memcached.ttl("key2") > 4000


@pytest.mark.parametrize("value", [b"END\r\n", b"STORED\r\n", b"\r\n", b"", bytes(256)])
async def test_values_are_no_commands(memcached, connect, value):
    """Whatever a value holds, its neighbours' answers stay theirs."""
    store = connect(memcached.url)
    await store.get("connected")
    values = {key: value * number for number, key in enumerate(KEYS, 1)}
    assert all(
        await asyncio.gather(*(store.add(key, values[key], TTL) for key in KEYS))
    )
    found = await store.get_many(KEYS)
    assert {key: entry.data for key, entry in found.items()} == values


async def test_what_is_too_large_harms_no_neighbour(memcached_factory, connect):
    """The server refuses one of them; the others are stored."""
    server = memcached_factory("-I", "16k", "-o", "slab_chunk_max=8192")
    store = connect(server.url)
    await store.get("connected")
    results = await asyncio.gather(
        *(
            store.add(key, b"x" * (20_000 if key == "key4" else 10), TTL)
            for key in KEYS
        ),
        return_exceptions=True,
    )
    refused = results.pop(4)
    assert isinstance(refused, StoreRejected)
    assert refused.too_large
    assert results == [True] * 9
    assert server.keys() == [key for key in KEYS if key != "key4"]


async def test_large_writes_go_one_by_one(recorder, connect):
    """What would be hundreds of kilobytes in one piece is not sent as one."""
    store = connect(recorder.url + "?timeout=10")
    await store.get("connected")
    values = [bytes([number]) * 100_000 for number in range(10)]
    await asyncio.gather(*map(store.add, KEYS, values, [TTL] * 10))
    assert len(recorder.commands(b"add")) == 10
    found = await store.get_many(KEYS)
    assert [found[key].data for key in KEYS] == values


@pytest.mark.parametrize("size", [4, 12, 30, 75])
async def test_a_connection_that_breaks_among_answers_loses_no_write(
    proxy, connect, size
):
    """What was not answered is asked again: it is done once, or known to be unknown."""
    store = connect(proxy.url + "?timeout=10")
    entries = await filled(store)
    proxy.cut_after(size)
    results = await writes(store, entries)
    proxy.pass_through()
    for key, result in zip(KEYS, results, strict=True):
        if isinstance(result, StoreUnavailable):
            assert result.outcome_unknown
        else:
            # The second time the first one is the conflict.
            assert result in (CasResult.STORED, CasResult.CONFLICT)
            assert (await store.get(key)).data == b"new " + key.encode()


async def test_a_write_that_a_broken_connection_took_along_is_unknown(
    memcached, proxy, connect
):
    """Also where the second try meets a node that is away: the first may be done."""
    store = connect(proxy.url + "?timeout=10")
    entry = (await filled(store))["key0"]
    proxy.cut_after(4)
    proxy.refuse_new()
    with pytest.raises(StoreUnavailable) as raised:
        await store.cas("key0", b"new", TTL, entry.token)
    assert memcached.get("key0") == b"new"
    assert raised.value.outcome_unknown


async def test_a_refusal_does_not_tell_what_became_of_the_try_before():
    """A server without memory refuses before it compares: the first may be done."""
    refusal = b"SERVER_ERROR out of memory storing object\r\n"
    with ScriptedServer(
        lambda peer: (peer.recv(1000), peer.close()),
        lambda peer: (peer.recv(1000), peer.sendall(refusal)),
    ) as server:
        store = MemcachedStore.from_url(server.url + "?timeout=5&threads=1")
        with pytest.raises(StoreUnavailable, match="out of memory") as raised:
            await store.cas("key", b"1", TTL, b"1")
        assert raised.value.outcome_unknown
        await store.close()


async def test_stale_connections_are_not_seen(proxy, connect):
    """A batch on a connection that has broken is sent on a new one."""
    store = connect(proxy.url + "?timeout=10")
    entries = await filled(store)
    proxy.cut()
    proxy.pass_through()
    assert await writes(store, entries) == [CasResult.STORED] * 10


async def test_a_batch_without_answers_is_unknown(memcached, proxy, connect):
    """Each of it, at the deadline; and the next batch is right."""
    store = connect(proxy.url + "?timeout=0.2")
    entries = await filled(store)
    proxy.lose_answers()
    for result in await writes(store, entries):
        assert isinstance(result, StoreUnavailable)
        assert result.outcome_unknown
    proxy.pass_through()
    assert memcached.get("key3") == b"new key3"
    entries = await store.get_many(KEYS)
    assert await writes(store, entries) == [CasResult.STORED] * 10


@pytest.mark.parametrize(
    "answer",
    [
        b"STORED\r\n" * 9 + b"nonsense\r\n",
        b"STORED\r\n" * 11,
        b"STORED\r\n" * 10 + b"ST",
        b"END\r\n" * 10,
        b"CLIENT_ERROR bad data chunk\r\n" * 10,
        b"ERROR\r\n" + b"STORED\r\n" * 9,
    ],
    ids=["one", "too many", "half of one more", "of others", "complaints", "error"],
)
async def test_nonsense_is_not_believed(memcached, connect, answer):
    """A batch whose answers are not all answers is asked again, one by one."""
    with AnsweringProxy(memcached.port, b"new key9", answer) as proxy:
        store = connect(proxy.url + "?timeout=10")
        entries = await filled(store)
        assert await writes(store, entries) == [CasResult.STORED] * 10
        assert memcached.get("key9") == b"new key9"
