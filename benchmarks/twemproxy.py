"""How many reads fail while one of two memcacheds hangs, behind twemproxy and not.

    python -m benchmarks.twemproxy

Starts two memcacheds, and nutcracker in front of them; stops one of them
(SIGSTOP), and reads 200 keys a second, half of them on the other. Prints the
share of the reads for the healthy one that failed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from tests.support.memcached import Memcached
from tests.support.twemproxy import Twemproxy
from tornado_mcsession import MemcachedStore, StoreError

KEYS = [f"key-{number:03}-of-the-benchmark" for number in range(400)]
TTL = 1000.0
TIMEOUTS = ("50", "100", "200")
THREADS = (2, 8, 16)


async def failed(
    store: MemcachedStore,
    hanging: Memcached,
    healthy: Memcached,
    options: argparse.Namespace,
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
    while (passed := time.monotonic() - began) < options.seconds:
        for _ in range(int(passed * options.rate) - len(reads)):
            key = random.choice(KEYS)  # nosec B311 # any of them will do
            reads.append(asyncio.create_task(read(key)))
        await asyncio.sleep(0.002)
    await asyncio.gather(*reads)
    await store.close()
    hanging.cont()
    return f"{outcomes.count(False) / len(outcomes):.0%}"


async def cell(options: argparse.Namespace, threads: int = 2, timeout: str = "") -> str:
    """Return that share: behind a twemproxy if it is given a timeout."""
    with ExitStack() as stack:
        one, two = (stack.enter_context(closing(Memcached())) for _ in range(2))
        if timeout:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            proxy = Twemproxy(directory, [one, two], timeout=timeout)
            stack.enter_context(closing(proxy))
            store = MemcachedStore.from_url(f"{proxy.url}/?threads={threads}")
        else:
            store = MemcachedStore([one.server, two.server])
        return await failed(store, one, two, options)


async def main(options: argparse.Namespace) -> None:
    print("| |", *(f"`timeout: {timeout}` |" for timeout in TIMEOUTS))
    print("|---" * (len(TIMEOUTS) + 1) + "|")
    for threads in THREADS:
        cells = [await cell(options, threads, timeout) for timeout in TIMEOUTS]
        print(f"| `threads={threads}` | {' | '.join(cells)} |", flush=True)
    print(f"| no twemproxy, `threads=2` | {await cell(options)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=200, help="reads a second")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each cell")
    logging.disable()  # the outage is the point
    asyncio.run(main(parser.parse_args()))
