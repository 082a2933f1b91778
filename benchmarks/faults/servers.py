"""Faults of memcached itself: gone, hanging, full, or differently set up."""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.memcached import Memcached
from tests.support.tls import Certificates, TLSMemcached
from tests.support.twemproxy import Twemproxy

from .fault import fault
from .stage import Stage

# Items about as large as the sessions, which so compete for the same memory.
SIZES = range(50, 700, 25)


@fault("killed", "memcached killed, and started again 1.2 s later", loses=True)
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
    "memcached killed and started again at once",
    loses=True,
)
async def restarted(stage: Stage) -> None:
    node = await stage.memcached()
    await stage.open(node)
    stage.hit()
    await stage.restart(node)
    await stage.last(0.3)
    await stage.over()


@fault("flushed", "memcached emptied (`flush_all`)", statuses=(), loses=True)
async def flushed(stage: Stage) -> None:
    node = await stage.memcached()
    await stage.open(node)
    stage.hit()
    stage.lose()
    await stage.blocking(node.flush)
    stage.lose()
    await stage.last(0.3)
    await stage.over()


@fault("hung", "memcached hangs (SIGSTOP), and goes on")
async def hung(stage: Stage) -> None:
    node = await stage.memcached()
    await stage.open(node)
    stage.hit()
    await stage.blocking(node.stop)
    await stage.last(2.0)
    await stage.blocking(node.cont)
    await stage.over()


@fault("node-dead", "one of three memcached killed, and started again")
async def node_dead(stage: Stage) -> None:
    nodes = [await stage.memcached() for _ in range(3)]
    await stage.open(*nodes)
    await stage.blocking(stage.group, *nodes)
    stage.hit()
    await stage.blocking(nodes[0].kill)
    await stage.last()
    await stage.restart(nodes[0])
    await stage.over()


@fault("node-hung", "one of three memcached hangs, and goes on")
async def node_hung(stage: Stage) -> None:
    nodes = [await stage.memcached() for _ in range(3)]
    await stage.open(*nodes)
    await stage.blocking(stage.group, *nodes)
    stage.hit()
    await stage.blocking(nodes[0].stop)
    await stage.last(2.0)
    await stage.blocking(nodes[0].cont)
    await stage.over()


@fault("connections", "memcached's connection limit (`-c`) used up by others")
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
    answer = b"VERSION"
    while answer.startswith(b"VERSION"):
        other = held.enter_context(socket.create_connection(node.server, 5))
        other.sendall(b"version\r\n")
        answer = other.recv(100)


def items(command: bytes, count: int) -> Iterator[bytes]:
    """Return commands about items of all sizes that a session may have."""
    for size in SIZES:
        lines = []
        for number in range(count):
            name = b"filler-%d-%d" % (size, number)
            if command == b"set":
                lines.append(b"set %b 0 0 %d noreply\r\n" % (name, size) + b"x" * size)
            else:
                lines.append(b"delete %b noreply" % name)
        yield b"\r\n".join(lines)


@fault("out-of-memory", "memcached full, and set to evict nothing (`-M`)")
async def out_of_memory(stage: Stage) -> None:
    await fill_up(stage)


@fault(
    "renewals",
    "memcached full (`-M`), and each request renews its session (`renew_after=0`)",
)
async def renewals(stage: Stage) -> None:
    await fill_up(stage, renew_after=0)


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
    "evictions",
    "memcached full: it evicts sessions (`-m` too small)",
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


@fault("no-cas", "memcached started with cas disabled (`-C`)")
async def no_cas(stage: Stage) -> None:
    node = await stage.memcached("-C")
    stage.hit()
    await stage.open(node)
    await stage.last()


@fault("password", "the password changed on memcached's side (`-Y`)", loses=True)
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


@fault("tls-expired", "memcached's TLS certificate expired", loses=True)
async def tls_expired(stage: Stage) -> None:
    certificates = await stage.blocking(Certificates, stage.directory)
    node = await stage.keep(TLSMemcached, certificates)
    await stage.open(node, options=f"&tls_ca={certificates.ca}")
    right, wrong = certificates.server, certificates.expired
    saved = [right.cert.read_bytes(), right.key.read_bytes()]
    stage.hit()
    _replace(right.cert, wrong.cert.read_bytes())
    _replace(right.key, wrong.key.read_bytes())
    await stage.restart(node)
    await stage.last()
    _replace(right.cert, saved[0])
    _replace(right.key, saved[1])
    await stage.restart(node)
    await stage.over()


def _replace(path: Path, content: bytes) -> None:
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


@fault("twemproxy-hung", "one of two memcached behind twemproxy hangs, and goes on")
async def twemproxy_hung(stage: Stage) -> None:
    node = await behind_twemproxy(stage)
    await stage.blocking(node.stop)
    await stage.last(2.0)
    await stage.blocking(node.cont)
    await stage.over()


@fault(
    "twemproxy-dead", "one of two memcached behind twemproxy killed, and started again"
)
async def twemproxy_dead(stage: Stage) -> None:
    node = await behind_twemproxy(stage)
    await stage.blocking(node.kill)
    await stage.last()
    await stage.restart(node)
    await stage.over()
