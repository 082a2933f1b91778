"""The programs of devices.md and impersonation.md do what the pages say."""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.web import Application

from tornado_mcsession import SessionManager, UserSession

from ..support.browser import Browser
from ..support.http import Response
from ..support.pages import blocks, text_of
from ..support.processes import Process, free_port

ROOT = Path(__file__).parents[2]


SETTINGS, DEVICES = blocks("devices.md")
(ACTING,) = blocks("impersonation.md")


def started(program: str, folder: Path) -> Iterator[int]:
    """The port of a page's program, which runs as it stands."""
    port = free_port()
    path = folder / "program.py"
    path.write_text(program.replace("8888", str(port)))
    server = Process([sys.executable, str(path)], port, cwd=ROOT)
    yield port
    server.kill()


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[int]:
    yield from started(DEVICES, tmp_path)


@pytest.fixture
def acting(tmp_path: Path) -> Iterator[int]:
    yield from started(ACTING, tmp_path)


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


def test_the_settings_are_accepted() -> None:
    """As they stand at the top of the page."""
    names: dict[str, Any] = {"SessionManager": SessionManager, "app": Application([])}
    exec(SETTINGS, names)
    assert names["manager"].settings.max_sessions == 5


def test_all_of_an_item_is_in_the_table() -> None:
    """Each field of a `UserSession`."""
    text = text_of("devices.md")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.M)) == set(UserSession._fields)


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


@pytest.mark.gen_test
async def test_a_user_ends_all_other_devices(devices: int) -> None:
    """This one goes on."""
    phone, laptop = User(devices), User(devices)
    await phone.log_in("ann", PHONE)
    await laptop.log_in("ann", LAPTOP)
    assert (await laptop.send("/devices", "/devices/end-others")).status == 302
    assert list(await laptop.listed()) == ["Firefox on Linux"]
    assert (await phone.get("/devices")).status == 302


@pytest.mark.gen_test
async def test_the_sixth_device_ends_the_first(devices: int) -> None:
    """As ``max_sessions`` says."""
    users = [User(devices) for _ in range(6)]
    for user in users:
        await user.log_in("ann")
    statuses = [(await user.get("/devices")).status for user in users]
    assert statuses == [302] + [200] * 5


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


@pytest.mark.gen_test
async def test_others_act_as_nobody(acting: int) -> None:
    """The handler asks who may."""
    ann = User(acting)
    await ann.log_in("ann")
    assert (await ann.send("/login", "/act-as", user="sam")).status == 403
    assert "You are ann." in (await ann.get("/")).text
