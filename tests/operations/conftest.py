"""The site of demo/deploy, in front of a memcached of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ..support.memcached import Memcached
from ..support.processes import Process
from ..support.tls import Certificates
from .deployed import Shop, nginx


@pytest.fixture
def store_timeout() -> float:
    """Long, so that a busy machine is no outage; a test may ask for another."""
    return 5


@pytest.fixture
def shops(
    own_memcached: Memcached, store_timeout: float
) -> Iterator[tuple[Shop, Shop]]:
    """Two processes of the shop, both ready."""
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(
                closing(Shop(f"{own_memcached.url}/?timeout={store_timeout}"))
            )
            for _ in range(2)
        )
        one.wait_until_ready()
        two.wait_until_ready()
        yield one, two


@pytest.fixture
def balancer(
    tmp_path: Path, certificates: Certificates, shops: tuple[Shop, Shop]
) -> Iterator[Process]:
    """nginx in front of ``shops``, as demo/deploy/nginx.conf says."""
    process = nginx(tmp_path, certificates, (shops[0].port, shops[1].port))
    yield process
    process.kill()
