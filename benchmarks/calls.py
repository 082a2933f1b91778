"""How often a request asks the store: counted by memcached itself."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from tests.support.clock import ManualClock
from tests.support.memcached import Memcached

from .rounds import Plan
from .running import Fleet, Server
from .sites.ours import make_app
from .verdict import Result

__all__ = ["Calls", "calls", "renewals"]

REQUESTS = 50
MINUTE, DAY = 60, 86400
RARELY = 0.01

# What memcached counts of them all: an add or a cas is one more "set".
COUNTERS = (
    "cmd_get",
    "cmd_set",
    "cmd_touch",
    "cmd_meta",
    "delete_hits",
    "delete_misses",
)


class Calls(NamedTuple):
    """What one request asks the store for."""

    reads: float
    writes: float
    others: float

    def __str__(self) -> str:
        return f"{self.reads:g} + {self.writes:g}" + (
            f" + {self.others:g} others" if self.others else ""
        )


def counted(memcached: Memcached, server: Server, path: str, cookie: str) -> Calls:
    """Return what a request costs, on average of some."""
    before = memcached.stats()
    for _ in range(REQUESTS):
        server.get(path, cookie)
    after = memcached.stats()
    grown = [int(after[name]) - int(before[name]) for name in COUNTERS]
    return Calls(grown[0] / REQUESTS, grown[1] / REQUESTS, sum(grown[2:]) / REQUESTS)


def calls(fleet: Fleet, plan: Plan, subject: str, path: str, expected: Calls) -> Result:
    """Measure what a request of a user who has a session costs."""
    memcached = fleet.start_memcached()
    server = fleet.start(subject, memcached, users=1)
    [cookie] = server.cookies if path != "/untouched" else [""]
    seen = counted(memcached, server, path, cookie)
    return Result(str(seen), "aim" if seen == expected else "missed", values=[*seen])


def renewals(fleet: Fleet, plan: Plan) -> Result:
    """Measure how often a session is renewed that is used all day."""
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
            answer = await client.fetch(f"{url}/read", headers={"Cookie": cookie})
            renewed = answer.headers.get("Set-Cookie")
            cookie = renewed.partition(";")[0] if renewed else cookie
        return int(app.settings["session_manager"].stats()["renewals"])
    finally:
        server.stop()
        client.close()
        await server.close_all_connections()
        await app.settings["session_manager"].close()
