"""Applications under test, and what they log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..lifecycle.conftest import _nothing_goes_wrong_unseen, uncaught
from ..support.clock import ManualClock
from .site import DownableStore, Site

__all__ = ["_nothing_goes_wrong_unseen", "uncaught"]


@pytest.fixture
def store(clock: ManualClock) -> DownableStore:
    """The store of the application under test."""
    return DownableStore(clock)


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
