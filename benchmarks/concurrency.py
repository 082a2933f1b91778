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
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

from pymemcache.client.base import PooledClient

from tests.support.memcached import Memcached
from tornado_mcsession import SessionManager

Data = dict[str, Any]
Meanwhile = Callable[[], Awaitable[None]]


async def think() -> None:
    """Take as long as a handler may, so that requests overlap."""
    await asyncio.sleep(random.uniform(0, 0.002))  # nosec B311 # a pause, no secret


class Library:
    """This library, as two processes behind a load balancer use it."""

    name = "tornado-mcsession"

    def __init__(self, url: str) -> None:
        self.session_id = ""
        self.managers = [SessionManager(store=url) for _ in range(2)]

    @property
    def manager(self) -> SessionManager:
        return random.choice(self.managers)  # nosec B311 # any of them will do

    async def create(self, data: Data) -> None:
        await self.manager.set(self.session_id, data)

    async def change(self, key: str, meanwhile: Meanwhile = think) -> None:
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

    async def read(self) -> Data | None:
        session = await self.manager.get(self.session_id)
        return None if session is None else dict(session)

    async def close(self) -> None:
        for manager in self.managers:
            await manager.close()


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

    async def change(self, key: str, meanwhile: Meanwhile = think) -> None:
        data = await self.read() or {}
        data[key] = 1
        await meanwhile()
        await self.create(data)

    async def increment(self) -> None:
        data = await self.read() or {}
        await think()
        await self.create({**data, "n": data["n"] + 1})

    async def destroy(self) -> None:
        await asyncio.to_thread(self.client.delete, self.session_id)

    async def read(self) -> Data | None:
        found = await asyncio.to_thread(self.client.get, self.session_id)
        return None if found is None else json.loads(found)

    async def close(self) -> None:
        self.client.close()


Subject = Library | GetModifySet


async def begin(subject: Subject) -> None:
    """Begin another session."""
    subject.session_id = secrets.token_urlsafe(32)
    await subject.create({"n": 0})


async def kept_keys(subject: Subject, workers: int, updates: int) -> int:
    """Return how many keys are there after each request has added its own."""
    await begin(subject)

    async def work(worker: int) -> None:
        for number in range(updates):
            await subject.change(f"{worker}-{number}")

    await asyncio.gather(*map(work, range(workers)))
    return len(await subject.read() or {}) - 1


async def kept_increments(subject: Subject, requests: int) -> int:
    """Return what a counter says after parallel increments."""
    await begin(subject)
    await asyncio.gather(*(subject.increment() for _ in range(requests)))
    return int((await subject.read() or {})["n"])


async def revivals(subject: Subject, rounds: int) -> int:
    """Return how many sessions are back after a logout, by a slower request."""
    revived = 0
    for _ in range(rounds):
        await begin(subject)
        await subject.change("late", subject.destroy)
        revived += await subject.read() is not None
    return revived


async def main(options: argparse.Namespace) -> None:
    """Measure both, on one memcached."""
    print(f"{'':<20}{'keys kept':>12}{'increments kept':>23}{'revived':>15}")
    with closing(Memcached()) as memcached:
        for subject in (Library(memcached.url), GetModifySet(memcached)):
            print(f"measuring {subject.name} ...", file=sys.stderr)
            keys = await kept_keys(subject, options.workers, options.updates)
            increments = await kept_increments(subject, options.requests)
            revived = await revivals(subject, options.rounds)
            await subject.close()
            made = options.workers * options.updates
            print(
                f"{subject.name:<20}{keys:>9} of {made:<8}{increments:>6} of "
                f"{options.requests:<8}{revived:>6} of {options.rounds}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=8, help="parallel requests")
    parser.add_argument("--updates", type=int, default=100, help="keys for each")
    parser.add_argument("--requests", type=int, default=50, help="increments at once")
    parser.add_argument("--rounds", type=int, default=100, help="logouts")
    asyncio.run(main(parser.parse_args()))
