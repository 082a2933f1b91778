"""What every store keeps, as tests that a store of your own can run. Needs pytest."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from ..exceptions import StoreUnavailable
from ..stores.base import CasResult, Entry, Store

__all__ = [
    "ArgumentContract",
    "ExpiryContract",
    "LoopContract",
    "StoreContract",
    "ValueContract",
]

TTL = 100.0
DAY = 24 * 60 * 60
MONTH = 30 * DAY
# Much longer than any test takes.
PATIENCE = 60.0

DATA = {
    "empty": b"",
    "line end": b"\r\n",
    "end of an answer": b"END\r\n",
    "an answer": b"VALUE key 0 1 1\r\nx\r\nEND\r\n",
    "every byte": bytes(range(256)),
    "500 kB": bytes(range(256)) * 2000,
}
BAD_KEYS: dict[str, Any] = {
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
BAD_TTLS: list[Any] = [0, 0.0, -1, math.nan, math.inf, -math.inf, True, None, "5"]
BAD_FLAGS: list[Any] = [-1, 2**32, True, None, "5", 1.0]
BAD_DATA: list[Any] = ["text", bytearray(b"x"), memoryview(b"x"), None, 5]
OPERATIONS: dict[str, Callable[[Store, Any], Awaitable[Any]]] = {
    "get": lambda store, key: store.get(key),
    "get_many": lambda store, key: store.get_many([key]),
    "add": lambda store, key: store.add(key, b"x", TTL),
    "cas": lambda store, key: store.cas(key, b"x", TTL, b"1"),
    "touch": lambda store, key: store.touch(key, TTL),
    "delete": lambda store, key: store.delete(key),
}


class _Contract:
    """Makes the stores that the tests are about."""

    def make_store(self) -> Store:
        """Return a new store, with nothing in it under the keys used here.

        Called once in each test; an event loop may be running or not.
        """
        raise NotImplementedError(
            f"{type(self).__name__} needs a method make_store that returns a new store"
        )


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run ``coroutine`` on a loop of its own.

    Unlike `asyncio.run`, this leaves the current event loop of the thread alone.
    """

    async def in_time() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await coroutine

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(in_time())


def _with_store(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Let pytest run an async test whose first argument is a store.

    It runs on a loop of its own, and the store is closed afterwards.
    """

    @functools.wraps(test)
    def run_test(self: _Contract, **given: Any) -> None:
        async def play() -> None:
            store = self.make_store()
            try:
                await test(self, store, **given)
            finally:
                await store.close()

        run(play())

    # pytest looks for a fixture or parameter for each name that it finds here.
    signature = inspect.signature(test)
    names = [name for name in signature.parameters.values() if name.name != "store"]
    run_test.__signature__ = signature.replace(parameters=names)  # type: ignore[attr-defined]
    return run_test


async def _found(store: Store, key: str) -> Entry:
    """Return what is stored under ``key``, where something must be."""
    entry = await store.get(key)
    assert entry is not None, "get found nothing where something was stored"
    return entry


class ValueContract(_Contract):
    """A store returns what was written last, and cas is atomic."""

    @pytest.mark.parametrize("data", DATA.values(), ids=DATA)
    @_with_store
    async def test_bytes_come_back_as_they_were(self, store: Store, data: Any) -> None:
        """Whatever bytes are stored by add or cas are what get returns."""
        assert await store.add("key", data, TTL)
        entry = await _found(store, "key")
        assert entry.data == data
        assert type(entry.data) is bytes
        assert await store.cas("key", data + b"x", TTL, entry.token) is CasResult.STORED
        assert (await _found(store, "key")).data == data + b"x"

    @pytest.mark.parametrize("key", ["k", "!~{}%/:", "k" * 250])
    @_with_store
    async def test_every_printable_key_is_a_key(self, store: Store, key: Any) -> None:
        """A key may have any printable ASCII characters, and 250 of them."""
        assert await store.add(key, b"1", TTL)
        assert (await _found(store, key)).data == b"1"

    @pytest.mark.parametrize("flags", [0, 1, 255, 2**16, 2**32 - 1])
    @_with_store
    async def test_flags_come_back_as_they_were(self, store: Store, flags: Any) -> None:
        """What add or cas says of the data is what get and get_many say of it."""
        assert await store.add("key", b"1", TTL, flags)
        entry = await _found(store, "key")
        assert entry.flags == flags
        assert (await store.get_many(["key"]))["key"].flags == flags
        stored = await store.cas("key", b"1", TTL, entry.token, 7)
        assert stored is CasResult.STORED
        assert (await _found(store, "key")).flags == 7
        assert await store.touch("key", TTL)
        entry = await _found(store, "key")
        assert entry.flags == 7
        assert await store.cas("key", b"1", TTL, entry.token) is CasResult.STORED
        assert (await _found(store, "key")).flags == 0

    @pytest.mark.parametrize("operation", OPERATIONS)
    @_with_store
    async def test_operations_are_awaitable(self, store: Store, operation: str) -> None:
        """They return a coroutine, a future or another awaitable."""
        started = OPERATIONS[operation](store, "key")
        assert inspect.isawaitable(started)
        await started

    @_with_store
    async def test_what_is_not_there_is_none(self, store: Store) -> None:
        """A get of a key that holds nothing returns None."""
        assert await store.get("nothing") is None

    @_with_store
    async def test_add_replaces_nothing(self, store: Store) -> None:
        """A key that is taken keeps its data and its version."""
        assert await store.add("key", b"1", TTL)
        entry = await _found(store, "key")
        assert not await store.add("key", b"2", TTL)
        assert (await _found(store, "key")).data == b"1"
        assert await store.cas("key", b"3", TTL, entry.token) is CasResult.STORED

    @_with_store
    async def test_cas_replaces_only_the_version_it_names(self, store: Store) -> None:
        """Of two writers with one version, the second conflicts and changes nothing."""
        await store.add("key", b"1", TTL)
        first, second = await _found(store, "key"), await _found(store, "key")
        assert await store.cas("key", b"2", TTL, first.token) is CasResult.STORED
        assert await store.cas("key", b"3", TTL, second.token) is CasResult.CONFLICT
        assert (await _found(store, "key")).data == b"2"

    @_with_store
    async def test_cas_with_the_same_bytes_is_a_new_version(self, store: Store) -> None:
        """Versions are told apart by writes, not by what was written."""
        await store.add("key", b"1", TTL)
        entry = await _found(store, "key")
        assert await store.cas("key", b"1", TTL, entry.token) is CasResult.STORED
        assert await store.cas("key", b"1", TTL, entry.token) is CasResult.CONFLICT

    @_with_store
    async def test_cas_brings_nothing_back(self, store: Store) -> None:
        """What was deleted is missing, and stays so."""
        await store.add("key", b"1", TTL)
        entry = await _found(store, "key")
        await store.delete("key")
        assert await store.cas("key", b"2", TTL, entry.token) is CasResult.MISSING
        assert await store.get("key") is None

    @_with_store
    async def test_deleted_and_added_again_is_another_version(
        self, store: Store
    ) -> None:
        """A version from before a delete conflicts, though the bytes are the same."""
        await store.add("key", b"1", TTL)
        entry = await _found(store, "key")
        await store.delete("key")
        await store.add("key", b"1", TTL)
        assert await store.cas("key", b"2", TTL, entry.token) is CasResult.CONFLICT
        assert (await _found(store, "key")).data == b"1"

    @_with_store
    async def test_touch_keeps_the_data(self, store: Store) -> None:
        """Touch says whether something was there, and leaves its bytes alone."""
        assert not await store.touch("key", TTL)
        assert await store.get("key") is None
        await store.add("key", b"1", TTL)
        assert await store.touch("key", 2 * TTL)
        assert (await _found(store, "key")).data == b"1"

    @_with_store
    async def test_delete_says_whether_it_was_there(self, store: Store) -> None:
        """Only the first delete finds something; other keys stay."""
        await store.add("key", b"1", TTL)
        await store.add("other", b"2", TTL)
        assert await store.delete("key") is True
        assert await store.delete("key") is False
        assert await store.get("key") is None
        assert (await _found(store, "other")).data == b"2"

    @_with_store
    async def test_get_many_finds_what_is_there(self, store: Store) -> None:
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

    @_with_store
    async def test_of_writers_at_once_one_wins(self, store: Store) -> None:
        """Of adds and of cas under way at the same time, exactly one is done."""
        added = [store.add("key", b"%d" % n, TTL) for n in range(20)]
        assert sorted(await asyncio.gather(*added)) == [False] * 19 + [True]
        token = (await _found(store, "key")).token
        results = await asyncio.gather(
            *(store.cas("key", b"%d" % n, TTL, token) for n in range(20))
        )
        assert results.count(CasResult.STORED) == 1
        assert results.count(CasResult.CONFLICT) == 19
        winner = results.index(CasResult.STORED)
        assert (await _found(store, "key")).data == b"%d" % winner


class ArgumentContract(_Contract):
    """Bad keys, data, times and flags are refused, and change nothing."""

    @pytest.mark.parametrize("operation", OPERATIONS)
    @pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
    @_with_store
    async def test_a_bad_key_is_refused(
        self, store: Store, operation: str, key: Any
    ) -> None:
        """What is no key is an error that does not show it."""
        expected = ValueError if isinstance(key, str) else TypeError
        with pytest.raises(expected) as raised:
            await OPERATIONS[operation](store, key)
        assert key is None or key == "" or repr(key) not in str(raised.value)

    @pytest.mark.parametrize("ttl", BAD_TTLS, ids=repr)
    @_with_store
    async def test_a_bad_ttl_is_refused(self, store: Store, ttl: Any) -> None:
        """What is no time greater than 0 is an error, whatever is there."""
        number = isinstance(ttl, int | float) and not isinstance(ttl, bool)
        expected = ValueError if number else TypeError
        await store.add("key", b"1", TTL)
        token = (await _found(store, "key")).token
        for key in ("key", "nothing"):
            with pytest.raises(expected):
                await store.add(key, b"2", ttl)
            with pytest.raises(expected):
                await store.cas(key, b"2", ttl, token)
            with pytest.raises(expected):
                await store.touch(key, ttl)
        assert (await _found(store, "key")).data == b"1"
        assert await store.get("nothing") is None

    @pytest.mark.parametrize("data", BAD_DATA, ids=lambda data: type(data).__name__)
    @_with_store
    async def test_only_bytes_are_stored(self, store: Store, data: Any) -> None:
        """What is not bytes is an error, whatever is there."""
        await store.add("key", b"1", TTL)
        token = (await _found(store, "key")).token
        for key in ("key", "nothing"):
            with pytest.raises(TypeError):
                await store.add(key, data, TTL)
            with pytest.raises(TypeError):
                await store.cas(key, data, TTL, token)
        assert (await _found(store, "key")).data == b"1"
        assert await store.get("nothing") is None

    @pytest.mark.parametrize("flags", BAD_FLAGS, ids=repr)
    @_with_store
    async def test_bad_flags_are_refused(self, store: Store, flags: Any) -> None:
        """What is no number of 32 bits is an error, whatever is there."""
        number = isinstance(flags, int) and not isinstance(flags, bool)
        expected = ValueError if number else TypeError
        await store.add("key", b"1", TTL)
        token = (await _found(store, "key")).token
        for key in ("key", "nothing"):
            with pytest.raises(expected):
                await store.add(key, b"2", TTL, flags)
            with pytest.raises(expected):
                await store.cas(key, b"2", TTL, token, flags)
        assert (await _found(store, "key")).data == b"1"
        assert await store.get("nothing") is None


class LoopContract(_Contract):
    """A store works under any number of event loops, until it is closed."""

    def test_loops_may_come_and_go(self) -> None:
        """What one loop stored, the next one reads, though the first is closed."""
        store = self.make_store()
        for number in range(3):
            run(_count(store, expected=number))
        run(store.close())

    def test_loops_may_run_at_once(self) -> None:
        """Four threads with a loop each get their own answers."""
        store = self.make_store()
        start = threading.Barrier(4)
        failures: list[BaseException] = []

        def work(name: str) -> None:
            try:
                start.wait(10)
                run(_write_and_read(store, name))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run(store.close())
        assert failures == []

    @pytest.mark.parametrize("turns", [1, 2, 4])
    def test_a_loop_may_close_too_early(self, turns: int) -> None:
        """Operations that a closed loop left behind hold up no later ones."""
        store = self.make_store()
        loop = asyncio.new_event_loop()
        # Its tasks are destroyed while they wait, which it would log.
        loop.set_exception_handler(lambda *_: None)
        tasks = [loop.create_task(_get(store, f"key{n}")) for n in range(100)]
        for _ in range(turns):
            loop.call_soon(loop.stop)
            loop.run_forever()
        loop.close()
        del tasks
        run(_count(store, expected=0))
        run(store.close())

    @pytest.mark.parametrize("operation", OPERATIONS)
    @_with_store
    async def test_a_closed_store_says_so(self, store: Store, operation: str) -> None:
        """After close, which may come twice, every operation is StoreUnavailable."""
        await store.add("key", b"1", TTL)
        await store.close()
        await store.close()
        with pytest.raises(StoreUnavailable) as raised:
            await OPERATIONS[operation](store, "key")
        assert not raised.value.outcome_unknown

    def test_an_unused_store_can_be_closed(self) -> None:
        """Closing a store that was never used is no error."""
        run(self.make_store().close())


class ExpiryContract(_Contract):
    """An entry lives as long as it should, and then ends."""

    @pytest.mark.parametrize("ttl", [MONTH, MONTH + 1, 400 * DAY, 10**12], ids=repr)
    @_with_store
    async def test_a_long_life_does_not_end_at_once(
        self, store: Store, ttl: Any
    ) -> None:
        """An entry of a month, of more, and of absurdly much is there."""
        assert await store.add("added", b"1", ttl)
        assert await store.add("changed", b"1", TTL)
        token = (await _found(store, "changed")).token
        assert await store.cas("changed", b"2", ttl, token) is CasResult.STORED
        assert await store.add("touched", b"1", TTL)
        assert await store.touch("touched", ttl)
        assert len(await store.get_many(["added", "changed", "touched"])) == 3

    @_with_store
    async def test_entries_end_in_time(self, store: Store) -> None:
        """However its time was set, an entry ends: not before, and soon after."""
        start = time.monotonic()
        await store.add("half", b"1", 0.5)
        await store.add("whole", b"1", 1)
        await store.add("changed", b"1", TTL)
        await store.cas("changed", b"1", 1, (await _found(store, "changed")).token)
        await store.add("touched", b"1", TTL)
        token = (await _found(store, "touched")).token
        await store.touch("touched", 1)
        await store.add("staying", b"1", TTL)
        ends = {"half": 0.5, "whole": 1.0, "changed": 1.0, "touched": 1.0}
        while ends:
            before = time.monotonic() - start
            found = await store.get_many([*ends, "staying"])
            assert "staying" in found
            assert before < 6, "these do not end: " + ", ".join(ends)
            for key in [key for key in ends if key not in found]:
                assert time.monotonic() - start >= ends.pop(key), f"{key} ended early"
            await asyncio.sleep(0.02)
        # Before an add, which may remove for good what has ended.
        assert await store.cas("touched", b"2", TTL, token) is CasResult.MISSING
        assert not await store.touch("changed", TTL)
        assert not await store.delete("half")
        assert await store.add("whole", b"2", TTL)
        assert not await store.get_many(["touched", "changed", "half"])


class StoreContract(ValueContract, ArgumentContract, LoopContract, ExpiryContract):
    """What the session manager expects of every store, in about 140 tests.

    Derive a class from it, and let it make your store::

        class TestMyStore(StoreContract):
            def make_store(self):
                return MyStore("127.0.0.1")

    The store must be empty each time, at least of keys that begin with letters. If a
    server keeps what is stored, let a fixture empty the server before each test.

    It has four parts, which can be used one by one: ``ValueContract``,
    ``ArgumentContract``, ``LoopContract`` and ``ExpiryContract``.
    """


async def _get(store: Store, key: str) -> None:
    await store.get(key)


async def _count(store: Store, expected: int) -> None:
    """Raise the number under a key by one, seeing what was there."""
    if expected == 0:
        assert await store.get("count") is None
        assert await store.add("count", b"1", TTL)
    else:
        entry = await _found(store, "count")
        assert entry.data == b"%d" % expected
        data = b"%d" % (expected + 1)
        assert await store.cas("count", data, TTL, entry.token) is CasResult.STORED


async def _write_and_read(store: Store, name: str) -> None:
    keys = [f"{name}{number}" for number in range(50)]
    added = await asyncio.gather(
        *(store.add(key, key.encode(), TTL) for key in keys),
    )
    assert all(added)
    for _ in range(5):
        entries = await asyncio.gather(*(_found(store, key) for key in keys))
        assert [entry.data.decode() for entry in entries] == keys
    deleted = await asyncio.gather(*map(store.delete, keys))
    assert all(deleted)
