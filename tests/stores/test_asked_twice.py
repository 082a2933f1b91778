"""Writes whose first response was lost, and that were asked again."""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession import CasResult, StoreUnavailable
from tornado_mcsession.testing.contract import TTL

from .recording import LosingProxy, ScriptedServer

pytestmark = [pytest.mark.integration, pytest.mark.gen_test(timeout=60)]

each_way = pytest.mark.parametrize("breaks", [True, False], ids=["broken", "silent"])


@pytest.fixture
def losing(memcached, connect, breaks):
    """A network that loses one answer to what names "key", and a store behind it."""
    with LosingProxy(memcached.port, b" key ", breaks=breaks) as proxy:
        yield proxy, connect(proxy.url + "?timeout=1.5")


async def unknown(awaitable) -> None:
    """Nobody can tell whether the write was done, and the error says so."""
    with pytest.raises(StoreUnavailable) as raised:
        await awaitable
    assert raised.value.outcome_unknown


@each_way
async def test_an_add_that_finds_itself_is_no_refusal(losing, memcached):
    """The key is taken: by the first try, or by another. It is not "not stored"."""
    proxy, store = losing
    await store.get("other")
    proxy.lose_one()
    await unknown(store.add("key", b"1", TTL))
    assert memcached.get("key") == b"1"


@each_way
async def test_a_cas_that_finds_itself_is_no_conflict(losing, memcached):
    """The version has changed: by the first try, or by another."""
    proxy, store = losing
    await store.add("key", b"1", TTL)
    token = (await store.get("key")).token
    proxy.lose_one()
    await unknown(store.cas("key", b"2", TTL, token))
    assert memcached.get("key") == b"2"


@each_way
async def test_a_cas_that_finds_nothing_is_unknown(losing, memcached):
    """What is gone may have been written first, and removed by another then."""
    proxy, store = losing
    await store.add("key", b"1", TTL)
    token = (await store.get("key")).token
    proxy.then = lambda: memcached.delete("key")
    proxy.lose_one()
    await unknown(store.cas("key", b"2", TTL, token))


@each_way
async def test_what_is_stored_the_second_time_is_stored(losing, memcached):
    """A first try that was not done leaves no doubt."""
    proxy, store = losing
    await store.add("key", b"1", TTL)
    token = (await store.get("key")).token
    # As if it had never come there: the item is as it was, with its token.
    entry = memcached.command(b"mg key v c").split(b"\r\n")[0]
    assert token in entry
    proxy.then = lambda: memcached.command(b"ms key T100 E%b S1" % token + b"\r\n1")
    proxy.lose_one()
    outcome = await asyncio.gather(
        store.cas("key", b"2", TTL, token), return_exceptions=True
    )
    if outcome != [CasResult.STORED]:  # a memcached that takes no tokens from clients
        assert outcome[0].outcome_unknown


@each_way
async def test_of_a_batch_each_write_is_unknown(losing, memcached):
    """Also where ten were asked together, and again."""
    proxy, store = losing
    keys = [f"key{number}" for number in range(10)]
    await asyncio.gather(*(store.add(key, b"1", TTL) for key in keys))
    tokens = {key: e.token for key, e in (await store.get_many(keys)).items()}
    proxy.lose_one(b"cas key")
    outcomes = await asyncio.gather(
        *(store.cas(key, b"2", TTL, tokens[key]) for key in keys),
        return_exceptions=True,
    )
    for outcome in outcomes:
        assert isinstance(outcome, StoreUnavailable)
        assert outcome.outcome_unknown
    assert {memcached.get(key) for key in keys} == {b"2"}


@pytest.mark.parametrize("kind", ["add", "cas"])
async def test_what_is_refused_the_second_time_may_have_been_done(connect, kind):
    """The first connection ended behind the write, and then nothing listens."""

    def breaks(connection):
        connection.recv(1000)
        connection.sendall(b"VALUE key 0 1 5\r\n1\r\nEND\r\n")
        connection.recv(1000)
        server.hang_up()  # nobody is let in any more
        connection.close()

    with ScriptedServer(breaks) as server:
        store = connect(server.url + "?timeout=1.5")
        token = (await store.get("key")).token
        more = (token,) if kind == "cas" else ()
        await unknown(getattr(store, kind)("key", b"2", TTL, *more))


@each_way
async def test_a_touch_or_delete_may_be_done_twice(losing, memcached):
    """They come to the same; that a key is gone is what a delete is for."""
    proxy, store = losing
    await store.add("key", b"1", TTL)
    proxy.lose_one()
    assert await store.touch("key", 5000.0)
    proxy.lose_one(b"delete key")
    assert await store.delete("key") is False
    assert memcached.get("key") is None


@each_way
async def test_a_read_is_asked_again(losing):
    """Nobody sees that its first answer was lost."""
    proxy, store = losing
    await store.add("key", b"1", TTL)
    proxy.lose_one(b"gets key")
    assert (await store.get("key")).data == b"1"
