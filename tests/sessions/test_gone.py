"""A session that another request ends, as a client sees it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tornado.web import Application, RequestHandler

from tornado_mcsession import MemoryStore, SessionManager, SessionMixin

from ..support.http import RawConnection, Response
from ..support.requests import begin, data_of, is_alive

VERBS: dict[str, Any] = {
    "save": lambda session: session.save(),
    "reload": lambda session: session.reload(),
    "transact": lambda session: session.transact(lambda data: data.update(n=1)),
    "regenerate": lambda session: session.regenerate(),
    "revoke_others": lambda session: session.revoke_others(),
    "touch": lambda session: session.touch(),
}


class Late(SessionMixin, RequestHandler):
    """Does something with a session that another request ends meanwhile."""

    async def get(self, verb: str) -> None:
        self.session["b"] = 2
        await self.application.settings["meanwhile"](self.session.id)
        await VERBS[verb](self.session)
        self.write("done")


class Logout(SessionMixin, RequestHandler):
    """Logs out, in one of three ways, after another request has come."""

    async def get(self, way: str) -> None:
        await self.application.settings["meanwhile"](self.session.id)
        if way == "None":
            self.session = None
        elif way == "destroy":
            await self.session.destroy()
        else:
            await self.session.logout()
        self.write("good bye")


class LazyLogout(Logout):
    """Never loads the session."""

    session_load = "lazy"

    async def get(self, way: str) -> None:
        if way == "None":
            self.session = None
        else:
            await self.session.destroy()
        self.write("good bye")


class Plain(SessionMixin, RequestHandler):
    """Does not save by itself."""

    session_save = False

    async def get(self, way: str) -> None:
        self.session["b"] = 2
        if way == "save":
            await self.session.save()
        elif way == "login":
            await self.session.login("ann")
        self.write(str(self.session.id))


async def nothing(session_id: str) -> None:
    """Nobody does anything meanwhile."""


@pytest.fixture
def app() -> Application:
    return Application(
        [
            ("/late/(.*)", Late),
            ("/logout/(.*)", Logout),
            ("/lazy/(.*)", LazyLogout),
            ("/plain/(.*)", Plain),
        ],
        session={"store": MemoryStore()},
        meanwhile=nothing,
    )


@pytest.fixture
def manager(app: Application) -> SessionManager:
    return SessionManager(app)


async def get(port: int, path: str, session_id: str | None = None) -> Response:
    headers = {} if session_id is None else {"Cookie": f"session={session_id}"}
    async with await RawConnection.open(port) as connection:
        return await connection.request("GET", path, headers)


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    """What was logged at ``level`` or above, but for Tornado's access log."""
    return [
        record
        for record in caplog.records
        if record.levelno >= level and record.name != "tornado.access"
    ]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.gen_test
async def test_a_verb_on_an_ended_session_is_a_409(
    manager: SessionManager,
    app: Application,
    http_port: int,
    http_server: Any,
    caplog: pytest.LogCaptureFixture,
    verb: str,
) -> None:
    """One INFO line says so, no traceback, and the cookie is left alone."""
    session_id = await begin(manager, "ann", a=1)

    async def log_out(presented: str) -> None:
        await manager.destroy(presented)

    app.settings["meanwhile"] = log_out
    with caplog.at_level(logging.INFO):
        response = await get(http_port, f"/late/{verb}", session_id)
    assert response.status == 409
    assert response.header("Set-Cookie") is None
    assert lines(caplog, logging.WARNING) == []
    told = lines(caplog, logging.INFO)
    assert all(line.exc_info is None for line in told)
    assert not any(session_id in line.getMessage() for line in told)
    assert sum("409" in line.getMessage() for line in told) == 1
    # That the request's own changes were dropped is another line, and counted.
    assert len(told) <= 1 + manager.stats()["dropped_saves"]
    assert await data_of(manager, session_id) is None


@pytest.mark.parametrize("way", ["None", "destroy", "logout"])
@pytest.mark.parametrize("path", ["/logout/", "/lazy/"])
@pytest.mark.gen_test
async def test_a_logout_by_an_older_id_than_a_login_is_a_409(
    manager: SessionManager,
    app: Application,
    http_port: int,
    http_server: Any,
    caplog: pytest.LogCaptureFixture,
    path: str,
    way: str,
) -> None:
    """The page of ``session_error``; counted, logged once, and nobody is logged out."""
    session_id = await begin(manager, a=1)
    told: list[str | None] = []

    async def log_in(presented: str) -> None:
        session = await manager.get(presented)
        assert session is not None
        await session.login("bob")
        told.append(session.id)

    if path == "/lazy/":
        await log_in(session_id)
    app.settings["meanwhile"] = log_in
    with caplog.at_level(logging.INFO):
        response = await get(http_port, path + way, session_id)
    assert response.status == 409
    assert b"good bye" not in response.body
    assert response.header("Set-Cookie") is None
    assert lines(caplog, logging.ERROR) == []
    assert all(line.exc_info is None for line in caplog.records)
    (new_id,) = told
    assert await is_alive(manager, new_id)
    assert manager.stats()["refused_ends"] == 1
    own = [r for r in caplog.records if r.name == "tornado_mcsession"]
    assert own
    assert not any(session_id in r.getMessage() for r in own)


@pytest.mark.parametrize("way", ["None", "destroy", "logout"])
@pytest.mark.parametrize("path", ["/logout/", "/lazy/"])
@pytest.mark.gen_test
async def test_a_logout_by_an_older_id_of_the_same_login_works(
    manager: SessionManager,
    app: Application,
    http_port: int,
    http_server: Any,
    path: str,
    way: str,
) -> None:
    """The new id is dead, and the cookie is cleared."""
    session_id = await begin(manager, "ann", a=1)
    told: list[str | None] = []

    async def rotate(presented: str) -> None:
        session = await manager.get(presented)
        assert session is not None
        await session.regenerate()
        told.append(session.id)

    if path == "/lazy/":
        await rotate(session_id)
    app.settings["meanwhile"] = rotate
    response = await get(http_port, path + way, session_id)
    assert response.status == 200
    assert "Max-Age=0" in (response.header("Set-Cookie") or "") or "expires=" in (
        response.header("Set-Cookie") or ""
    )
    (new_id,) = told
    assert not await is_alive(manager, new_id)


@pytest.mark.parametrize(("way", "saves"), [("none", 0), ("save", 1), ("login", 1)])
@pytest.mark.gen_test
async def test_awaited_verbs_save_though_the_handler_does_not(
    manager: SessionManager, http_port: int, http_server: Any, way: str, saves: int
) -> None:
    """``session_save = False`` is about the end of the request, as documented."""
    response = await get(http_port, f"/plain/{way}")
    assert response.status == 200
    assert (response.header("Set-Cookie") is not None) == bool(saves)
    if saves:
        assert await data_of(manager, response.text) == {"b": 2}
    else:
        assert response.text == "None"
