"""How the soak's users reach the site: a load balancer, and what comes back."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import (
    WebSocketClientConnection,
    WebSocketClosedError,
    websocket_connect,
)

from .machines import Application

__all__ = ["CONNECT_TIMEOUT", "LIMIT", "TIMEOUT", "Reply", "Socket", "Web"]

TIMEOUT = 0.5
"""The seconds that one operation of the store may take."""
CONNECT_TIMEOUT = 0.25
MARGIN = 1.5
"""What a busy machine may add to a response."""
# A load and a save may take two timeouts each.
LIMIT = 2 * TIMEOUT + 2 * TIMEOUT + MARGIN
PATIENCE = 15.0
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"


@dataclass
class Reply:
    """What came back from a request; ``status`` 0: nothing."""

    path: str
    sent: str | None
    """The session id that the request carried."""
    application: Application
    starts: int
    """How often the application had been started."""
    who: str = ""
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    status: int = 0
    told: dict[str, Any] = field(default_factory=dict)
    set_id: str | None = None
    """The id in the cookie that it sets; ``""``: it clears the cookie."""
    has_retry_after: bool = False
    alive: bool | None = None
    """Whether the session was there; None: nobody knows."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_unknown(self) -> bool:
        """Whether what was asked for may have been done, or not."""
        return self.status in (0, 503)


class Web:
    """Sends requests to applications that are up, and counts what comes back.

    ``statuses`` are those that may come, and ``limit`` the longest time that one may
    take in seconds. ``on_reply`` is called with each reply.
    """

    def __init__(
        self,
        applications: list[Application],
        report: Callable[[str, str], None],
        chance: random.Random,
        *,
        statuses: frozenset[int] = frozenset({200, 409, 503}),
        limit: float = LIMIT,
        on_reply: Callable[[Reply], None] = lambda reply: None,
    ) -> None:
        self.applications = applications
        self.report = report
        self.counts: dict[str, Counter[int]] = {}
        self.longest = 0.0
        self._chance = chance
        self._statuses = statuses | {0}
        self._limit = limit
        self._on_reply = on_reply
        self._trails: dict[str, deque[str]] = {}

    async def ask(
        self,
        path: str,
        sent: str | None,
        form: dict[str, Any] | None = None,
        who: str = "",
    ) -> Reply:
        """Send a request with this session id; check what must be true of any reply."""
        form = form or {}
        while True:
            application = self.choose()
            reply = Reply(path, sent, application, application.starts, who)
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._ask(reply, form)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)  # it has just gone: ask another
                continue
            except TimeoutError:
                self.report("no response at all", f"{path} in {PATIENCE:g} s")
            except (OSError, EOFError) as error:
                if not application.was_away(reply.began):
                    self.report("a connection broke", f"{path}: {error!r}")
            break
        self.note(reply, float(form.get("wait", 0)))
        return reply

    async def open_socket(self, sent: str | None) -> tuple[Reply, Socket | None]:
        """Open a WebSocket; the reply is its first message."""
        application = self.choose()
        url = f"ws://127.0.0.1:{application.port}/socket"
        headers = {"Cookie": f"session={sent}"}
        opening = websocket_connect(
            HTTPRequest(url, headers=headers, request_timeout=PATIENCE)
        )
        reply = Reply("ws:open", sent, application, application.starts)
        try:
            async with asyncio.timeout(PATIENCE):
                socket = Socket(self, application, await opening)
        except TimeoutError:
            self.report("no response at all", f"{reply.path} in {PATIENCE:g} s")
            return reply, None
        except (HTTPClientError, OSError) as error:
            # 599 is the client's own: the server said nothing.
            code = error.code if isinstance(error, HTTPClientError) else 599
            reply.status = 0 if code == 599 else code
            self.note(reply)
            return reply, None
        await socket.receive(reply)
        return reply, socket if reply.ok else None

    def trail(self, session_id: str | None) -> str:
        """Return the last requests with an id, a line each."""
        lines = self._trails.get(session_id or "", ())
        return "".join(f"\n    {line}" for line in lines)

    def choose(self) -> Application:
        """Return an application that is up."""
        up = [each for each in self.applications if each.is_up]
        return self._chance.choice(up)

    def note(self, reply: Reply, wait: float = 0.0) -> None:
        """Count a reply, and check its time, its status and its headers."""
        path, status = reply.path, reply.status
        self.counts.setdefault(path, Counter())[status] += 1
        now = time.monotonic()
        for each in {reply.sent, reply.set_id}:
            if each:
                line = f"{reply.began:.2f} to {now:.2f} {path}: {status}"
                if reply.set_id and reply.set_id != each:
                    line += f", new id {reply.set_id[:6]}"
                if reply.sent and reply.sent != each:
                    line += f", from id {reply.sent[:6]}"
                if reply.told.get("owner"):
                    line += f", n={reply.told['n']}, {reply.told['slots']}"
                self._trails.setdefault(each, deque(maxlen=20)).append(line)
        away = reply.application.seconds_away(reply.began)
        reply.seconds = seconds = now - reply.began - wait - away
        self.longest = max(self.longest, seconds)
        self._on_reply(reply)
        if seconds > self._limit:
            self.report("a late response", f"{path}: {status} after {seconds:.1f} s")
        if status not in self._statuses:
            self.report("an unexpected status", f"{status} for {path}")
        if path.startswith("ws:"):
            return
        if status == 503 and not reply.has_retry_after:
            self.report("a 503 without Retry-After", path)
        if status and path in ("/logout", "/destroy"):
            if reply.sent and status != 409 and reply.set_id != "":
                self.report("a logout left the cookie", f"{status} for {path}")
        elif reply.set_id == "":
            self.report("a cookie was cleared without a logout", f"{status} for {path}")
        elif status == 503 and reply.set_id and path not in ("/login", "/regenerate"):
            self.report("an outage changed the cookie", path)

    async def _ask(self, reply: Reply, form: dict[str, Any]) -> None:
        cookie = f"Cookie: session={reply.sent}\r\n" if reply.sent else ""
        body = urlencode(form)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", reply.application.port
        )
        try:
            length = f"Content-Length: {len(body)}\r\nConnection: close\r\n"
            request = f"POST {reply.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            writer.write(f"{request}{FORM}{cookie}{length}\r\n{body}".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.split("\r\n")
            headers = [line.split(": ", 1) for line in lines if line]
            fields = {name.lower(): value for name, value in headers}
            content = await reader.readexactly(int(fields.get("content-length", 0)))
        finally:
            writer.close()
        reply.status = int(status.split()[1])
        reply.has_retry_after = "retry-after" in fields
        reply.set_id = id_set_by(
            value for name, value in headers if name.lower() == "set-cookie"
        )
        if reply.ok:
            reply.told = json.loads(content)


class Socket:
    """A WebSocket to one application."""

    def __init__(
        self, web: Web, application: Application, connection: WebSocketClientConnection
    ) -> None:
        self._web = web
        self._application = application
        self._connection = connection

    async def ask(self, path: str, sent: str | None, asked: dict[str, Any]) -> Reply:
        """Send a message and return what comes back."""
        starts = self._application.starts
        reply = Reply(f"ws:{path}", sent, self._application, starts)
        try:
            await self._connection.write_message(json.dumps(asked))
        except WebSocketClosedError:
            pass  # then there is no message to receive either
        await self.receive(reply)
        return reply

    async def receive(self, reply: Reply) -> None:
        message = None
        try:
            async with asyncio.timeout(PATIENCE):
                message = await self._connection.read_message()
        except TimeoutError:
            self._web.report("no response at all", f"{reply.path} in {PATIENCE:g} s")
        if message is not None:
            reply.told = json.loads(message)
            reply.status = int(reply.told["status"])
        elif not self._application.was_away(reply.began):
            self._web.report("a connection broke", reply.path)
        self._web.note(reply)

    def close(self) -> None:
        self._connection.close()


def id_set_by(lines: Any) -> str | None:
    """Return the id that Set-Cookie lines set, ``""`` where they clear it."""
    found = None
    for line in lines:
        value = line.partition(";")[0].partition("=")[2]
        found = "" if "max-age=0" in line.lower() else value
    return found
