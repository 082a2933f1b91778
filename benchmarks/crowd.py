"""A thousand connections for a minute: does what the server holds level off?"""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from . import load
from .measure import usage
from .pairs import errors_of
from .rounds import Plan
from .running import Fleet, Server, write_cookies
from .verdict import Result

__all__ = ["Moment", "crowd", "levels_off"]

CONNECTIONS = 1000
INTERVAL = 0.5
# What a server may hold more in the middle of the last third than ever before,
# and still be level.
TOLERANCE = 1.03
# Its loop's thread and those of its node: one that starts late is no growth.
THREADS = 3


class Moment(NamedTuple):
    """What the server holds at a moment."""

    memory: int
    threads: int
    queue: int


def crowd(fleet: Fleet, plan: Plan) -> Result:
    """Load the library with readers and writers, and watch it meanwhile."""
    server = fleet.start("ours", fleet.memcached, users=CONNECTIONS)
    cookies = fleet.directory / "crowd.cookies"
    write_cookies(cookies, server.cookies)
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch, server, over)
        try:
            sample = load.run(
                server.pid,
                server.port,
                ["/read", "/read", "/read", "/write"],
                cookies,
                connections=CONNECTIONS,
                seconds=plan.crowd_seconds,
            )
        finally:
            over.set()
    moments = watching.result()
    level = levels_off(moments)
    memory = [moment.memory >> 20 for moment in moments]
    shown = (
        f"{plan.crowd_seconds} s, {'level' if level else 'growing'}: "
        f"{memory[0]} to {memory[-1]} MiB, "
        f"{max(moment.threads for moment in moments)} threads, "
        f"≤ {max(moment.queue for moment in moments)} queued; "
        f"{errors_of([sample])}"
    )
    reached = "must" if level and not sample.errors else "missed"
    values = [float(moment.memory) for moment in moments]
    return Result(shown, reached, f"{sample.cpu_us:.0f}", values)


def levels_off(moments: Sequence[Moment]) -> bool:
    """Return whether the last third of a time is, in the middle, like those before.

    The queue is in step with the load, at times for half a minute and then in
    another step: hence all of the time before.
    """
    third = len(moments) // 3
    memory, threads, queue = zip(*moments, strict=True)
    return (
        third > 0
        and max(threads) <= THREADS
        and all(
            statistics.median(figures[-third:]) <= max(figures[:-third]) * TOLERANCE
            for figures in (memory, queue)
        )
    )


def watch(server: Server, over: threading.Event) -> list[Moment]:
    """Return what the server holds, again and again until the load is over."""
    moments = []
    while not over.wait(INTERVAL):
        nodes = json.loads(server.get("/stats"))["store"]["nodes"]
        queue = sum(node["pending"] for node in nodes.values())
        moments.append(Moment(*usage(server.pid), queue))
    return moments
