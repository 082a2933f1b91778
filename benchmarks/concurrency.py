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
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from pymemcache.client.base import PooledClient

from tests.support.memcached import Memcached
from tornado_mcsession import SessionManager

SESSION = "benchmark-session-0123456789-0123456789abcde"
Update = Callable[[dict[str, Any]], None]


class Subject(NamedTuple):
    """A way to keep sessions: what each scenario needs of it."""

    name: str
    create: Callable[[], Awaitable[None]]
    change: Callable[[Update], Awaitable[None]]
    increment: Callable[[], Awaitable[None]]
    load_then_save: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
    destroy: Callable[[], Awaitable[None]]
    read: Callable[[], Awaitable[dict[str, Any] | None]]


async def think() -> None:
    """Take as long as a handler may, so that requests overlap."""
    await asyncio.sleep(random.uniform(0, 0.002))  # nosec B311 # a pause, no secret


def this_library(managers: list[SessionManager]) -> Subject:
    """Return the library, as two processes behind a load balancer use it."""

    def manager() -> SessionManager:
        return random.choice(managers)  # nosec B311 # any of them will do

    async def create() -> None:
        await manager().set(SESSION, {"n": 0})

    async def change(update: Update) -> None:
        chosen = manager()
        session = await chosen.get(SESSION)
        assert session is not None
        data = dict(session)
        update(data)
        session.update(data)
        await think()
        await chosen.commit(session)

    async def increment() -> None:
        session = await manager().get(SESSION)
        assert session is not None
        await session.transact(lambda data: data.update(n=data["n"] + 1))

    async def load_then_save(meanwhile: Callable[[], Awaitable[None]]) -> None:
        chosen = manager()
        session = await chosen.get(SESSION)
        assert session is not None
        session["late"] = True
        await meanwhile()
        await chosen.commit(session)

    async def destroy() -> None:
        await manager().destroy(SESSION)

    async def read() -> dict[str, Any] | None:
        session = await manager().get(SESSION)
        return None if session is None else dict(session)

    return Subject(
        "tornado-mcsession", create, change, increment, load_then_save, destroy, read
    )


def get_modify_set(client: PooledClient, pool: ThreadPoolExecutor) -> Subject:
    """Return what is usual: the whole session is read, changed, and set."""

    def call(method: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(pool, method, *args)

    async def read() -> dict[str, Any] | None:
        found = await call(client.get, SESSION)
        return None if found is None else json.loads(found)

    async def write(data: dict[str, Any]) -> None:
        await call(client.set, SESSION, json.dumps(data).encode(), 3600)

    async def create() -> None:
        await write({"n": 0})

    async def change(update: Update) -> None:
        data = await read() or {}
        update(data)
        await think()
        await write(data)

    async def increment() -> None:
        await change(lambda data: data.update(n=data["n"] + 1))

    async def load_then_save(meanwhile: Callable[[], Awaitable[None]]) -> None:
        data = await read() or {}
        data["late"] = True
        await meanwhile()
        await write(data)

    async def destroy() -> None:
        await call(client.delete, SESSION)

    return Subject(
        "get, modify, set", create, change, increment, load_then_save, destroy, read
    )


async def kept_keys(subject: Subject, workers: int, updates: int) -> int:
    """Return how many keys are there after each request has added its own."""
    await subject.create()

    async def work(worker: int) -> None:
        for number in range(updates):
            key = f"{worker}-{number}"
            await subject.change(lambda data, key=key: data.update({key: 1}))

    await asyncio.gather(*map(work, range(workers)))
    return len(await subject.read() or {}) - 1


async def kept_increments(subject: Subject, requests: int) -> int:
    """Return what a counter says after parallel increments."""
    await subject.create()
    await asyncio.gather(*(subject.increment() for _ in range(requests)))
    return int((await subject.read() or {})["n"])


async def revivals(subject: Subject, rounds: int) -> int:
    """Return how many sessions are back after a logout, by a slower request."""
    revived = 0
    for _ in range(rounds):
        await subject.create()
        await subject.load_then_save(subject.destroy)
        revived += await subject.read() is not None
        await subject.destroy()
    return revived


async def measure(subject: Subject, options: argparse.Namespace) -> None:
    """Print one subject's line of the table."""
    print(f"measuring {subject.name} ...", file=sys.stderr)
    keys = await kept_keys(subject, options.workers, options.updates)
    increments = await kept_increments(subject, options.requests)
    revived = await revivals(subject, options.rounds)
    made = options.workers * options.updates
    print(
        f"{subject.name:<20}{keys:>9} of {made:<8}{increments:>6} of "
        f"{options.requests:<8}{revived:>6} of {options.rounds}"
    )


async def main(options: argparse.Namespace) -> None:
    """Measure both, on one memcached."""
    memcached = Memcached()
    managers = [SessionManager(store=memcached.url) for _ in range(2)]
    client = PooledClient(memcached.server, no_delay=True, default_noreply=False)
    try:
        print(f"{'':<20}{'keys kept':>12}{'increments kept':>23}{'revived':>15}")
        with ThreadPoolExecutor(8) as pool:
            await measure(this_library(managers), options)
            await measure(get_modify_set(client, pool), options)
    finally:
        for manager in managers:
            await manager.close()
        client.close()
        memcached.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=8, help="parallel requests")
    parser.add_argument("--updates", type=int, default=100, help="keys for each")
    parser.add_argument("--requests", type=int, default=50, help="increments at once")
    parser.add_argument("--rounds", type=int, default=100, help="logouts")
    asyncio.run(main(parser.parse_args()))
