"""The guides about users: logins, devices, acting as another one."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tornado_mcsession import MemoryStore, SessionManager

from ..support.browser import Browser
from ..support.clock import ManualClock
from ..support.http import Response
from ..support.pages import blocks, programs, run, run_async
from ..support.processes import Process


@pytest.fixture
def devices(start: Callable[..., Process]) -> int:
    return start("devices.md").port


@pytest.fixture
def acting(start: Callable[..., Process]) -> int:
    return start("impersonation.md").port


class User(Browser):
    """Fills in forms as they came."""

    async def send(self, page: str, action: str, **fields: str) -> Response:
        shown = (await self.get(page)).text
        (token,) = re.findall(r'name="_xsrf" value="([^"]*)"', shown)[:1]
        return await self.post(action, form={"_xsrf": token, **fields})

    async def log_in(self, name: str, agent: str = "") -> None:
        shown = (await self.get("/login")).text
        (token,) = re.findall(r'name="_xsrf" value="([^"]*)"', shown)
        headers = {"User-Agent": agent}
        form = {"_xsrf": token, "name": name}
        assert (await self.post("/login", headers=headers, form=form)).status == 302

    async def listed(self) -> dict[str, str]:
        """The handles of the devices that can be logged out, by their names."""
        shown = (await self.get("/devices")).text
        parts = shown.split("<li>")[1:]
        found = {}
        for part in parts:
            name = html.unescape(part.partition(", logged in")[0])
            handle = re.search(r'name="handle" value="([^"]*)"', part)
            found[name] = handle[1] if handle else ""
        return found


PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Safari/604.1"
LAPTOP = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


# docs/guides/login.md


class Visitor(User):
    """A visitor of the program about logins."""

    async def enter(
        self, name: str, password: str, path: str = "/login", **fields: str
    ) -> Response:
        shown = (await self.get("/login")).text
        (token,) = re.findall(r'name="_xsrf" value="([^"]*)"', shown)
        form = {"_xsrf": token, "name": name, "password": password, **fields}
        return await self.post(path, form=form)


@pytest.fixture
def visitor(serve: Any, clock: ManualClock) -> Visitor:
    (program,) = programs("login.md")
    names = run(program)
    now = datetime.fromtimestamp
    names["datetime"] = SimpleNamespace(now=lambda zone: now(clock.now, zone))
    names["SESSION"].update(store=MemoryStore(clock=clock), clock=clock)
    return Visitor(serve(names).port, clock=clock)


@pytest.mark.gen_test
async def test_a_login_needs_the_password(visitor: Visitor) -> None:
    """With it there is a new id, and a logout ends that session."""
    assert (await visitor.enter("ann", "ink")).status == 403
    assert "Hello stranger" in (await visitor.get("/")).text
    assert (await visitor.enter("ann", "pen")).status == 303
    first = visitor.cookie_header()
    assert "Hello ann" in (await visitor.get("/")).text
    await visitor.enter("bob", "ink")
    assert "Hello bob" in (await visitor.get("/")).text
    for dead in (first, visitor.cookie_header()):
        if dead != first:
            assert (await visitor.send("/", "/logout")).status == 303
            assert "Hello stranger" in (await visitor.get("/")).text
        page = await User(visitor.port).get("/", headers={"Cookie": dead})
        assert "Hello stranger" in page.text


@pytest.mark.gen_test
async def test_remember_me_outlives_the_browser(
    visitor: Visitor, clock: ManualClock
) -> None:
    """For two weeks; without it the login ends with the browser."""
    await visitor.enter("ann", "pen")
    assert "max-age" not in visitor.cookie("session").attributes
    visitor.jar.forget_session_cookies()
    assert "Hello stranger" in (await visitor.get("/")).text
    await visitor.enter("ann", "pen", remember="yes")
    visitor.jar.forget_session_cookies()
    clock.advance(timedelta(days=13))
    assert "Hello ann" in (await visitor.get("/")).text


@pytest.mark.gen_test
async def test_the_page_says_that_the_session_has_expired(
    visitor: Visitor, clock: ManualClock
) -> None:
    """In the minutes after its end."""
    await visitor.enter("ann", "pen")
    assert "expired" not in (await visitor.get("/")).text
    clock.advance(timedelta(hours=1, minutes=7))
    assert "Your session has expired." in (await visitor.get("/")).text


@pytest.mark.gen_test
async def test_what_matters_needs_a_fresh_login(
    visitor: Visitor, clock: ManualClock
) -> None:
    """It is asked for after ten minutes, and leads back to the page, not elsewhere."""
    asked = await visitor.get("/email")
    assert asked.header("Location") == "/login?next=/email"
    entered = await visitor.enter("ann", "pen", asked.header("Location"))
    assert entered.header("Location") == "/email"
    assert (await visitor.get("/email")).text == "ann may change the address"
    clock.advance(timedelta(minutes=11))
    assert (await visitor.get("/email")).status == 302
    away = await visitor.enter("ann", "pen", "/login?next=//evil.example/")
    assert away.header("Location") == "/"


@pytest.mark.gen_test
async def test_the_first_lines_log_in_and_out() -> None:
    """As they stand at the top of the page about logins."""
    manager = SessionManager(store=MemoryStore())
    await manager.set("a" * 43, {"n": 1})
    session = await manager.get("a" * 43)
    handler = SimpleNamespace(session=session)
    await run_async(blocks("login.md")[0], self=handler)
    assert session is not None
    assert session.principal == "ann"
    assert handler.session is None


# docs/guides/devices.md


@pytest.mark.gen_test
async def test_the_first_lines_end_devices() -> None:
    """One, and then all others."""
    store = MemoryStore()
    manager = SessionManager(store=store, track_sessions=True, cookie_secret="s")
    sessions = []
    for letter in "abc":
        await manager.set(letter * 43, {"n": 1})
        session = await manager.get(letter * 43)
        assert session is not None
        await session.login("ann")
        sessions.append(session)
    names = await run_async(
        blocks("devices.md")[0], manager=manager, session=sessions[0]
    )
    assert len(names["devices"]) == 3
    assert len(names["others"]) == 2
    assert len(await manager.sessions("ann")) == 1
    alive = [await manager.get(session.id) for session in sessions if session.id]
    assert [session is not None for session in alive] == [True, False, False]


@pytest.mark.integration
@pytest.mark.gen_test
async def test_a_user_ends_a_device(devices: int) -> None:
    """Which is listed by its name, and logged out then."""
    phone, laptop, other = User(devices), User(devices), User(devices)
    await phone.log_in("ann", PHONE)
    await laptop.log_in("ann", LAPTOP)
    await other.log_in("bob")
    listed = await laptop.listed()
    assert list(listed) == ["Firefox on Linux", "Safari on iPhone"]
    assert listed["Firefox on Linux"] == "", "the current device has a button"
    handle = listed["Safari on iPhone"]
    sent = await other.send("/devices", "/devices/end", handle=handle)
    assert sent.status == 302
    assert (await phone.get("/devices")).status == 200, "ended by another user"
    await laptop.send("/devices", "/devices/end", handle=handle)
    assert (await phone.get("/devices")).status == 302
    assert list(await laptop.listed()) == ["Firefox on Linux"]


@pytest.mark.integration
@pytest.mark.gen_test
async def test_a_user_ends_all_other_devices(devices: int) -> None:
    """This one goes on."""
    phone, laptop = User(devices), User(devices)
    await phone.log_in("ann", PHONE)
    await laptop.log_in("ann", LAPTOP)
    assert (await laptop.send("/devices", "/devices/end-others")).status == 302
    assert list(await laptop.listed()) == ["Firefox on Linux"]
    assert (await phone.get("/devices")).status == 302


@pytest.mark.integration
@pytest.mark.gen_test
async def test_the_sixth_device_ends_the_first(devices: int) -> None:
    """As ``max_sessions`` says."""
    users = [User(devices) for _ in range(6)]
    for user in users:
        await user.log_in("ann")
    statuses = [(await user.get("/devices")).status for user in users]
    assert statuses == [302] + [200] * 5


# docs/guides/impersonation.md


@pytest.mark.integration
@pytest.mark.gen_test
async def test_support_acts_as_a_user_and_returns(acting: int) -> None:
    """With a message on the way, under a new id each time."""
    sam = User(acting)
    await sam.log_in("sam")
    ids = [sam.cookie("session")]
    await sam.send("/login", "/act-as", user="ann")
    ids.append(sam.cookie("session"))
    shown = (await sam.get("/")).text
    assert "You are ann." in shown
    assert "Be sam again" in shown
    assert "The user sees none of this." in shown
    assert (await sam.send("/", "/password")).status == 403
    assert (await sam.send("/", "/act-as", user="bob")).status == 403
    await sam.send("/", "/return")
    ids.append(sam.cookie("session"))
    assert (await sam.get("/")).text.split("<p>")[1].startswith("You are sam.")
    assert len({cookie.value for cookie in ids if cookie}) == 3
    assert (await sam.send("/login", "/return")).status == 400


@pytest.mark.integration
@pytest.mark.gen_test
async def test_others_act_as_nobody(acting: int) -> None:
    """The handler asks who may."""
    ann = User(acting)
    await ann.log_in("ann")
    assert (await ann.send("/login", "/act-as", user="sam")).status == 403
    assert "You are ann." in (await ann.get("/")).text
