"""Rows that are measured by themselves: calls, a burst, placing, imports."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import subprocess  # nosec B404 # starts Python again and again
import sys
import time
from typing import Any

from tornado_mcsession import MsgpackSerializer, SessionManager

from .rounds import Plan, Result
from .routing import seconds_to_place, store_of
from .servers import Fleet

# How often a request asks the store: counted by memcached itself.

REQUESTS = 50
# An add or a cas is one more "set".
COUNTERS = ("cmd_get", "cmd_set", "cmd_touch", "cmd_meta", "delete_hits")


def calls(fleet: Fleet, plan: Plan, subject: str, path: str) -> Result:
    """Measure what a request of a user who has a session asks the store for."""
    memcached = fleet.start_memcached()
    server = fleet.start(subject, memcached)
    cookie = server.cookies[0] if path != "/untouched" else ""
    before = memcached.stats()
    for _ in range(REQUESTS):
        server.ask(path, cookie)
    after = memcached.stats()
    grown = [(int(after[each]) - int(before[each])) / REQUESTS for each in COUNTERS]
    others = f" + {sum(grown[2:]):g} others" if any(grown[2:]) else ""
    return Result(grown, f"{grown[0]:g} + {grown[1]:g}{others}")


# Many writers of one session.

WRITERS = 400


def counting() -> tuple[MsgpackSerializer, list[int]]:
    """Return the default serializer, and what counts the whole sessions it encodes."""
    # An object of just this class: what derives from it may do something else, and its
    # sessions are decoded as a whole.
    serializer, whole = MsgpackSerializer(), [0]
    dumps = serializer.dumps

    def count(value: Any) -> bytes:
        whole[0] += isinstance(value, dict) and "user" in value
        return dumps(value)

    serializer.dumps = count
    return serializer, whole


def burst(fleet: Fleet, plan: Plan, data: dict[str, Any]) -> Result:
    """Let many write to one large session at once."""
    logging.disable()  # of writers that are refused
    return asyncio.run(burst_on(fleet.memcached.url, data))


async def burst_on(url: str, data: dict[str, Any]) -> Result:
    """Return how many were refused, and how often each has encoded the session."""
    serializer, whole = counting()
    async with SessionManager(store=url, serializer=serializer) as manager:
        session_id = secrets.token_urlsafe(32)
        await manager.set(session_id, data)
        sessions = [await manager.get(session_id) for _ in range(WRITERS)]
        whole[0] = 0
        began = time.monotonic()
        for number, session in enumerate(sessions):
            assert session is not None
            session[f"key {number}"] = number
        told = await asyncio.gather(
            *map(manager.commit, sessions), return_exceptions=True
        )
        seconds, each = time.monotonic() - began, whole[0] / WRITERS
    refused = sum(isinstance(each, Exception) for each in told)
    words = f"{refused or 'none'} refused, {each:.1f} encodings each, {seconds:.1f} s"
    return Result([refused, each, seconds], words)


# What it costs to find a key's node, for rising numbers of nodes.


def placing_us(fleet: Fleet, plan: Plan) -> Result:
    """Measure how long looking a key's node up takes."""
    keys = [f"mcsession:{number:064x}" for number in range(20_000)]
    stores = [store_of(count) for count in (1, 10, 100, 1000)]
    rounds = [
        [seconds_to_place(store, keys) * 1e6 for store in stores]
        for _ in range(plan.repeats)
    ]
    # Nothing makes a look-up faster than it is; much makes it slower.
    times = list(map(min, zip(*rounds, strict=True)))
    return Result(times, ", ".join(f"{time:.2f}" for time in times))


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


def import_ms(fleet: Fleet, plan: Plan) -> Result:
    """Measure the import in fresh interpreters that have those modules already."""
    needed: list[str] = json.loads(_python(NEEDED))  # and compiled, as after installing
    return Result([float(_python(TIMED, *needed)) for _ in range(plan.repeats)])


def _python(program: str, *args: str) -> str:
    env = {name: os.environ[name] for name in os.environ if "BYTECODE" not in name}
    command = [sys.executable, "-c", program, *args]
    done = subprocess.run(  # nosec B603 # no shell, nothing from outside
        command, capture_output=True, text=True, check=True, env=env
    )
    return done.stdout
