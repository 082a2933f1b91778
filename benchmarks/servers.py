"""The servers that are measured, each a process of its own, and their users."""

from __future__ import annotations

import http.client
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.memcached import Memcached
from tests.support.processes import Process, free_port

HERE = Path(__file__).parent
NODE = HERE / "node"
USERS = 200
NOBODY = "nobody"  # whose requests have no cookie
OURS = "ours"


class Wrong(Exception):
    """A server did not do what it is measured for."""


# What may come of a server that does not start, ends early, or does not respond.
FAILURES = (Wrong, OSError, RuntimeError, http.client.HTTPException)


@dataclass(frozen=True)
class Subject:
    """A server: what it is called, and how it is started."""

    name: str
    title: str
    # A function in benchmarks/sites, or a script in benchmarks/node, and arguments.
    site: str
    visit: str = ""  # what its users ask for besides when they begin their sessions

    @property
    def is_node(self) -> bool:
        return ".js" in self.site

    def command(self, port: int, memcached: str) -> list[str]:
        """Return how it is started."""
        site, *more = self.site.split()
        if self.is_node:
            return ["node", site, *more, str(port), memcached]
        module = ["-m", "benchmarks.sites", site]
        return [sys.executable, *module, str(port), memcached, *more]


SIZES = (1, 10, 100)  # KB
MEMCACHED, DICT, BARE = "ours.memcached", "plain.kept_in_a_dict", "plain.bare"

_ALL = [
    Subject("bare", "Tornado, no session", BARE),
    Subject("dict", "Tornado, a dict in the process", DICT),
    Subject("hop", "Tornado, pymemcache by run_in_executor", "plain.hop"),
    Subject("floor", "Tornado, the store without a session", "plain.store_alone"),
    Subject(OURS, "tornado-mcsession", MEMCACHED),
    Subject("login", "… logged in", MEMCACHED, visit="&login=1"),
    Subject("encrypted", "… with AES-GCM", "ours.encrypted"),
    Subject("renewing", "… always due for renewal", "ours.renewing"),
    Subject("moving", "… users who log in", MEMCACHED),
    Subject("emcache", "… over emcache", "ours.over_emcache"),
    Subject("aiomcache", "… over aiomcache", "ours.over_aiomcache"),
    Subject("uvloop", "… on uvloop", f"{MEMCACHED} uvloop"),
    Subject("uvloop-bare", "Tornado on uvloop", f"{BARE} uvloop"),
    Subject("uvloop-dict", "Tornado on uvloop, a dict", f"{DICT} uvloop"),
    Subject("koa", "koa-generic-session, koa-store-memcached", "koa.js all"),
    Subject("koa-bare", "koa", "koa.js bare"),
    Subject("aiohttp", "aiohttp-session, aiomcache", "peer_aiohttp.all"),
    Subject("aiohttp-bare", "aiohttp", "peer_aiohttp.bare"),
    Subject("starsessions", "starsessions, aiomcache", "peer_starsessions.all"),
    Subject("starsessions-bare", "Starlette", "peer_starsessions.bare"),
]
for _size in SIZES:
    _more = {"visit": f"&size={_size}"}
    _ALL += [
        Subject(f"{OURS}-{_size}", f"…, {_size} KB", MEMCACHED, **_more),
        Subject(f"dict-{_size}", f"a dict, {_size} KB", DICT, **_more),
    ]
SUBJECTS = {subject.name: subject for subject in _ALL}


class Server:
    """A subject's process, and the cookies of users who have visited it."""

    def __init__(self, subject: Subject, memcached: str) -> None:
        self.name = subject.name
        self.port = free_port()
        self.cookies: list[str] = []
        self._subject = subject
        directory = NODE if subject.is_node else HERE.parent
        command = subject.command(self.port, memcached)
        self._process = Process(command, self.port, cwd=directory)
        self.pid = self._process.pid
        try:
            self.visit()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._process.kill()

    def visit(self) -> None:
        """Let each user begin a session, write to it and find it again."""
        if self.name.endswith("bare"):
            return  # it keeps no sessions
        begin = [f"/make?user={user}{self._subject.visit}" for user in range(USERS)]
        self.cookies = [self.ask(path)[1] for path in begin]
        if not all(self.cookies):
            raise Wrong(f"{self.name} gives its visitors no cookie")
        for user, cookie in enumerate(self.cookies):
            self.ask("/write", cookie)
            if (body := self.ask("/read", cookie)[0]) != f"{user} 1":
                raise Wrong(f"{self.name} shows {body!r} to user {user} after a write")

    def ask(self, path: str, cookie: str = "") -> tuple[str, str]:
        """Return a response's body, and what a browser sends back as cookies."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with closing(connection):
            headers = {"Cookie": cookie} if cookie else {}
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read().decode()
        if response.status != 200:
            printed = self._process.output()[-2000:]
            raise Wrong(f"{self.name}: {response.status} for {path}\n{printed}")
        set_cookies = response.headers.get_all("Set-Cookie", [])
        return body, "; ".join(line.partition(";")[0] for line in set_cookies)


class Fleet:
    """All servers that run, started when they are first needed."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.failed: dict[str, str] = {}
        self.servers: dict[str, Server] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        self._directory = Path(directory)
        self.memcached = self.start_memcached()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_memcached(self) -> Memcached:
        """Start another memcached, for what must not be disturbed."""
        return self._stack.enter_context(closing(Memcached("-m", "512")))

    def start(self, name: str, memcached: Memcached) -> Server:
        """Start a server of one's own."""
        address = memcached.url.removeprefix("memcached://")
        server = Server(SUBJECTS[name], address)
        return self._stack.enter_context(closing(server))

    def why_not(self, name: str) -> str | None:
        """Start a server if it does not run; return why it cannot be measured."""
        if name in self.servers or name in self.failed or name == NOBODY:
            return self.failed.get(name)
        self.tell(f"starting {name}")
        try:
            self.servers[name] = self.start(name, self.memcached)
        except FAILURES as error:
            # Of a traceback, what is missing: a package, or node itself.
            reasons = [line for line in str(error).split("\n") if "Error: " in line]
            self.give_up(name, (reasons or [str(error)])[-1].strip())
        return self.failed.get(name)

    def give_up(self, name: str, why: str) -> None:
        """Measure no more of a server."""
        self.tell(f"{name} is not measured: {why}")
        self.failed.setdefault(name, why)

    def cookies(self, name: str) -> Path:
        """Return a file for wrk with the cookies that a server's users have now."""
        path = self._directory / f"{name}.cookies"
        lines = self.servers[name].cookies if name in self.servers else [""]
        path.write_text("".join(f"{cookie}\n" for cookie in lines))
        return path
