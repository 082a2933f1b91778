"""Applications to attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tornado_mcsession import MemoryStore, Store

from ..support.clock import ManualClock
from .target import Target


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
