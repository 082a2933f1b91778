"""Memcached: a process that a test may break."""

from __future__ import annotations

import gc
import socket

import pytest

from tornado_mcsession import MemcachedStore, StoreUnavailable
from tornado_mcsession.testing import Memcached
from tornado_mcsession.testing.contract import run

pytestmark = pytest.mark.integration


@pytest.fixture
def server():
    """A memcached that a test may break."""
    with Memcached() as server:
        yield server


async def stored(server) -> bytes | None:
    """What is under "key"; raises where the server does not answer."""
    store = MemcachedStore.from_url(server.url + "?timeout=0.3")
    try:
        entry = await store.get("key")
        return None if entry is None else entry.data
    finally:
        await store.close()


async def fill(server) -> None:
    store = MemcachedStore.from_url(server.url)
    assert await store.add("key", b"1", 100)
    await store.close()


def test_it_can_be_broken_and_mended(server):
    """Flushed, hanging, killed and restarted, on one port."""
    port = server.port
    run(fill(server))
    assert run(stored(server)) == b"1"
    server.hang()
    with pytest.raises(StoreUnavailable):
        run(stored(server))
    server.resume()
    assert run(stored(server)) == b"1"
    server.flush()
    assert run(stored(server)) is None
    run(fill(server))
    server.restart()
    assert run(stored(server)) is None
    server.kill()
    with pytest.raises(StoreUnavailable):
        run(stored(server))
    server.start()
    assert run(stored(server)) is None
    assert server.port == port
    assert server.url == f"memcached://127.0.0.1:{port}"
    assert repr(server) == f"<Memcached {port}>"


def test_each_has_a_port_of_its_own(server):
    """What is given to one is not in the other."""
    with Memcached() as other:
        assert other.port != server.port
        run(fill(server))
        assert run(stored(other)) is None


def test_its_arguments_are_those_of_memcached():
    """A start that fails says what memcached said, and leaves nothing behind."""
    with Memcached("-I", "2m") as server:
        run(fill(server))
    with pytest.raises(RuntimeError, match=r"memcached did not start: .*nonsense"):
        Memcached("--nonsense")
    gc.collect()


def test_a_port_that_is_taken_is_an_error(server):
    """It is not another program's memcached that a test talks to."""
    with pytest.raises(RuntimeError, match=r"did not start: .*in use"):
        Memcached(port=server.port)


def test_what_makes_no_sense_is_an_error():
    """Start what runs, hang what does not; closing twice is none."""
    server = Memcached()
    with pytest.raises(RuntimeError, match="running already"):
        server.start()
    server.close()
    server.close()
    for act in (server.hang, server.resume):
        with pytest.raises(RuntimeError, match="not running"):
            act()


def test_without_memcached_it_says_how_to_install_it(monkeypatch, tmp_path):
    """By the package manager of the system."""
    monkeypatch.setattr("tornado_mcsession.testing.memcached.PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install memcached"):
        Memcached()


def test_it_can_be_stopped_while_it_hangs(server):
    """It does not listen any more."""
    server.hang()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), 5)
