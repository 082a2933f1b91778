"""Applications with a controllable store, what they log, and what goes wrong unseen."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..support.clock import ManualClock
from ..support.controllable import ControllableStore
from ..support.site import Site


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked so with stores of both kinds: see `ControllableStore`."""
    marked = metafunc.definition.get_closest_marker("in_both_ways")
    if marked and "by_future" in metafunc.fixturenames:
        metafunc.parametrize("by_future", [False, True], ids=["coroutine", "future"])


@pytest.fixture
def by_future() -> bool:
    """Whether a save is under way when the store was asked for it."""
    return False


@pytest.fixture
def store(clock: ManualClock, by_future: bool) -> ControllableStore:
    """The store of the application under test."""
    return ControllableStore(clock, by_future=by_future)


@pytest.fixture
def serve(io_loop: Any, store: Any, clock: Any) -> Iterator[Callable[..., Site]]:
    """Starts an application: of a handler, or of routes; keywords are settings."""
    sites = []

    def start(
        handlers: Any, session: dict[str, Any] | None = None, **settings: Any
    ) -> Site:
        routes = handlers if isinstance(handlers, list) else [("/.*", handlers)]
        options = {"store": store, "clock": clock, **(session or {})}
        sites.append(Site(routes, options, settings))
        return sites[-1]

    yield start
    for site in sites:
        io_loop.run_sync(site.close, timeout=10)


@pytest.fixture
def uncaught(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What Tornado logged of exceptions; a test that asks for it expects some."""
    return lambda: [
        record.getMessage() for record in caplog.records if is_uncaught(record)
    ]


@pytest.fixture(autouse=True)
def _nothing_goes_wrong_unseen(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> Iterator[None]:
    """Exceptions that nobody retrieves, or that Tornado has to log, fail a test."""
    yield
    gc.collect()
    records = caplog.get_records("call") + caplog.get_records("teardown")
    noise = [record for record in records if record.name == "asyncio"]
    if "uncaught" not in request.fixturenames:
        noise += [record for record in records if is_uncaught(record)]
    assert not noise, [record.getMessage() for record in noise]


def is_uncaught(record: logging.LogRecord) -> bool:
    """Whether Tornado tells of an exception that a handler or it did not expect."""
    return record.name == "tornado.application" and record.levelno >= logging.ERROR


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    """What the package logged so far, of one level or of every one from INFO."""
    caplog.set_level(logging.INFO, logger="tornado_mcsession")

    def messages(level: int | None = None) -> list[str]:
        return [
            record.getMessage()
            for record in caplog.records
            if record.name == "tornado_mcsession" and level in (None, record.levelno)
        ]

    return messages
