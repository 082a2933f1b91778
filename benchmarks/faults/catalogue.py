"""All faults, in the order of the page."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import os
import random
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.support.memcached import Memcached
from tests.support.proxy import FaultProxy, Link
from tests.support.tls import Certificates, TLSMemcached
from tests.support.twemproxy import Twemproxy

from .stage import Stage

__all__ = ["FAULTS", "Fault"]

Act = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """A fault; ``title`` says what happens, ``remedy`` what an operator does then.

    ``statuses`` are those that users may get besides 200 and 409, 0 being no response.
    With ``loses``, memcached loses sessions; with ``stays``, the fault is not mended.
    ``waits`` is the time in seconds that responses may take beyond the timeouts.
    """

    act: Act
    name: str
    title: str
    remedy: str
    statuses: tuple[int, ...] = (503,)
    loses: bool = False
    stays: bool = False
    waits: float = 0.0


FAULTS: dict[str, Fault] = {}


def add(name: str, title: str, remedy: str, act: Act, **more: Any) -> None:
    FAULTS[name] = Fault(act, name, title, remedy, **more)


def fault(name: str, title: str, remedy: str, **more: Any) -> Callable[[Act], Act]:
    """Make a fault of the function that plays it."""

    def added(act: Act) -> Act:
        add(name, title, remedy, act, **more)
        return act

    return added


# memcached.

RESTART = "Start it again. Its sessions are lost."
HELD_UP = "Find out what holds it up."
TWEMPROXY = "List the nodes in the URL instead: see [twemproxy.md](twemproxy.md)."


async def one_node(stage: Stage) -> Memcached:
    """Start a site on one node."""
    return await stage.on_memcached()


async def three_nodes(stage: Stage) -> Memcached:
    """Start a site on three nodes; return one of them."""
    nodes = [await stage.memcached() for _ in range(3)]
    await stage.open(*nodes)
    await stage.blocking(stage.group, *nodes)
    return nodes[0]


async def behind_twemproxy(stage: Stage) -> Memcached:
    """Start a site with twemproxy before two nodes; return one of these."""
    nodes = [await stage.memcached() for _ in range(2)]
    await stage.open(await stage.keep(Twemproxy, stage.directory, nodes))
    await stage.blocking(stage.group, *nodes)
    return nodes[0]


def kill(place: Callable[[Stage], Awaitable[Memcached]]) -> Act:
    """Kill a node, and start it again."""

    async def act(stage: Stage) -> None:
        node = await place(stage)
        await stage.blocking(node.kill)
        await stage.last()
        await stage.restart(node)

    return act


def hang(place: Callable[[Stage], Awaitable[Memcached]]) -> Act:
    """Let a node stand still, and go on."""

    async def act(stage: Stage) -> None:
        node = await place(stage)
        await stage.blocking(node.stop)
        await stage.last(2.0)
        await stage.blocking(node.cont)

    return act


add("killed", "memcached is killed, and back", RESTART, kill(one_node), loses=True)


@fault(
    "restarted",
    "memcached restarts at once",
    "Restart one node at a time, at night: its sessions are lost.",
    loses=True,
)
async def restarted(stage: Stage) -> None:
    node = await stage.on_memcached()
    await stage.restart(node)
    await stage.last(0.3)


@fault(
    "flushed",
    "somebody runs `flush_all`",
    "Find out who did. Give sessions a memcached of their own.",
    statuses=(),
    loses=True,
)
async def flushed(stage: Stage) -> None:
    node = await stage.on_memcached()
    stage.lose()
    await stage.blocking(node.flush)
    stage.lose()
    await stage.last(0.3)


add("hung", "memcached hangs (SIGSTOP) for 2 s", HELD_UP, hang(one_node))
add("node-dead", "one of three nodes is killed, and back", RESTART, kill(three_nodes))
add("node-hung", "one of three nodes hangs for 2 s", HELD_UP, hang(three_nodes))


@fault(
    "connections",
    "others use up memcached's connection limit (`-c`)",
    "Raise `-c`, or find the client that leaks connections.",
)
async def connections(stage: Stage) -> None:
    node = await stage.memcached("-c", "30", "-t", "1")
    proxy = await stage.proxy(node)
    await stage.open(proxy)
    with contextlib.ExitStack() as held:
        proxy.cut()
        await stage.blocking(take_all_connections, node, held)
        proxy.pass_through()
        await stage.last()


def take_all_connections(node: Memcached, held: contextlib.ExitStack) -> None:
    """Open connections until the server refuses one."""
    said = b"VERSION"
    while said.startswith(b"VERSION"):
        other = held.enter_context(socket.create_connection(node.server, 5))
        other.sendall(b"version\r\n")
        said = other.recv(100)


def items(line: bytes, count: int = 4000) -> Iterator[bytes]:
    """Return commands about items of all sizes that a session may have."""
    for size in range(50, 900, 25):
        names = [b"filler-%d-%d" % (size, number) for number in range(count)]
        yield b"\r\n".join(
            line % {b"name": name, b"size": size, b"data": b"x" * size}
            for name in names
        )


SET = b"set %(name)b 0 0 %(size)d noreply\r\n%(data)b"
DELETE = b"delete %(name)b noreply"


async def fill_up(stage: Stage, **settings: Any) -> None:
    """Take all of the server's memory, and give it back."""
    node = await stage.on_memcached("-M", "-m", "2", **settings)
    for commands in items(SET):
        await stage.blocking(node.command, commands)
    await stage.last()
    for commands in items(DELETE):
        await stage.blocking(node.command, commands)


add(
    "out-of-memory",
    "memcached is full and may not evict (`-M`)",
    "Raise `-m`, or run it without `-M` and watch evictions.",
    fill_up,
)
add(
    "renewals",
    "the same, and each request renews its session (`renew_after=0`)",
    "The same. A renewal that fails is no error to users.",
    partial(fill_up, renew_after=0),
)


@fault(
    "evictions",
    "memcached is full and evicts sessions (`-m` is too small)",
    "Raise `-m`. `python -m tornado_mcsession doctor URL` shows evictions.",
    statuses=(),
    loses=True,
)
async def evictions(stage: Stage) -> None:
    node = await stage.on_memcached("-m", "2")
    stage.lose(at=math.inf)
    for commands in items(SET):
        await stage.blocking(node.command, commands)
    await stage.last(0.3)
    stage.lose()


@fault(
    "item-size",
    "sessions grow over memcached's item size (`-I 16k`)",
    "Store less in the session. Set `max_size` below `-I`, or raise `-I`.",
    statuses=(500,),
)
async def item_size(stage: Stage) -> None:
    await stage.on_memcached("-I", "16k", "-o", "slab_chunk_max=8192")
    for user in stage.users:
        user.size = 20_000
    await stage.last()
    for user in stage.users:
        user.size = 0


@fault(
    "no-cas",
    "memcached runs with cas disabled (`-C`)",
    "Start it without `-C`.",
    stays=True,
)
async def no_cas(stage: Stage) -> None:
    stage.hit()
    await stage.on_memcached("-C")
    await stage.last()


@fault(
    "password",
    "the password changes on memcached's side (`-Y`)",
    "Give the application the new one.",
    loses=True,
)
async def password(stage: Stage) -> None:
    users = stage.directory / "users"
    users.write_text("site:right\n")
    node = await stage.on_memcached("-Y", str(users), login="site:right@")
    users.write_text("site:other\n")
    await stage.restart(node)
    await stage.last()
    users.write_text("site:right\n")
    await stage.restart(node)


@fault("tls-expired", "memcached's TLS certificate expires", "Renew it.", loses=True)
async def tls_expired(stage: Stage) -> None:
    certificates = await stage.blocking(Certificates, stage.directory)
    node = await stage.keep(TLSMemcached, certificates)
    await stage.open(node, options=f"&tls_ca={certificates.ca}")
    used, expired = certificates.server, certificates.expired
    saved = [file.read_bytes() for file in (used.cert, used.key)]
    other = [file.read_bytes() for file in (expired.cert, expired.key)]
    for contents in (other, saved):
        for file, content in zip((used.cert, used.key), contents, strict=True):
            new = file.with_suffix(".new")
            new.write_bytes(content)
            os.replace(new, file)
        await stage.restart(node)
        if contents is other:
            await stage.last()


add(
    "twemproxy-hung",
    "one of two nodes behind twemproxy hangs for 2 s",
    TWEMPROXY,
    hang(behind_twemproxy),
)
add(
    "twemproxy-dead",
    "one of two nodes behind twemproxy is killed, and back",
    RESTART,
    kill(behind_twemproxy),
)

# The network between the site and memcached.

NETWORK = "Mend the network."
NOTHING = "Nothing."

# None of these is right for any command: "STORED" would be believed by an add.
GARBAGE = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    b"\x00\xff\r\n" * 20,
    b"OK\r\n",
    b"STORED\r\nDELETED\r\n",
    b"VALUE other 0 5 1\r\nwrong\r\nEND\r\n",
    b"END\r\nEND\r\n",
    b"\xff" * 100,
)


class Network(FaultProxy):
    """A network with two more faults."""

    def break_off(self) -> None:
        """Break open connections; new ones are as good as before."""

        async def close() -> None:
            for link in self._links:
                link.close()

        self._run(close())

    def lose_confirmations(self) -> None:
        """Let each write be done, and the connection break before its response."""

        async def respond(link: Link, data: bytes) -> None:
            if data.startswith((b"STORED", b"DELETED", b"TOUCHED")):
                link.close()
            else:
                await link.send(data)

        self._use(respond)


async def faulty(stage: Stage, **settings: Any) -> Network:
    """Start a site with a faulty network before its memcached."""
    node = await stage.memcached()
    proxy = await stage.keep(Network, node.port)
    await stage.open(proxy, **settings)
    return proxy


Step = tuple[Callable[[Network], None], float]


def network(*steps: Step, **settings: Any) -> Act:
    """Put faults in force, one after another, each for some seconds."""

    async def act(stage: Stage) -> None:
        proxy = await faulty(stage, **settings)
        for step, seconds in steps:
            step(proxy)
            await asyncio.sleep(seconds)
        await stage.last(0.0)
        proxy.pass_through()

    return act


def delayed(proxy: Network) -> None:
    proxy.delay(0.05)


def dripping(proxy: Network) -> None:
    proxy.drip(1, 0.01)


def cut_after(size: int) -> Callable[[Network], None]:
    return lambda proxy: proxy.cut_after(size)


def saying(garbage: bytes) -> Callable[[Network], None]:
    return lambda proxy: proxy.garbage(garbage)


CUT, PASS = Network.cut, Network.pass_through
ALL = (
    CUT,
    Network.hang,
    Network.lose_answers,
    Network.lose_confirmations,
    delayed,
    dripping,
    *map(cut_after, (5, 30, 100)),
    *map(saying, GARBAGE[:3]),
    *[PASS] * 5,
)
CHAOS = random.Random(0).choices(ALL, k=30)  # nosec B311 # the same each time

add(
    "stale",
    "all connections break, five times",
    NOTHING,
    network(*[(Network.break_off, 0.1)] * 5),
    statuses=(),
)
add("cut", "each connection breaks when it is made", NETWORK, network((CUT, 1.2)))
add(
    "flapping",
    "the network breaks and returns, ten times a second",
    NETWORK,
    network(*[(CUT, 0.05), (PASS, 0.05)] * 10),
)
add(
    "silent",
    "the network swallows all packets for 2 s",
    NETWORK,
    network((Network.hang, 2.0)),
)
add(
    "slow",
    "the network takes 50 ms longer",
    NOTHING,
    network((delayed, 1.2)),
    statuses=(),
)
add(
    "dripping",
    "memcached's responses arrive a byte every 10 ms",
    NETWORK,
    network((dripping, 2.0)),
)
add(
    "broken-off",
    "connections break in the middle of responses",
    NETWORK,
    network(*((cut_after(size), 0.3) for size in (5, 30, 100, 300))),
)
add(
    "answers-lost",
    "writes arrive, and their responses do not",
    NETWORK,
    network(*[(Network.lose_answers, 0.4), (PASS, 0.3)] * 3),
)
add(
    "unconfirmed",
    "each write is done, and its connection breaks before the response",
    NOTHING,
    network((Network.lose_confirmations, 1.2)),
    statuses=(),
)
add(
    "garbage",
    f"another service listens in memcached's place ({len(GARBAGE)} kinds)",
    "Correct the address.",
    network(*((saying(said), 0.3) for said in GARBAGE)),
)
add(
    "chaos",
    "all these faults at random, ten a second",
    NETWORK,
    network(*((step, 0.1) for step in CHAOS)),
)


@fault(
    "logout",
    "all users log out while memcached cannot be reached",
    "Do not restart the application before memcached is back.",
)
async def logout(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.cut()
    await asyncio.sleep(0.2)
    await stage.trial.stop_users()
    logged_in = [(u, d) for u in stage.users for d in u.devices if d.session_id]
    await asyncio.gather(*(user.logout(device) for user, device in logged_in))
    stage.trial.start_users()
    await stage.last(0.5)
    proxy.pass_through()


add(
    "waiting",
    "memcached is away for 0.6 s, with `reconnect_timeout=2`",
    NOTHING,
    network((CUT, 0.6), options="&reconnect_timeout=2"),
    statuses=(),
    waits=4.0,
)
add(
    "degrade",
    'memcached is away, with `on_error="degrade"`',
    NETWORK,
    network((CUT, 1.2), on_error="degrade"),
)
add(
    "on-finish",
    'memcached comes and goes, with `persist="on_finish"`',
    NETWORK,
    network(*[(CUT, 0.3), (PASS, 0.1)] * 4, persist="on_finish"),
)


@fault(
    "overload",
    "50 ms a command, 200 requests at once, and `max_pending=24`",
    "Add processes or nodes, or raise `max_pending`.",
)
async def overload(stage: Stage) -> None:
    proxy = await faulty(stage, options="&max_pending=24")
    proxy.delay(0.05)
    await asyncio.gather(stage.last(0.6), stage.crowd("x" * 43, 200))
    proxy.pass_through()


# What is stored, and the site's own processes.

RECORDS = (
    b"",
    b"\x01",
    b"plain text of another program",
    b'{"json": true}',
    b"\x01\xc0",  # MessagePack: nothing at all
    b"\x01" + b"\x91" * 5000 + b"\xc0",  # 5,000 lists in each other
    b"\x01\x9c" + b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00" * 12,  # infinite times
    b"\x02" + bytes(100),  # as if encrypted
    b"\x09" + bytes(100),  # of a version that does not exist
    os.urandom(1_000_000),
)
OTHERS = "Find out what else writes to this memcached."


@fault(
    "records",
    f"garbage in single records ({len(RECORDS)} kinds, and halves)",
    OTHERS,
    statuses=(),
    loses=True,
)
async def records(stage: Stage) -> None:
    node = await stage.on_memcached()
    owners = await stage.blocking(stage.keys, node)
    halves = [(node.get(key) or b"")[:50] for key in list(owners)[len(RECORDS) :][:3]]
    for (key, user), record in zip(owners.items(), [*RECORDS, *halves], strict=False):
        await stage.overwrite(node, key, user, record)
    await stage.last()


async def copy(stage: Stage, **settings: Any) -> None:
    """Let the other users' keys hold what is under one's."""
    node = await stage.on_memcached(**settings)
    owners = await stage.blocking(stage.keys, node)
    # An anonymous session's key may change, by a login.
    first, *others = (key for key in owners if "{" in key)
    record = node.get(first) or b""
    for key in others:
        if owners[key] != owners[first]:
            await stage.overwrite(node, key, owners[key], record)
    await stage.last(0.6)


# A logged-in session's record says whose it is. Who copies with more care is noticed
# with ``encryption_keys`` only: docs/security.md.
add(
    "copied",
    "one user's record is copied over all others",
    f"{OTHERS} Set `encryption_keys`.",
    copy,
    statuses=(),
    loses=True,
)
add(
    "copied-sealed",
    "the same, with `encryption_keys`",
    OTHERS,
    partial(copy, encryption_keys=[base64.urlsafe_b64encode(b"k" * 32).decode()]),
    statuses=(),
    loses=True,
)


# What the kernel had accepted for a process that stops listening has no response.
@fault(
    "sigterm", "a deployment: each process restarts (SIGTERM)", NOTHING, statuses=(0,)
)
async def sigterm(stage: Stage) -> None:
    await stage.on_memcached()
    for application in stage.trial.applications:
        await stage.trial.end(application)
        await asyncio.sleep(0.2)
        await application.start()
    await stage.last(0.3)
