"""Managers over both kinds of store, with a script and a clock in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tornado.web import Application

from tornado_mcsession import MemcachedStore, MemoryStore, SessionManager, Store

from ..support.clock import ManualClock
from ..support.memcached import Memcached
from ..support.scripted import ScriptedStore


@pytest.fixture
def memcached_store(io_loop: Any, memcached: Memcached) -> Iterator[MemcachedStore]:
    """A patient client of the shared memcached."""
    host, port = memcached.server
    store = MemcachedStore(f"{host}:{port}", timeout=5)
    yield store
    io_loop.run_sync(store.close)


@pytest.fixture(
    params=["memory", pytest.param("memcached", marks=pytest.mark.integration)]
)
def store(request: pytest.FixtureRequest, clock: ManualClock) -> ScriptedStore:
    """A scripted store over a `MemoryStore`, then over a real memcached."""
    if request.param == "memcached":
        return ScriptedStore(request.getfixturevalue("memcached_store"))
    return ScriptedStore(MemoryStore(clock=clock))


@pytest.fixture
def make(clock: ManualClock) -> Callable[..., SessionManager]:
    """Makes managers on the test's clock."""

    def build(store: Store, **options: Any) -> SessionManager:
        return SessionManager(store=store, **{"clock": clock, **options})

    return build


@pytest.fixture
def manager(store: ScriptedStore, make: Callable[..., Any]) -> SessionManager:
    """A manager over ``store``, with default settings."""
    return make(store)


@pytest.fixture
def build(clock: ManualClock) -> Callable[..., SessionManager]:
    """Makes managers of applications, over a `MemoryStore` of their own."""

    def build(
        cookie_secret: Any = None, key_version: int | None = None, **options: Any
    ) -> SessionManager:
        app = Application(cookie_secret=cookie_secret, key_version=key_version)
        return SessionManager(
            app, **{"store": MemoryStore(), "clock": clock, **options}
        )

    return build
