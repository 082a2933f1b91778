"""Node applications, Tornado applications, and browsers that go to both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from tornado_mcsession import SessionManager
from tornado_mcsession.interop.express import express_session
from tornado_mcsession.interop.koa import koa_session

from ..support.browser import Browser
from ..support.memcached import Memcached
from ..support.node import start_node
from ..support.processes import Process
from .site import make_app

HERE = Path(__file__).parent
KEYS = ["the newer key", "the older key"]


@dataclass(frozen=True)
class Framework:
    """One of Node's session libraries, and what stands for it in Python."""

    name: str
    cookie: str
    prefix: str
    age: str
    settings: Callable[..., dict[str, Any]]

    def key(self, session_id: str) -> str:
        return self.prefix + session_id

    def shared(self, store: Any, keys: Any = KEYS, **more: Any) -> dict[str, Any]:
        """The settings of a Tornado application beside it."""
        name = "keys" if self.name == "koa" else "secret"
        return self.settings(store=store, **{name: keys}, **more)


KOA = Framework("koa", "koa.sid", "koa:sess:", "maxAge", koa_session)
EXPRESS = Framework("express", "connect.sid", "", "originalMaxAge", express_session)


@pytest.fixture(params=[KOA, EXPRESS], ids=lambda framework: framework.name)
def framework(request: pytest.FixtureRequest) -> Framework:
    return request.param


@pytest.fixture(scope="session")
def _node_processes() -> Iterator[dict[str, Process]]:
    processes: dict[str, Process] = {}
    yield processes
    for process in processes.values():
        process.kill()


@pytest.fixture
def start_application(_node_processes: dict[str, Process]) -> Callable[..., Process]:
    """Starts a Node application, or returns the one with these options."""

    def start(
        framework: Framework,
        servers: list[Memcached],
        *,
        keys: Any = None,
        run: int = 0,
        **session: Any,
    ) -> Process:
        options = {
            "servers": [f"127.0.0.1:{server.port}" for server in servers],
            "keys": keys or KEYS,
            "session": session,
        }
        if len(servers) == 1:
            (options["servers"],) = options["servers"]
        name = json.dumps([framework.name, options, run])
        process = _node_processes.get(name)
        if process is None or not process.is_running:
            process = start_node(HERE / f"{framework.name}.js", options)
            _node_processes[name] = process
        return process

    return start


@dataclass
class User:
    """A browser that uses both applications, which share one host name."""

    node_process: Process
    python_port: int
    manager: SessionManager
    framework: Framework
    gate: tuple[asyncio.Event, asyncio.Event]
    """Set by a slow request of Python's that has begun; and to let it end."""
    browser: Browser = field(init=False)

    def __post_init__(self) -> None:
        self.browser = Browser(self.python_port)

    async def _ask(self, port: int, act: str, given: dict[str, Any]) -> Any:
        self.browser.port = port
        response = await self.browser.post(f"/{act}", json=given)
        assert response.status == 200, (act, response.status, response.text)
        return response.json()

    async def node(self, act: str, /, **given: Any) -> Any:
        """What a page of the Node application shows."""
        return await self._ask(self.node_process.port, act, given)

    async def python(self, act: str, /, **given: Any) -> Any:
        """What a page of the Tornado application shows."""
        return await self._ask(self.python_port, act, given)

    def another(self) -> User:
        """Somebody else."""
        return replace(self)

    def copy(self) -> User:
        """Somebody with the cookies that this one has now."""
        other = self.another()
        name = self.framework.cookie
        for kind in (name, f"{name}.sig"):
            cookie = self.browser.cookie(kind)
            if cookie is not None:
                other.browser.set_cookie(f"{kind}={cookie.value}; Path=/")
        return other

    @property
    def cookie(self) -> str | None:
        cookie = self.browser.cookie(self.framework.cookie)
        return None if cookie is None else cookie.value

    async def key(self) -> str:
        """The key of the session in memcached."""
        return self.framework.key((await self.python("about"))["id"])


@pytest.fixture
def meet(
    io_loop: Any,
    memcached: Memcached,
    framework: Framework,
    start_application: Callable[..., Process],
) -> Iterator[Callable[..., User]]:
    """Puts a Tornado application beside a Node application.

    ``node`` are options of Node's session library, ``python`` other settings.
    """
    with ExitStack() as stack:

        def meet(
            *,
            node: dict[str, Any] | None = None,
            python: dict[str, Any] | None = None,
            servers: list[Memcached] | None = None,
            **more: Any,
        ) -> User:
            servers = servers or [memcached]
            process = start_application(framework, servers, **(node or {}), **more)
            places = ",".join(f"127.0.0.1:{server.port}" for server in servers)
            url = f"memcached://{places}/?timeout=10"
            app = make_app(framework.shared(url, **(python or {})))
            manager = SessionManager(app)
            server = HTTPServer(app)
            (socket,) = bind_sockets(0, "127.0.0.1")
            server.add_sockets([socket])
            stack.callback(io_loop.run_sync, manager.close)
            stack.callback(io_loop.run_sync, server.close_all_connections)
            stack.callback(server.stop)
            port = socket.getsockname()[1]
            return User(process, port, manager, framework, app.settings["gate"])

        yield meet


@pytest.fixture
def user(meet: Callable[..., User]) -> User:
    """A user of both applications, with default settings."""
    return meet()
