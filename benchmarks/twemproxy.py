"""How many reads fail while one of two memcacheds hangs, behind twemproxy and not.

    python -m benchmarks.twemproxy

Starts two memcacheds, and nutcracker in front of them; stops one of them
(SIGSTOP), and reads 200 keys a second, half of them on the other. Prints the
share of the reads for the healthy one that failed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.memcached import Memcached
from tests.support.twemproxy import Twemproxy
from tornado_mcsession import MemcachedStore, StoreError

KEYS = [f"key-{number:03}-of-the-benchmark" for number in range(400)]
TTL = 1000.0
TIMEOUTS = ("50", "100", "200")
THREADS = (2, 8, 16)


@contextlib.contextmanager
def servers() -> Iterator[tuple[Memcached, Memcached]]:
    with contextlib.closing(Memcached()) as one, contextlib.closing(Memcached()) as two:
        yield one, two


async def failed(
    store: MemcachedStore,
    hanging: Memcached,
    healthy: Memcached,
    rate: int,
    for_: float,
) -> str:
    """Return the share of the reads on ``healthy`` that fail."""
    await asyncio.gather(*(store.add(key, b"1", TTL) for key in KEYS))
    on_healthy = set(healthy.keys())
    hanging.stop()
    outcomes: list[bool] = []

    async def read(key: str) -> None:
        try:
            entry = await store.get(key)
        except StoreError:
            entry = None
        else:
            assert entry is not None, "an outage was taken for a miss"
        if key in on_healthy:
            outcomes.append(entry is not None)

    reads: list[asyncio.Task[None]] = []
    began = time.monotonic()
    while (passed := time.monotonic() - began) < for_:
        for _ in range(int(passed * rate) - len(reads)):
            key = random.choice(KEYS)  # nosec B311 # any of them will do
            reads.append(asyncio.create_task(read(key)))
        await asyncio.sleep(0.002)
    await asyncio.gather(*reads)
    await store.close()
    hanging.cont()
    return f"{outcomes.count(False) / len(outcomes):.0%}"


async def behind_twemproxy(threads: int, timeout: str, rate: int, for_: float) -> str:
    with servers() as (one, two), tempfile.TemporaryDirectory() as directory:
        proxy = Twemproxy(Path(directory), [one, two], timeout=timeout)
        with contextlib.closing(proxy):
            store = MemcachedStore.from_url(f"{proxy.url}/?threads={threads}")
            return await failed(store, one, two, rate, for_)


async def directly(rate: int, for_: float) -> str:
    with servers() as (one, two):
        store = MemcachedStore([one.server, two.server])
        return await failed(store, one, two, rate, for_)


async def measure(rate: int, for_: float) -> None:
    head = " | ".join(f"`timeout: {timeout}`" for timeout in TIMEOUTS)
    print(f"| | {head} |")
    print("|---" * (len(TIMEOUTS) + 1) + "|")
    for threads in THREADS:
        cells = [
            await behind_twemproxy(threads, timeout, rate, for_) for timeout in TIMEOUTS
        ]
        print(f"| `threads={threads}` | {' | '.join(cells)} |", flush=True)
    print(f"| no twemproxy, `threads=2` | {await directly(rate, for_)} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=int, default=200, help="reads a second")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each cell")
    options = parser.parse_args()
    logging.disable()  # the outage is the point
    asyncio.run(measure(options.rate, options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
