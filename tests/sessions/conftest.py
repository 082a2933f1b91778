"""Managers over a store that a test scripts, in this process and in memcached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tornado_mcsession import MemcachedStore, MemoryStore, SessionManager

from ..support.clock import ManualClock
from ..support.memcached import Memcached
from ..support.scripted import ScriptedStore

SECRET = "a secret of the tests"


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
def make(store: ScriptedStore, clock: ManualClock) -> Callable[..., SessionManager]:
    """Makes managers, as of several processes, on one store and one clock."""

    def build(**options: Any) -> SessionManager:
        defaults: dict[str, Any] = {
            "store": store,
            "clock": clock,
            "cookie_secret": SECRET,
        }
        return SessionManager(**{**defaults, **options})

    return build


@pytest.fixture
def manager(make: Callable[..., SessionManager]) -> SessionManager:
    """A manager with default settings."""
    return make()


@pytest.fixture
def other(make: Callable[..., SessionManager]) -> SessionManager:
    """The manager of another process."""
    return make()
