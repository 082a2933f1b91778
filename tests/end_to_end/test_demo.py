"""The demo's processes: how they start, share sessions, and end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from demo.app import make_app
from demo.cluster import LIVED_SECONDS
from demo.control import Control, Setup, is_loopback
from demo.memcached import OwnMemcached

from ..support.browser import Browser
from ..support.nginx import Nginx
from ..support.processes import Process, find_server, free_port

ROOT = Path(__file__).parents[2]
REQUESTS = 1000

pytestmark = [pytest.mark.integration, pytest.mark.end_to_end]


def start_demo(store: str | None = None, *options: str) -> Process:
    """Start the demo; all have the same key for their cookies."""
    port = free_port()
    command = [sys.executable, "-m", "demo", f"--port={port}", *options]
    if store is not None:
        command.append(f"--store={store}")
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


# What the demo starts itself.


@pytest.fixture
def own():
    """The demo as it starts without options."""
    find_server("memcached")
    demo = start_demo()
    yield demo
    demo.kill()


def accepts(port: int) -> bool:
    """Whether somebody listens on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def memcached_of(demo: Process) -> int:
    """The port of the demo's own memcached, which then accepts connections."""
    ready = (await Browser(demo.port).get("/readyz")).json()
    assert ready["status"] == "ok"
    (node,) = ready["nodes"]
    port = urlsplit(f"//{node}").port
    assert port is not None
    assert accepts(port)
    return port


@pytest.mark.gen_test(timeout=60)
async def test_it_starts_a_memcached_and_ends_it(own):
    """Two processes share a memcached, and nothing is left when the demo has ended."""
    memcached = await memcached_of(own)
    assert "2 processes share the port and the sessions." in own.output()
    assert own.terminate() == 0
    await until(lambda: not accepts(memcached))
    assert not accepts(own.port)


@pytest.mark.gen_test(timeout=60)
async def test_nothing_is_left_of_a_demo_that_was_killed(own):
    """If the demo is killed, its processes and its memcached end, too."""
    memcached = await memcached_of(own)
    own.kill()
    await until(lambda: not accepts(own.port) and not accepts(memcached))


@pytest.mark.gen_test(timeout=60)
async def test_a_process_that_was_killed_is_replaced(own):
    """If somebody kills a process that has served for a while, a new one starts."""
    browser = Browser(own.port)

    async def process() -> int:
        told = (await browser.post("/api/counter")).json()["process"]
        return int(told.rpartition(" ")[2])

    first = await process()
    await asyncio.sleep(LIVED_SECONDS)
    os.kill(first, signal.SIGKILL)
    told = f"The process {first} ended with status -9; a new one starts in its place."
    await until(lambda: told in own.output())
    other = await process()
    assert other != first
    for _ in range(100):
        newest = await process()
        if newest != other:
            break
        await asyncio.sleep(0.2)
    assert newest not in (first, other)


@pytest.mark.gen_test(timeout=60)
async def test_it_ends_if_a_process_ends_at_once(own):
    """A process that cannot stay up is named, and the demo ends with status 1."""
    told = (await Browser(own.port).post("/api/counter")).json()["process"]
    pid = int(told.rpartition(" ")[2])
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not own.is_running)
    assert f"The process {pid} ended with status -9; the demo ends." in own.output()
    assert own.terminate() == 1


async def token(browser: Browser) -> str:
    """The token that the shop's forms have."""
    found = re.search(r'name="_xsrf" value="([^"]+)"', (await browser.get("/")).text)
    assert found
    return found[1]


@pytest.mark.gen_test(timeout=60)
async def test_a_memcached_of_others_is_not_stopped(memcached):
    """With --store the demo refuses to stop memcached, and to end its only process."""
    demo = start_demo(memcached.url)
    try:
        browser = Browser(demo.port)
        form = {"_xsrf": await token(browser)}
        for path, reason in (("pause", "started itself"), ("end-process", "one proc")):
            refused = await browser.post(f"/proof/{path}", form=form)
            assert refused.status == 409
            assert reason in refused.json()["error"]
        assert (await browser.get("/readyz")).status == 200
    finally:
        demo.kill()


@pytest.mark.gen_test(timeout=60)
async def test_strangers_can_stop_nothing():
    """A demo that other machines can reach does not stop its memcached for a page."""
    find_server("memcached")
    demo = start_demo(None, "--address=0.0.0.0")
    try:
        browser = Browser(demo.port)
        form = {"_xsrf": await token(browser)}
        for path in ("pause", "end-process"):
            refused = await browser.post(f"/proof/{path}", form=form)
            assert refused.status == 409
            assert "other machines" in refused.json()["error"]
    finally:
        demo.kill()


@pytest.mark.gen_test(timeout=60)
async def test_a_page_under_another_name_can_stop_nothing(own):
    """A site whose name leads to this machine gets a token, and no more."""
    browser = Browser(own.port, host="elsewhere.example")
    form = {"_xsrf": await token(browser)}
    for path in ("pause", "end-process"):
        refused = await browser.post(f"/proof/{path}", form=form)
        assert refused.status == 409
        assert f"http://127.0.0.1:{own.port}/" in refused.json()["error"]
    assert (await browser.get("/readyz")).json()["status"] == "ok"


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "[::1]"])
def test_names_of_this_machine(host):
    """These stand for it wherever they are looked up."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "10.0.0.1", "127.0.0.1.example"])
def test_names_of_other_machines(host):
    """These may lead anywhere."""
    assert not is_loopback(host)


@pytest.mark.gen_test(timeout=60)
async def test_memcached_ends_though_its_shell_was_killed():
    """The demo then ends it by itself."""
    memcached = OwnMemcached(find_server("memcached"))
    os.kill(memcached._keeper.pid, signal.SIGKILL)
    memcached.close()
    await until(lambda: not accepts(memcached.port))


def test_the_setup_does_not_show_its_secrets():
    """Where it is printed, in a log or an error."""
    url = "memcached://user:a-password@127.0.0.1"
    setup = Setup(url, "given", 1, 1, True, 1800, "a secret", "00ff")
    assert not any(word in repr(setup) for word in ("password", "a secret", "00ff"))


@pytest.mark.parametrize("scheme", ["redis", "memory"])
def test_a_wrong_url_is_not_repeated(scheme):
    """It may have a password, and what is printed may be kept."""
    command = [sys.executable, "-m", "demo", "--processes=2"]
    done = subprocess.run(
        [*command, f"--store={scheme}://user:a-password@127.0.0.1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "a-password" not in done.stdout + done.stderr


@pytest.mark.gen_test
async def test_without_memcached_the_page_says_so():
    """Where no memcached is found, the page says that one process has the sessions."""
    (listening,) = bind_sockets(0, "127.0.0.1")
    port = listening.getsockname()[1]
    setup = Setup("memory://", "missing", 1, port, True, 1800, "a secret", "00" * 32)
    server = HTTPServer(make_app(setup, Control()))
    server.add_socket(listening)
    page = " ".join((await Browser(port).get("/")).text.split())
    assert "memory of this process: no memcached was found" in page
    assert "No memcached was found on this machine. Install it" in page
    assert page.count("data-script") == 2
    server.stop()
    await server.close_all_connections()


@pytest.mark.gen_test(timeout=60)
async def test_traces_of_one_action_only(own):
    """A trace has the store operations of the requests that name it, in order."""
    browser = Browser(own.port)
    form = {"_xsrf": await token(browser), "sku": "pencil"}
    actions = ["0123456789abcdef", "fedcba9876543210"]
    for action in actions:
        await browser.post("/cart/add", form=form, headers={"X-Demo-Action": action})
    for action, first in zip(actions, (["add"], ["get", "cas"]), strict=True):
        told = await browser.get(f"/proof/trace?action={action}&count=1")
        (request,) = told.json()["requests"]
        kinds = [operation["kind"] for operation in request["operations"]]
        assert kinds[: len(first)] == first
        assert request["request"] == "POST /cart/add"
        assert request["status"] == 303
        assert request["ms"] >= sum(each["ms"] for each in request["operations"]) / 2


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--store=memory://", "--processes=2"], 2, "lives inside one process"),
        (["--store=redis://127.0.0.1"], 2, "--store: store URL must begin with"),
        (["--port=70000"], 2, "70000 is not from 0 to 65535"),
        (["--idle-timeout=1"], 2, "1 is not 10 or more"),
        (["--port={used}"], 1, "is in use; choose another: --port"),
    ],
)
def test_wrong_options_are_explained(options, status, said):
    """An option that cannot be is an error that says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        told = [option.format(used=port) for option in options]
        ran = subprocess.run(
            [sys.executable, "-m", "demo", *told],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (ran.returncode, said in ran.stderr) == (status, True), ran.stderr
