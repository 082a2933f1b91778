"""Two processes of the demo, a load balancer, one memcached and one browser."""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..support.browser import Browser
from ..support.nginx import Nginx
from ..support.processes import Process, free_port

ROOT = Path(__file__).parents[2]
REQUESTS = 1000

pytestmark = [pytest.mark.integration, pytest.mark.end_to_end]


def start_demo(store: str) -> Process:
    """Start one process of the demo; all have the same key for their cookies."""
    port = free_port()
    command = [sys.executable, "-m", "demo", f"--port={port}", f"--store={store}"]
    environment = {**os.environ, "DEMO_COOKIE_SECRET": "known to both processes"}
    return Process(command, port, cwd=ROOT, env=environment)


@pytest.fixture
def demos(memcached):
    """Two processes of the demo that know nothing of each other."""
    with ExitStack() as stack:
        processes = []
        for _ in range(2):
            process = start_demo(memcached.url)
            stack.callback(process.kill)
            processes.append(process)
        yield processes


@pytest.fixture
def balanced(demos, tmp_path):
    """A browser that is sent to either of the two in turn."""
    nginx = Nginx([demo.port for demo in demos], tmp_path)
    yield Browser(nginx.port)
    nginx.terminate()


@pytest.mark.gen_test(timeout=120)
async def test_every_read_sees_the_last_write(demos, balanced, memcached):
    """In 1,000 writes and reads in turn, each sees all before it, wherever it goes."""
    answered = {"POST": set(), "GET": set()}
    for count in range(1, REQUESTS // 2 + 1):
        wrote = await balanced.post("/api/counter")
        assert wrote.status == 200, wrote.text
        assert wrote.json()["counter"] == count
        answered["POST"].add(wrote.json()["process"])
        # Round robin would send all writes to the one process and all reads to
        # the other; a request more in every other round swaps them.
        for _ in range(1 + count % 2):
            read = await balanced.get("/api/session")
            assert read.status == 200, read.text
            assert read.json()["data"]["counter"] == count
            answered["GET"].add(read.json()["process"])
    assert len(answered["POST"]) == len(answered["GET"]) == 2
    assert answered["POST"] == answered["GET"]
    assert len(memcached.keys()) == 1


@pytest.mark.gen_test(timeout=60)
async def test_a_session_outlives_the_process_that_made_it(demos, balanced):
    """When one process ends, the other goes on with the same session."""
    assert (await balanced.post("/api/counter")).json()["counter"] == 1
    for demo in demos:
        browser = Browser(demo.port)
        browser.jar = balanced.jar
        assert (await browser.get("/api/session")).json()["data"]["counter"] == 1
    assert demos[0].terminate() == 0
    browser = Browser(demos[1].port)
    browser.jar = balanced.jar
    assert (await browser.post("/api/counter")).json()["counter"] == 2


@pytest.mark.gen_test(timeout=60)
async def test_the_shop_warns_before_a_login_ends(demos):
    """Its page has what the script needs, which is told the seconds by any process."""
    browser = Browser(demos[0].port)
    assert 'id="warning"' not in (await browser.get("/")).text
    token = re.search(
        r'name="_xsrf" value="([^"]+)"', (await browser.get("/login")).text
    )
    await browser.post("/login", form={"_xsrf": token[1], "name": "ann"})
    page = (await browser.get("/")).text
    (status,) = re.findall(r'id="warning"[^>]*data-status="([^"]+)"', page)
    (script,) = re.findall(r'src="(/static/timeout.js[^"]*)"', page)
    assert "logged_in" in (await browser.get(script)).text
    browser.port = demos[1].port
    told = (await browser.get(status)).json()
    assert told["logged_in"] is True
    assert 0 < told["seconds_left"] <= 1.1 * 1800
    assert (await browser.post(status, form={})).status == 403
    token = re.search(
        r'name="_xsrf" value="([^"]+)"', page.partition('id="warning"')[2]
    )
    renewed = await browser.post(status, form={"_xsrf": token[1]})
    assert renewed.json()["seconds_left"] >= told["seconds_left"]
    assert "session=" in renewed.header("Set-Cookie")
