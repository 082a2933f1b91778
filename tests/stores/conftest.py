"""Stores, and the servers that only their tests use."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tornado_mcsession import MemcachedStore

from ..support.memcached import Memcached
from ..support.processes import START_TIMEOUT, find_server
from .recording import RecordingProxy


@pytest.fixture
def recorder(memcached: Memcached) -> Iterator[RecordingProxy]:
    """A network in front of ``memcached`` that remembers what was sent."""
    with RecordingProxy(memcached.port) as proxy:
        yield proxy


@pytest.fixture
def connect(io_loop) -> Iterator[Callable[..., MemcachedStore]]:
    """Make stores by ``MemcachedStore.from_url``; they are closed at the end."""
    stores = []

    def connect(url: str) -> MemcachedStore:
        store = MemcachedStore.from_url(url)
        stores.append(store)
        return store

    yield connect
    for store in stores:
        io_loop.run_sync(store.close)


@pytest.fixture
def memcached_socket() -> Iterator[str]:
    """The path of a Unix socket with a memcached of the test's own behind it."""
    # Not below pytest's directories: a socket's path has about 100 characters.
    with tempfile.TemporaryDirectory(prefix="mc") as directory:
        path = str(Path(directory, "memcached.sock"))
        user = ["-u", "root"] if os.getuid() == 0 else []
        process = subprocess.Popen([find_server("memcached"), "-s", path, *user])
        try:
            _wait_for(process, path)
            yield path
        finally:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], path: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
            return
        time.sleep(0.01)
    raise RuntimeError("memcached did not open its Unix socket")
