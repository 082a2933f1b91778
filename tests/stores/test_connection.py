"""One connection to a node: addresses, deadlines, and answers nobody asked for."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack

import pytest

from tornado_mcsession import MemcachedStore, StoreUnavailable
from tornado_mcsession.stores._connection import (
    LinkMaker,
    NotConnected,
    connect_to_one_of,
)

from ..support.processes import free_port
from .recording import ScriptedServer

TTL = 100.0
HOST = "127.0.0.1"


def found(*addresses, family=socket.AF_INET):
    """What `socket.getaddrinfo` returns for a name with these addresses."""
    return [(family, socket.SOCK_STREAM, 0, "", address) for address in addresses]


@pytest.fixture
def listening():
    """The address of a server that takes connections."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()


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


def test_an_address_that_refuses_is_passed_over(listening):
    """localhost may be ::1 first, where nothing listens; the next one is taken."""
    addresses = [
        *found(("::1", listening[1]), family=socket.AF_INET6),
        *found((HOST, free_port()), listening),
    ]
    with connect_to_one_of(addresses, time.monotonic() + 10) as connection:
        assert connection.getpeername() == listening
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_family_that_the_system_lacks_is_passed_over(listening):
    """Where the system cannot even make the socket, the next address is taken."""
    addresses = [*found(listening, family=9999), *found(listening)]
    with connect_to_one_of(addresses, time.monotonic() + 10) as connection:
        assert connection.getpeername() == listening


def test_an_address_that_swallows_leaves_time_for_others(swallowing, listening):
    """An address that never answers gets its share of the time, not all."""
    addresses = found(swallowing, listening)
    with connect_to_one_of(addresses, time.monotonic() + 0.5) as connection:
        assert connection.getpeername() == listening


def test_connecting_ends_in_time(swallowing):
    """However many addresses swallow, the whole takes no longer than allowed."""
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        connect_to_one_of(found(*[swallowing] * 5), start + 0.3)
    assert time.monotonic() - start < 1


def test_the_last_failure_is_told():
    """Where no address takes a connection, the error is that of the last."""
    with pytest.raises(ConnectionRefusedError):
        connect_to_one_of(found((HOST, free_port())), time.monotonic() + 10)
    with pytest.raises(ConnectionError, match="no address"):
        connect_to_one_of([], time.monotonic() + 10)


def test_connecting_has_a_time_of_its_own(swallowing):
    """connect_timeout ends an attempt before the operation's deadline does."""
    links = LinkMaker(connect_timeout=0.2)
    links.deadline = start = time.monotonic()
    links.deadline += 10
    with pytest.raises(NotConnected) as raised:
        links.socket().connect(swallowing)
    assert isinstance(raised.value.__cause__, TimeoutError)
    assert time.monotonic() - start < 2


def test_nothing_is_sent_when_the_time_is_over(listening):
    """A link whose deadline has passed neither connects nor sends."""
    links = LinkMaker(connect_timeout=10)
    links.deadline = time.monotonic() + 10
    link = links.socket()
    link.connect(listening)
    links.deadline = time.monotonic()
    with pytest.raises(TimeoutError):
        link.sendall(b"x")
    with pytest.raises(TimeoutError):
        link.recv(1)
    link.close()
    with pytest.raises(TimeoutError):
        links.socket().connect(listening)


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
