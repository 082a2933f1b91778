"""Host names: looked up within the deadline, to each of their addresses.

The name server that a test needs is one that hangs on cue, so `socket.getaddrinfo`
is replaced where a name is looked up. Addresses, and "localhost", are real. How often a
name is looked up again is a number inside of the package, which is changed where a test
cannot wait for half a minute.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tornado_mcsession import MemcachedStore, StoreUnavailable
from tornado_mcsession.stores.memcached import connection
from tornado_mcsession.testing.contract import OPERATIONS, TTL

from ..support.processes import LOOPBACKS, free_port
from .recording import DividingProxy

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent.parent
NAME = "cache.example"
SHORT = 0.2
REAL = socket.getaddrinfo


class NameServer:
    """Knows one name, `NAME`; hangs while the test says so."""

    def __init__(self) -> None:
        self.addresses = ["127.0.0.1"]
        self.failure: OSError | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.lookups = 0

    def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        if host != NAME or flags & socket.AI_NUMERICHOST:
            return REAL(host, port, family, type, proto, flags)
        self.lookups += 1
        assert self.answers.wait(30)
        if self.failure is not None:
            raise self.failure
        return [
            found
            for address in self.addresses
            for found in REAL(address, port, family, type, proto)
        ]


@pytest.fixture
def name_server(monkeypatch):
    """Answers for `NAME`; what still waits for it at the end is let go."""
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server.getaddrinfo)
    yield server
    server.answers.set()
    finish_lookups()


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if name in thread.name]


def finish_lookups() -> None:
    """Wait until no lookup is under way."""
    for thread in threads("mcsession-resolver"):
        thread.join(10)


def url(memcached, host: str = NAME, **options: object) -> str:
    given = "&".join(f"{name}={value}" for name, value in options.items())
    return f"memcached://{host}:{memcached.port}/?{given}"


async def outage(awaitable) -> StoreUnavailable:
    """The outage that ``awaitable`` ends with."""
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable) as raised:
            await awaitable
    return raised.value


@pytest.mark.gen_test
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_lookup_that_hangs_is_left_in_time(
    memcached, name_server, connect, operation
):
    """A name server that does not answer keeps neither a request nor a thread."""
    name_server.answers.clear()
    store = connect(url(memcached, timeout=SHORT, connect_timeout=20))
    start = time.monotonic()
    await outage(OPERATIONS[operation](store, "key"))
    await store.close()
    assert time.monotonic() - start < SHORT + 1
    assert threads("mcsession_") == []


@pytest.mark.gen_test
async def test_a_lookup_has_no_more_time_than_connecting(
    memcached, name_server, connect
):
    """Looking up belongs to connecting, and ends with connect_timeout."""
    name_server.answers.clear()
    store = connect(url(memcached, timeout=20, connect_timeout=SHORT))
    error = await outage(store.add("key", b"1", TTL))
    assert isinstance(error.__cause__, TimeoutError)
    assert not error.outcome_unknown


@pytest.mark.gen_test
async def test_lookups_that_hang_keep_one_thread_in_all(
    memcached, name_server, connect
):
    """The node's threads are free again at the deadline; one lookup waits, not many."""
    name_server.answers.clear()
    options = {"timeout": SHORT, "connect_timeout": 20, "threads": 4}
    store = connect(url(memcached, **options))
    for _ in range(5):
        await asyncio.gather(*(outage(store.get(f"key{n}")) for n in range(300)))
    assert name_server.lookups == 1
    assert len(threads("mcsession-resolver")) == 1
    start = time.monotonic()
    await store.close()  # waits for the node's threads
    assert time.monotonic() - start < SHORT + 1
    assert threads("mcsession_") == []


@pytest.mark.gen_test
async def test_a_name_server_that_answers_again_is_asked_again(
    memcached, name_server, connect
):
    """When names are resolved again, sessions are soon there, by a new lookup."""
    name_server.answers.clear()
    store = connect(url(memcached, timeout=SHORT))
    await outage(store.get("key"))
    name_server.addresses = []  # what the lookup under way finds is out of date
    name_server.answers.set()
    finish_lookups()
    name_server.addresses = ["127.0.0.1"]
    assert await store.add("key", b"1", TTL)
    assert name_server.lookups == 2


@pytest.mark.gen_test
async def test_a_slow_lookup_serves_all_who_wait(memcached, name_server, connect):
    """Threads that want the same name at once wait for one lookup, and go on."""
    name_server.answers.clear()
    store = connect(url(memcached, timeout=20, connect_timeout=20, threads=4))
    asked = [asyncio.ensure_future(store.get(f"key{n}")) for n in range(300)]
    async with asyncio.timeout(10):
        while not name_server.lookups:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    name_server.answers.set()
    assert await asyncio.gather(*asked) == [None] * 300
    assert name_server.lookups == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_name_without_address_is_told_at_once(
    memcached, name_server, connect, operation
):
    """A name that nobody knows is an outage long before the deadline, and says so."""
    name_server.failure = socket.gaierror(socket.EAI_NONAME, "Name not known")
    store = connect(url(memcached, timeout=30, connect_timeout=30))
    error = await outage(OPERATIONS[operation](store, "key"))
    assert "host name" in error.reason
    assert isinstance(error.__cause__, socket.gaierror)
    assert not error.outcome_unknown
    finish_lookups()
    name_server.failure = None
    await OPERATIONS[operation](store, "key")


@pytest.mark.gen_test
async def test_a_lookup_that_the_name_server_gives_up_is_an_outage(
    memcached, name_server, connect
):
    """What getaddrinfo calls a time-out of its own is told before the deadline."""
    name_server.failure = TimeoutError("the name server")
    store = connect(url(memcached, timeout=30, connect_timeout=30))
    error = await outage(store.get("key"))
    assert isinstance(error.__cause__, TimeoutError)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("addresses", "options"),
    [
        (["::1", "127.0.0.1"], {}),
        (["127.0.0.1", "::1", "127.0.0.1"], {}),
        (["::1", "127.0.0.2", "127.0.0.1"], {"addresses": "same"}),
    ],
    ids=["both families", "one of them twice", "same"],
)
async def test_each_address_of_a_name_is_tried(
    memcached, name_server, connect, addresses, options
):
    """The one address of several where memcached listens is found, wherever it is."""
    name_server.addresses = addresses
    store = connect(url(memcached, timeout=10, connect_timeout=10, **options))
    assert await store.add("key", b"1", TTL)
    assert memcached.get("key") == b"1"


@pytest.mark.gen_test
async def test_where_no_address_answers_the_outage_is_told(name_server, connect):
    """When all addresses refuse, the error is a refusal, at once; nothing was sent."""
    name_server.addresses = ["::1", "127.0.0.1"]
    store = connect(f"memcached://{NAME}:{free_port()}/?timeout=30&connect_timeout=30")
    error = await outage(store.add("key", b"1", TTL))
    assert isinstance(error.__cause__, OSError)
    assert not isinstance(error.__cause__, TimeoutError)
    assert not error.outcome_unknown


SEVERAL = [["127.0.0.1", "127.0.0.2"], ["::1", "127.0.0.1", "127.0.0.2"]]


@pytest.mark.gen_test
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("addresses", SEVERAL, ids=len)
async def test_several_addresses_are_several_servers(
    memcached, name_server, connect, operation, addresses
):
    """Which of them keeps a session? None is asked, and the error says what to do."""
    name_server.addresses = addresses
    before = memcached.stats()["total_connections"]
    error = await outage(OPERATIONS[operation](connect(url(memcached)), "key"))
    assert "2 addresses" in error.reason
    assert "one by one" in error.reason
    assert not error.outcome_unknown
    # One of them is that which asks.
    assert int(memcached.stats()["total_connections"]) - int(before) <= 1


@pytest.mark.gen_test
async def test_health_tells_of_several_addresses(memcached, name_server, connect):
    """And a store that is told that they are the same is well."""
    name_server.addresses = SEVERAL[0]
    (node,) = (await connect(url(memcached)).health()).values()
    assert not node["ok"]
    assert "addresses=same" in node["error"]
    (node,) = (await connect(url(memcached, addresses="same")).health()).values()
    assert node["ok"]


class Empty:
    """Servers at several addresses and one port, which hold nothing.

    Each connection has so many ``answers``.
    """

    def __init__(self, *addresses: str, answers: int = 1000) -> None:
        port = free_port()
        self.port = port
        self._answers = answers
        self.asked = dict.fromkeys(addresses, 0)
        self.connections = dict.fromkeys(addresses, 0)
        self._listeners = []
        for address in addresses:
            listener = socket.create_server((address, port))
            self._listeners.append(listener)
            threading.Thread(
                target=self._accept, args=(listener, address), daemon=True
            ).start()

    def __enter__(self) -> Empty:
        return self

    def __exit__(self, *_: object) -> None:
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket, address: str) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections[address] += 1
            threading.Thread(
                target=self._answer, args=(connection, address), daemon=True
            ).start()

    def _answer(self, connection: socket.socket, address: str) -> None:
        with connection:
            for _ in range(self._answers):
                if not connection.recv(10_000):
                    return
                self.asked[address] += 1
                connection.sendall(b"END\r\n")


@pytest.mark.gen_test
async def test_addresses_that_are_the_same_are_all_used(name_server, connect):
    """New connections go to each of them in turn."""
    name_server.addresses = ["127.0.0.1", "127.0.0.2"]
    with Empty("127.0.0.1", "127.0.0.2", answers=1) as servers:
        store = connect(url(servers, timeout=10, addresses="same"))
        for _ in range(10):
            assert await store.get("key") is None
        assert servers.asked == {"127.0.0.1": 5, "127.0.0.2": 5}
    with pytest.raises(ValueError, match="addresses must be"):
        MemcachedStore(NAME, addresses="other")


@pytest.fixture
def often(monkeypatch):
    """Names are looked up again after 50 ms, where they are by default after 30 s."""
    monkeypatch.setattr(connection, "LOOKUP_EVERY", 0.05)


async def used_for_a_while(store) -> None:
    for _ in range(30):
        await store.get("key")
        await asyncio.sleep(0.01)


@pytest.mark.gen_test
async def test_a_connection_to_an_old_address_is_left(name_server, connect, often):
    """Though it is in use, when the name has another address by now."""
    name_server.addresses = ["127.0.0.1"]
    with Empty("127.0.0.1", "127.0.0.2") as servers:
        store = connect(url(servers, timeout=10))
        await used_for_a_while(store)
        assert servers.connections == {"127.0.0.1": 1, "127.0.0.2": 0}
        assert name_server.lookups > 2
        name_server.addresses = ["127.0.0.2"]
        await used_for_a_while(store)
        assert servers.connections == {"127.0.0.1": 1, "127.0.0.2": 1}
        before = servers.asked["127.0.0.1"]
        await used_for_a_while(store)
        assert servers.asked["127.0.0.1"] == before


@pytest.mark.gen_test
async def test_a_name_that_gets_more_addresses_is_refused(name_server, connect, often):
    """A service that was scaled out is no longer one server."""
    name_server.addresses = ["127.0.0.1"]
    with Empty("127.0.0.1", "127.0.0.2") as servers:
        store = connect(url(servers, timeout=10))
        await used_for_a_while(store)
        name_server.addresses = ["127.0.0.1", "127.0.0.2"]
        with pytest.raises(StoreUnavailable, match="2 addresses"):
            await used_for_a_while(store)


@pytest.mark.gen_test
async def test_a_connection_outlives_its_name_server(name_server, connect, often):
    """While no name can be looked up, or it takes long, what is connected stays so."""
    name_server.addresses = ["127.0.0.1"]
    with Empty("127.0.0.1") as servers:
        store = connect(url(servers, timeout=10))
        await used_for_a_while(store)
        name_server.failure = socket.gaierror(socket.EAI_AGAIN, "Try again")
        await used_for_a_while(store)
        name_server.failure = None
        name_server.answers.clear()
        await used_for_a_while(store)
        assert servers.connections == {"127.0.0.1": 1}


@pytest.mark.gen_test
async def test_a_balancer_before_several_servers_is_found(memcached_factory, connect):
    """What is written on one connection is not on the next: the node is not well."""
    ports = [memcached_factory().port for _ in range(2)]
    with DividingProxy(*ports) as balancer:
        (node,) = (await connect(balancer.url + "?timeout=10").health()).values()
        assert not node["ok"]
        assert "different servers" in node["error"]
    with DividingProxy(ports[0], ports[0]) as balancer:
        (node,) = (await connect(balancer.url + "?timeout=10").health()).values()
        assert node["ok"]


@pytest.mark.gen_test
async def test_a_name_that_moves_is_followed(memcached, name_server, connect):
    """A name is looked up for each new connection, not once for the process."""
    name_server.addresses = ["127.0.0.2"]
    store = connect(url(memcached, timeout=10))
    await outage(store.get("key"))
    finish_lookups()
    name_server.addresses = ["127.0.0.1"]
    assert await store.add("key", b"1", TTL)


@pytest.mark.gen_test
@pytest.mark.parametrize("host", LOOPBACKS)
async def test_an_address_needs_no_lookup(
    memcached_factory, monkeypatch, connect, host
):
    """What is an address already is reached while no name can be looked up."""

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
        if not flags & socket.AI_NUMERICHOST:
            threading.Event().wait(30)
        return REAL(host, port, family, type, proto, flags)

    server = memcached_factory("-l", host.strip("[]"))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    store = connect(url(server, host, timeout=10))
    assert await store.add("key", b"1", TTL)
    assert threads("mcsession-resolver") == []


@pytest.mark.gen_test
async def test_localhost_is_found_on_127_0_0_1_alone(memcached, connect):
    """memcached listens on 127.0.0.1, and "localhost" leads to it on any system."""
    store = connect(url(memcached, "localhost"))
    assert await store.add("key", b"1", TTL)
    assert memcached.get("key") == b"1"


def test_a_process_may_end_while_a_lookup_hangs():
    """A lookup that never ends keeps neither `close` nor the process from ending."""
    script = """
import asyncio, socket, threading
from tornado_mcsession import MemcachedStore, StoreUnavailable

real = socket.getaddrinfo

def getaddrinfo(host, *args, flags=0, **options):
    if host == "cache.example" and not flags & socket.AI_NUMERICHOST:
        threading.Event().wait()
    return real(host, *args, flags=flags, **options)

socket.getaddrinfo = getaddrinfo

async def main():
    store = MemcachedStore("cache.example:11211", timeout=0.2)
    try:
        await store.get("key")
    except StoreUnavailable:
        print("told")
    await store.close()
    print("closed")

asyncio.run(main())
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "told\nclosed\n"
