"""Requests without a server, as `SessionManager.open` and `commit` see them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from tornado.httputil import HTTPHeaders

from tornado_mcsession import Session, SessionManager

from .scripted import ScriptedStore


class FakeHandler:
    """As much of a handler as a manager looks at; it presents ``session_ids``."""

    def __init__(self, *session_ids: str) -> None:
        headers = HTTPHeaders({"Host": "127.0.0.1"})
        for session_id in session_ids:
            headers.add("Cookie", f"session={session_id}")
        self.request = SimpleNamespace(
            headers=headers,
            protocol="http",
            method="GET",
            path="/",
            host="127.0.0.1",
            host_name="127.0.0.1",
        )


class Visit:
    """A request under way: its session, and the handler that the session needs."""

    def __init__(self, manager: SessionManager, handler: Any, session: Session) -> None:
        self.manager = manager
        self.handler = handler
        self.session = session

    async def leave(self) -> str | None:
        """Save as at the end of a request; return the id that the client has then."""
        await self.manager.commit(self.session)
        return self.session.id


async def visit(manager: SessionManager, *session_ids: str | None) -> Visit:
    """Begin a request that presents ``session_ids`` in its cookies."""
    handler = FakeHandler(*[each for each in session_ids if each is not None])
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
