"""Fixtures for pytest: tornado_mcsession.testing, loaded when a test uses it.

pytest imports this module in every run where the package is installed, so it imports
nothing of the package before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tornado.web import Application

    from tornado_mcsession.testing import (
        FaultyStore,
        ManualClock,
        Memcached,
        SessionClient,
    )

pytest.register_assert_rewrite("tornado_mcsession.testing.contract")


@pytest.fixture
def session_clock() -> ManualClock:
    """A clock that only the test moves, for the setting ``clock``."""
    from tornado_mcsession.testing import ManualClock

    return ManualClock()


@pytest.fixture
def session_store(session_clock: ManualClock) -> FaultyStore:
    """A store in memory that fails on cue, by ``session_clock``."""
    from tornado_mcsession import MemoryStore
    from tornado_mcsession.testing import FaultyStore

    return FaultyStore(MemoryStore(clock=session_clock))


@pytest.fixture
def session_client(app: Application) -> Iterator[SessionClient]:
    """A client of the application that your fixture ``app`` returns."""
    import asyncio

    from tornado_mcsession.testing import SessionClient

    client = SessionClient(app)
    yield client
    # The loop of the test may be closed. The current one is left alone.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(client.close())


@pytest.fixture(scope="session")
def memcached_process() -> Iterator[Memcached]:
    """A memcached for the whole run; use ``memcached``, which is empty."""
    from tornado_mcsession.testing import Memcached

    with Memcached() as server:
        yield server


@pytest.fixture
def memcached(memcached_process: Memcached) -> Memcached:
    """An empty memcached on 127.0.0.1, which all tests share; see its ``url``."""
    memcached_process.flush()
    return memcached_process
