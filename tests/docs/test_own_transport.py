"""The transport of docs/guides/own-transport.md carries ids as the page says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tornado.web import Application

from tornado_mcsession import MemoryStore, SessionManager
from tornado_mcsession.testing import SessionClient

from ..support.browser import Browser
from ..support.pages import blocks, run
from ..support.processes import Process

(PROGRAM,) = blocks("own-transport.md")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.integration
@pytest.mark.gen_test(timeout=60)
async def test_the_token_of_a_response_brings_the_session_back(
    start: Callable[..., Process],
) -> None:
    """Until the logout, which clears it; and no cookie is set."""
    client = Browser(start("own-transport.md").port)
    login = await client.post("/login", form={"name": "ann"})
    assert login.header("Cache-Control") == "no-store"
    assert login.all_headers("Set-Cookie") == []
    token = login.header("X-Session-Token")
    page = await client.get("/", headers=bearer(token))
    assert page.text == "Hello ann\n"
    assert page.header("Vary") == "Authorization"
    assert page.all_headers("X-Session-Token") == []
    assert (await client.get("/")).text == "Hello stranger\n"
    basic = {"Authorization": f"Basic {token}"}
    assert (await client.get("/", headers=basic)).text == "Hello stranger\n"
    out = await client.post("/logout", headers=bearer(token), form={})
    assert out.all_headers("X-Session-Token") == [""]
    page = await client.get("/", headers=bearer(token))
    assert page.text == "Hello stranger\n"


@pytest.mark.gen_test
async def test_browsers_can_use_the_same_routes() -> None:
    """With a list, a session that has its id in neither place begins with a cookie."""
    names = run(PROGRAM, __name__="program")
    app = Application([("/", names["Home"]), ("/login", names["Login"])])
    manager = SessionManager(
        app, store=MemoryStore(), transport=[names["Bearer"](), "cookie"]
    )
    await manager.set("a" * 43, {})
    async with SessionClient(app) as client:
        await client.fetch("/login", method="POST", body="name=ann")
        assert set(client.cookies) == {"session"}
        assert (await client.fetch("/")).body == b"Hello ann\n"
        client.cookies.clear()
        headers = bearer("a" * 43)
        login = await client.fetch(
            "/login", method="POST", body="name=bob", headers=headers
        )
        assert not client.cookies
        headers = bearer(login.headers["X-Session-Token"])
        assert (await client.fetch("/", headers=headers)).body == b"Hello bob\n"


@pytest.mark.parametrize("value", [5, ["a" * 43], ZeroDivisionError()])
@pytest.mark.gen_test
async def test_a_transport_with_a_fault_is_a_500(value: Any) -> None:
    """What read returns must be text, ASCII bytes or None; and it may not raise."""
    names = run(PROGRAM, __name__="program")

    class Faulty(names["Bearer"]):  # type: ignore[misc]
        def read(self, handler: Any) -> Any:
            if isinstance(value, Exception):
                raise value
            return value

    app = Application([("/", names["Home"])])
    SessionManager(app, store=MemoryStore(), transport=Faulty())
    async with SessionClient(app) as client:
        assert (await client.fetch("/")).code == 500
