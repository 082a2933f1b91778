"""StoreContract: a store with a flaw fails it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tornado_mcsession import CasResult, Entry, MemoryStore, StoreUnavailable
from tornado_mcsession.testing import StoreContract
from tornado_mcsession.testing.contract import run


class Overwrites(MemoryStore):
    """Its add replaces what is there."""

    async def add(self, key, data, ttl, flags=0):
        await self.delete(key)
        return await super().add(key, data, ttl, flags)


class Swallows(MemoryStore):
    """Returns None whatever happens, as in an outage."""

    async def get(self, key):
        try:
            return await super().get(key)
        except StoreUnavailable:
            return None


class IgnoresTokens(MemoryStore):
    """The last writer wins."""

    async def cas(self, key, data, ttl, token, flags=0):
        entry = await super().get(key)
        token = token if entry is None else entry.token
        return await super().cas(key, data, ttl, token, flags)


class ComparesData(MemoryStore):
    """Its tokens are the data."""

    async def get(self, key):
        entry = await super().get(key)
        return None if entry is None else entry._replace(token=entry.data)

    async def cas(self, key, data, ttl, token, flags=0):
        entry = await super().get(key)
        if entry is not None and entry.data == token:
            token = entry.token
        return await super().cas(key, data, ttl, token, flags)


class Creates(MemoryStore):
    """Its cas brings back what is gone."""

    async def cas(self, key, data, ttl, token, flags=0):
        result = await super().cas(key, data, ttl, token, flags)
        if result is CasResult.MISSING:
            await self.add(key, data, ttl, flags)
            return CasResult.STORED
        return result


class Races(MemoryStore):
    """Looks, waits, and then writes."""

    async def cas(self, key, data, ttl, token, flags=0):
        entry = await super().get(key)
        await asyncio.sleep(0)
        if entry is None or entry.token != token:
            return CasResult.CONFLICT
        current = await super().get(key)
        return await super().cas(key, data, ttl, current.token, flags)


class ForgetsFlags(MemoryStore):
    async def add(self, key, data, ttl, flags=0):
        return await super().add(key, data, ttl)


class Text(MemoryStore):
    """Gives back something that is not bytes."""

    async def get(self, key):
        entry = await super().get(key)
        return entry and entry._replace(data=bytearray(entry.data))


class NeverEnds(MemoryStore):
    async def add(self, key, data, ttl, flags=0):
        return await super().add(key, data, 10**9, flags)


class ShortMonth(MemoryStore):
    """Takes a long time for a date, as memcached does."""

    async def touch(self, key, ttl):
        if ttl > 30 * 86_400:
            await self.delete(key)
            return True
        return await super().touch(key, ttl)


class OneLoop(MemoryStore):
    """Bound to the loop of its first use."""

    _loop: Any = None

    async def get(self, key):
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise RuntimeError("attached to a different loop")
        return await super().get(key)


class LosesGuard(MemoryStore):
    """Two threads at once get in each other's way."""

    async def add(self, key, data, ttl, flags=0):
        if threading.active_count() > 2 and key.startswith("d"):
            return False
        return await super().add(key, data, ttl, flags)


class TakesAnyKey(MemoryStore):
    async def get(self, key):
        return await super().get("key" if not key or " " in str(key) else key)


class ShowsKeys(MemoryStore):
    async def get(self, key):
        if isinstance(key, str) and len(key) > 250:
            raise ValueError(f"bad key {key!r}")
        return await super().get(key)


class ClosesOnce(MemoryStore):
    async def close(self):
        if self._closed:
            raise RuntimeError("closed already")
        await super().close()


class TakesAnyData(MemoryStore):
    async def add(self, key, data, ttl, flags=0):
        return await super().add(key, bytes(data or b""), ttl, flags)


class Reads(MemoryStore):
    """Cannot be awaited."""

    def get(self, key) -> Entry | None:  # type: ignore[override]
        return None


FLAWS = [
    (Overwrites, "add_replaces_nothing", {}),
    (Swallows, "a_closed_store_says_so", {"operation": "get"}),
    (IgnoresTokens, "cas_replaces_only_the_version_it_names", {}),
    (ComparesData, "cas_with_the_same_bytes_is_a_new_version", {}),
    (ComparesData, "deleted_and_added_again_is_another_version", {}),
    (Creates, "cas_brings_nothing_back", {}),
    (Races, "of_writers_at_once_one_wins", {}),
    (ForgetsFlags, "flags_come_back_as_they_were", {"flags": 1}),
    (Text, "bytes_come_back_as_they_were", {"data": b"1"}),
    (NeverEnds, "entries_end_in_time", {}),
    (Creates, "entries_end_in_time", {}),
    (ShortMonth, "a_long_life_does_not_end_at_once", {"ttl": 31 * 86_400}),
    (OneLoop, "loops_may_come_and_go", {}),
    (LosesGuard, "loops_may_run_at_once", {}),
    (TakesAnyKey, "a_bad_key_is_refused", {"operation": "get", "key": "a b"}),
    (ShowsKeys, "a_bad_key_is_refused", {"operation": "get", "key": "k" * 251}),
    (ClosesOnce, "a_closed_store_says_so", {"operation": "add"}),
    (TakesAnyData, "only_bytes_are_stored", {"data": bytearray(b"x")}),
    (Reads, "operations_are_awaitable", {"operation": "get"}),
]


@pytest.mark.parametrize(
    ("store", "test", "given"),
    FLAWS,
    ids=[f"{store.__name__}-{test}" for store, test, _ in FLAWS],
)
def test_a_flaw_is_found(store, test, given):
    """The test that is about it fails, and passes with a store that has no flaw."""

    class OfStore(StoreContract):
        def __init__(self, make_store):
            self.make_store = make_store

    if store is not NeverEnds:  # the good ones are tested elsewhere; this takes a while
        getattr(OfStore(MemoryStore), f"test_{test}")(**given)
    with pytest.raises((AssertionError, RuntimeError, pytest.fail.Exception)):
        getattr(OfStore(store), f"test_{test}")(**given)


def test_a_store_that_hangs_ends_its_test(monkeypatch):
    """It is a TimeoutError, not a test run that never ends."""
    monkeypatch.setattr("tornado_mcsession.testing.contract.PATIENCE", 0.05)
    with pytest.raises(TimeoutError):
        run(asyncio.Event().wait())


def test_a_class_needs_a_store():
    """Without its one method, each test says so."""
    with pytest.raises(NotImplementedError, match="StoreContract needs a method make_"):
        StoreContract().test_add_replaces_nothing()
