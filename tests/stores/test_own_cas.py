"""Stores derived from the package's, which know of `cas` and not of `begin_cas`."""

from __future__ import annotations

import pytest

from tornado_mcsession import MemcachedStore, MemoryStore
from tornado_mcsession.stores.base import CasResult


class Counts:
    """Counts what it is asked, and passes it on."""

    asked = 0

    async def cas(self, key, data, ttl, token):
        self.asked += 1
        return await super().cas(key, data, ttl, token)


class MixedIntoMemcached(Counts, MemcachedStore):
    pass


class MixedIntoMemory(Counts, MemoryStore):
    pass


class OwnMemcached(MemcachedStore):
    asked = 0

    async def cas(self, key, data, ttl, token):
        self.asked += 1
        return await super().cas(key, data, ttl, token)


class OwnMemory(MemoryStore):
    asked = 0

    async def cas(self, key, data, ttl, token):
        self.asked += 1
        return await super().cas(key, data, ttl, token)


class OwnBoth(OwnMemory):
    """Knows of both: it is asked by the one that the manager asks."""

    begun = 0

    def begin_cas(self, key, data, ttl, token):
        self.begun += 1
        return self.cas(key, data, ttl, token)


async def replaced(store):
    """What becomes of an entry that is replaced as the manager does it."""
    assert await store.add("own-cas", b"1", 60)
    try:
        token = (await store.get("own-cas")).token
        done = await store.begin_cas("own-cas", b"2", 60, token)
        assert (await store.get("own-cas")).data == b"2"
    finally:
        await store.delete("own-cas")
        await store.close()
    return done


@pytest.mark.gen_test
@pytest.mark.integration
@pytest.mark.parametrize("kind", [OwnMemcached, MixedIntoMemcached])
async def test_it_is_asked_over_memcached(memcached, kind):
    """Once: neither passed over, nor asked by what it passes on to."""
    host, port = memcached.server
    store = kind(f"{host}:{port}", timeout=5)
    assert await replaced(store) is CasResult.STORED
    assert store.asked == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", [OwnMemory, MixedIntoMemory, OwnBoth])
async def test_it_is_asked_in_memory(kind):
    """Likewise; who overrides begin_cas too is asked by that."""
    store = kind()
    assert await replaced(store) is CasResult.STORED
    assert store.asked == 1
    assert getattr(store, "begun", 1) == 1
