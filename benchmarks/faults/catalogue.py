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
from pathlib import Path
from typing import Any

from benchmarks.soak.users import User
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
    With ``loses``, memcached loses sessions. ``waits`` is the time in seconds that
    responses may take beyond the store's timeouts.
    """

    act: Act
    name: str
    title: str
    remedy: str
    statuses: tuple[int, ...] = (503,)
    loses: bool = False
    waits: float = 0.0


FAULTS: dict[str, Fault] = {}


def fault(name: str, title: str, remedy: str, **more: Any) -> Callable[[Act], Act]:
    """Make a fault of the function that plays it."""

    def made(act: Act) -> Act:
        FAULTS[name] = Fault(act, name, title, remedy, **more)
        return act

    return made


# memcached.

RESTART = "Start it again. Its sessions are lost."
NOTHING = "Nothing."


@fault("killed", "memcached is killed, and back after 1.2 s", RESTART, loses=True)
async def killed(stage: Stage) -> None:
    node = await stage.memcached()
    await stage.open(node)
    stage.hit()
    await stage.blocking(node.kill)
    await stage.last()
    await stage.restart(node)
    await stage.over()


@fault(
    "restarted",
    "memcached restarts at once",
    "Restart one node at a time, at night: its sessions are lost.",
    loses=True,
)
async def restarted(stage: Stage) -> None:
    node = await stage.memcached()
    await stage.open(node)
    stage.hit()
    await stage.restart(node)
    await stage.last(0.3)
    await stage.over()


@fault(
    "flushed",
    "somebody runs `flush_all`",
    "Find out who did. Give sessions a memcached of their own.",
    statuses=(),
    loses=True,
)
async def flushed(stage: Stage) -> None:
    node = await stage.memcached()
    await stage.open(node)
    stage.hit()
    stage.lose()
    await stage.blocking(node.flush)
    stage.lose()
    await stage.last(0.3)
    await stage.over()


@fault("hung", "memcached hangs (SIGSTOP) for 2 s", "Find out what holds it up.")
async def hung(stage: Stage) -> None:
    node = await stage.memcached()
    await stage.open(node)
    stage.hit()
    await stage.blocking(node.stop)
    await stage.last(2.0)
    await stage.blocking(node.cont)
    await stage.over()


async def three_nodes(stage: Stage) -> Memcached:
    """Start a site on three nodes; return one of them."""
    nodes = [await stage.memcached() for _ in range(3)]
    await stage.open(*nodes)
    await stage.blocking(stage.group, *nodes)
    stage.hit()
    return nodes[0]


@fault("node-dead", "one of three nodes is killed, and back after 1.2 s", RESTART)
async def node_dead(stage: Stage) -> None:
    node = await three_nodes(stage)
    await stage.blocking(node.kill)
    await stage.last()
    await stage.restart(node)
    await stage.over()


@fault("node-hung", "one of three nodes hangs for 2 s", "Find out what holds it up.")
async def node_hung(stage: Stage) -> None:
    node = await three_nodes(stage)
    await stage.blocking(node.stop)
    await stage.last(2.0)
    await stage.blocking(node.cont)
    await stage.over()


@fault(
    "connections",
    "others use up memcached's connection limit (`-c`)",
    "Raise `-c`, or find the client that leaks connections.",
)
async def connections(stage: Stage) -> None:
    node = await stage.memcached("-c", "30", "-t", "1")
    proxy = await stage.proxy(node)
    await stage.open(proxy)
    stage.hit()
    with contextlib.ExitStack() as held:
        proxy.cut()
        await stage.blocking(take_all_connections, node, held)
        proxy.pass_through()
        await stage.last()
    await stage.over()


def take_all_connections(node: Memcached, held: contextlib.ExitStack) -> None:
    """Open connections until the server refuses one."""
    said = b"VERSION"
    while said.startswith(b"VERSION"):
        other = held.enter_context(socket.create_connection(node.server, 5))
        other.sendall(b"version\r\n")
        said = other.recv(100)


def items(command: bytes, count: int) -> Iterator[bytes]:
    """Return commands about items of all sizes that a session may have."""
    for size in range(50, 900, 25):
        names = [b"filler-%d-%d" % (size, number) for number in range(count)]
        if command == b"delete":
            yield b"\r\n".join(b"delete %b noreply" % name for name in names)
        else:
            line = b"set %b 0 0 %d noreply\r\n"
            yield b"\r\n".join(line % (name, size) + b"x" * size for name in names)


async def fill_up(stage: Stage, **settings: Any) -> None:
    """Take all of the server's memory, and give it back."""
    node = await stage.memcached("-M", "-m", "2")
    await stage.open(node, **settings)
    stage.hit()
    for commands in items(b"set", 4000):
        await stage.blocking(node.command, commands)
    await stage.last()
    for commands in items(b"delete", 4000):
        await stage.blocking(node.command, commands)
    await stage.over()


@fault(
    "out-of-memory",
    "memcached is full and may not evict (`-M`)",
    "Raise `-m`, or run it without `-M` and watch evictions.",
)
async def out_of_memory(stage: Stage) -> None:
    await fill_up(stage)


@fault(
    "renewals",
    "the same, and each request renews its session (`renew_after=0`)",
    "The same. A renewal that fails is no error to users.",
)
async def renewals(stage: Stage) -> None:
    await fill_up(stage, renew_after=0)


@fault(
    "evictions",
    "memcached is full and evicts sessions (`-m` is too small)",
    "Raise `-m`. `python -m tornado_mcsession doctor URL` shows evictions.",
    statuses=(),
    loses=True,
)
async def evictions(stage: Stage) -> None:
    node = await stage.memcached("-m", "2")
    await stage.open(node)
    stage.hit()
    stage.lose(at=math.inf)
    for commands in items(b"set", 4000):
        await stage.blocking(node.command, commands)
    await stage.last(0.3)
    stage.lose()
    await stage.over()


@fault(
    "item-size",
    "sessions grow over memcached's item size (`-I 16k`)",
    "Store less in the session. Set `max_size` below `-I`, or raise `-I`.",
    statuses=(500,),
)
async def item_size(stage: Stage) -> None:
    node = await stage.memcached("-I", "16k", "-o", "slab_chunk_max=8192")
    await stage.open(node)
    stage.hit()
    for user in stage.users:
        user.size = 20_000
    await stage.last()
    for user in stage.users:
        user.size = 0
    await stage.over()


@fault("no-cas", "memcached runs with cas disabled (`-C`)", "Start it without `-C`.")
async def no_cas(stage: Stage) -> None:
    node = await stage.memcached("-C")
    stage.hit()
    await stage.open(node)
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
    node = await stage.memcached("-Y", str(users))
    await stage.open(node, login="site:right@")
    stage.hit()
    users.write_text("site:other\n")
    await stage.restart(node)
    await stage.last()
    users.write_text("site:right\n")
    await stage.restart(node)
    await stage.over()


@fault("tls-expired", "memcached's TLS certificate expires", "Renew it.", loses=True)
async def tls_expired(stage: Stage) -> None:
    certificates = await stage.blocking(Certificates, stage.directory)
    node = await stage.keep(TLSMemcached, certificates)
    await stage.open(node, options=f"&tls_ca={certificates.ca}")
    right, wrong = certificates.server, certificates.expired
    saved = [right.cert.read_bytes(), right.key.read_bytes()]
    stage.hit()
    replace(right.cert, wrong.cert.read_bytes())
    replace(right.key, wrong.key.read_bytes())
    await stage.restart(node)
    await stage.last()
    replace(right.cert, saved[0])
    replace(right.key, saved[1])
    await stage.restart(node)
    await stage.over()


def replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, path)


async def behind_twemproxy(stage: Stage) -> Memcached:
    """Start a site with twemproxy before two memcached; return one of these."""
    nodes = [await stage.memcached() for _ in range(2)]
    proxy = await stage.keep(Twemproxy, stage.directory, nodes)
    await stage.open(proxy)
    await stage.blocking(stage.group, *nodes)
    stage.hit()
    return nodes[0]


TWEMPROXY = "List the nodes in the URL instead: see [twemproxy.md](twemproxy.md)."


@fault("twemproxy-hung", "one of two nodes behind twemproxy hangs for 2 s", TWEMPROXY)
async def twemproxy_hung(stage: Stage) -> None:
    node = await behind_twemproxy(stage)
    await stage.blocking(node.stop)
    await stage.last(2.0)
    await stage.blocking(node.cont)
    await stage.over()


@fault(
    "twemproxy-dead",
    "one of two nodes behind twemproxy is killed, and back",
    RESTART,
)
async def twemproxy_dead(stage: Stage) -> None:
    node = await behind_twemproxy(stage)
    await stage.blocking(node.kill)
    await stage.last()
    await stage.restart(node)
    await stage.over()


# The network between the site and memcached.

NETWORK = "Mend the network."

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
    stage.hit()
    return proxy


async def mended(stage: Stage, proxy: Network, seconds: float = 1.2) -> None:
    """Let the fault last a while longer, and end it."""
    await stage.last(seconds)
    proxy.pass_through()
    await stage.over()


@fault("stale", "all connections break, five times", NOTHING, statuses=())
async def stale(stage: Stage) -> None:
    proxy = await faulty(stage)
    for _ in range(5):
        proxy.break_off()
        await asyncio.sleep(0.1)
    await mended(stage, proxy, 0.3)


@fault("cut", "each connection breaks as soon as it is made", NETWORK)
async def cut(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.cut()
    await mended(stage, proxy)


@fault("flapping", "the network breaks and returns, ten times a second", NETWORK)
async def flapping(stage: Stage) -> None:
    proxy = await faulty(stage)
    for _ in range(10):
        proxy.cut()
        await asyncio.sleep(0.05)
        proxy.pass_through()
        await asyncio.sleep(0.05)
    await mended(stage, proxy, 0.0)


@fault("silent", "the network swallows all packets for 2 s", NETWORK)
async def silent(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.hang()
    await mended(stage, proxy, 2.0)


@fault("slow", "the network takes 50 ms longer", NOTHING, statuses=())
async def slow(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.delay(0.05)
    await mended(stage, proxy)


@fault("dripping", "memcached's responses arrive a byte every 10 ms", NETWORK)
async def dripping(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.drip(1, 0.01)
    await mended(stage, proxy, 2.0)


@fault("broken-off", "connections break in the middle of responses", NETWORK)
async def broken_off(stage: Stage) -> None:
    proxy = await faulty(stage)
    for size in (5, 30, 100, 300):
        proxy.cut_after(size)
        await asyncio.sleep(0.3)
    await mended(stage, proxy, 0.0)


@fault("answers-lost", "writes arrive, and their responses do not", NETWORK)
async def answers_lost(stage: Stage) -> None:
    proxy = await faulty(stage)
    for _ in range(3):
        proxy.lose_answers()
        await asyncio.sleep(0.3)
        proxy.pass_through()
        await asyncio.sleep(0.3)
    proxy.lose_answers()
    await mended(stage, proxy, 0.6)


@fault(
    "unconfirmed",
    "each write is done, and its connection breaks before the response",
    NOTHING,
    statuses=(),
)
async def unconfirmed(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.lose_confirmations()
    await mended(stage, proxy)


@fault(
    "garbage",
    f"another service listens in memcached's place ({len(GARBAGE)} kinds)",
    "Correct the address.",
)
async def garbage(stage: Stage) -> None:
    proxy = await faulty(stage)
    for said in GARBAGE:
        proxy.garbage(said)
        await asyncio.sleep(0.3)
    await mended(stage, proxy, 0.0)


@fault("chaos", "all these faults at random, ten a second", NETWORK)
async def chaos(stage: Stage) -> None:
    proxy = await faulty(stage)
    chance = random.Random(0)  # nosec B311 # the same faults each time
    faults: tuple[Callable[[], None], ...] = (
        proxy.cut,
        proxy.hang,
        proxy.lose_answers,
        proxy.lose_confirmations,
        lambda: proxy.delay(0.03),
        lambda: proxy.drip(20, 0.01),
        lambda: proxy.cut_after(chance.choice((5, 30, 100))),
        lambda: proxy.garbage(chance.choice(GARBAGE)),
        proxy.pass_through,
        proxy.pass_through,
        proxy.pass_through,
    )
    for _ in range(30):
        chance.choice(faults)()
        await asyncio.sleep(0.1)
    await mended(stage, proxy, 0.0)


@fault(
    "logout",
    "all users log out while memcached cannot be reached",
    "Do not restart the application before memcached is back.",
)
async def logout(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.cut()
    await asyncio.sleep(0.2)
    await stage.stop_users()
    logged_in = [(u, d) for u in stage.users for d in u.devices if d.session_id]
    await asyncio.gather(*(user.logout(device) for user, device in logged_in))
    stage.start_users()
    await mended(stage, proxy, 0.5)


@fault(
    "waiting",
    "memcached is away for 0.6 s, with `reconnect_timeout=2`",
    NOTHING,
    statuses=(),
    waits=4.0,
)
async def waiting(stage: Stage) -> None:
    proxy = await faulty(stage, options="&reconnect_timeout=2")
    proxy.cut()
    await mended(stage, proxy, 0.6)


@fault("degrade", 'memcached is away, with `on_error="degrade"`', NETWORK)
async def degrade(stage: Stage) -> None:
    proxy = await faulty(stage, on_error="degrade")
    proxy.cut()
    await mended(stage, proxy)


@fault("on-finish", 'memcached comes and goes, with `persist="on_finish"`', NETWORK)
async def on_finish(stage: Stage) -> None:
    proxy = await faulty(stage, persist="on_finish")
    for _ in range(4):
        proxy.cut()
        await asyncio.sleep(0.3)
        proxy.pass_through()
        await asyncio.sleep(0.1)
    await mended(stage, proxy, 0.0)


@fault(
    "overload",
    "50 ms a command, 200 requests at once, and `max_pending=24`",
    "Add processes or nodes, or raise `max_pending`.",
)
async def overload(stage: Stage) -> None:
    proxy = await faulty(stage, options="&max_pending=24")
    proxy.delay(0.05)
    await asyncio.gather(stage.last(0.6), stage.crowd("x" * 43, 200))
    await mended(stage, proxy, 0.0)


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
    node = await stage.memcached()
    await stage.open(node)
    stage.hit()
    keys = await stage.blocking(stage.keys, node)
    for (key, user), record in zip(keys.items(), RECORDS, strict=False):
        await overwrite(stage, node, key, user, record)
    for key, user in list(keys.items())[len(RECORDS) :][:3]:
        half = node.get(key) or b""
        await overwrite(stage, node, key, user, half[: len(half) // 2])
    await stage.last()
    await stage.over()


async def overwrite(
    stage: Stage, node: Memcached, key: str, user: User, record: bytes
) -> None:
    """Put ``record`` where a user's session is."""
    stage.lose(user)
    await stage.blocking(node.set, key, record)
    stage.lose(user)


async def copy_some(stage: Stage, **settings: Any) -> None:
    """Let some users' keys hold what is under another's."""
    node = await stage.memcached()
    await stage.open(node, **settings)
    stage.hit()
    keys = await stage.blocking(stage.keys, node)
    # An anonymous session's key may change, by a login.
    logged_in = [key for key in keys if "{" in key]
    record = node.get(logged_in[0]) or b""
    for key in logged_in[1:]:
        if keys[key] != keys[logged_in[0]]:
            await overwrite(stage, node, key, keys[key], record)
    await stage.last(0.6)
    await stage.over()


# A logged-in session's record says whose it is. Who copies with more care is noticed
# with ``encryption_keys`` only: docs/security.md.
@fault(
    "copied",
    "one user's record is copied over all others",
    f"{OTHERS} Set `encryption_keys`.",
    statuses=(),
    loses=True,
)
async def copied(stage: Stage) -> None:
    await copy_some(stage)


@fault(
    "copied-sealed", "the same, with `encryption_keys`", OTHERS, statuses=(), loses=True
)
async def copied_sealed(stage: Stage) -> None:
    key = base64.urlsafe_b64encode(os.urandom(32)).decode()
    await copy_some(stage, encryption_keys=[key])


# What the kernel had accepted for a process that stops listening has no response.
@fault(
    "sigterm", "a deployment: each process restarts (SIGTERM)", NOTHING, statuses=(0,)
)
async def sigterm(stage: Stage) -> None:
    await stage.open(await stage.memcached())
    stage.hit()
    for application in stage.applications:
        await stage.end(application)
        await asyncio.sleep(0.2)
        await application.start()
    await stage.last(0.3)
    await stage.over()
