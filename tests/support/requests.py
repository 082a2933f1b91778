"""Requests without a server: what the manager sees of them, and responds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tornado.httputil import HTTPHeaders

from tornado_mcsession import Session, SessionManager
from tornado_mcsession.sessions.state import Reach

from .scripted import ScriptedStore


class FakeHeaders:
    """A request's headers, with whatever characters, on any release of Tornado."""

    def __init__(self) -> None:
        self._lists: dict[str, list[str]] = {}

    def add(self, name: str, value: str) -> None:
        self._lists.setdefault(name.lower(), []).append(value)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._lists

    def __getitem__(self, name: str) -> str:
        return ",".join(self._lists[name.lower()])

    def get_list(self, name: str) -> list[str]:
        return self._lists.get(name.lower(), [])

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default


class FakeHandler:
    """As much of a handler as a transport and a manager look at."""

    def __init__(self, *cookies: str, protocol: str = "http", **headers: str) -> None:
        fields = FakeHeaders()
        for cookie in cookies:
            fields.add("Cookie", cookie)
        for name, value in headers.items():
            fields.add(name.replace("_", "-"), value)
        self.request = SimpleNamespace(
            headers=fields,
            protocol=protocol,
            method="GET",
            path="/",
            host="localhost",
            host_name="localhost",
        )


class Visit:
    """A request under way: its session, and the handler that the session needs."""

    def __init__(self, manager: SessionManager, handler: Any, session: Session) -> None:
        self.manager = manager
        self.handler = handler
        self.session = session
        self.headers = HTTPHeaders()  # of the response, after `leave`

    async def leave(self) -> str | None:
        """Save as at the end of a request; return the id that the client has then."""
        await self.leave_with_cookie()
        return self.session.id

    async def leave_with_cookie(self) -> str | None:
        """The same; return what the response sets the cookie to, if it does."""
        await self.manager.commit(self.session)
        self.manager.deliver(self.handler, self.headers, self.session)
        line = self.headers.get("Set-Cookie")
        return None if line is None else line.partition(";")[0].partition("=")[2]


async def visit(manager: SessionManager, *session_ids: str | None) -> Visit:
    """Begin a request that presents ``session_ids`` in its cookies."""
    handler = FakeHandler(*[f"session={each}" for each in session_ids if each])
    return Visit(manager, handler, await manager.open(handler))  # type: ignore[arg-type]


async def begin(
    manager: SessionManager, principal: str | None = None, **data: Any
) -> str:
    """Begin a session with ``data``, by a request; return its id."""
    first = await visit(manager)
    first.session.update(data)
    if principal is not None:
        await first.session.login(principal)
    session_id = await first.leave()
    assert session_id is not None, "nothing to store"
    return session_id


async def data_of(manager: SessionManager, session_id: str | None) -> Any:
    """Return what is stored of a session; None if it is not alive."""
    session = None if session_id is None else await manager.get(session_id)
    return None if session is None else session.copy()


async def is_alive(manager: SessionManager, session_id: str | None) -> bool:
    """Return whether the session of ``session_id`` is alive under that very id."""
    session = None if session_id is None else await manager.get(session_id)
    return session is not None and session.id == session_id


async def pending_done(manager: SessionManager, store: ScriptedStore) -> None:
    """Let the store be back, and wait until no unconfirmed end is left."""
    store.connected()
    async with asyncio.timeout(15):
        while manager.stats()["pending_destroys"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def key_of(manager: SessionManager, session_id: str) -> str:
    """The store key of a session id."""
    return manager.codec.key(session_id)


def finish(session: Session) -> None:
    """Note that the response is finished, as the request's cycle does."""
    session._reach = Reach.CLOSED


def seal(session: Session) -> None:
    """Note that the headers have left, as the request's cycle does."""
    session._reach = Reach.SEALED


async def written(
    manager: SessionManager,
    handler: Any = None,
    change: Callable[[Session], object] | None = None,
) -> HTTPHeaders:
    """The headers of an answer that begins a session."""
    handler = handler or FakeHandler()
    session = await manager.open(handler)
    session["a"] = 1
    if change is not None:
        change(session)
    await manager.commit(session)
    headers = HTTPHeaders()
    manager.deliver(handler, headers, session)
    return headers


def cookie_of(headers: HTTPHeaders) -> str:
    """The cookie as a browser sends it back."""
    return headers["Set-Cookie"].partition("; ")[0]


def unloaded(manager: SessionManager, session_id: str) -> Session:
    """The session of a lazy handler, before it is loaded."""
    session = manager.session_of(FakeHandler(f"session={session_id}"))
    session._why_unloaded = "because"
    return session


def unavailable(manager: SessionManager) -> Session:
    """The session of an error page, which is not saved."""
    session = Session(manager, FakeHandler())
    session._failed()
    return session


def carried(transport: Any, handler: Any) -> str | None:
    """The id that a request carries, if it carries one."""
    ids = transport.present(handler).ids
    return ids[0] if len(ids) == 1 else None
