"""TLS connections that hang, drip, break or go stale."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest

from tornado_mcsession import MemcachedStore
from tornado_mcsession.testing.contract import OPERATIONS, TTL

from ..support.proxy import FaultProxy
from ..support.tls import tls_url
from .test_faults import outlives_its_connections
from .test_tls import both_ways, outage

pytestmark = [pytest.mark.integration, pytest.mark.gen_test]

SHORT = 0.3
WRITES = {"add", "cas", "touch", "delete"}


@pytest.fixture
def tls_proxy(tls_memcached):
    """A faulty network in front of ``tls_memcached``."""
    with FaultProxy(tls_memcached.port) as proxy:
        yield proxy


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", ["hang", "drip"])
async def test_a_handshake_without_end_is_left_in_time(
    tls_proxy, certificates, connect, operation, fault
):
    """A handshake that hangs or drips keeps neither a request nor a thread."""
    tls_proxy.hang() if fault == "hang" else tls_proxy.drip(1, SHORT / 2)
    url = tls_url(tls_proxy.port, tls_ca=certificates.ca, timeout=SHORT)
    store = connect(url + "&connect_timeout=20")
    start = time.monotonic()
    await outage(OPERATIONS[operation](store, "key"))
    await store.close()
    assert time.monotonic() - start < SHORT + 1
    assert not [t for t in threading.enumerate() if t.name.startswith("mcsession_")]


async def test_a_handshake_has_no_more_time_than_connecting(
    tls_proxy, certificates, connect
):
    """The handshake belongs to connecting, and ends with connect_timeout."""
    tls_proxy.drip(1, 0.1)
    url = tls_url(tls_proxy.port, tls_ca=certificates.ca, connect_timeout=SHORT)
    store = connect(url + "&timeout=20")
    await outage(store.get("key"))


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_an_encrypted_answer_in_drips_is_left_in_time(
    tls_proxy, certificates, connect, operation
):
    """Bytes of a TLS record that go on arriving do not put off the deadline."""
    url = tls_url(tls_proxy.port, tls_ca=certificates.ca, timeout=SHORT)
    store = connect(url)
    await both_ways(store)
    tls_proxy.drip(1, SHORT / 2)
    start = time.monotonic()
    error = await outage(OPERATIONS[operation](store, "key"))
    await store.close()
    assert time.monotonic() - start < SHORT + 1
    assert error.outcome_unknown == (operation in WRITES)


async def test_a_write_whose_answer_is_damaged_is_unknown(
    tls_memcached, certificates, connect
):
    """Where an answer cannot be decrypted, the write may be there, and it is said."""

    class Damaging(FaultProxy):
        def damage(self) -> None:
            async def answer(link, data):
                await link.send(data[:-1] + bytes([data[-1] ^ 1]))

            self._use(answer)

    with Damaging(tls_memcached.port) as network:
        store = connect(tls_url(network.port, tls_ca=certificates.ca, timeout=10))
        await both_ways(store)
        network.damage()
        error = await outage(store.add("key", b"value", TTL))
        assert tls_memcached.get("key") == b"value"
        assert error.outcome_unknown
        network.pass_through()
        assert (await store.get("key")).data == b"value"


async def test_a_tls_server_that_comes_back_is_used_at_once(tls_memcached, connect):
    """After a restart the first operation of each kind works, on a new handshake."""
    store = connect(tls_memcached.url)
    for operation in OPERATIONS.values():
        await both_ways(store)
        tls_memcached.restart()
        await operation(store, "key")


async def test_no_stale_tls_connection_is_seen(tls_proxy, certificates, connect):
    """When all TLS connections have broken, no operation that follows fails."""
    url = tls_url(tls_proxy.port, tls_ca=certificates.ca, timeout=10)
    store = connect(url + "&threads=4&connect_timeout=10")
    await outlives_its_connections(store, tls_proxy)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_a_healthy_tls_connection_is_kept(
    tls_memcached, tls_proxy, certificates, version
):
    """What TLS itself sends after a handshake is not taken for an answer unasked."""
    trusting = ssl.create_default_context(cafile=certificates.ca)
    trusting.minimum_version = trusting.maximum_version = ssl.TLSVersion[version]
    with socket.create_connection(tls_memcached.server, 5) as connection:
        with trusting.wrap_socket(connection, server_hostname="localhost") as raw:
            raw.sendall(b"mn\r\n")
            assert raw.recv(100) == b"MN\r\n"
            assert raw.version() == version.replace("_", ".")
            assert raw.session.has_ticket  # in 1.3 it came after the handshake
    address = ("127.0.0.1", tls_proxy.port)
    store = MemcachedStore([address], tls=trusting, threads=1, timeout=10)
    for _ in range(10):
        await both_ways(store)
    await store.close()
    assert tls_proxy.connections == 1
