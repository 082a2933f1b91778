"""What the way of a request through the package costs, without a network.

    python -m benchmarks.path
    python -m benchmarks.path --calls

Runs handlers one after another in this process, with a `MemoryStore`, and prints
the CPU time of a request and how much more it is than that of a handler without a
session. It shows what a change to the package gives: it is exact to about a
microsecond, where a loaded server is not.

With ``--calls`` it counts Python calls instead, over a real memcached: how often a
function of the package is called, or a coroutine of it resumed, for one request, in
the event loop's thread and in those of the store.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import threading
import time
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import FrameType, SimpleNamespace

from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPServerRequest
from tornado.web import Application, RequestHandler

import tornado_mcsession
from tests.support.memcached import Memcached
from tornado_mcsession import MemoryStore, SessionMixin

PACKAGE = str(Path(tornado_mcsession.__file__).parent)
DATA = {"user": "bob", "cart": ["a" * 20] * 10, "n": 1}
ROUNDS = 9
COUNTED = 20
SETTLES = 0.01  # seconds for what threads still do after a response


class Connection(HTTPConnection):
    """Takes a response at once, and keeps its headers."""

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


class LogsIn(SessionMixin, RequestHandler):
    async def get(self) -> None:
        await self.session.login("bob")


HANDLERS = (NoSession, Untouched, Reads, Writes, Begins, LogsIn)


def make_app(store: object) -> Application:
    return Application(
        [(f"/{handler.__name__}", handler) for handler in HANDLERS],
        cookie_secret="benchmark",  # nosec B106 # signs nothing that lasts
        session={"store": store},
        log_function=lambda handler: None,
    )


async def visit(
    app: Application, handler: type[RequestHandler], cookie: str
) -> HTTPHeaders:
    """Let ``handler`` respond to one request; return the response's headers."""
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


async def begin(app: Application) -> str:
    """Begin a session; return the cookie."""
    headers = await visit(app, Begins, "")
    return headers["Set-Cookie"].partition(";")[0]


class Calls:
    """Counts the calls of the package's functions, by module, while it is on."""

    def __init__(self) -> None:
        self.by_module: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        # A coroutine that is resumed is called once more.
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(PACKAGE):
            self.by_module[file] += 1


async def count_calls() -> None:
    calls = Calls()
    threading.setprofile(calls)  # for the threads that the store is about to start
    with closing(Memcached()) as memcached:
        app = make_app(memcached.url)
        print("| request | Python calls | in modules |")
        print("|---|---|---|")
        for what, handler in (
            ("an unchanged read", Reads),
            ("a write", Writes),
            ("a login", LogsIn),
        ):
            seen = []
            for _ in range(COUNTED):
                cookie = await begin(app)
                await visit(app, Reads, cookie)  # as the user of a session does
                await asyncio.sleep(SETTLES)
                calls.by_module.clear()
                sys.setprofile(calls)
                await visit(app, handler, cookie)
                sys.setprofile(None)
                await asyncio.sleep(SETTLES)
                seen.append((calls.by_module.total(), len(calls.by_module)))
            # Now and then a thread is late and takes two turns.
            total, modules = statistics.mode(seen)
            print(f"| {what} | {total} | {modules} |")
        await app.settings["session_manager"].close()


async def measure(requests: int) -> None:
    app = make_app(MemoryStore())
    cookie = await begin(app)
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
    parser.add_argument("--calls", action="store_true", help="count Python calls")
    # Newer releases of Tornado want the request line in another form.
    warnings.simplefilter("ignore", DeprecationWarning)
    options = parser.parse_args()
    asyncio.run(count_calls() if options.calls else measure(options.requests))
    return 0


if __name__ == "__main__":
    sys.exit(main())
