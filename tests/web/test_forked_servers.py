"""An application that was built and used before `tornado.process.fork_processes`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tornado_mcsession import SessionManager

from ..support.browser import Browser
from ..support.remote import PATIENCE, post, session_id, until

ROOT = Path(__file__).parents[2]
CHILDREN = 2
ID = "a-session-id-of-forty-three-characters-0123"

pytestmark = [pytest.mark.integration, pytest.mark.gen_test(timeout=60)]

# Each child has a port of its own, so that a test can choose, and all that is
# printed beside what is here is unexpected.
SERVER = """
import asyncio, logging, signal, sys, threading
from tornado.netutil import bind_sockets
from tornado.process import fork_processes
from tornado.web import Application
from demo.server import serve, stop_signal
from tests.support.remote import Account
from tornado_mcsession import SessionManager

def tell(*what):
    # In one piece: three processes write to the same file.
    sys.stdout.write(" ".join(map(str, what)) + "\\n")
    sys.stdout.flush()

async def use(manager):
    await manager.set(session_id, {"owner": "parent"})
    await asyncio.gather(*(manager.get(session_id) for _ in range(20)))

async def in_child(number):
    asyncio.get_running_loop().slow_callback_duration = 60
    stop = stop_signal()
    close(sockets[:number] + sockets[number + 1 :])
    tell("child", number, ports[number])
    await serve(app, sockets[number], stop)
    tell("closed, with", *[thread.name for thread in threading.enumerate()])

async def in_parent():
    session = await manager.get(session_id)
    await manager.close()
    return session and session["owner"]

def close(unused):
    for found in unused:
        for socket in found:
            socket.close()

url, session_id, children = sys.argv[1], sys.argv[2], int(sys.argv[3])
logging.basicConfig(stream=sys.stdout, format="log: %(message)s")
logging.getLogger("tornado.general").setLevel("WARNING")  # it tells of each fork
app = Application([("/(.*)", Account)], log_function=lambda handler: None)
manager = SessionManager(app, store=url)
asyncio.run(use(manager))
sockets = [bind_sockets(0, "127.0.0.1") for _ in range(children)]
ports = [found[0].getsockname()[1] for found in sockets]
assert threading.active_count() > 1, "the store was not used"
# The whole group is told to stop: the parent waits for its children.
signal.signal(signal.SIGTERM, lambda *_: None)
try:
    asyncio.run(in_child(fork_processes(children, max_restarts=0)))
except SystemExit as end:
    close(sockets)
    owner = asyncio.run(in_parent())
    threads = [thread.name for thread in threading.enumerate()]
    tell("parent ends", end.code, "and found", owner, "with", *threads)
"""


class ForkedServers:
    """A parent and its children, in a process group of their own."""

    def __init__(self, url: str, output: Path) -> None:
        self._output = output
        command = [sys.executable, "-X", "dev", "-W", "error"]
        # What Python 3.12 says of any fork of a process with threads.
        command += ["-W", "ignore:This process:DeprecationWarning", "-c", SERVER]
        with output.open("ab") as printed:
            self._process = subprocess.Popen(
                [*command, url, ID, str(CHILDREN)],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=True,
            )

    def lines(self) -> list[str]:
        """What they have printed so far."""
        return self._output.read_text().splitlines()

    async def ports(self) -> list[int]:
        """The children's ports, when all of them serve."""

        def started() -> list[str]:
            assert self._process.poll() is None, self.lines()
            return [line for line in self.lines() if line.startswith("child ")]

        await until(lambda: len(started()) == CHILDREN)
        return [int(line.split()[2]) for line in sorted(started())]

    async def stop(self) -> list[str]:
        """Tell all of them to stop; return what they have printed, when they have."""
        os.killpg(self._process.pid, signal.SIGTERM)
        await until(lambda: self._process.poll() is not None)
        assert self._process.returncode == 0, self.lines()
        return self.lines()

    def kill(self) -> None:
        """End all of them at once, if they still are there."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def fork(tmp_path: Path) -> Iterator[Callable[[str], ForkedServers]]:
    """Starts `ForkedServers` with their sessions at a URL."""
    started = []

    def start(url: str) -> ForkedServers:
        started.append(ForkedServers(url, tmp_path / "output"))
        return started[-1]

    yield start
    for servers in started:
        servers.kill()


def at(browser: Browser, port: int) -> Browser:
    """The same browser, at another process."""
    browser.port = port
    return browser


async def test_children_share_the_sessions_of_a_store_used_before(fork, memcached):
    """Each request, wherever it goes, sees all before it; then all end well."""
    servers = fork(memcached.url)
    ports = await servers.ports()
    # What the parent has stored is there in each child.
    for port in ports:
        page = await Browser(port).get("/", headers={"Cookie": f"session={ID}"})
        assert page.json()["owner"] == "parent"

    async def use(number: int) -> Browser:
        browser = Browser(ports[number % CHILDREN])
        response = await browser.post(f"/begin?owner=user{number}", body=b"")
        assert response.status == 200
        for turn in range(20):
            at(browser, ports[(number + turn) % CHILDREN])
            found = (await post(browser, "write_it")).json()
            assert (found["owner"], found["n"]) == (f"user{number}", turn)
        return browser

    users = await asyncio.gather(*(use(number) for number in range(10)))
    # At the same time from both: nothing is lost.
    await asyncio.gather(*(count(users[0], port) for port in ports * 10))
    found = (await users[0].get("/")).json()
    assert found["n"] == 20 + 10 * CHILDREN
    lines = await servers.stop()
    assert Counter(line for line in lines if not line.startswith("child ")) == {
        "closed, with MainThread": CHILDREN,
        "parent ends 0 and found parent with MainThread": 1,
    }
    async with SessionManager(store=memcached.url) as manager:
        session = await manager.get(session_id(users[0]))
        assert session["n"] == found["n"]


async def count(browser: Browser, port: int) -> None:
    other = Browser(port)
    other.jar = browser.jar
    assert (await post(other, "count")).status == 200


async def test_children_that_are_told_to_stop_under_load_end_well(fork, memcached):
    """Each user has all that was confirmed, by either child."""
    servers = fork(memcached.url)
    ports = await servers.ports()
    told = [0] * 10

    async def use(number: int) -> Browser:
        browser = Browser(ports[number % CHILDREN])
        await browser.post(f"/begin?owner=user{number}", body=b"")
        while True:
            try:
                response = await post(browser, "write_it")
            except (OSError, EOFError):
                return browser
            assert response.status == 200, response.text
            told[number] += 1

    asking = [asyncio.create_task(use(number)) for number in range(len(told))]
    await until(lambda: min(told) >= 3)
    lines = await servers.stop()
    # Requests that came too late for a save are told of, and were not answered.
    expected = [line for line in lines if "the store is closed" not in line]
    assert len(expected) == 2 * CHILDREN + 1, lines
    users = await asyncio.gather(*asking)
    async with SessionManager(store=memcached.url) as manager:
        for number, browser in enumerate(users):
            session = await manager.get(session_id(browser))
            assert session["owner"] == f"user{number}"
            assert session["n"] - told[number] in (0, 1)


async def test_each_child_notices_an_outage_and_its_end(fork, own_memcached):
    """What the parent knew of the node is not what its children go by."""
    servers = fork(own_memcached.url + "/?timeout=5")
    ports = await servers.ports()
    users = [Browser(port) for port in ports]
    for browser in users:
        assert (await browser.post("/begin?owner=bob", body=b"")).status == 200
    own_memcached.restart()
    for browser in users:
        page = await browser.get("/")
        assert (page.status, page.json()["owner"]) == (200, None)
    own_memcached.kill()
    for browser in users:
        assert (await browser.get("/")).status == 503
    own_memcached.start()
    for browser in users:
        await until_it_answers(browser)
    lines = await servers.stop()
    logged = [line for line in lines if line.startswith("log: ")]
    assert sum("does not answer" in line for line in logged) == CHILDREN
    assert sum("answers again" in line for line in logged) == CHILDREN


async def until_it_answers(browser: Browser) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await browser.get("/")).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
