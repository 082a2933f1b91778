"""Rows that are measured by themselves: calls, renewals, a crowd, placing, imports."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess  # nosec B404 # starts Python again and again
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from tests.support.clock import ManualClock
from tests.support.memcached import Memcached

from . import load
from .result import Result, Target, measured
from .rounds import Plan, errors_of
from .routing import seconds_to_place, store_of
from .servers import Fleet, Server
from .sites.ours import make_app

# How often a request asks the store: counted by memcached itself.

REQUESTS = 50
# An add or a cas is one more "set".
OTHERS = ("cmd_touch", "cmd_meta", "delete_hits", "delete_misses")


class Calls(NamedTuple):
    """What one request asks the store for."""

    reads: float
    writes: float
    others: float

    def __str__(self) -> str:
        others = f" + {self.others:g} others" if self.others else ""
        return f"{self.reads:g} + {self.writes:g}{others}"


def counted(memcached: Memcached, server: Server, path: str, cookie: str) -> Calls:
    """Return what a request costs, on average of some."""
    before = memcached.stats()
    for _ in range(REQUESTS):
        server.get(path, cookie)
    after = memcached.stats()
    names = ("cmd_get", "cmd_set", *OTHERS)
    grown = [(int(after[name]) - int(before[name])) / REQUESTS for name in names]
    return Calls(grown[0], grown[1], sum(grown[2:]))


def calls(fleet: Fleet, plan: Plan, subject: str, path: str, expected: Calls) -> Result:
    """Measure what a request of a user who has a session costs."""
    memcached = fleet.start_memcached()
    server = fleet.start(subject, memcached, users=1)
    [cookie] = server.cookies if path != "/untouched" else [""]
    seen = counted(memcached, server, path, cookie)
    return Result(str(seen), "aim" if seen == expected else "missed", values=[*seen])


# How often a session is renewed that is used all day.

MINUTE, DAY = 60, 86400
RARELY = 0.01


def renewals(fleet: Fleet, plan: Plan) -> Result:
    count = asyncio.run(renewals_of_a_day())
    rarely = count <= RARELY * DAY / MINUTE
    shown = f"{count} of {DAY // MINUTE} requests"
    return Result(shown, "must" if rarely else "missed", values=[count])


async def renewals_of_a_day(step: int = MINUTE) -> int:
    """Return how often the session of one who comes each ``step`` is renewed."""
    clock = ManualClock()
    app = make_app(store="memory://", clock=clock)
    socket, port = bind_unused_port()
    server = HTTPServer(app)
    server.add_socket(socket)
    client = AsyncHTTPClient()
    url = f"http://127.0.0.1:{port}"
    try:
        made = await client.fetch(f"{url}/make?user=0")
        cookie = made.headers["Set-Cookie"].partition(";")[0]
        for _ in range(DAY // step):
            clock.advance(step)
            response = await client.fetch(f"{url}/read", headers={"Cookie": cookie})
            renewed = response.headers.get("Set-Cookie")
            cookie = renewed.partition(";")[0] if renewed else cookie
        return int(app.settings["session_manager"].stats()["renewals"])
    finally:
        server.stop()
        client.close()
        await server.close_all_connections()
        await app.settings["session_manager"].close()


# A thousand connections for a minute: does what the server holds level off?

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
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch, server, over)
        try:
            sample = load.run(
                server.pid,
                server.port,
                ["/read", "/read", "/read", "/write"],
                fleet.cookies("crowd", server),
                connections=CONNECTIONS,
                seconds=plan.crowd_seconds,
            )
        finally:
            over.set()
    moments = watching.result()
    level = levels_off(moments)
    memory, threads, queue = zip(*moments, strict=True)
    shown = (
        f"{plan.crowd_seconds} s, {'level' if level else 'growing'}: "
        f"{memory[0] >> 20} to {memory[-1] >> 20} MiB, {max(threads)} threads, "
        f"≤ {max(queue)} queued; {errors_of([sample])}"
    )
    reached = "must" if level and not sample.errors else "missed"
    return Result(shown, reached, f"{sample.cpu_us:.0f}", list(map(float, memory)))


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
        moments.append(Moment(*load.usage(server.pid), queue))
    return moments


# What it costs to find a key's node, for rising numbers of nodes.

NODES = (1, 10, 100, 1000)
# Flat: no number of nodes takes that many times what another does. One node is
# left out: there is nothing to find.
FLAT = 2


def placing_us(fleet: Fleet, plan: Plan, target: Target) -> Result:
    """Measure look-ups; none may take longer than the limit, or than others."""
    keys = [f"mcsession:{number:064x}" for number in range(20_000)]
    stores = [store_of(count) for count in NODES]
    rounds = [
        [seconds_to_place(store, keys) * 1e6 for store in stores]
        for _ in range(plan.rounds)
    ]
    # Nothing makes a look-up faster than it is; much makes it slower.
    times = list(map(min, zip(*rounds, strict=True)))
    flat = max(times[1:]) <= FLAT * min(times[1:])
    shown = ", ".join(f"{time:.2f}" for time in times)
    reached = target.reached(max(times)) if flat else "missed"
    return Result(shown, reached, values=times)


# What importing the package costs, beyond Tornado and pymemcache.

NEEDED = """
import json, sys
import tornado_mcsession
print(json.dumps([name for name in sys.modules
                  if name.partition(".")[0] in ("tornado", "pymemcache")]))
"""
TIMED = """
import importlib, sys, time
for name in sys.argv[1:]:
    importlib.import_module(name)
began = time.process_time()
import tornado_mcsession
print((time.process_time() - began) * 1000)
"""


def import_ms(fleet: Fleet, plan: Plan, target: Target) -> Result:
    """Measure the import in fresh interpreters that have those modules already."""
    with tempfile.TemporaryDirectory() as cache:
        needed: list[str] = json.loads(_python(NEEDED, cache=cache))
        times = [
            float(_python(TIMED, *needed, cache=cache)) for _ in range(plan.repeats)
        ]
    return measured(times, target)


def _python(program: str, *args: str, cache: str) -> str:
    # As where it is installed: compiled once, wherever that is kept.
    env = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", program, *args]
    done = subprocess.run(  # nosec B603 # no shell, nothing from outside
        command, capture_output=True, text=True, check=True, env=env
    )
    return done.stdout
