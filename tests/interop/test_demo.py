"""The demo: a site that moves from koa to Tornado page by page, behind nginx."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from ..support.browser import Browser
from ..support.node import install_packages
from ..support.processes import Process, find_server, free_port

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.integration, pytest.mark.end_to_end]


class Page:
    """What a page shows."""

    def __init__(self, response):
        assert response.status == 200, (response.status, response.text)
        self.text = response.text
        self.by = re.search('id="by">(.*?)<', self.text)[1]
        self.user, self.count = re.search(
            "Logged in: <b>(.*?)</b>. Items in your cart: <b>(.*?)</b>", self.text
        ).groups()
        self.messages = re.findall('<p class="info">(.*?)</p>', self.text)


@pytest.fixture
def start():
    """Starts the demo; returns a browser."""
    find_server("nginx")
    find_server("memcached")
    install_packages(ROOT / "demo" / "koa")
    processes = []

    def start(*arguments):
        port = free_port()
        command = [sys.executable, "-m", "demo.koa", f"--port={port}"]
        processes.append(Process([*command, *arguments], port, cwd=ROOT))
        return Browser(port)

    yield start
    for process in processes:
        assert process.terminate() == 0


@pytest.mark.gen_test(timeout=60)
async def test_a_user_crosses_from_one_application_to_the_other(start):
    """Home is Node's, the cart Python's: one cart, one login, messages from both."""
    browser = start("--moved=cart")

    async def get(path):
        return Page(await browser.get(path))

    async def post(path, **form):
        return Page(await browser.post(path, form=form, follow=True))

    assert (await get("/")).by == "Node"
    page = await post("/cart", item="pen")
    assert (page.by, page.count) == ("Python", "1")
    assert page.messages == ["Python added pen."]
    assert (await get("/")).count == "1"

    before = browser.cookie("koa.sid").value
    page = await post("/account/login", user="<ann>")
    assert (page.by, page.user, page.count) == ("Node", "&lt;ann&gt;", "1")
    assert page.messages == ["Node logged you in."]
    assert browser.cookie("koa.sid").value != before
    page = await post("/cart", item="ink")
    assert (page.by, page.user, page.count) == ("Python", "&lt;ann&gt;", "2")

    page = await post("/cart/empty")
    assert "Your cart is empty." in page.text

    page = await post("/account/logout")
    assert (page.by, page.user, page.count) == ("Node", "nobody", "0")
    assert (await get("/cart")).user == "nobody"


@pytest.mark.gen_test(timeout=60)
async def test_pages_move_while_the_site_is_used(start):
    """A click moves a page; the user stays logged in, also when all have moved."""
    browser = start()

    async def until_made_by(path, who):
        for _ in range(200):
            page = Page(await browser.get(path))
            if page.by == who:
                return page
            await asyncio.sleep(0.05)  # nginx takes its new configuration
        raise AssertionError(f"{path} is not made by {who}")

    await browser.post("/account/login", form={"user": "ann"})
    await browser.post("/cart", form={"item": "pen"})
    for page, path in (("cart", "/cart"), ("account", "/account"), ("home", "/")):
        moved = await browser.post("/move", form={"page": page, "to": "Python"})
        assert moved.status == 302
        shown = await until_made_by(path, "Python")
        assert (shown.user, shown.count) == ("ann", "1")
    page = Page(await browser.post("/account/logout", follow=True))
    assert (page.by, page.user) == ("Python", "nobody")

    await browser.post("/account/login", form={"user": "bob"})
    await browser.post("/move", form={"page": "account", "to": "Node"})
    assert (await until_made_by("/account", "Node")).user == "bob"


@pytest.mark.gen_test(timeout=60)
async def test_a_login_needs_a_name(start):
    """In either application an empty one is the client's error."""
    for moved in ("home", "account"):
        browser = start(f"--moved={moved}")
        answer = await browser.post("/account/login", form={"user": " "})
        assert answer.status == 400, moved


@pytest.mark.gen_test(timeout=60)
async def test_another_site_moves_nothing(start, memcached):
    """Nor does a page that is not there."""
    browser = start(f"--memcached=127.0.0.1:{memcached.port}")
    form = {"page": "cart", "to": "Python"}
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert (await browser.post("/move", form=form, headers=headers)).status == 403
    form = {"page": "cart;", "to": "Python"}
    assert (await browser.post("/move", form=form)).status == 400
