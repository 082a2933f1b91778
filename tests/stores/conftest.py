"""Stores, and the servers that only their tests use."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tornado_mcsession import MemcachedStore

from ..support.memcached import Memcached
from .recording import RecordingProxy


@pytest.fixture
def recorder(memcached: Memcached) -> Iterator[RecordingProxy]:
    """A network in front of ``memcached`` that remembers what was sent."""
    with RecordingProxy(memcached.port) as proxy:
        yield proxy


@pytest.fixture
def connect(io_loop) -> Iterator[Callable[..., MemcachedStore]]:
    """Make stores by ``MemcachedStore.from_url``; they are closed at the end."""
    stores = []

    def connect(url: str) -> MemcachedStore:
        store = MemcachedStore.from_url(url)
        stores.append(store)
        return store

    yield connect
    for store in stores:
        io_loop.run_sync(store.close)
