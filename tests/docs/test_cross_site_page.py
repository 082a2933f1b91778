"""The page about forms from other sites: its program brings users back to sessions."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from tornado.web import Application, RequestHandler

from tornado_mcsession import MemoryStore, SessionMixin

from ..support.browser import Browser
from ..support.processes import Process

CROSS = {"Sec-Fetch-Site": "cross-site", "Origin": "https://pay.example"}
OWN = {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1"}


@pytest.fixture
def shop(start: Callable[..., Process]) -> int:
    """The port of the page's program."""
    return start("cross-site.md").port


@pytest.fixture
def app() -> Application:
    return Application(
        [("/writes", Writes)], cookie_secret="s", session={"store": MemoryStore()}
    )


def fields(page: str) -> dict[str, str]:
    """What a form would send."""
    found = re.findall(r'name="([^"]*)" value="([^"]*)"', page)
    return {html.unescape(name): html.unescape(value) for name, value in found}


async def returns(port: int, browser: Browser, path: str, form: Any) -> Any:
    """What a user sees whose browser posts another site's form, and then the bridge's.

    The browser leaves the cookie out of the first.
    """
    bridge = await Browser(port).post(path, headers=CROSS, form=form)
    assert bridge.status == 200
    assert bridge.all_headers("Set-Cookie") == []
    assert f'action="{path}"' in bridge.text
    sent = fields(bridge.text)
    assert sent == {**form, "resubmitted": "1"}
    return await browser.post(path, headers=OWN, form=sent)


@pytest.mark.integration
@pytest.mark.gen_test
async def test_a_payment_comes_back_to_its_session(shop: int) -> None:
    """Its form passes the bridge as it was, and only once."""
    browser = Browser(shop)
    state = fields((await browser.get("/buy")).text)["state"]
    form = {"order": '"7" <&>', "state": state}
    assert (await returns(shop, browser, "/paid", form)).status == 303
    assert (await browser.get("/orders")).json() == {"user": None, "paid": ['"7" <&>']}
    assert (await returns(shop, browser, "/paid", form)).status == 403


@pytest.mark.integration
@pytest.mark.gen_test
async def test_a_sign_on_keeps_the_session(shop: int) -> None:
    """The user is logged in under a new id, with the data of before."""
    browser = Browser(shop)
    state = fields((await browser.get("/buy")).text)["state"]
    await returns(shop, browser, "/paid", {"order": "7", "state": state})
    location = (await browser.get("/sign-on")).header("Location")
    before = browser.cookie("session").value
    form = {"state": location.partition("state=")[2], "code": "x"}
    assert (await returns(shop, browser, "/signed-on", form)).status == 303
    assert browser.cookie("session").value != before
    assert (await browser.get("/orders")).json() == {"user": "user-7", "paid": ["7"]}


@pytest.mark.integration
@pytest.mark.gen_test
async def test_the_bridge_lets_no_foreign_form_through(shop: int) -> None:
    """Without the state of this user, or without a session, the form is refused."""
    browser = Browser(shop)
    await browser.get("/buy")
    for form in ({"order": "7", "state": "x"}, {"order": "7"}):
        assert (await returns(shop, browser, "/paid", form)).status == 403
    stranger = Browser(shop)
    form = {"order": "7", "state": "x"}
    assert (await returns(shop, stranger, "/paid", form)).status == 403
    assert (await browser.get("/orders")).json()["paid"] is None


class Writes(SessionMixin, RequestHandler):
    """Handles a form of another site, without the bridge."""

    async def post(self) -> None:
        self.session["n"] = 1
        if self.get_body_argument("save", ""):
            await self.session.save()


@pytest.mark.gen_test
async def test_what_is_awaited_begins_a_session_all_the_same(
    browser: Browser,
) -> None:
    """At the end of the request none begins by itself."""
    await browser.post("/writes", headers=CROSS, form={"a": "b"})
    assert browser.cookie("session") is None
    await browser.post("/writes", headers=CROSS, form={"save": "yes"})
    assert browser.cookie("session") is not None
