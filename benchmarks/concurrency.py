"""What parallel requests on one session lose: here, and by get, modify, set.

    python -m benchmarks.concurrency

Starts a memcached of its own. Each request loads the session, changes it, waits
a moment as a handler does, and saves it. "set" is what session libraries
usually do: the whole session is read, changed and set.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

from pymemcache.client.base import PooledClient

from tests.support.memcached import Memcached
from tornado_mcsession import SessionManager

Data = dict[str, Any]


async def think() -> None:
    """Take as long as a handler may, so that requests overlap."""
    await asyncio.sleep(random.uniform(0, 0.002))  # nosec B311 # a pause, no secret


class Library:
    """This library, as two processes behind a load balancer use it."""

    name = "tornado-mcsession"

    def __init__(self, memcached: Memcached) -> None:
        self.session_id = ""
        self.managers = [SessionManager(store=memcached.url) for _ in range(2)]

    @property
    def manager(self) -> SessionManager:
        return random.choice(self.managers)  # nosec B311 # any of them will do

    async def create(self, data: Data) -> None:
        await self.manager.set(self.session_id, data)

    async def read(self) -> Data:
        return dict(await self.manager.get(self.session_id) or {})

    async def change(self, key: str, meanwhile: Callable[[], Any] = think) -> None:
        manager = self.manager
        session = await manager.get(self.session_id)
        assert session is not None
        session[key] = 1
        await meanwhile()
        await manager.commit(session)

    async def increment(self) -> None:
        session = await self.manager.get(self.session_id)
        assert session is not None
        await session.transact(lambda data: data.update(n=data["n"] + 1))

    async def destroy(self) -> None:
        await self.manager.destroy(self.session_id)

    async def close(self) -> None:
        await asyncio.gather(*(manager.close() for manager in self.managers))


class GetModifySet:
    """What is usual: the whole session is read, changed, and set."""

    name = "get, modify, set"

    def __init__(self, memcached: Memcached) -> None:
        self.session_id = ""
        server = memcached.server
        self.client = PooledClient(server, no_delay=True, default_noreply=False)

    async def create(self, data: Data) -> None:
        encoded = json.dumps(data).encode()
        await asyncio.to_thread(self.client.set, self.session_id, encoded, 3600)

    async def read(self) -> Data:
        found = await asyncio.to_thread(self.client.get, self.session_id)
        return dict(json.loads(found or b"{}"))

    async def change(self, key: str, meanwhile: Callable[[], Any] = think) -> None:
        data = await self.read()
        await meanwhile()
        await self.create({**data, key: 1})

    async def increment(self) -> None:
        data = await self.read()
        await think()
        await self.create({**data, "n": data["n"] + 1})

    async def destroy(self) -> None:
        await asyncio.to_thread(self.client.delete, self.session_id)

    async def close(self) -> None:
        self.client.close()


async def measured(
    subject: Library | GetModifySet, options: argparse.Namespace
) -> tuple[int, int, int]:
    """Return how many keys and increments were kept, and how many logouts were not."""

    async def begin() -> None:
        subject.session_id = secrets.token_urlsafe(32)
        await subject.create({"n": 0})

    async def work(worker: int) -> None:
        for number in range(options.updates):
            await subject.change(f"{worker}-{number}")

    await begin()
    await asyncio.gather(*map(work, range(options.workers)))
    keys = len(await subject.read()) - 1
    await begin()
    await asyncio.gather(*(subject.increment() for _ in range(options.requests)))
    increments = (await subject.read())["n"]
    revived = 0
    for _ in range(options.rounds):
        await begin()
        await subject.change("late", subject.destroy)
        revived += bool(await subject.read())
    await subject.close()
    return keys, increments, revived


async def main(options: argparse.Namespace) -> None:
    """Measure both, on one memcached."""
    print(f"{'':<20}{'keys kept':>12}{'increments kept':>23}{'revived':>15}")
    made = options.workers * options.updates
    with closing(Memcached()) as memcached:
        for subject in (Library(memcached), GetModifySet(memcached)):
            keys, increments, revived = await measured(subject, options)
            print(
                f"{subject.name:<20}{keys:>9} of {made:<8}{increments:>6} of "
                f"{options.requests:<8}{revived:>6} of {options.rounds}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = partial(parser.add_argument, type=int)
    add("--workers", default=8, help="parallel requests")
    add("--updates", default=100, help="keys for each")
    add("--requests", default=50, help="increments at once")
    add("--rounds", default=100, help="logouts")
    asyncio.run(main(parser.parse_args()))
