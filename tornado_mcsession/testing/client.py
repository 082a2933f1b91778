"""A client of an application under test, and its sessions."""

from __future__ import annotations

import asyncio
import email.utils
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace, TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from ..checks import type_error
from ..manager import SessionManager
from ..session import Session
from ..web.transport import Carried, CookieTransport

__all__ = ["SessionClient"]

HOST = "127.0.0.1"


class SessionClient:
    """Begins sessions of an application, sends requests, and looks at the sessions.

    ::

        async with SessionClient(app) as client:
            await client.begin({"cart": ["pen"]}, principal="ann")
            response = await client.fetch("/cart", method="POST", body="item=book")
            session = await client.session()
            assert session["cart"] == ["pen", "book"]

    It works with every store, and with ids in cookies or headers. The first `fetch`
    of a path starts the application on a free port of 127.0.0.1. If it is served
    already, say where: ``SessionClient(app, "http://127.0.0.1:8888")``.

    ``headers`` are sent with each request. ``cookies`` holds the cookies that responses
    have set, by their name, whatever their path and domain; a test may change both.

    `close` it at the end, or use it with ``async with``.
    """

    def __init__(
        self,
        application: Application,
        base_url: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(application, Application):
            raise type_error("application", application, "a tornado.web.Application")
        self.application: Application = application
        self.headers: HTTPHeaders = HTTPHeaders(dict(headers or {}))
        self.cookies: dict[str, str] = {}
        self._base_url = base_url
        self._server: HTTPServer | None = None
        self._sockets: list[socket.socket] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<SessionClient cookies={len(self.cookies)}>"

    async def begin(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        principal: str | int | None = None,
        name: str = "session",
    ) -> None:
        """Begin a session with ``data``; later requests of this client have it.

        With ``principal``, that user is logged in. A session that the client had
        before is left as it is, and not used any more. ``name`` is that of the
        `.SessionManager`. Hooks such as ``allow_new`` and ``before_save`` are called
        with a handler for a GET request.

        Raises `ValueError` if there is neither data nor a principal: without the
        setting ``allow_empty``, such a session is not stored. Raises `.SessionError`
        if it cannot be stored.
        """
        manager = SessionManager.of(self.application, name)
        handler = self._handler(manager)
        session = manager.session_for(handler, Carried(), None)
        session.update(data or {})
        len(session)  # with allow_empty, a session begins when it is used
        if principal is not None:
            await session.login(principal)
        await manager.commit(session)
        if session.id is None:
            raise ValueError("a session begins with data, or with a principal")
        headers = HTTPHeaders()
        manager.deliver(handler, headers, session)
        self.receive(headers)

    async def session(self, name: str = "session") -> Session | None:
        """Return the session that the next request has, or `None` if it has none.

        It is read from the store now. It can be changed and saved, too.
        """
        manager = SessionManager.of(self.application, name)
        carried = manager.transport.present(self._handler(manager))
        return await manager.get(carried.ids[0]) if carried.ids else None

    async def fetch(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        raise_error: bool = False,
        follow_redirects: bool = False,
        **options: Any,
    ) -> HTTPResponse:
        """Send a request with the client's cookies; keep those of the response.

        ``url`` may be a path. ``options`` are those of
        `~tornado.httpclient.HTTPRequest`, for example ``method`` and ``body``. By
        default, errors are returned like other responses, and redirects are not
        followed: cookies of a response that redirects would be lost.
        """
        if urlsplit(url).netloc == "":
            url = urljoin(self._base_url or await self._serve(), url)
        client = AsyncHTTPClient(force_instance=True)
        try:
            response = await client.fetch(
                HTTPRequest(
                    url,
                    headers=self.request_headers(headers),
                    follow_redirects=follow_redirects,
                    **options,
                ),
                raise_error=raise_error,
            )
        finally:
            client.close()
        self.receive(response.headers)
        return response

    def request_headers(self, more: Mapping[str, str] | None = None) -> HTTPHeaders:
        """Return the headers of this client's requests, with ``more`` of them.

        For requests that are not sent by `fetch`, such as those of
        `~tornado.testing.AsyncHTTPTestCase` and of WebSockets.
        """
        headers = self.headers.copy()
        for name, value in (more or {}).items():
            headers[name] = value
        cookies = [f"{name}={value}" for name, value in self.cookies.items()]
        if "Cookie" in headers:
            cookies.append(headers["Cookie"])
        if cookies:
            headers["Cookie"] = "; ".join(cookies)
        return headers

    def receive(self, headers: HTTPHeaders) -> None:
        """Keep the cookies in the ``headers`` of a response, and ids in headers.

        `fetch` does it by itself.
        """
        for line in headers.get_list("Set-Cookie"):
            name, value, is_removed = _parse(line)
            self.cookies.pop(name, None)
            if not is_removed:
                self.cookies[name] = value
        for manager in self._managers():
            for name in manager.transport.vary:
                if name != "Cookie" and name in headers:
                    self.headers[name] = headers[name]
                    if not headers[name]:
                        del self.headers[name]

    async def close(self) -> None:
        """Stop the client's own server, and close the application's managers.

        The application's sessions cannot be used afterwards. Any event loop may run.
        """
        await self._stop()
        for manager in self._managers():
            await manager.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _managers(self) -> list[SessionManager]:
        settings = self.application.settings.values()
        return [value for value in settings if isinstance(value, SessionManager)]

    async def _serve(self) -> str:
        """Start the application on the running loop, if it is not; return its URL."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            await self._stop()
            self._sockets = bind_sockets(0, HOST)
            self._server, self._loop = HTTPServer(self.application), loop
            self._server.add_sockets(self._sockets)
        return f"http://{HOST}:{self._sockets[0].getsockname()[1]}/"

    async def _stop(self) -> None:
        server, loop = self._server, self._loop
        self._server = self._loop = None
        if server is None or loop is None:
            return
        if (
            loop.is_closed()
        ):  # it may have closed them, which the server does not expect
            for listening in self._sockets:
                listening.close()
            return
        server.stop()
        if loop is asyncio.get_running_loop():
            await server.close_all_connections()

    def _handler(self, manager: SessionManager) -> RequestHandler:
        """Return a handler of a request that this client might send."""
        url = urlsplit(self._base_url or f"http://{HOST}/")
        handler = self._handler_for(url.scheme, url.netloc, url.path or "/")
        transport = manager.transport.of(handler)
        if not isinstance(transport, CookieTransport):
            return handler
        # Where a browser would send the cookie, so that nothing is warned of.
        options = transport.options(handler)
        needs_https = options.needs_https or options.secure is True
        protocol = "https" if needs_https else url.scheme
        return self._handler_for(protocol, url.netloc, options.path)

    def _handler_for(self, protocol: str, host: str, path: str) -> RequestHandler:
        headers = self.request_headers()
        headers.setdefault("Host", host)
        connection: Any = SimpleNamespace(
            context=SimpleNamespace(remote_ip=HOST, protocol=protocol),
            set_close_callback=lambda callback: None,
        )
        request = HTTPServerRequest(
            start_line=RequestStartLine("GET", path, "HTTP/1.1"),
            headers=headers,
            connection=connection,
        )
        return RequestHandler(self.application, request)


def _parse(line: str) -> tuple[str, str, bool]:
    """Return the name and value of a Set-Cookie line, and whether it removes it."""
    pair, *attributes = line.split(";")
    name, _, value = pair.strip().partition("=")
    said = dict(
        (key.strip().lower(), text.strip())
        for key, _, text in (attribute.partition("=") for attribute in attributes)
    )
    age = said.get("max-age", "")
    if age.removeprefix("-").isdecimal():
        return name, value, int(age) <= 0
    if "expires" in said:
        ends = email.utils.parsedate_to_datetime(said["expires"])
        return name, value, ends <= datetime.now(UTC)
    return name, value, False
