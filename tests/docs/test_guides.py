"""The pages under docs/guides/: what they promise is what their programs do.

Those about users and about other sites have modules of their own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tornado.httpclient import HTTPRequest
from tornado.web import Application
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tornado_mcsession import MemoryStore, SessionGone, SessionManager

from ..support.browser import Browser
from ..support.clock import ManualClock
from ..support.memcached import Memcached
from ..support.pages import DOCS, ROOT, blocks, programs, run, run_async, text_of
from ..support.processes import Process, free_port
from ..support.requests import FakeHandler

ADDED, TIMEOUTS = blocks("timeouts.md")
CALLBACKS, EVENTS = blocks("events.md")
TWO_MANAGERS, ANOTHER, SEVERAL = blocks("several-sessions.md")
DECLARED, ADDS, SHOP = blocks("typed-sessions.md")
(CLUSTER,) = blocks("managed-clusters.md")

ALL = [
    (path.relative_to(DOCS).as_posix(), number)
    for folder in ("start", "guides")
    for path in sorted((DOCS / folder).glob("*.md"))
    for number, _ in enumerate(programs(path.relative_to(DOCS).as_posix()))
]


@pytest.mark.integration
@pytest.mark.parametrize(("name", "number"), ALL)
@pytest.mark.gen_test(timeout=60)
async def test_each_program_runs_as_it_stands(
    name: str, number: int, start: Callable[..., Process]
) -> None:
    """With the ports of the test; it responds, and logs no error."""
    browser = Browser(start(name, number).port)
    assert (await browser.get("/")).status in (200, 302, 404)


@pytest.mark.parametrize("name", sorted({name for name, _ in ALL}))
def test_each_page_says_how_to_start_memcached(name: str) -> None:
    """So that its program runs on a machine where none is running."""
    if any("11211" in program for program in programs(name)):
        assert "memcached -u nobody -l 127.0.0.1 -p 11211 &" in text_of(name)


async def made(handler: type, **names: Any) -> Any:
    """A handler of a page's class, as far as its methods ask for one."""
    found = SimpleNamespace(written=[], **names)
    found.write = found.written.append
    await handler.post(found)  # type: ignore[attr-defined]
    return found


async def a_session(manager: SessionManager, **data: Any) -> Any:
    """A stored session of a job."""
    await manager.set("a" * 43, data or {"n": 1})
    return await manager.get("a" * 43)


# docs/guides/parallel-requests.md


@pytest.mark.integration
def test_parallel_requests_are_counted(
    start: Callable[..., Process], shell: Callable[..., str]
) -> None:
    """By the commands of the page; without `transact` some counts are lost."""
    (commands,) = blocks("parallel-requests.md", "sh")
    printed = json.loads(shell(commands, start("parallel-requests.md").port))
    assert printed["exact"] == 20
    assert printed["plain"] < 20
    assert printed["colours"] == {"hat": "red", "coat": "blue", "shoes": "blue"}


@pytest.mark.gen_test
async def test_a_transaction_counts() -> None:
    """As in the first lines of the page, with what its function returns."""
    session = await a_session(SessionManager(store=MemoryStore()))
    like = run(blocks("parallel-requests.md")[0])["Like"]
    written = [(await made(like, session=session)).written for _ in "ab"]
    assert written == [["1 likes\n"], ["2 likes\n"]]


# docs/guides/websockets.md


async def chat(browser: Browser) -> WebSocketClientConnection:
    url = f"ws://127.0.0.1:{browser.port}/chat"
    headers = {"Cookie": browser.cookie_header()}
    return await websocket_connect(HTTPRequest(url, headers=headers))


@pytest.mark.integration
@pytest.mark.gen_test
async def test_a_socket_saves_and_closes(start: Callable[..., Process]) -> None:
    """Its session begins with it, keeps messages, and closes it when it has ended."""
    browser = Browser(start("websockets.md").port)
    assert "/chat" in (await browser.get("/")).text
    first = await chat(browser)
    browser.set_cookie(first.headers["Set-Cookie"])
    said = "room lobby, you last said:"
    assert await first.read_message() == f"{said} nothing"
    await first.write_message("hello")
    assert await first.read_message() == "saved: hello"
    second = await chat(browser)
    assert await second.read_message() == f"{said} hello"
    assert (await browser.post("/logout", form={})).status == 303
    await second.write_message("too late")
    assert await second.read_message() is None
    assert (second.close_code, second.close_reason) == (4001, "your session has ended")
    for socket in (first, second):
        socket.close()


# docs/guides/jobs.md


BY_ID, JOB, THREAD = blocks("jobs.md")


@pytest.mark.gen_test
async def test_sessions_can_be_used_by_their_id() -> None:
    """The block for code outside a request leaves no session behind."""
    names = await run_async(BY_ID, session_id="a" * 43)
    assert names["session"]["n"] == 2
    assert names["manager"].stats()["saves"] == 1


@pytest.mark.integration
def test_a_job_writes_into_the_session(
    start: Callable[..., Process], shell: Callable[..., str]
) -> None:
    """The commands of the page print what it says."""
    port = start("jobs.md").port
    (commands,) = blocks("jobs.md", "sh")
    *first, pause, last = commands.splitlines()
    assert pause == "sleep 3"
    printed = shell("\n".join(first), port)
    assert printed.splitlines() == ["started", "report: in progress"]
    deadline = time.monotonic() + 20
    while "in progress" in (printed := shell(last, port)):
        assert time.monotonic() < deadline
    assert printed.splitlines() == ["Your report is ready.", "report: all is well"]


@pytest.mark.integration
@pytest.mark.gen_test(timeout=30)
async def test_a_job_is_waited_for_at_the_end(start: Callable[..., Process]) -> None:
    """SIGTERM loses no report: another process finds it in the session."""
    process = start("jobs.md")
    browser = Browser(process.port)
    await browser.post("/")
    ending = asyncio.get_running_loop().run_in_executor(None, process.terminate)
    assert await ending == 0
    browser.port = start("jobs.md").port
    assert "report: all is well" in (await browser.get("/")).text


@pytest.mark.gen_test
async def test_a_job_cannot_bring_a_session_back() -> None:
    """Neither by `save` nor by `set`, as the page says."""
    manager = SessionManager(store=MemoryStore())
    session = await a_session(manager)
    await manager.destroy("a" * 43)
    assert await manager.get("a" * 43) is None
    session["n"] = 2
    with pytest.raises(SessionGone):
        await session.save()
    with pytest.raises(SessionGone):
        await manager.set("a" * 43, {"n": 2})


@pytest.mark.gen_test
async def test_a_thread_may_change_the_session() -> None:
    """Where the handler awaits it."""
    session = await a_session(SessionManager(store=MemoryStore()))
    report = run(THREAD)["Report"]
    calculate = report.calculate
    handler = SimpleNamespace(session=session)
    handler.calculate = lambda: calculate(handler)
    await report.post(handler)
    assert session["report"] == "done"
    await session.save()


@pytest.mark.gen_test
async def test_a_login_leaves_the_old_id_behind() -> None:
    """A job finds nothing under it, and the data under the new one."""
    manager = SessionManager(store=MemoryStore())
    session = await a_session(manager)
    await session.login("ann")
    assert await manager.get("a" * 43) is None
    assert await manager.get(session.id) == {"n": 1}


# docs/guides/flash-messages.md


@pytest.mark.gen_test
async def test_the_first_lines_show_a_message() -> None:
    """As they stand at the top of the page."""
    session = await a_session(SessionManager(store=MemoryStore()))
    handler = SimpleNamespace(session=session, written=[])
    handler.write = handler.written.append
    await run_async(blocks("flash-messages.md")[0], self=handler)
    assert handler.written == ["Saved."]
    await session.save()


@pytest.mark.integration
@pytest.mark.gen_test
async def test_a_message_is_shown_once(start: Callable[..., Process]) -> None:
    """One that is a mapping offers to undo; all are escaped."""
    browser = Browser(start("flash-messages.md").port)
    await browser.post("/add", form={"note": "<b>"})
    assert '<p class="info">Added &lt;b&gt;.</p>' in (await browser.get("/")).text
    assert "Added" not in (await browser.get("/")).text
    assert browser.cookie("session") is not None
    await browser.post("/add", form={"note": ""})
    assert '<p class="error">Please write' in (await browser.get("/")).text
    await browser.post("/remove", form={"note": "<b>"})
    page = (await browser.get("/")).text
    assert "Removed &lt;b&gt;." in page
    assert "Undo" in page
    assert "<li>" not in page
    assert "Undo" not in (await browser.get("/")).text
    await browser.post("/add", form={"note": "<b>"})
    assert "<li>" in (await browser.get("/")).text


# docs/guides/csrf.md


@pytest.mark.integration
@pytest.mark.gen_test
async def test_a_form_needs_the_token(
    start: Callable[..., Process], shell: Callable[..., str]
) -> None:
    """The command of the page is refused; the form and the script are not."""
    port = start("csrf.md").port
    (command,) = blocks("csrf.md", "sh")
    assert shell(command, port) == "403\n"
    browser = Browser(port)
    page = (await browser.get("/cart")).text
    (token,) = re.findall(r'name="_xsrf" value="([^"]*)"', page)
    form = {"item": "<ink>", "_xsrf": token}
    assert (await browser.post("/cart", form=form)).status == 303
    headers = {"X-XSRFToken": token}
    sent = await browser.post("/cart", headers=headers, form={"item": "pen"})
    assert sent.status == 303
    assert "&lt;ink&gt;, pen" in (await browser.get("/cart")).text


# docs/guides/bots.md


@pytest.fixture
def articles(serve: Any, clock: ManualClock) -> Browser:
    (program,) = programs("bots.md")
    names = run(program)
    names["SESSION"].update(store=MemoryStore(clock=clock), clock=clock)
    browser: Browser = serve(names)
    return browser


@pytest.mark.gen_test
async def test_crawlers_get_no_session(articles: Browser) -> None:
    """Nothing is stored for them, and for others it is."""
    headers = {"User-Agent": "SomeBot/1.0"}
    assert (await articles.get("/article/1", headers=headers)).text == "article 1\n"
    assert articles.cookie("session") is None
    await articles.get("/article/1")
    assert articles.cookie("session") is not None


@pytest.mark.gen_test
async def test_a_page_that_polls_lets_the_session_end(
    articles: Browser, clock: ManualClock
) -> None:
    """Other requests keep it alive."""
    await articles.get("/article/1")
    for _ in range(3):
        clock.advance(1000)
        await articles.get("/article/1")
    assert (await articles.get("/news")).json() == {"read": 4}
    for _ in range(2):
        clock.advance(1000)
        read = (await articles.get("/news")).json()
    assert read == {"read": 0}


@pytest.mark.gen_test(timeout=30)
async def test_an_address_begins_so_many_sessions(articles: Browser) -> None:
    """The next one is refused, and a visitor who has one is not."""
    await articles.get("/article/1")
    statuses = [
        (await Browser(articles.port).get("/article/1")).status for _ in range(60)
    ]
    assert statuses == [200] * 59 + [429]
    assert (await articles.get("/article/2")).status == 200


@pytest.mark.integration
def test_the_commands_show_the_cookies(
    start: Callable[..., Process], shell: Callable[..., str]
) -> None:
    """Each does as its comment says."""
    port = start("bots.md").port
    (commands,) = blocks("bots.md", "sh")
    for line in commands.splitlines():
        printed = shell(line, port)
        assert ("Set-Cookie" in printed) is line.endswith("# with Set-Cookie"), line


# docs/guides/apis.md


def test_the_list_of_transports_is_accepted() -> None:
    """As it stands at the top of the page."""
    run(blocks("apis.md")[0], app=Application(cookie_secret="s"), STORE="memory://")


@pytest.mark.integration
@pytest.mark.gen_test
async def test_an_app_and_a_browser_use_one_route(
    start: Callable[..., Process], shell: Callable[..., str]
) -> None:
    """The commands print what the page says, and a logout works for both."""
    port = start("apis.md").port
    (commands,) = blocks("apis.md", "sh")
    assert shell(commands, port) == '{"cart": ["pen"]}' * 2 + '{"cart": []}'
    app, browser = Browser(port), Browser(port)
    begun = await app.post("/api/login", form={"name": "ann"})
    assert begun.header("Cache-Control") == "no-store"
    headers = {"X-Session-ID": begun.header("X-Session-ID")}
    ended = await app.post("/logout", headers=headers)
    assert ended.header("X-Session-ID") == ""
    assert (await app.get("/cart", headers=headers)).status == 401
    assert app.cookie_header() == ""
    await browser.post("/login", form={"name": "bob"})
    assert (await browser.get("/cart")).header("X-Session-ID") is None
    begun = await app.post("/api/login", form={"name": "ann"})
    headers = {"X-Session-ID": begun.header("X-Session-ID")}
    unchanged = await app.get("/cart", headers=headers)
    assert (unchanged.status, unchanged.header("X-Session-ID")) == (200, None)
    await browser.post("/logout")
    assert (await browser.get("/cart")).status == 401


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
    """The declaration, and a handler."""
    names = run(DECLARED, app=Application(debug=True), msgspec=msgspec)
    run(ADDS, **names)


# docs/guides/timeouts.md


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


@pytest.mark.integration
def test_the_log_is_as_the_page_shows(
    start: Callable[..., Process], shell: Callable[..., str]
) -> None:
    """The commands of the page write the lines of the page."""
    process = start("events.md")
    (commands,), (lines,) = blocks("events.md", "sh"), blocks("events.md", "text")
    shell(commands, process.port)
    printed = process.output().splitlines()
    audit = [line for line in printed if line.startswith("INFO:audit")]
    assert audit == lines.splitlines()


# docs/guides/several-sessions.md


@pytest.mark.integration
def test_the_basket_outlives_the_login(
    start: Callable[..., Process], shell: Callable[..., str]
) -> None:
    """The commands of the page print what it says."""
    (commands,) = blocks("several-sessions.md", "sh")
    printed = shell(commands, start("several-sessions.md").port).splitlines()
    last = re.search(r"last line prints `([^`]*)`", text_of("several-sessions.md"))
    assert last is not None
    assert printed[-1] == last[1]


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
