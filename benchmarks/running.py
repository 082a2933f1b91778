"""Servers that run, and their 200 users."""

from __future__ import annotations

import http.client
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.cookies import SimpleCookie
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.memcached import Memcached
from tests.support.processes import Process, free_port

from .subjects import HERE, NODE, SUBJECTS, Subject

__all__ = ["FAILURES", "NOBODY", "USERS", "Fleet", "Server", "Wrong", "write_cookies"]

USERS = 200
NOBODY = "nobody"  # whose requests have no cookie


class Wrong(Exception):
    """A server did not do what it is measured for."""


# What may come of a server that does not start, ends early, or does not answer.
FAILURES = (Wrong, OSError, RuntimeError, http.client.HTTPException)


class Server:
    """A subject's process, and the cookies of users who have visited it."""

    def __init__(self, subject: Subject, memcached: str, users: int = USERS) -> None:
        self.name = subject.name
        self.port = free_port()
        directory = NODE if subject.is_node else HERE.parent
        command = subject.command(self.port, memcached)
        self._process = Process(command, self.port, cwd=directory)
        self.cookies: list[str] = []
        try:
            if not subject.is_bare:
                login = "&login=1" if subject.login else ""
                self._visit([f"/make?user={user}{login}" for user in range(users)])
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        self._process.kill()

    def counts(self) -> list[int]:
        """Return each user's count; check that each finds their own session."""
        counts = []
        with self._connection() as connection:
            for user, cookie in enumerate(self.cookies):
                body = self.ask(connection, "/read", cookie)[0]
                owner, _, count = body.partition(" ")
                if owner != str(user) or not count.isdecimal():
                    raise Wrong(f"{self.name} answers user {user} with {body!r}")
                counts.append(int(count))
        return counts

    def get(self, path: str, cookie: str = "") -> str:
        """Return the answer to one request."""
        with self._connection() as connection:
            return self.ask(connection, path, cookie)[0]

    def ask(
        self, connection: http.client.HTTPConnection, path: str, cookie: str
    ) -> tuple[str, str]:
        """Return an answer's body, and what a browser sends back as cookies."""
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        response = connection.getresponse()
        body = response.read().decode()
        if response.status != 200:
            printed = self._process.output()[-2000:]
            raise Wrong(f"{self.name}: {response.status} for {path}\n{printed}")
        pairs = SimpleCookie()
        for line in response.headers.get_all("Set-Cookie", []):
            pairs.load(line)
        sent = (f"{name}={pair.coded_value}" for name, pair in pairs.items())
        return body, "; ".join(sent)

    def _visit(self, paths: list[str]) -> None:
        with self._connection() as connection:
            self.cookies = [self.ask(connection, path, "")[1] for path in paths]
        if not all(self.cookies):
            raise Wrong(f"{self.name} gives its visitors no cookie")
        self.counts()

    def _connection(self) -> closing[http.client.HTTPConnection]:
        return closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10))


class Fleet:
    """All servers that run, started when they are first needed."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.failed: dict[str, str] = {}
        self._servers: dict[str, Server] = {}
        self._cookies: dict[str, Path] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.directory = Path(directory)
        self.memcached = self.start_memcached()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def start_memcached(self) -> Memcached:
        """Start another memcached, for what must not be disturbed."""
        return self._stack.enter_context(closing(Memcached("-m", "256")))

    def start(self, name: str, memcached: Memcached, users: int = USERS) -> Server:
        """Start a server of one's own."""
        address = memcached.url.removeprefix("memcached://")
        server = Server(SUBJECTS[name], address, users)
        return self._stack.enter_context(closing(server))

    def server(self, name: str) -> Server:
        """Return a server, which `why_not` has started."""
        return self._servers[name]

    def why_not(self, name: str) -> str | None:
        """Start a server if it does not run; return why it cannot be measured."""
        if name in self._servers or name in self.failed or name == NOBODY:
            return self.failed.get(name)
        why = SUBJECTS[name].missing()
        if why is None:
            self.tell(f"starting {name}")
            try:
                self._servers[name] = self.start(name, self.memcached)
            except FAILURES as error:
                why = str(error)
        if why is not None:
            self.give_up(name, why)
        return why

    def give_up(self, name: str, why: str) -> None:
        """Measure no more of a server."""
        self.tell(f"{name} is not measured: {why}")
        self.failed[name] = why

    def cookies(self, name: str) -> Path:
        """Return the file for wrk with the cookies of a server's users."""
        if name not in self._cookies:
            path = self.directory / f"{name}.cookies"
            lines = [""] if name == NOBODY else self._servers[name].cookies
            write_cookies(path, lines)
            self._cookies[name] = path
        return self._cookies[name]


def write_cookies(path: Path, cookies: list[str]) -> None:
    """Write what wrk reads: a line for each user."""
    path.write_text("".join(f"{cookie}\n" for cookie in cookies))
