"""A process that is told to stop: nothing of what it confirmed is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tornado_mcsession import MemoryStore, SessionManager, StoreUnavailable

from ..support.browser import Browser
from ..support.processes import Process, free_port
from ..support.remote import (
    PATIENCE,
    HoldingProxy,
    assert_unavailable,
    comes,
    post,
    session_id,
    started,
    until,
)

ROOT = Path(__file__).parents[2]
ID = "a-session-id-of-forty-three-characters-0123"

pytestmark = [pytest.mark.integration, pytest.mark.gen_test(timeout=120)]

# The demo's way to serve, and to stop. All that is printed beside is unexpected.
SERVER = """
import asyncio, json, logging, sys, threading
from tornado.netutil import bind_sockets
from tornado.web import Application
from demo.server import serve, stop_signal
from tests.support.remote import Account
from tornado_mcsession import SessionManager

async def main(port, session):
    asyncio.get_running_loop().slow_callback_duration = 60  # not what is tested here
    app = Application([("/(.*)", Account)], log_function=lambda handler: None)
    SessionManager(app, **session)
    await serve(app, bind_sockets(port, "127.0.0.1"), stop_signal())
    print("closed, with", *[thread.name for thread in threading.enumerate()])

logging.basicConfig(stream=sys.stdout, format="log: %(message)s")
asyncio.run(main(int(sys.argv[1]), json.loads(sys.argv[2])))
"""


class Served(Process):
    """A process that serves, with ``session`` as its settings."""

    def __init__(self, **session: Any) -> None:
        port = free_port()
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", SERVER]
        super().__init__([*command, str(port), json.dumps(session)], port, cwd=ROOT)

    def tell_to_stop(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    async def refuses(self) -> None:
        """Wait until it accepts nobody any more: it is on its way to the end."""
        await until(lambda: not self._accepts())

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    async def ends(self, within: float = PATIENCE) -> list[str]:
        """Wait for its end, which must be a good one; return what it has logged."""
        async with asyncio.timeout(within):
            while self.is_running:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        printed = self.output().splitlines()
        assert self.terminate() == 0, printed
        printed.remove("closed, with MainThread")
        logged = [line.removeprefix("log: ") for line in printed]
        assert [f"log: {line}" for line in logged] == printed
        return logged


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Starts processes that serve; takes what `Served` does."""
    with ExitStack() as stack:

        def start(**session: Any) -> Served:
            process = Served(**session)
            # After the test it is gone already, or stopped here.
            stack.callback(lambda: process.is_running and process.kill())
            return process

        yield start


async def begin(process: Served, owner: str) -> Browser:
    browser = Browser(process.port)
    assert (await browser.post(f"/begin?owner={owner}", body=b"")).status == 200
    return browser


async def stored(url: str, browser: Browser) -> dict[str, Any] | None:
    """What memcached holds for the browser."""
    async with SessionManager(store=url) as manager:
        session = await manager.get(session_id(browser))
        return None if session is None else dict(session)


@pytest.mark.parametrize("persist", ["before_response", "on_finish"])
async def test_what_was_confirmed_under_load_is_stored(serve, memcached, persist):
    """Of 20 users who never pause, each has all that was answered with 200."""
    process = serve(store=memcached.url, persist=persist)
    users = [await begin(process, f"user{number}") for number in range(20)]
    told = [0] * len(users)

    async def use(number: int) -> None:
        while True:
            try:
                response = await post(users[number], "write_it")
            except (OSError, EOFError):
                return
            assert response.status == 200, response.text
            assert response.json()["owner"] == f"user{number}"
            told[number] += 1

    asking = [asyncio.create_task(use(number)) for number in range(len(users))]
    await until(lambda: min(told) >= 3)
    process.tell_to_stop()
    for line in await process.ends():
        # A request that came too late for a save, and was not answered.
        assert "the store is closed" in line
    await asyncio.gather(*asking)
    for number, browser in enumerate(users):
        found = await stored(memcached.url, browser)
        # The last request may have been saved without being answered.
        assert found["n"] - told[number] in (0, 1)


@pytest.mark.parametrize("persist", ["before_response", "on_finish"])
async def test_a_save_under_way_is_waited_for(serve, memcached, persist):
    """It is stored, and its answer goes out, before the process ends."""
    with HoldingProxy(memcached.port, b"cas ") as proxy:
        process = serve(store=f"{proxy.url}/?timeout=15", persist=persist)
        browser = await begin(process, "bob")
        asking = asyncio.create_task(post(browser, "write_it"))
        await until(lambda: proxy.held)
        process.tell_to_stop()
        await process.refuses()
        assert process.is_running
        assert asking.done() is (persist == "on_finish")
        proxy.let_go()
        assert (await asking).status == 200
        assert await process.ends() == []
    assert (await stored(memcached.url, browser))["n"] == 1


@pytest.mark.parametrize("options", ["", "&reconnect_timeout=2"])
async def test_a_memcached_that_hangs_does_not_hold_up_the_end(
    serve, memcached, options
):
    """Who waits for a save is told that it failed; the process ends in time, well."""
    with HoldingProxy(memcached.port, b"cas ") as proxy:
        process = serve(store=f"{proxy.url}/?timeout=1{options}")
        users = [await begin(process, f"user{number}") for number in range(5)]
        asking = [asyncio.create_task(post(browser, "write_it")) for browser in users]
        await until(lambda: proxy.held)
        proxy.hang()
        process.tell_to_stop()
        logged = await process.ends()
    for line in logged:
        assert "answer" in line or "503" in line, line
    answers = await asyncio.gather(*asking, return_exceptions=True)
    told = [answer for answer in answers if not isinstance(answer, Exception)]
    assert told
    for response in told:
        assert_unavailable(response)


async def test_requests_that_wait_for_a_node_do_not_hold_up_the_end(
    serve, own_memcached
):
    """However long they would wait: their connections close, nothing is left over."""
    process = serve(store=f"{own_memcached.url}/?timeout=5&reconnect_timeout=600")
    users = [await begin(process, f"user{number}") for number in range(5)]
    own_memcached.kill()
    asking = [asyncio.create_task(post(browser, "write_it")) for browser in users]
    await until(lambda: "does not answer" in process.output())
    process.tell_to_stop()
    logged = await process.ends()
    assert any("does not answer" in line for line in logged)
    for outcome in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(outcome, OSError | EOFError)


# In this process.


@pytest.fixture
def start(io_loop):
    yield from started(io_loop)


async def test_nothing_is_left_when_it_is_closed(start, proxy):
    """Neither a thread nor a connection, also where a save had to fail for it."""
    before = threading.enumerate()
    site = start(f"{proxy.url}/?timeout=0.3&threads=4")
    users = [await site.user(f"user{number}") for number in range(10)]
    await asyncio.gather(*(post(browser, "write_it") for browser in users))
    assert len(threading.enumerate()) > len(before)
    halt = site.halt()
    late = asyncio.create_task(post(users[0], "write_it"))
    await comes(halt.reached)
    proxy.hang()
    halt.go_on.set()
    await until(lambda: site.manager.stats()["running_saves"])
    await site.manager.close()
    assert site.manager.stats()["running_saves"] == 0
    assert site.node()["pending"] == 0
    assert threading.enumerate() == before
    assert (await late).status == 503
    await site.manager.close()  # once more is no error


CLOSED = "the store is closed"


@pytest.mark.parametrize("act", ["write_it", "login", "logout", "destroy"])
async def test_requests_after_the_end_are_told_so(start, memcached, caplog, act):
    """They are a 503 that may be tried elsewhere; the log has the reason."""
    site = start(memcached.url)
    browser = await site.user("bob")
    before = session_id(browser)
    halt = site.halt()
    late = asyncio.create_task(post(browser, act))
    await comes(halt.reached)
    await site.manager.close()
    halt.go_on.set()
    assert_unavailable(await late, cleared=act in ("logout", "destroy"))
    assert_unavailable(await site.browser().post("/begin?owner=eve", body=b""))
    assert_unavailable(
        await site.browser().get("/", headers={"Cookie": f"session={before}"})
    )
    told = [r.getMessage() for r in caplog.records if r.name == "tornado_mcsession"]
    assert sum(CLOSED in message for message in told) >= 3
    assert await site.manager.health() == {
        "status": "down",
        "nodes": {
            f"127.0.0.1:{memcached.port}": {"ok": False, "error": CLOSED},
        },
    }


@pytest.mark.parametrize("kind", ["memory", "memcached"])
async def test_a_closed_manager_says_so(memcached, kind):
    """In each call that would need the store; closing it twice is no error."""
    store = MemoryStore() if kind == "memory" else memcached.url
    manager = SessionManager(store=store)
    await manager.set(ID, {"a": 1})
    session = await manager.get(ID)
    await manager.close()
    session["a"] = 2
    for call in (
        lambda: manager.get(ID),
        lambda: manager.set(ID, {"a": 1}),
        lambda: manager.destroy(ID),
        lambda: session.save(),
        lambda: session.reload(),
        lambda: session.regenerate(),
        lambda: session.login("ann"),
        lambda: session.transact(lambda data: None),
        lambda: session.destroy(),
    ):
        with pytest.raises(StoreUnavailable, match=CLOSED):
            await call()
    assert await manager.drain(0)
    await manager.close()
