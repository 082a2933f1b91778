"""Applications to attack, over both kinds of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tornado_mcsession import MemcachedStore, MemoryStore, Store

from ..support.clock import ManualClock
from ..support.memcached import Memcached
from .target import Target


@pytest.fixture
def memcached_store(io_loop: Any, memcached: Memcached) -> Iterator[MemcachedStore]:
    """A patient client of the shared memcached."""
    host, port = memcached.server
    store = MemcachedStore(f"{host}:{port}", timeout=10)
    yield store
    io_loop.run_sync(store.close)


@pytest.fixture(
    params=["memory", pytest.param("memcached", marks=pytest.mark.integration)]
)
def any_store(request: pytest.FixtureRequest, clock: ManualClock) -> Store:
    """A `MemoryStore`, then a real memcached."""
    if request.param == "memcached":
        store: Store = request.getfixturevalue("memcached_store")
        return store
    return MemoryStore(clock=clock)


@pytest.fixture
def attack(io_loop: Any, clock: ManualClock) -> Iterator[Callable[..., Target]]:
    """Starts an application: of a handler or routes; keywords are its settings."""
    targets = []

    def start(
        routes: Any,
        way: str = "unsigned",
        store: Store | None = None,
        session: Any = None,
        **settings: Any,
    ) -> Target:
        store = store or MemoryStore(clock=clock)
        target = Target(store, clock, routes, way, session or {}, settings)
        targets.append(target)
        return target

    yield start
    for target in targets:
        io_loop.run_sync(target.close, timeout=20)
