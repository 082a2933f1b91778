"""What every store keeps, as tests: for as long as it is asked, on any loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from tornado_mcsession import CasResult, Store, StoreUnavailable

from .contract import OPERATIONS, TTL, Contract

DAY = 24 * 60 * 60
MONTH = 30 * DAY


class LoopContract(Contract):
    """A store works under any number of event loops, until it is closed."""

    def test_loops_may_come_and_go(self, new_store):
        """What one loop stored, the next one reads, though the first is closed."""
        store = new_store()
        for number in range(3):
            run(_count(store, expected=number))
        run(store.close())

    def test_loops_may_run_at_once(self, new_store):
        """Four threads with a loop each get their own answers."""
        store = new_store()
        start = threading.Barrier(4)
        failures = []

        def work(name):
            try:
                start.wait(10)
                run(_write_and_read(store, name))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        run(store.close())
        assert failures == []

    @pytest.mark.parametrize("turns", [1, 2, 4])
    def test_a_loop_may_close_too_early(self, new_store, turns):
        """Operations that a closed loop left behind hold up no later ones."""
        store = new_store()
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

    @pytest.mark.gen_test
    @pytest.mark.parametrize("operation", OPERATIONS)
    async def test_a_closed_store_says_so(self, store, operation):
        """After close, which may come twice, every operation is StoreUnavailable."""
        await store.add("key", b"1", TTL)
        await store.close()
        await store.close()
        with pytest.raises(StoreUnavailable, match="closed") as raised:
            await OPERATIONS[operation](store, "key")
        assert not raised.value.outcome_unknown

    @pytest.mark.gen_test
    async def test_an_unused_store_can_be_closed(self, new_store):
        """Closing needs no use before."""
        await new_store().close()


class ExpiryContract(Contract):
    """An entry lives as long as it should, not for ever, and ends."""

    @pytest.mark.gen_test
    @pytest.mark.parametrize("ttl", [MONTH, MONTH + 1, 400 * DAY, 10**12], ids=repr)
    async def test_a_long_life_does_not_end_at_once(self, store, ttl):
        """An entry of a month, of more, and of absurdly much is there."""
        assert await store.add("added", b"1", ttl)
        assert await store.add("changed", b"1", TTL)
        token = (await store.get("changed")).token
        assert await store.cas("changed", b"2", ttl, token) is CasResult.STORED
        assert await store.add("touched", b"1", TTL)
        assert await store.touch("touched", ttl)
        assert len(await store.get_many(["added", "changed", "touched"])) == 3

    @pytest.mark.gen_test
    async def test_entries_end_in_time(self, store):
        """However its time was set, an entry ends: not before, and soon after."""
        start = time.monotonic()
        await store.add("half", b"1", 0.5)
        await store.add("whole", b"1", 1)
        await store.add("changed", b"1", TTL)
        await store.cas("changed", b"1", 1, (await store.get("changed")).token)
        await store.add("touched", b"1", TTL)
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
        assert await store.add("whole", b"2", TTL)
        assert not await store.touch("changed", TTL)
        assert not await store.delete("touched")


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run ``coroutine`` on a loop of its own.

    Unlike `asyncio.run`, leave alone the loop that pytest-tornado made current.
    """
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


async def _get(store: Store, key: str) -> None:
    await store.get(key)


async def _count(store: Store, expected: int) -> None:
    """Raise the number under a key by one, seeing what was there."""
    entry = await store.get("count")
    if expected == 0:
        assert entry is None
        assert await store.add("count", b"1", TTL)
    else:
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
        entries = await asyncio.gather(*map(store.get, keys))
        assert [entry.data.decode() for entry in entries] == keys
    deleted = await asyncio.gather(*map(store.delete, keys))
    assert all(deleted)
