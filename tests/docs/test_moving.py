"""Users stay logged in when an application moves as the pages say."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tornado.web import Application, RequestHandler

from tornado_mcsession import MemoryStore, SessionManager
from tornado_mcsession.interop.koa import koa_session
from tornado_mcsession.testing import FaultyStore, SessionClient

from ..support.browser import Browser
from ..support.memcached import Memcached
from ..support.pages import blocks, run
from ..support.processes import Process

(PROGRAM,) = blocks("moving.md")
(KOA,) = blocks("moving-koa.md")
OLD_PYCKET, NEW_PYCKET = blocks("moving-pycket.md")
(FLASK,) = blocks("moving-flask.md")


# docs/guides/moving.md


@pytest.mark.integration
@pytest.mark.gen_test(timeout=60)
async def test_the_old_cookie_logs_in_once(start: Callable[..., Process]) -> None:
    """It is replaced by a session, and a logout is final."""
    browser = Browser(start("moving.md").port)
    assert (await browser.get("/")).text == "Hello stranger\n"
    await browser.post("/old-login", form={"name": "ann"})
    assert (await browser.get("/")).text == "Hello ann\n"
    assert browser.cookie("user") is None
    assert browser.cookie("session") is not None
    assert (await browser.get("/")).text == "Hello ann\n"
    await browser.post("/logout", form={})
    assert (await browser.get("/")).text == "Hello stranger\n"
    await browser.post("/login", form={"name": "bob"})
    assert (await browser.get("/")).text == "Hello bob\n"


@pytest.fixture
def app() -> Application:
    """The program's application, on a store of the test."""
    names = run(PROGRAM, __name__="program")
    names["Application"] = lambda *routes, **more: Application(
        *routes, **{**more, "session": {"store": FaultyStore()}}
    )
    made: Application = names["make_app"]()
    return made


async def old_login(client: SessionClient, name: str) -> None:
    await client.fetch("/old-login", method="POST", body=f"name={name}")


@pytest.mark.gen_test
async def test_a_logout_by_the_old_cookie_is_final(app: Application) -> None:
    """The first request of an old user may be the logout."""
    async with SessionClient(app) as client:
        await old_login(client, "ann")
        await client.fetch("/logout", method="POST", body="")
        assert client.cookies == {}
        assert (await client.fetch("/")).body == b"Hello stranger\n"


@pytest.mark.gen_test
async def test_an_old_cookie_does_not_replace_a_login(app: Application) -> None:
    """Who is logged in here stays so, and the old cookie is removed."""
    async with SessionClient(app) as client:
        await client.begin(principal="bob")
        await old_login(client, "ann")
        assert (await client.fetch("/")).body == b"Hello bob\n"
        assert set(client.cookies) == {"session"}


@pytest.mark.gen_test
async def test_a_cookie_that_nobody_signed_logs_nobody_in(app: Application) -> None:
    """It is removed."""
    async with SessionClient(app) as client:
        client.cookies["user"] = "ann"
        assert (await client.fetch("/")).body == b"Hello stranger\n"
        assert client.cookies == {}


@pytest.mark.gen_test
async def test_an_outage_leaves_the_old_cookie(app: Application) -> None:
    """For the next try."""
    async with SessionClient(app) as client:
        await old_login(client, "ann")
        store = SessionManager.of(app).store
        assert isinstance(store, FaultyStore)
        store.down()
        assert (await client.fetch("/")).code == 503
        store.up()
        assert (await client.fetch("/")).body == b"Hello ann\n"


# docs/guides/moving-pycket.md


class OldSession(dict[str, Any]):
    """What pycket 0.3.0 and torndsession 1.1.5.1 have in common."""

    def delete(self, name: str) -> None:
        self.pop(name, None)


@pytest.mark.gen_test
async def test_users_of_an_old_library_are_handed_over(app: Application) -> None:
    """By a cookie of the old application, which a logout there removes."""
    old_session = OldSession(user="ann")

    class OldMixin:
        session = old_session

    names = run(OLD_PYCKET, SessionMixin=OldMixin)

    class Old(names["OldBaseHandler"]):  # type: ignore[misc]
        def get(self) -> None:
            self.write("old")

    secret = app.settings["cookie_secret"]
    old = Application([("/", Old), ("/out", names["OldLogout"])], cookie_secret=secret)
    new = run(PROGRAM, __name__="program")
    run_lines = run(NEW_PYCKET)
    new["OLD_COOKIE"] = run_lines["OLD_COOKIE"]
    new["BaseHandler"].old_user = run_lines["old_user"]
    app = Application([("/", new["Home"])], cookie_secret=secret)
    async with SessionClient(old) as before, SessionClient(app) as after:
        await before.fetch("/")
        after.cookies.update(before.cookies)
        assert (await after.fetch("/")).body == b"Hello ann\n"
        assert set(after.cookies) == {"session"}
        assert (await after.fetch("/")).body == b"Hello ann\n"
        await before.fetch("/out", method="POST", body="")
        assert before.cookies == {}
        before.cookies["moving"] = "left"
        await before.fetch("/")
        assert before.cookies == {}


# docs/guides/moving-koa.md


@pytest.mark.gen_test
async def test_a_user_of_koa_is_logged_in() -> None:
    """Who has a session with a name in it, as koa stored it."""
    handler = run(KOA)["KoaHandler"]

    class Home(handler):  # type: ignore[misc]
        def get(self) -> None:
            self.write({"principal": self.session.principal, **self.session})

    store = MemoryStore()
    app = Application([("/", Home)], session=koa_session(store=store, signed=False))
    record = {"cookie": {"httpOnly": True, "maxAge": 86_400_000}, "user": "ann"}
    await store.add(f"koa:sess:{'a' * 32}", json.dumps(record).encode(), 100, 2)
    async with SessionClient(app) as client:
        client.cookies["koa.sid"] = "a" * 32
        expected = {"principal": "ann", "user": "ann"}
        assert json.loads((await client.fetch("/")).body) == expected
        assert client.cookies["koa.sid"] != "a" * 32
        assert json.loads((await client.fetch("/")).body) == expected


# docs/guides/moving-flask.md


OLD_ID = "ML6Fd3ONzdxE-Gya81bRJBK3yXJFN7aMVXp34_DVgaA"
# Written by Flask-Session 0.8.0 under "session:" and the id.
RECORD = b"\x83\xaa_permanent\xc3\xa4user\xa3ann\xa4cart\x91\xa3pen"


def store_record(memcached: Memcached, record: bytes) -> None:
    """As Flask-Session does, for 31 days."""
    end = int(time.time()) + 31 * 86_400
    with socket.create_connection(("127.0.0.1", memcached.port), 5) as connection:
        head = f"set session:{OLD_ID} 0 {end} {len(record)}\r\n"
        connection.sendall(head.encode() + record + b"\r\n")
        assert connection.recv(100) == b"STORED\r\n"


@pytest.mark.integration
@pytest.mark.parametrize("signature", ["", ".EVZOn5Ru4zV93IpyYbTDwd_1WTE"])
@pytest.mark.gen_test(timeout=60)
async def test_a_record_of_flask_session_logs_in_once(
    start: Callable[..., Process], memcached: Memcached, signature: str
) -> None:
    """With the cart; the old cookie and the old record are gone."""
    store_record(memcached, RECORD)
    browser = Browser(start("moving-flask.md").port)
    headers = {"Cookie": f"session={OLD_ID}{signature}"}
    page = await browser.get("/", headers=headers)
    assert page.text == "Hello ann, your cart: pen\n"
    (cleared,) = [
        line for line in page.all_headers("Set-Cookie") if line.startswith("session=")
    ]
    assert cleared.startswith('session="";')
    assert browser.cookie("session") is None
    assert (await browser.get("/")).text == "Hello ann, your cart: pen\n"
    stranger = await Browser(browser.port).get("/", headers=headers)
    assert stranger.text == "Hello stranger, your cart: nothing\n"
    await browser.post("/logout", form={})
    assert (await browser.get("/")).text == "Hello stranger, your cart: nothing\n"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("cookie", "record"),
    [
        (OLD_ID, b"\x80\x04}."),  # of an older version
        (OLD_ID, msgspec.msgpack.encode(["user"])),
        (OLD_ID, msgspec.msgpack.encode({"_permanent": True})),
        ("a", RECORD),
        ("a%0D%0Aflush_all", RECORD),
        (OLD_ID.replace("-", " "), RECORD),
    ],
)
@pytest.mark.gen_test(timeout=60)
async def test_what_is_no_login_of_flask_session_logs_nobody_in(
    start: Callable[..., Process], memcached: Memcached, cookie: str, record: bytes
) -> None:
    """And is no error."""
    store_record(memcached, record)
    browser = Browser(start("moving-flask.md").port)
    page = await browser.get("/", headers={"Cookie": f"session={cookie}"})
    assert page.text == "Hello stranger, your cart: nothing\n"


def test_all_handlers_of_the_pages_are_handlers() -> None:
    """With the mixin in front, as the tables say."""
    for block in (PROGRAM, FLASK):
        base = run(block, __name__="program")["BaseHandler"]
        assert issubclass(base, RequestHandler)
        assert base.__mro__[1].__name__ == "SessionMixin"
