"""An executor, and work for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tornado_mcsession.stores.memcached.executor import Executor, Limits

from .work import LONG, Work


@pytest.fixture
def work() -> Iterator[Work]:
    """What the threads of the test's executors do."""
    work = Work()
    yield work
    work.release()


@pytest.fixture
def make(work: Work, io_loop: Any) -> Iterator[Callable[..., Executor]]:
    """Make executors that do ``work``; they are stopped at the end."""
    made: list[Executor] = []

    def make(
        timeout: float = LONG, threads: int = 1, max_pending: int = 1000, **more: Any
    ) -> Executor:
        limits = Limits(timeout, 0.0, threads, max_pending)
        executor = Executor("node", work, limits, **more)
        made.append(executor)
        return executor

    yield make
    work.release()
    for executor in made:
        io_loop.run_sync(executor.stop)
