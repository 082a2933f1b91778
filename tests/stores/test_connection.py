"""One connection to a node: addresses, deadlines, and responses nobody asked for.

`socket.getaddrinfo` is replaced where a name needs addresses that behave as a test
wants.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tornado_mcsession import MemcachedStore, StoreUnavailable

from ..support.processes import free_port
from .recording import ScriptedServer

TTL = 100.0
HOST = "127.0.0.1"
NAME = "cache.example"
REAL = socket.getaddrinfo
CONNECTIONS = Path("/proc/net/tcp")


def found(*addresses, family=socket.AF_INET):
    """What `socket.getaddrinfo` returns for a name with these addresses."""
    return [(family, socket.SOCK_STREAM, 0, "", address) for address in addresses]


@pytest.fixture
def resolve(monkeypatch):
    """Let `NAME` have these addresses, whatever the port."""

    def resolve(addresses):
        def getaddrinfo(host, port, *args, flags=0, **options):
            if host != NAME or flags & socket.AI_NUMERICHOST:
                return REAL(host, port, *args, flags=flags, **options)
            return addresses

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return resolve


@pytest.fixture
def swallowing():
    """The address of a server that answers no attempt to connect."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind((HOST, 0))
        server.listen(0)
        for _ in range(10):  # fill what the system accepts on its behalf
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()


async def outage(awaitable) -> StoreUnavailable:
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable) as raised:
            await awaitable
    return raised.value


@pytest.mark.integration
@pytest.mark.gen_test
async def test_an_address_that_refuses_is_passed_over(memcached, resolve, connect):
    """localhost may be ::1 first, where nothing listens; the next one is taken."""
    resolve(
        [
            *found(("::1", memcached.port), family=socket.AF_INET6),
            *found(memcached.server),
        ]
    )
    store = connect(f"memcached://{NAME}?timeout=10")
    assert await store.add("key", b"1", TTL)


@pytest.mark.integration
@pytest.mark.gen_test
async def test_a_family_that_the_system_lacks_is_passed_over(
    memcached, resolve, connect
):
    """Where the system cannot even make the socket, the next address is taken."""
    resolve([*found(memcached.server, family=9999), *found(memcached.server)])
    store = connect(f"memcached://{NAME}?timeout=10")
    assert await store.add("key", b"1", TTL)


@pytest.mark.integration
@pytest.mark.gen_test
async def test_an_address_that_swallows_leaves_time_for_others(
    memcached, resolve, swallowing, connect
):
    """An address that never answers gets its share of the time, not all."""
    resolve(found(swallowing, memcached.server))
    store = connect(f"memcached://{NAME}?timeout=10&addresses=same")
    for number in range(2):  # whichever of them is first
        assert await store.add(f"key{number}", b"1", TTL)


@pytest.mark.gen_test
@pytest.mark.parametrize("count", [1, 5])
async def test_connecting_has_a_time_of_its_own(resolve, swallowing, connect, count):
    """However many addresses swallow, connect_timeout ends it before the deadline."""
    resolve(found(*[swallowing] * count))
    store = connect(f"memcached://{NAME}?timeout=20&connect_timeout=0.3")
    start = time.monotonic()
    error = await outage(store.add("key", b"1", TTL))
    assert time.monotonic() - start < 2
    assert isinstance(error.__cause__, TimeoutError)
    assert not error.outcome_unknown


@pytest.mark.gen_test
async def test_the_last_failure_is_told(resolve, connect):
    """Where no address takes a connection, the error is that of the last."""
    resolve(found((HOST, free_port())))
    error = await outage(connect(f"memcached://{NAME}").get("key"))
    assert isinstance(error.__cause__, ConnectionRefusedError)
    resolve([])
    error = await outage(connect(f"memcached://{NAME}").get("key"))
    assert isinstance(error.__cause__, ConnectionError)


@pytest.mark.integration
@pytest.mark.gen_test
async def test_idle_connections_are_watched(memcached, connect):
    """The system asks after half a minute whether the other end is still there."""
    store = connect(memcached.url + "?timeout=10")
    await store.get("key")
    # Linux tells the timer of each connection: 02 is keepalive, then 1/100 s in hex.
    timers = [
        line.split()[5]
        for line in CONNECTIONS.read_text().splitlines()[1:]  # noqa: ASYNC240
        if line.split()[2].endswith(f":{memcached.port:04X}")
        and line.split()[3] == "01"
    ]
    watched = [timer for timer in timers if timer.startswith("02:")]
    assert watched
    assert any(int(timer[3:], 16) <= 31 * 100 for timer in watched)


@pytest.mark.gen_test
async def test_what_nobody_asked_for_is_no_answer():
    """Bytes that came between two operations are not taken as the second's answer."""
    answered, spoken = threading.Event(), threading.Event()
    asked = []

    def first(connection):
        asked.append(connection.recv(1000))
        connection.sendall(b"END\r\n")
        assert answered.wait(10)
        connection.sendall(b"DELETED\r\n")
        spoken.set()

    def second(connection):
        asked.append(connection.recv(1000))
        connection.sendall(b"NOT_FOUND\r\n")

    with ScriptedServer(first, second) as server:
        store = MemcachedStore.from_url(server.url + "?timeout=10")
        assert await store.get("key") is None
        answered.set()
        assert spoken.wait(10)
        assert await store.delete("key") is False
        await store.close()
    assert asked == [b"gets key\r\n", b"delete key\r\n"]


@pytest.mark.gen_test
async def test_a_write_is_not_sent_on_a_closed_connection():
    """A connection that the server closed while idle is seen before it is used."""
    closed = threading.Event()
    asked = []

    def first(connection):
        asked.append(connection.recv(1000))
        connection.sendall(b"END\r\n")
        connection.shutdown(socket.SHUT_WR)
        closed.set()
        asked.append(connection.recv(1000))

    def second(connection):
        connection.recv(1000)
        connection.sendall(b"STORED\r\n")

    with ScriptedServer(first, second) as server:
        store = MemcachedStore.from_url(server.url + "?timeout=10")
        assert await store.get("key") is None
        assert closed.wait(10)
        assert await store.add("key", b"1", TTL)
        await store.close()
    assert asked == [b"gets key\r\n", b""]


@pytest.mark.gen_test
async def test_tries_have_an_end():
    """A server that closes every connection is an outage after a few."""

    def hang_up(connection):
        connection.recv(1000)
        connection.close()

    with ScriptedServer(*[hang_up] * 20) as server:
        store = MemcachedStore.from_url(server.url + "?timeout=10&threads=2")
        with pytest.raises(StoreUnavailable) as raised:
            await store.add("key", b"1", TTL)
        await store.close()
        assert server.connections <= 3
    assert raised.value.outcome_unknown
