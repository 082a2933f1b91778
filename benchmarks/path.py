"""What the way of a request through the package costs, without a network.

    python -m benchmarks.path

Runs handlers one after another in this process, with a `MemoryStore`, and prints
the CPU time of a request and what it is more than that of a handler without a
session. For finding out what a change to that way gives: it is exact to about a
microsecond, where a loaded server is not.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
import warnings
from types import SimpleNamespace

from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPServerRequest
from tornado.web import Application, RequestHandler

from tornado_mcsession import MemoryStore, SessionMixin

DATA = {"user": "bob", "cart": ["a" * 20] * 10, "n": 1}
ROUNDS = 9


class Connection(HTTPConnection):
    """Takes an answer at once, and keeps its headers."""

    def __init__(self) -> None:
        self.context = SimpleNamespace(remote_ip="127.0.0.1", protocol="http")
        self.finished = asyncio.get_running_loop().create_future()
        self.headers = HTTPHeaders()

    def set_close_callback(self, callback: object) -> None:
        pass

    def write_headers(self, start_line, headers, chunk=None):  # type: ignore[no-untyped-def]
        self.headers = headers
        return self.write(chunk)

    def write(self, chunk: bytes | None) -> asyncio.Future[None]:
        written = asyncio.get_running_loop().create_future()
        written.set_result(None)
        return written

    def finish(self) -> None:
        self.finished.set_result(None)


class NoSession(RequestHandler):
    def get(self) -> None:
        self.write("1")


class Untouched(SessionMixin, NoSession):
    """Has a session, and leaves it alone."""


class Reads(SessionMixin, RequestHandler):
    def get(self) -> None:
        self.write(str(self.session["n"]))


class Writes(SessionMixin, RequestHandler):
    def get(self) -> None:
        self.session["n"] += 1
        self.write(str(self.session["n"]))


class Begins(SessionMixin, RequestHandler):
    def get(self) -> None:
        self.session.update(DATA)


async def visit(
    app: Application, handler: type[RequestHandler], cookie: str
) -> HTTPHeaders:
    """Let ``handler`` answer one request; return the answer's headers."""
    connection = Connection()
    headers = HTTPHeaders({"Host": "localhost"})
    if cookie:
        headers["Cookie"] = cookie
    path = f"/{handler.__name__}"
    request = HTTPServerRequest(
        "GET", path, "HTTP/1.1", headers, host="localhost", connection=connection
    )
    app(request)
    await connection.finished
    return connection.headers


async def measure(requests: int) -> None:
    handlers = (NoSession, Untouched, Reads, Writes, Begins)
    app = Application(
        [(f"/{handler.__name__}", handler) for handler in handlers],
        cookie_secret="benchmark",  # nosec B106 # signs nothing that lasts
        session={"store": MemoryStore()},
        log_function=lambda handler: None,
    )
    begun = await visit(app, Begins, "")
    cookie = begun["Set-Cookie"].partition(";")[0]
    subjects = {NoSession: "", Untouched: "", Reads: cookie, Writes: cookie}
    taken: dict[type[RequestHandler], list[float]] = {each: [] for each in subjects}
    for _ in range(ROUNDS):
        for handler, sent in subjects.items():
            began = time.process_time()
            for _ in range(requests):
                await visit(app, handler, sent)
            taken[handler].append((time.process_time() - began) / requests * 1e6)
    least = min(taken[NoSession])
    print("| handler | µs, least of the rounds | median | more than without |")
    print("|---|---|---|---|")
    for handler, rounds in taken.items():
        least_here, median = min(rounds), statistics.median(rounds)
        more = least_here - least
        cells = (f"{least_here:.1f}", f"{median:.1f}", f"{more:.1f}")
        print(f"| {handler.__name__} | {' | '.join(cells)} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=1500, help="in each round")
    # Newer releases of Tornado want the request line in another form.
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.run(measure(parser.parse_args().requests))
    return 0


if __name__ == "__main__":
    sys.exit(main())
