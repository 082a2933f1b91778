"""Faults of the network between the site and memcached."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tests.support.proxy import FaultProxy, Link

from .fault import fault
from .stage import Stage

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

# An id of nobody, well formed.
UNKNOWN = "x" * 43


class Network(FaultProxy):
    """A network with two more faults."""

    def break_off(self) -> None:
        """Break open connections; new ones are as good as before."""

        async def close() -> None:
            for link in self._links:
                link.close()

        self._run(close())

    def lose_confirmations(self) -> None:
        """Let each write be done, and the connection break before its answer."""

        async def answer(link: Link, data: bytes) -> None:
            if data.startswith((b"STORED", b"DELETED", b"TOUCHED")):
                link.close()
            else:
                await link.send(data)

        self._use(answer)


async def faulty(stage: Stage, **settings: Any) -> Network:
    """Start a site with a faulty network before its memcached."""
    node = await stage.memcached()
    proxy = await stage.keep(Network, node.port)
    await stage.open(proxy, **settings)
    stage.hit()
    return proxy


@fault("stale", "all open connections to memcached broken, five times", statuses=())
async def stale(stage: Stage) -> None:
    proxy = await faulty(stage)
    for _ in range(5):
        proxy.break_off()
        await asyncio.sleep(0.1)
    await stage.last(0.3)
    await stage.over()


@fault("cut", "each connection to memcached broken as soon as it is made")
async def cut(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.cut()
    await stage.last()
    proxy.pass_through()
    await stage.over()


@fault("flapping", "the network breaks off and returns, ten times a second")
async def flapping(stage: Stage) -> None:
    proxy = await faulty(stage)
    for _ in range(10):
        proxy.cut()
        await asyncio.sleep(0.05)
        proxy.pass_through()
        await asyncio.sleep(0.05)
    await stage.last(0.0)
    await stage.over()


@fault("silent", "the network swallows all packets")
async def silent(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.hang()
    await stage.last(2.0)
    proxy.pass_through()
    await stage.over()


@fault("slow", "the network takes 50 ms longer", statuses=())
async def slow(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.delay(0.05)
    await stage.last()
    proxy.pass_through()
    await stage.over()


@fault("dripping", "answers arrive a byte every 10 ms")
async def dripping(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.drip(1, 0.01)
    await stage.last(2.0)
    proxy.pass_through()
    await stage.over()


@fault("broken-off", "connections break in the middle of answers")
async def broken_off(stage: Stage) -> None:
    proxy = await faulty(stage)
    for size in (5, 30, 100, 300):
        proxy.cut_after(size)
        await asyncio.sleep(0.3)
    await stage.last(0.0)
    proxy.pass_through()
    await stage.over()


@fault("answers-lost", "writes arrive, and their answers do not")
async def answers_lost(stage: Stage) -> None:
    proxy = await faulty(stage)
    for _ in range(3):
        proxy.lose_answers()
        await asyncio.sleep(0.3)
        proxy.pass_through()
        await asyncio.sleep(0.3)
    proxy.lose_answers()
    await stage.last(0.6)
    proxy.pass_through()
    await stage.over()


@fault(
    "unconfirmed",
    "each write is done, and its connection breaks before the answer",
    statuses=(),
)
async def unconfirmed(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.lose_confirmations()
    await stage.last()
    proxy.pass_through()
    await stage.over()


@fault("garbage", f"something else answers in memcached's place ({len(GARBAGE)} kinds)")
async def garbage(stage: Stage) -> None:
    proxy = await faulty(stage)
    for answer in GARBAGE:
        proxy.garbage(answer)
        await asyncio.sleep(0.3)
    await stage.last(0.0)
    proxy.pass_through()
    await stage.over()


@fault("chaos", "the network's faults in turn, at random, ten a second")
async def chaos(stage: Stage) -> None:
    proxy = await faulty(stage)
    chance = random.Random(0)  # nosec B311 # the same faults each time
    faults = (
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
    await stage.last(0.0)
    proxy.pass_through()
    await stage.over()


@fault("logout", "all users log out while memcached cannot be reached")
async def logout(stage: Stage) -> None:
    proxy = await faulty(stage)
    proxy.cut()
    await asyncio.sleep(0.2)
    await asyncio.gather(*(u.logout() for u in stage.users if u.session_id))
    await stage.last(0.5)
    proxy.pass_through()
    await stage.over()


@fault("waiting", "0.6 s away, with `reconnect_timeout=2`", statuses=(), waits=4.0)
async def waiting(stage: Stage) -> None:
    proxy = await faulty(stage, options="&reconnect_timeout=2")
    proxy.cut()
    await stage.last(0.6)
    proxy.pass_through()
    await stage.over()


@fault("degrade", 'memcached cannot be reached, with `on_error="degrade"`')
async def degrade(stage: Stage) -> None:
    proxy = await faulty(stage, on_error="degrade")
    proxy.cut()
    await stage.last()
    proxy.pass_through()
    await stage.over()


@fault("on-finish", 'memcached cannot be reached, with `persist="on_finish"`')
async def on_finish(stage: Stage) -> None:
    proxy = await faulty(stage, persist="on_finish")
    for _ in range(4):
        proxy.cut()
        await asyncio.sleep(0.3)
        proxy.pass_through()
        await asyncio.sleep(0.1)
    await stage.last(0.0)
    await stage.over()


@fault("overload", "50 ms a command, 200 requests at once, and `max_pending=24`")
async def overload(stage: Stage) -> None:
    proxy = await faulty(stage, options="&max_pending=24")
    proxy.delay(0.05)
    crowd = [user.try_dead(UNKNOWN) for user in stage.users for _ in range(10)]
    await asyncio.gather(stage.last(0.6), *crowd)
    proxy.pass_through()
    await stage.over()
