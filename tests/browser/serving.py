"""Applications for Chromium, served from a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from tornado_mcsession import MemoryStore, SessionManager

from ..support.processes import free_port

T = TypeVar("T")

PATIENCE = 15.0


class NoIcon(RequestHandler):
    """Chromium asks each site for one; a 404 would be an error on its console."""

    def get(self) -> None:
        self.set_status(204)


class Site:
    """An application that Chromium reaches under any name below ``example``.

    ``make`` returns it; it is called in the thread that serves.
    """

    def __init__(
        self, make: Callable[[], Application], tls: ssl.SSLContext | None = None
    ) -> None:
        self._scheme = "http" if tls is None else "https"
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="site")
        self._thread.start()
        self.application, self._server = self.run(self._serve(make, tls))

    async def _serve(
        self, make: Callable[[], Application], tls: ssl.SSLContext | None
    ) -> tuple[Application, HTTPServer]:
        application = make()
        application.add_handlers(".*", [("/favicon.ico", NoIcon)])
        server = HTTPServer(application, ssl_options=tls)
        server.add_sockets(bind_sockets(self.port, "127.0.0.1"))
        return application, server

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something in the thread that serves; return its result."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(PATIENCE)

    def url(self, path: str = "/", host: str = "shop.example") -> str:
        """Where a page is found."""
        return f"{self._scheme}://{host}:{self.port}{path}"

    @property
    def manager(self) -> SessionManager:
        """The manager of the application's sessions."""
        return SessionManager.of(self.application)

    @property
    def seen(self) -> dict[str, Any]:
        """What handlers note: the settings of the application."""
        return self.application.settings

    def close(self) -> None:
        """End it with all its connections."""
        try:
            self.run(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _close(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()
        if "session_manager" in self.application.settings:
            await self.manager.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def application(
    routes: list[Any], session: dict[str, Any] | None = None, **settings: Any
) -> Callable[[], Application]:
    """What makes an application, with sessions in memory unless told otherwise."""

    def make() -> Application:
        app = Application(routes, **{"cookie_secret": "of these tests", **settings})
        SessionManager(app, **{"store": MemoryStore(), **(session or {})})
        return app

    return make


def wait_for(condition: Callable[[], object], page: Any = None) -> None:
    """Wait until ``condition()``; a page that is given goes on meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it has not come"
        if page is None:
            time.sleep(0.01)
        else:
            page.wait_for_timeout(10)
