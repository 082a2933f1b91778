"""The guides with a whole program each: what they promise is what it does."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application

from tornado_mcsession import MemoryStore, SessionManager

from ..support.browser import Browser
from ..support.clock import ManualClock
from ..support.memcached import Memcached
from ..support.pages import ROOT, blocks
from ..support.processes import Process, free_port
from ..support.requests import FakeHandler
from .test_docs import run, run_async

GUIDES = ["timeouts.md", "events.md", "several-sessions.md", "typed-sessions.md"]
TIME_FUNCTION, ADDED, TIMEOUTS = blocks("timeouts.md")
CALLBACKS, EVENTS = blocks("events.md")
TWO_MANAGERS, ANOTHER, SEVERAL = blocks("several-sessions.md")
DECLARED, ADDS, UPGRADED, SHOP = blocks("typed-sessions.md")
(CLUSTER,) = blocks("managed-clusters.md")


@pytest.fixture
def serve(io_loop: Any, clock: ManualClock) -> Iterator[Callable[..., Browser]]:
    """Starts a guide's application in this process, on the clock of the test."""
    servers = []

    def start(names: dict[str, Any]) -> Browser:
        app = names["make_app"]()
        server = HTTPServer(app)
        socket, port = bind_unused_port()
        server.add_socket(socket)
        servers.append(server)
        return Browser(port, clock=clock)

    yield start
    for server in servers:
        server.stop()
        io_loop.run_sync(server.close_all_connections)


@pytest.mark.integration
@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.gen_test(timeout=60)
async def test_each_program_runs_as_it_stands(
    guide: str, memcached: Memcached, tmp_path: Path
) -> None:
    """With the ports of the test; it responds, and logs no error."""
    port = free_port()
    program = tmp_path / "program.py"
    text = blocks(guide)[-1].replace("8888", str(port))
    program.write_text(text.replace("11211", str(memcached.port)))
    server = Process([sys.executable, "-W", "error", str(program)], port, cwd=ROOT)
    try:
        page = await Browser(port).get("/")
        assert page.status == (404 if guide == "several-sessions.md" else 200)
    finally:
        server.kill()


# docs/guides/typed-sessions.md


@pytest.mark.gen_test
async def test_a_typed_session_is_saved_and_upgraded(serve: Any) -> None:
    """By the program, which also reads what an older version has stored."""
    names = run(SHOP)
    store = MemoryStore()
    make_app = names["make_app"]
    names["Application"] = lambda *routes, **more: Application(
        *routes, **{**more, "session": {"store": store, "signed": False}}
    )
    browser = serve({"make_app": make_app})
    for name in ("<pen>", "<pen>", "book"):
        await browser.post("/", form={"name": name})
    page = (await browser.get("/")).text
    assert "<li>2 × &lt;pen&gt;<li>1 × book" in page
    await SessionManager(store=store).set("a" * 43, {"basket": ["ink"]})
    headers = {"Cookie": f"session={'a' * 43}"}
    page = (await Browser(browser.port).get("/", headers=headers)).text
    assert "<li>1 × ink" in page


def test_the_pieces_of_the_page_run() -> None:
    """The declaration, a handler, and the change of the shape."""
    names = run(DECLARED, app=Application(debug=True), msgspec=msgspec)
    run(ADDS, **names)
    changed = run(UPGRADED, app=Application(debug=True), Cart=names["Cart"])
    assert changed["upgrade"]({"basket": ["pen"]}) == {"items": ["pen"]}


# docs/guides/timeouts.md


@pytest.mark.gen_test
async def test_the_function_chooses_by_the_session(clock: ManualClock) -> None:
    """By what is in it, by what `remember` chose, and by who is logged in."""
    app = Application(session={"store": MemoryStore(clock=clock), "clock": clock})
    manager = run(TIME_FUNCTION, app=app)["manager"]
    for data, expected in (({"admin": True}, 600), ({"n": 1}, 86_400)):
        await manager.set("a" * 43, data)
        session = await manager.get("a" * 43)
        assert session.idle_timeout == expected


def test_the_status_handler_can_be_added() -> None:
    """To an application that is there."""
    run(ADDED, app=Application())


@pytest.fixture
def timeouts(serve: Any, clock: ManualClock) -> Browser:
    """A browser for the program about timeouts."""
    names = run(TIMEOUTS)
    names["SESSION"].update(store=MemoryStore(clock=clock), clock=clock)
    return serve(names)


@pytest.mark.gen_test
async def test_a_page_that_polls_does_not_keep_the_session_alive(
    timeouts: Browser, clock: ManualClock
) -> None:
    """The script is told the seconds, until there are none."""
    await timeouts.post("/login", form={"name": "<Ann>"})
    assert "Hello &lt;Ann&gt;" in (await timeouts.get("/")).text
    left = [132]
    while left[-1]:
        told = (await timeouts.get("/session")).json()
        assert told["logged_in"] is (told["seconds_left"] > 0)
        left.append(told["seconds_left"])
        clock.advance(33)
    assert left == [132, 132, 99, 66, 33, 0]
    assert "Your session timed out." in (await timeouts.get("/")).text
    assert "timed out" not in (await Browser(timeouts.port).get("/")).text


@pytest.mark.gen_test
async def test_the_button_keeps_it_alive(timeouts: Browser, clock: ManualClock) -> None:
    """As often as it is pressed."""
    await timeouts.post("/login", form={"name": "ann"})
    for _ in range(5):
        clock.advance(100)
        told = (await timeouts.post("/session", form={})).json()
        assert told == {"seconds_left": 132, "logged_in": True}
    assert "Hello ann" in (await timeouts.get("/")).text


@pytest.mark.gen_test
async def test_the_script_is_that_of_the_page(timeouts: Browser) -> None:
    """The page has the elements that the script looks for."""
    await timeouts.post("/login", form={"name": "ann"})
    script = await timeouts.get("/timeout.js")
    assert script.header("Content-Type") == "text/javascript"
    page = (await timeouts.get("/")).text
    wanted = re.findall(r'getElementById\("(\w+)"\)', script.text)
    assert set(wanted) == {"warning", "seconds", "stay"}
    assert all(f'id="{name}"' in page for name in wanted)


# docs/guides/events.md


@pytest.mark.gen_test
async def test_the_callbacks_are_called(capsys: Any) -> None:
    """For a session of a job."""
    manager = SessionManager(store=MemoryStore())
    run(CALLBACKS, manager=manager)
    await manager.set("a" * 43, {"n": 1})
    await manager.destroy("a" * 43)
    assert capsys.readouterr().out.splitlines() == [
        "a session began",
        "a session ended: logout",
    ]


@pytest.mark.gen_test
async def test_the_audit_log_has_a_line_for_each(
    serve: Any, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """And no id."""
    names = run(EVENTS)
    cookie = {"persistent": False}
    names["SESSION"].update(store=MemoryStore(clock=clock), clock=clock, cookie=cookie)
    caplog.set_level(logging.INFO, logger="audit")
    browser = serve(names)
    for name in ("ann", "bob"):
        await browser.post("/login", form={"name": name})
    await browser.post("/logout", form={})
    await browser.post("/login", form={"name": "ann"})
    clock.advance(1000)
    await browser.get("/")
    await browser.get("/")
    lines = [r.getMessage() for r in caplog.records if r.name == "audit"]
    assert lines == [
        f"session {line} address=127.0.0.1"
        for line in (
            "began: user=ann",
            "ended: rotated user=ann",
            "ended: logout user=bob",
            "began: user=ann",
            "ended: expired user=ann",
        )
    ]


# docs/guides/several-sessions.md


@pytest.mark.gen_test
async def test_another_session_is_asked_of_its_manager(clock: ManualClock) -> None:
    """The page's lines, in a handler that they call ``self``."""
    app = Application(session={"store": MemoryStore()}, cookie_secret="s")
    run(TWO_MANAGERS, app=app)
    manager = app.settings["session_manager:basket"]
    assert manager.settings.idle_timeout == 60 * 86_400

    class Handler:
        """As much of a handler as is asked for."""

        def __init__(self) -> None:
            self.request = FakeHandler().request
            self.headers: list[tuple[str, str]] = []

        def add_header(self, name: str, value: str) -> None:
            self.headers.append((name, value))

        def clear_header(self, name: str) -> None:
            pass  # it has set none

    handler = Handler()
    await run_async(ANOTHER, basket_manager=manager, self=handler)
    cookies = [value for name, value in handler.headers if name == "Set-Cookie"]
    assert [line.partition("=")[0] for line in cookies] == ["basket"]


@pytest.mark.gen_test
async def test_basket_and_login_are_independent(serve: Any, clock: ManualClock) -> None:
    """Each ends alone."""
    names = run(SEVERAL)
    names["STORE"] = MemoryStore()
    browser = serve(names)

    async def add(item: str) -> str:
        return (await browser.post("/add", form={"item": item})).text.strip()

    assert await add("pen") == "stranger, your basket: pen"
    await browser.post("/login", form={"name": "ann"})
    assert await add("ink") == "ann, your basket: pen, ink"
    await browser.post("/logout", form={})
    assert browser.cookie("session") is None
    assert await add("cap") == "stranger, your basket: pen, ink, cap"
    await browser.post("/login", form={"name": "ann"})
    await browser.post("/empty", form={})
    assert browser.cookie("basket") is None
    assert await add("pad") == "ann, your basket: pad"


# docs/operations/managed-clusters.md


@pytest.mark.integration
@pytest.mark.gen_test(timeout=120)
async def test_a_node_that_is_replaced_keeps_its_place(
    memcached_factory: Callable[..., Memcached], tmp_path: Path
) -> None:
    """Only its own sessions are lost; no other is moved."""
    nodes = [memcached_factory() for _ in range(3)]
    browsers = []

    async def visits(servers: list[Memcached]) -> list[str]:
        port = free_port()
        program = tmp_path / "program.py"
        program.write_text(CLUSTER.replace("8888", str(port)))
        names = [f"CACHE{n}=127.0.0.1:{s.port}" for n, s in enumerate(servers, 1)]
        process = Process(["env", *names, sys.executable, str(program)], port, cwd=ROOT)
        try:
            assert (await Browser(port).get("/ready")).json()["status"] == "ok"
            if not browsers:
                browsers.extend(Browser(port) for _ in range(40))
            for browser in browsers:
                browser.port = port
            return [(await browser.get("/")).text.strip() for browser in browsers]
        finally:
            process.kill()

    assert set(await visits(nodes[:2])) == {"visit 1"}
    kept, lost = (len(node.keys()) for node in nodes[:2])
    assert kept + lost >= 40
    assert min(kept, lost) > 5
    nodes[1].kill()
    again = await visits([nodes[0], nodes[2]])
    assert again.count("visit 2") == kept
    assert again.count("visit 1") == len(browsers) - kept
