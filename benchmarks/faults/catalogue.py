"""All faults, in the order of the page; the table is at the end.

An act starts the site, makes the fault, lets it last, and mends it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import Any

from tests.support.memcached import Memcached
from tests.support.proxy import FaultProxy
from tests.support.tls import Certificates, TLSMemcached
from tests.support.twemproxy import Twemproxy

from .stage import Stage

Act = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """A fault, and what may come of it.

    ``statuses`` are those that users may get besides 200 and 409, 0 being no response.
    With ``loses``, memcached loses sessions; with ``stays``, the fault is not mended.
    ``waits`` is the time in seconds that responses may take beyond the timeouts.
    """

    act: Act
    statuses: tuple[int, ...] = (503,)
    loses: bool = False
    stays: bool = False
    waits: float = 0.0


# memcached.


async def three_nodes(stage: Stage) -> Memcached:
    """Start a site on three nodes; return one of them."""
    nodes = [await stage.keep(Memcached) for _ in range(3)]
    await stage.open(*nodes)
    await asyncio.to_thread(stage.group, *nodes)
    return nodes[0]


async def behind_twemproxy(stage: Stage) -> Memcached:
    """Start a site with twemproxy before two nodes; return one of these."""
    nodes = [await stage.keep(Memcached) for _ in range(2)]
    await stage.open(await stage.keep(Twemproxy, stage.directory, nodes))
    await asyncio.to_thread(stage.group, *nodes)
    return nodes[0]


Place = Callable[[Stage], Awaitable[Memcached]]


async def kill(stage: Stage, place: Place) -> None:
    """Kill a node, and start it again."""
    node = await place(stage)
    await asyncio.to_thread(node.kill)
    await stage.last()
    await stage.losing(node.restart)


async def hang(stage: Stage, place: Place) -> None:
    """Let a node stand still, and go on."""
    node = await place(stage)
    await asyncio.to_thread(node.stop)
    await stage.last(2.0)
    await asyncio.to_thread(node.cont)


async def empty(stage: Stage, how: Callable[[Memcached], None]) -> None:
    """Let a node lose all it has, and go on."""
    node = await stage.on_memcached()
    await stage.losing(how, node)
    await stage.last(0.3)


async def connections(stage: Stage) -> None:
    node = await stage.keep(Memcached, "-c", "30", "-t", "1")
    proxy = await stage.keep(FaultProxy, node.port)
    await stage.open(proxy)
    with contextlib.ExitStack() as held:
        proxy.cut()
        await asyncio.to_thread(node.take_all_connections, held)
        proxy.pass_through()
        await stage.last()


SET = b"set filler-%d-%d 0 0 %d noreply\r\n%b"
DELETE = b"delete filler-%d-%d noreply"


def fill(node: Memcached, empty: bool = False) -> None:
    """Store many items of all sizes that a session may have, or delete them."""
    for size in range(50, 900, 25):
        rest = () if empty else (size, b"x" * size)
        line = DELETE if empty else SET
        commands = (line % (size, number, *rest) for number in range(4000))
        node.command(b"\r\n".join(commands))


async def fill_up(stage: Stage, **settings: Any) -> None:
    """Take all of the server's memory, and give it back."""
    node = await stage.on_memcached("-M", "-m", "2", **settings)
    await asyncio.to_thread(fill, node)
    await stage.last()
    await asyncio.to_thread(fill, node, True)


async def evictions(stage: Stage) -> None:
    node = await stage.on_memcached("-m", "2")
    await stage.losing(fill, node)
    await stage.last(0.3)


async def item_size(stage: Stage) -> None:
    await stage.on_memcached("-I", "16k", "-o", "slab_chunk_max=8192")
    for user in stage.trial.users:
        user.size = 20_000
    await stage.last()
    for user in stage.trial.users:
        user.size = 0


async def no_cas(stage: Stage) -> None:
    stage.hit()
    await stage.on_memcached("-C")
    await stage.last()


async def password(stage: Stage) -> None:
    users = stage.directory / "users"
    users.write_text("site:right\n")
    node = await stage.on_memcached("-Y", str(users), login="site:right@")
    users.write_text("site:other\n")
    await stage.losing(node.restart)
    await stage.last()
    users.write_text("site:right\n")
    await stage.losing(node.restart)


async def tls_expired(stage: Stage) -> None:
    certificates = await asyncio.to_thread(Certificates, stage.directory)
    node = await stage.keep(TLSMemcached, certificates)
    await stage.open(node, options=f"&tls_ca={certificates.ca}")
    good, expired = (
        [pair.cert.read_bytes(), pair.key.read_bytes()]
        for pair in (certificates.server, certificates.expired)
    )
    for contents, lasting in ((expired, 1.2), (good, 0.0)):
        certificates.server.cert.write_bytes(contents[0])
        certificates.server.key.write_bytes(contents[1])
        await stage.losing(node.restart)
        await stage.last(lasting)


# The network between the site and memcached.

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


Step = tuple[Callable[[FaultProxy], None], float]


async def faulty(stage: Stage, **settings: Any) -> FaultProxy:
    """Start a site with a faulty network before its memcached."""
    node = await stage.keep(Memcached)
    proxy = await stage.keep(FaultProxy, node.port)
    await stage.open(proxy, **settings)
    return proxy


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


CUT, HANG, PASS = FaultProxy.cut, FaultProxy.hang, FaultProxy.pass_through
LOSE, BREAK = FaultProxy.lose_answers, FaultProxy.break_off
UNCONFIRMED = FaultProxy.lose_confirmations
# What comes on one connection is delayed one after another: with 50 ms, some
# operations take longer than the store's 0.5 s.
SLOW = methodcaller("delay", 0.02)
DRIP = methodcaller("drip", 1, 0.01)
SHORT = [methodcaller("cut_after", size) for size in (5, 30, 100, 300)]
SAY = [methodcaller("garbage", said) for said in GARBAGE]
ALL = (CUT, HANG, LOSE, UNCONFIRMED, SLOW, DRIP, *SHORT[:3], *SAY[:3], *[PASS] * 5)
CHAOS = random.Random(0).choices(ALL, k=30)  # nosec B311 # the same each time


async def logout(stage: Stage) -> None:
    """Let all users log out while memcached cannot be reached."""
    proxy = await faulty(stage)
    proxy.cut()
    await asyncio.sleep(0.2)
    await stage.trial.stop_users()
    logged_in = [(u, d) for u in stage.trial.users for d in u.devices if d.session_id]
    await asyncio.gather(*(user.logout(device) for user, device in logged_in))
    stage.trial.start_users()
    await stage.last(0.5)
    proxy.pass_through()


async def overload(stage: Stage) -> None:
    proxy = await faulty(stage, options="&max_pending=24")
    proxy.delay(0.05)
    requests = (stage.trial.web.ask("/read", "x" * 43) for _ in range(200))
    await asyncio.gather(stage.last(0.6), *requests)
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


async def records(stage: Stage) -> None:
    """Put garbage and halves of records in the place of sessions."""
    node = await stage.on_memcached()
    owners = await asyncio.to_thread(stage.keys, node)
    halves = [(node.get(key) or b"")[:50] for key in list(owners)[len(RECORDS) :][:3]]
    for (key, user), record in zip(owners.items(), [*RECORDS, *halves], strict=False):
        await stage.losing(node.set, key, record, of=user)
    await stage.last()


async def copy(stage: Stage, **settings: Any) -> None:
    """Let the other users' keys hold what is under one's."""
    node = await stage.on_memcached(**settings)
    owners = await asyncio.to_thread(stage.keys, node)
    # An anonymous session's key may change, by a login.
    first, *others = (key for key in owners if "{" in key)
    record = node.get(first) or b""
    for key in others:
        if owners[key] != owners[first]:
            await stage.losing(node.set, key, record, of=owners[key])
    await stage.last(0.6)


async def sigterm(stage: Stage) -> None:
    """Restart each process of the site, as a deployment does."""
    await stage.on_memcached()
    for application in stage.trial.applications:
        await stage.trial.end(application)
        await asyncio.sleep(0.2)
        await application.start()
    await stage.last(0.3)


KEYS = [base64.urlsafe_b64encode(b"k" * 32).decode()]

FAULTS = {
    "killed": Fault(partial(kill, place=Stage.on_memcached), loses=True),
    "restarted": Fault(partial(empty, how=Memcached.restart), loses=True),
    "hung": Fault(partial(hang, place=Stage.on_memcached)),
    "node-dead": Fault(partial(kill, place=three_nodes), loses=True),
    "node-hung": Fault(partial(hang, place=three_nodes)),
    "twemproxy-dead": Fault(partial(kill, place=behind_twemproxy), loses=True),
    "twemproxy-hung": Fault(partial(hang, place=behind_twemproxy)),
    "connections": Fault(connections),
    "out-of-memory": Fault(fill_up),
    # Each request renews its session.
    "renewals": Fault(partial(fill_up, renew_after=0)),
    "evictions": Fault(evictions, (), loses=True),
    "flushed": Fault(partial(empty, how=Memcached.flush), (), loses=True),
    "item-size": Fault(item_size, (500,)),
    "no-cas": Fault(no_cas, stays=True),
    "password": Fault(password, loses=True),
    "tls-expired": Fault(tls_expired, loses=True),
    "garbage": Fault(network(*((step, 0.3) for step in SAY))),
    # The network.
    "stale": Fault(network(*[(BREAK, 0.1)] * 5), ()),
    "cut": Fault(network((CUT, 1.2))),
    "flapping": Fault(network(*[(CUT, 0.05), (PASS, 0.05)] * 10)),
    "silent": Fault(network((HANG, 2.0))),
    "slow": Fault(network((SLOW, 1.2)), ()),
    "dripping": Fault(network((DRIP, 2.0))),
    "broken-off": Fault(network(*((step, 0.3) for step in SHORT))),
    "answers-lost": Fault(network(*[(LOSE, 0.4), (PASS, 0.3)] * 3)),
    "unconfirmed": Fault(network((UNCONFIRMED, 1.2)), ()),
    "chaos": Fault(network(*((step, 0.1) for step in CHAOS))),
    # Logouts, settings and overload.
    "logout": Fault(logout),
    "waiting": Fault(
        network((CUT, 0.6), options="&reconnect_timeout=2"), (), waits=4.0
    ),
    "degrade": Fault(network((CUT, 1.2), on_error="degrade")),
    "on-finish": Fault(network(*[(CUT, 0.3), (PASS, 0.1)] * 4, persist="on_finish")),
    "overload": Fault(overload),
    # What is stored, and the site's own processes.
    "records": Fault(records, (), loses=True),
    # A logged-in session's record says whose it is. Who copies with more care is
    # noticed with ``encryption_keys`` only: docs/security.md.
    "copied": Fault(copy, (), loses=True),
    "copied-sealed": Fault(partial(copy, encryption_keys=KEYS), (), loses=True),
    # What the kernel had accepted for a process that stops listening has no response.
    "sigterm": Fault(sigterm, (0,)),
}
