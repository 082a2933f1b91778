"""Nodes to examine, and what stands between them and the doctor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..support.memcached import Memcached
from .doctoring import SECRET, USER
from .middleman import Middleman


@pytest.fixture
def middleman(own_memcached: Memcached) -> Iterator[Middleman]:
    """A proxy in front of ``own_memcached`` that does not let everything through."""
    with Middleman(own_memcached.port) as proxy:
        yield proxy


@pytest.fixture
def guarded(memcached_factory, tmp_path) -> Memcached:
    """A memcached that knows one user."""
    users = tmp_path / "users"
    users.write_text(f"{USER}:{SECRET}\n", encoding="utf-8")
    return memcached_factory("-Y", str(users))
