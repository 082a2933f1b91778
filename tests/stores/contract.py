"""What every store keeps, as tests. A store of your own can run them too.

Derive a class from these and from those of `contract_life`, and let its fixture
``new_store`` return a function that makes a store, empty at least of the keys
used here::

    class TestMyStore(StoreContract, ArgumentContract, LoopContract, ExpiryContract):
        @pytest.fixture
        def new_store(self):
            return lambda: MyStore("127.0.0.1")

They need pytest and pytest-tornado.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import random
from collections.abc import Callable, Iterator

import pytest

from tornado_mcsession import CasResult, Store

TTL = 100.0

DATA = {
    "empty": b"",
    "line end": b"\r\n",
    "end of an answer": b"END\r\n",
    "an answer": b"VALUE key 0 1 1\r\nx\r\nEND\r\n",
    "every byte": bytes(range(256)),
    "500 kB": random.Random(1).randbytes(500_000),
}
BAD_KEYS = {
    "empty": "",
    "space": "a b",
    "newline": "a\n",
    "line end": "a\r\ndelete victim",
    "NUL": "a\0",
    "control": "a\x7f",
    "long": "k" * 251,
    "non-ASCII": "schlüssel",
    "surrogate": "\ud800",
    "bytes": b"key",
    "None": None,
    "number": 5,
}
BAD_TTLS = [0, 0.0, -1, math.nan, math.inf, -math.inf, True, None, "5"]
BAD_FLAGS = [-1, 2**32, True, None, "5", 1.0]
BAD_DATA = ["text", bytearray(b"x"), memoryview(b"x"), None, 5]
OPERATIONS: dict[str, Callable[[Store, str], object]] = {
    "get": lambda store, key: store.get(key),
    "get_many": lambda store, key: store.get_many([key]),
    "add": lambda store, key: store.add(key, b"x", TTL),
    "cas": lambda store, key: store.cas(key, b"x", TTL, b"1"),
    "touch": lambda store, key: store.touch(key, TTL),
    "delete": lambda store, key: store.delete(key),
}


class Contract:
    """The fixtures of all contracts."""

    @pytest.fixture
    def new_store(self) -> Callable[[], Store]:
        raise NotImplementedError("return a function that makes a store")

    @pytest.fixture
    def store(self, new_store, io_loop) -> Iterator[Store]:
        store = new_store()
        yield store
        io_loop.run_sync(store.close)


class StoreContract(Contract):
    """What is read is what was written last, or nothing."""

    @pytest.mark.gen_test
    @pytest.mark.parametrize("data", DATA.values(), ids=DATA)
    async def test_bytes_come_back_as_they_were(self, store, data):
        """Whatever bytes are stored by add or cas are what get returns."""
        assert await store.add("key", data, TTL)
        entry = await store.get("key")
        assert entry.data == data
        assert type(entry.data) is bytes
        assert await store.cas("key", data + b"x", TTL, entry.token) is CasResult.STORED
        assert (await store.get("key")).data == data + b"x"

    @pytest.mark.gen_test
    @pytest.mark.parametrize("key", ["k", "!~{}%/:", "k" * 250])
    async def test_every_printable_key_is_a_key(self, store, key):
        """A key may have any printable ASCII characters, and 250 of them."""
        assert await store.add(key, b"1", TTL)
        assert (await store.get(key)).data == b"1"

    @pytest.mark.gen_test
    @pytest.mark.parametrize("flags", [0, 1, 255, 2**16, 2**32 - 1])
    async def test_flags_come_back_as_they_were(self, store, flags):
        """What add or cas says of the data is what get and get_many say of it."""
        assert await store.add("key", b"1", TTL, flags)
        entry = await store.get("key")
        assert entry.flags == flags
        assert (await store.get_many(["key"]))["key"].flags == flags
        stored = await store.cas("key", b"1", TTL, entry.token, 7)
        assert stored is CasResult.STORED
        assert (await store.get("key")).flags == 7
        assert await store.touch("key", TTL)
        entry = await store.get("key")
        assert entry.flags == 7
        assert await store.cas("key", b"1", TTL, entry.token) is CasResult.STORED
        assert (await store.get("key")).flags == 0

    @pytest.mark.gen_test
    @pytest.mark.parametrize("operation", OPERATIONS)
    async def test_operations_are_awaitable(self, store, operation):
        """A coroutine, a future or anything else that can be awaited, once or so."""
        started = OPERATIONS[operation](store, "key")
        assert inspect.isawaitable(started)
        await started

    @pytest.mark.gen_test
    async def test_what_is_not_there_is_none(self, store):
        """Of a key that holds nothing, get tells so."""
        assert await store.get("nothing") is None

    @pytest.mark.gen_test
    async def test_add_replaces_nothing(self, store):
        """A key that is taken keeps its data and its version."""
        assert await store.add("key", b"1", TTL)
        entry = await store.get("key")
        assert not await store.add("key", b"2", TTL)
        assert (await store.get("key")).data == b"1"
        assert await store.cas("key", b"3", TTL, entry.token) is CasResult.STORED

    @pytest.mark.gen_test
    async def test_cas_replaces_only_the_version_it_names(self, store):
        """Of two writers with one version, the second conflicts and changes nothing."""
        await store.add("key", b"1", TTL)
        first, second = await store.get("key"), await store.get("key")
        assert await store.cas("key", b"2", TTL, first.token) is CasResult.STORED
        assert await store.cas("key", b"3", TTL, second.token) is CasResult.CONFLICT
        assert (await store.get("key")).data == b"2"

    @pytest.mark.gen_test
    async def test_cas_with_the_same_bytes_is_a_new_version(self, store):
        """Versions are told apart by writes, not by what was written."""
        await store.add("key", b"1", TTL)
        entry = await store.get("key")
        assert await store.cas("key", b"1", TTL, entry.token) is CasResult.STORED
        assert await store.cas("key", b"1", TTL, entry.token) is CasResult.CONFLICT

    @pytest.mark.gen_test
    async def test_cas_brings_nothing_back(self, store):
        """What was deleted is missing, and stays so."""
        await store.add("key", b"1", TTL)
        entry = await store.get("key")
        await store.delete("key")
        assert await store.cas("key", b"2", TTL, entry.token) is CasResult.MISSING
        assert await store.get("key") is None

    @pytest.mark.gen_test
    async def test_deleted_and_added_again_is_another_version(self, store):
        """A version from before a delete conflicts, though the bytes are the same."""
        await store.add("key", b"1", TTL)
        entry = await store.get("key")
        await store.delete("key")
        await store.add("key", b"1", TTL)
        assert await store.cas("key", b"2", TTL, entry.token) is CasResult.CONFLICT
        assert (await store.get("key")).data == b"1"

    @pytest.mark.gen_test
    async def test_touch_keeps_the_data(self, store):
        """Touch says whether something was there, and leaves its bytes alone."""
        assert not await store.touch("key", TTL)
        assert await store.get("key") is None
        await store.add("key", b"1", TTL)
        assert await store.touch("key", 2 * TTL)
        assert (await store.get("key")).data == b"1"

    @pytest.mark.gen_test
    async def test_delete_says_whether_it_was_there(self, store):
        """Only the first delete finds something; other keys stay."""
        await store.add("key", b"1", TTL)
        await store.add("other", b"2", TTL)
        assert await store.delete("key") is True
        assert await store.delete("key") is False
        assert await store.get("key") is None
        assert (await store.get("other")).data == b"2"

    @pytest.mark.gen_test
    async def test_get_many_finds_what_is_there(self, store):
        """What is there comes back by its key, with a version; the rest is left out."""
        keys = [f"key{n}" for n in range(20)]
        for key in keys[::2]:
            await store.add(key, key.encode(), TTL)
        found = await store.get_many([*keys, keys[0]])
        assert {key: entry.data for key, entry in found.items()} == {
            key: key.encode() for key in keys[::2]
        }
        token = found["key0"].token
        assert await store.cas("key0", b"2", TTL, token) is CasResult.STORED
        assert await store.get_many([]) == {}

    @pytest.mark.gen_test
    async def test_of_writers_at_once_one_wins(self, store):
        """Of adds and of cas under way at the same time, exactly one is done."""
        added = [store.add("key", b"%d" % n, TTL) for n in range(20)]
        assert sorted(await asyncio.gather(*added)) == [False] * 19 + [True]
        token = (await store.get("key")).token
        results = await asyncio.gather(
            *(store.cas("key", b"%d" % n, TTL, token) for n in range(20))
        )
        assert results.count(CasResult.STORED) == 1
        assert results.count(CasResult.CONFLICT) == 19
        winner = results.index(CasResult.STORED)
        assert (await store.get("key")).data == b"%d" % winner


class ArgumentContract(Contract):
    """What cannot mean anything is refused, and changes nothing."""

    @pytest.mark.gen_test
    @pytest.mark.parametrize("operation", OPERATIONS)
    @pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
    async def test_a_bad_key_is_refused(self, store, operation, key):
        """What is no key is an error that does not show it."""
        expected = ValueError if isinstance(key, str) else TypeError
        with pytest.raises(expected) as raised:
            await OPERATIONS[operation](store, key)
        assert key is None or key == "" or repr(key) not in str(raised.value)

    @pytest.mark.gen_test
    @pytest.mark.parametrize("ttl", BAD_TTLS, ids=repr)
    async def test_a_bad_ttl_is_refused(self, store, ttl):
        """What is no time greater than 0 is an error, whatever is there."""
        number = isinstance(ttl, int | float) and not isinstance(ttl, bool)
        expected = ValueError if number else TypeError
        await store.add("key", b"1", TTL)
        token = (await store.get("key")).token
        for key in ("key", "nothing"):
            with pytest.raises(expected):
                await store.add(key, b"2", ttl)
            with pytest.raises(expected):
                await store.cas(key, b"2", ttl, token)
            with pytest.raises(expected):
                await store.touch(key, ttl)
        assert (await store.get("key")).data == b"1"
        assert await store.get("nothing") is None

    @pytest.mark.gen_test
    @pytest.mark.parametrize("data", BAD_DATA, ids=lambda data: type(data).__name__)
    async def test_only_bytes_are_stored(self, store, data):
        """What is not bytes is an error, whatever is there."""
        await store.add("key", b"1", TTL)
        token = (await store.get("key")).token
        for key in ("key", "nothing"):
            with pytest.raises(TypeError):
                await store.add(key, data, TTL)
            with pytest.raises(TypeError):
                await store.cas(key, data, TTL, token)
        assert (await store.get("key")).data == b"1"
        assert await store.get("nothing") is None

    @pytest.mark.gen_test
    @pytest.mark.parametrize("flags", BAD_FLAGS, ids=repr)
    async def test_bad_flags_are_refused(self, store, flags):
        """What is no number of 32 bits is an error, whatever is there."""
        number = isinstance(flags, int) and not isinstance(flags, bool)
        expected = ValueError if number else TypeError
        await store.add("key", b"1", TTL)
        token = (await store.get("key")).token
        for key in ("key", "nothing"):
            with pytest.raises(expected):
                await store.add(key, b"2", TTL, flags)
            with pytest.raises(expected):
                await store.cas(key, b"2", TTL, token, flags)
        assert (await store.get("key")).data == b"1"
        assert await store.get("nothing") is None
