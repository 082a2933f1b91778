"""Applications whose sessions are in memcached, as their users see them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from tornado_mcsession import SessionManager, SessionMixin

from .browser import Browser
from .http import Response
from .proxy import FaultProxy, Link
from .site import session_cookie

# Much longer than anything takes, and shorter than a test's own limit.
PATIENCE = 20.0


class Halt:
    """Holds the next request between its load and what it does."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        async with asyncio.timeout(PATIENCE):
            await self.go_on.wait()


class Account(SessionMixin, RequestHandler):
    """Does to its session what the path names, and tells what it found there."""

    async def get(self, _: str) -> None:
        self.write(self.found())

    async def post(self, act: str) -> None:
        found = self.found()
        halt: Halt | None = self.settings.pop("halt", None)
        if halt is not None:
            await halt.wait()
        await getattr(self, act)()
        self.write(found)

    def found(self) -> dict[str, Any]:
        session = self.session
        return {
            "owner": session.get("owner"),
            "n": session.get("n"),
            "principal": session.principal,
            "available": session.available,
        }

    async def begin(self) -> None:
        self.session["owner"] = self.get_argument("owner")
        self.session["n"] = 0

    async def write_it(self) -> None:
        self.session["n"] = self.session.get("n", 0) + 1

    async def save(self) -> None:
        await self.write_it()
        await self.session.save()

    async def count(self) -> None:
        def more(data: dict[str, Any]) -> None:
            data["n"] = data.get("n", 0) + 1

        await self.session.transact(more)

    async def login(self) -> None:
        await self.session.login("ann")

    async def regenerate(self) -> None:
        await self.session.regenerate()

    async def logout(self) -> None:
        self.session = None

    async def touch(self) -> None:
        pass

    async def destroy(self) -> None:
        await self.session.destroy()


class Remote:
    """An application on a port of 127.0.0.1 with its sessions at ``url``."""

    def __init__(
        self,
        url: str,
        handler: type = Account,
        session: Any = None,
        routes: Any = (),
        **settings: Any,
    ) -> None:
        self.application = Application(
            [*routes, (r"/(.*)", handler)],
            session={"store": url, **(session or {})},
            **settings,
        )
        self.manager = SessionManager(self.application)
        self._server = HTTPServer(self.application)
        socket, self.port = bind_unused_port()
        self._server.add_socket(socket)

    async def close(self) -> None:
        self._server.stop()
        await self.manager.drain(PATIENCE)
        await self._server.close_all_connections()
        await self.manager.close()

    def browser(self) -> Browser:
        """A browser that has never been here."""
        return Browser(self.port)

    async def user(self, owner: str, *acts: str) -> Browser:
        """A browser with a session of ``owner``, after further ``acts``."""
        browser = self.browser()
        for act in ("begin", *acts):
            # A test's short timeout is for its outage, not for a busy machine.
            async with asyncio.timeout(PATIENCE):
                while (
                    response := await browser.post(f"/{act}?owner={owner}", body=b"")
                ).status == 503:
                    pass
            assert response.status == 200, response.text
        return browser

    def halt(self) -> Halt:
        """Hold the next POST after it has loaded its session."""
        halt = self.application.settings["halt"] = Halt()
        return halt

    def node(self) -> dict[str, Any]:
        """The state of the only node."""
        (node,) = self.manager.stats()["store"]["nodes"].values()
        return node

    def outage(self) -> asyncio.Event:
        """An event that comes when a node is found not to answer."""
        event = asyncio.Event()
        self.manager.on_disconnect(lambda _: event.set())
        return event


async def comes(event: asyncio.Event) -> None:
    """Wait for ``event``, which must come."""
    async with asyncio.timeout(PATIENCE):
        await event.wait()


async def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition()``, which must come."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def post(browser: Browser, act: str) -> Response:
    return await browser.post(f"/{act}", body=b"")


async def answers_again(browser: Browser) -> Response:
    """Ask until the session's node answers; return what the page says."""
    async with asyncio.timeout(PATIENCE):
        while (response := await browser.get("/")).status == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return response


def session_id(browser: Browser) -> str | None:
    cookie = browser.cookie("session")
    return None if cookie is None else cookie.value


def assert_unavailable(response: Response, *, cleared: bool = False) -> None:
    """It is a 503 that may be tried again and touches no cookie, unless cleared."""
    assert response.status == 503, response.text
    assert response.header("Retry-After") == "1"
    assert "no-store" in response.header("Cache-Control")
    cookie = session_cookie(response)
    if cleared:
        assert cookie is not None
        assert cookie.attributes["max-age"] == "0"
    else:
        assert cookie is None


class HoldingProxy(FaultProxy):
    """Holds each ``command`` on its way to memcached, until `let_go`."""

    def __init__(self, target_port: int, command: bytes) -> None:
        self._command = command
        self.held = 0
        """How many have come."""
        super().__init__(target_port)
        self._let_go = self._run(self._make_event())
        self._run(self._hold())

    async def _hold(self) -> None:
        self._let_go.clear()

    def let_go(self) -> None:
        """Let all of them pass, now and later."""
        self._loop.call_soon_threadsafe(self._let_go.set)

    async def _forward_requests(self, link: Link) -> None:
        ask = link.ask

        async def hold(data: bytes) -> None:
            if data.startswith(self._command):
                self.held += 1
                await self._let_go.wait()
            await ask(data)

        link.ask = hold  # type: ignore[method-assign]
        await super()._forward_requests(link)


def started(io_loop: Any) -> Iterator[Callable[..., Remote]]:
    """Starts applications, by what `Remote` takes, and closes them: a fixture."""
    sites: list[Remote] = []

    def start(*args: Any, **options: Any) -> Remote:
        sites.append(Remote(*args, **options))
        return sites[-1]

    yield start
    for site in sites:
        io_loop.run_sync(site.close, timeout=60)
