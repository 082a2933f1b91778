"""How sessions are placed on several nodes: shares, moves, and what it costs.

    python -m benchmarks.routing

Needs no server. Prints, for a number of nodes, the time to place one key and to
set the placing up at start, the largest and the smallest share of the keys as a
part of an even one, and which part of the keys moves when a node is added.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter

from tornado_mcsession import MemcachedStore

SIZES, ROUNDS = (1, 2, 3, 10, 100, 1000), 5
HEAD = "| nodes | µs to place a key | ms at start | shares | moved by one more | 1/n |"


def store_of(count: int) -> MemcachedStore:
    """Return a store of so many nodes. It asks none of them."""
    return MemcachedStore([f"10.0.{n // 250}.{n % 250}:11211" for n in range(count)])


def seconds_to_place(store: MemcachedStore, keys: list[str]) -> float:
    """Return the median of what placing one key takes."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for key in keys:
            store.node_of(key)
        rounds.append((time.perf_counter() - began) / len(keys))
    return statistics.median(rounds)


def row(count: int, keys: list[str]) -> str:
    began = time.perf_counter()
    store = store_of(count)
    start = time.perf_counter() - began
    shares = Counter(map(store.node_of, keys))
    even = len(keys) / count
    larger = store_of(count + 1)
    moved = sum(store.node_of(key) != larger.node_of(key) for key in keys)
    return (
        f"| {count} | {seconds_to_place(store, keys) * 1e6:.2f} | {start * 1e3:.0f} | "
        f"{min(shares.values()) / even:.2f}–{max(shares.values()) / even:.2f} | "
        f"{moved / len(keys):.1%} | {1 / (count + 1):.1%} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=100_000, help="(%(default)s)")
    parser.add_argument("--nodes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    keys = [f"mcsession:{number:064x}" for number in range(options.keys)]
    print(f"{HEAD}\n|---|---|---|---|---|---|")
    for count in options.nodes:
        print(row(count, keys), flush=True)
