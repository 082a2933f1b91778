"""Managers over a store that a test scripts, in this process and in memcached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tornado_mcsession import SessionManager, Store

from ..support.clock import ManualClock
from ..support.scripted import ScriptedStore

SECRET = "a secret of the tests"


@pytest.fixture
def store(any_store: Store) -> ScriptedStore:
    """A scripted store over a `MemoryStore`, then over a real memcached."""
    return ScriptedStore(any_store)


@pytest.fixture
def make(clock: ManualClock) -> Callable[..., SessionManager]:
    """Makes managers, as of several processes, on one clock."""

    def make(store: Store, **options: Any) -> SessionManager:
        defaults: dict[str, Any] = {"clock": clock, "cookie_secret": SECRET}
        return SessionManager(store=store, **{**defaults, **options})

    return make


@pytest.fixture
def manager(
    make: Callable[..., SessionManager], store: ScriptedStore
) -> SessionManager:
    """A manager with default settings."""
    return make(store)


@pytest.fixture
def other(make: Callable[..., SessionManager], store: ScriptedStore) -> SessionManager:
    """The manager of another process."""
    return make(store)
