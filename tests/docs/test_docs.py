"""What the pages under docs/ say is so: links, lists and code."""

from __future__ import annotations

import ast
import asyncio
import functools
import html
import inspect
import itertools
import re
import subprocess
import sys
import textwrap
import time
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from tornado.httpclient import HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

import tornado_mcsession
from tornado_mcsession import (
    CasResult,
    CookieSettings,
    Entry,
    MemoryStore,
    Session,
    SessionError,
    SessionManager,
    SessionMixin,
    SessionSettings,
    Store,
    StoreUnavailable,
)
from tornado_mcsession.stores import base
from tornado_mcsession.testing import StoreContract

from ..support.browser import Browser
from ..support.pages import DOCS, ROOT, blocks, pages, text_of
from ..support.processes import Process, free_port

NAMES = {
    **{name: getattr(tornado_mcsession, name) for name in tornado_mcsession.__all__},
    **{name: getattr(base, name) for name in base.__all__ if name.startswith("check_")},
    "Application": Application,
    "RequestHandler": RequestHandler,
    "WebSocketHandler": WebSocketHandler,
    "asyncio": asyncio,
    "timedelta": timedelta,
    "time": time,
}


def run(block: str, **given: Any) -> dict[str, Any]:
    """The names that a block leaves."""
    names = {**NAMES, **given}
    # As in a module of its own, without this module's __future__ imports.
    exec(compile(block, "<a page>", "exec", dont_inherit=True), names)
    return names


async def run_async(block: str, **given: Any) -> dict[str, Any]:
    """The names that a block leaves which awaits."""
    body = textwrap.indent(f"{block}\nreturn locals()", "    ")
    names = {**NAMES, **given}
    exec(f"async def block():\n{body}", names)
    left: dict[str, Any] = await names["block"]()
    return left


# Links and lists.


def headings(path: Path) -> set[str]:
    """The anchors of a document, made as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in found}


@functools.cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    """To a file that is there, and in it to a heading or a test of that name."""
    for target in set(re.findall(r"\]\(([^)\s]+)\)", page.read_text())):
        if target.startswith("https:"):
            continue
        name, _, fragment = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.is_relative_to(ROOT), target
        assert path.exists(), target
        if fragment:
            known = functions(path) if name.endswith(".py") else headings(path)
            assert fragment in known, target


def test_no_two_pages_have_one_name() -> None:
    """Tests and messages can name a page without its folder."""
    names = [page.name for page in DOCS.rglob("*.md")]
    assert len(names) == len(set(names))


def test_each_page_with_code_has_a_test_that_runs_it() -> None:
    """No Python of a page stands there untried."""
    tests = "".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    for page in DOCS.rglob("*.md"):
        if "```python" in page.read_text():
            assert f'("{page.name}")' in tests, page.name


def first_cells(text: str) -> set[str]:
    """What stands in code in the first cells of all tables."""
    cells = re.findall(r"^\| ([^|]*) \|", text, re.M)
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


def settings_of(schema: type) -> dict[str, Any]:
    """The keys of a TypedDict, and their types."""
    return get_type_hints(schema, localns={"Session": object})


def words_in(hint: Any) -> set[str]:
    """The words that a type allows."""
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return set().union(*map(words_in, get_args(hint)))
    return set()


@pytest.mark.parametrize("schema", [SessionSettings, CookieSettings])
def test_the_tables_have_the_settings_of_the_types(schema: type) -> None:
    """Each in one row, which names every word that it may be."""
    rows = re.findall(r"^\| (`.*) \|$", text_of("settings.md"), re.M)
    for name, hint in settings_of(schema).items():
        (row,) = [row for row in rows if re.search(rf"`{name}[`(]", row.split("|")[0])]
        for word in words_in(hint):
            assert f'`"{word}"`' in row, f"{name}: {word}"


def test_the_tables_have_no_other_settings() -> None:
    """What was renamed or removed is not left there."""
    known = {*settings_of(SessionSettings), *settings_of(CookieSettings)}
    assert first_cells(text_of("settings.md")) == known


DEFAULTS = {"idle_timeout": "1 day", "lifetime": "30 days", "max_size": "900 KiB"}


def test_the_tables_have_the_defaults() -> None:
    """As Python writes them, but for durations and sizes."""
    cells = re.findall(r"^\| (`[^|]*) \| ([^|]*) \|.*\|$", text_of("settings.md"), re.M)
    told = {}
    for names, defaults in cells:
        keys = re.findall(r"`(\w+)`", names)
        values = defaults.split(", ") if len(keys) > 1 else [defaults]
        told.update(zip(keys, values, strict=True))
    manager = SessionManager(Application(debug=True))
    found = manager.settings
    del told["cookie"], told["clock"]
    for name, default in told.items():
        owner = found if hasattr(found, name) else found.cookie
        value = repr(getattr(owner, name)).replace("'", '"')
        assert default.strip("`") == DEFAULTS.get(name, value), name


@pytest.mark.parametrize("schema", [SessionSettings, CookieSettings])
def test_each_setting_has_a_docstring(schema: type) -> None:
    """Which editors show."""
    body = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0].body
    for name, text in itertools.pairwise(body):
        if isinstance(name, ast.AnnAssign):
            assert isinstance(text, ast.Expr), name.target.id
    assert isinstance(body[-1], ast.Expr)


def test_all_that_a_session_can_do_is_in_the_tables() -> None:
    """Each public name of `Session` that a dict does not have."""
    own = {name for name in vars(Session) if not name.startswith("_")}
    own -= set(dir(dict))
    assert own <= set(re.findall(r"`(?:await )?(\w+)", text_of("sessions.md")))


def test_all_errors_are_in_the_table() -> None:
    """With the status of each."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", text_of("sessions.md"), re.M)
    found = {name: int(status) for name, status in rows}
    classes = {
        name: value
        for name, value in vars(tornado_mcsession).items()
        if isinstance(value, type) and issubclass(value, SessionError)
    }
    told = set(classes) - {"SessionError", "StoreError", "DecodeError"}
    assert found == {name: classes[name].status for name in told}


def test_all_counters_are_told() -> None:
    """Each key of `SessionManager.stats`."""
    told = set(re.findall(r"`(\w+)`", text_of("outages.md")))
    assert set(SessionManager(store=MemoryStore()).stats()) <= told


def test_the_states_are_those_of_the_code() -> None:
    """The page is what its script prints."""
    script = ROOT / "scripts" / "session_states.py"
    printed = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=ROOT,
    ).stdout
    assert text_of("session-states.md") == printed


# docs/guides/sessions.md


BOTS, FLASH, LIKE, EXPIRED, CHAT, THREAD, BY_ID = blocks("sessions.md")


class Show(SessionMixin, RequestHandler):
    """Shows the session."""

    def get(self) -> None:
        self.write({"principal": self.session.principal, **self.session})


@pytest.fixture
def app() -> Application:
    bots = run(BOTS)["Page"]

    class Count(bots):
        def get(self) -> None:
            self.session["n"] = self.session.get("n", 0) + 1

    return Application(
        [
            ("/", Show),
            ("/count", Count),
            ("/like", run(LIKE)["Like"]),
            ("/home", run(EXPIRED)["Home"]),
            ("/chat", run(CHAT)["Chat"]),
            ("/report", run(THREAD)["Report"]),
        ],
        cookie_secret="s",
        session={"store": MemoryStore()},
    )


@pytest.mark.gen_test
async def test_bots_get_no_session(browser: Browser) -> None:
    """Nothing is stored for them, and for others it is."""
    headers = {"User-Agent": "GoodBot/1.0"}
    await browser.get("/count", headers=headers)
    assert browser.cookie("session") is None
    await browser.get("/count")
    assert browser.cookie("session") is not None


@pytest.mark.gen_test
async def test_a_message_is_shown_once(browser: Browser, app: Application) -> None:
    """One that is a mapping."""
    names = run(FLASH)

    class Add(SessionMixin, RequestHandler):
        def post(self) -> None:
            self.session["cart"] = ["pen"]

    routes = [("/add", Add), ("/remove", names["Remove"]), ("/cart", names["Cart"])]
    app.add_handlers(".*", routes)
    await browser.post("/add", form={})
    await browser.post("/remove", form={})
    assert (await browser.get("/cart")).text == "Removed pen (undo: /add/pen)"
    assert (await browser.get("/cart")).text == ""


@pytest.mark.gen_test
async def test_a_transaction_counts(browser: Browser) -> None:
    """It returns what its function returns."""
    assert [(await browser.post("/like", form={})).text for _ in "ab"] == ["1", "2"]


@pytest.mark.gen_test
async def test_a_page_can_say_that_the_session_has_expired(
    browser: Browser, app: Application, clock: Any
) -> None:
    """In the minutes after its end; before that it welcomes."""
    clock.now = time.time()
    store = MemoryStore(clock=clock)
    SessionManager(app, store=store, clock=clock, idle_timeout=60, lifetime=600)
    await browser.get("/count")
    assert (await browser.get("/home")).text == "Welcome"
    clock.advance(70)
    headers = {"Cookie": browser.cookie_header()}
    page = await browser.get("/home", headers=headers)
    assert page.text.startswith("Your session has expired")


@pytest.mark.gen_test
async def test_a_socket_saves_what_it_is_told(browser: Browser, http_port: int) -> None:
    """Its session begins in prepare(), and a message is saved at once."""
    await browser.get("/count")
    request = HTTPRequest(
        f"ws://127.0.0.1:{http_port}/chat", headers={"Cookie": browser.cookie_header()}
    )
    socket = await websocket_connect(request)
    await socket.write_message("hello")
    for _ in range(100):
        shown = (await browser.get("/")).json()
        if "last" in shown:
            break
        await asyncio.sleep(0.01)
    socket.close()
    assert shown == {"principal": None, "n": 1, "room": "lobby", "last": "hello"}


@pytest.mark.gen_test
async def test_a_thread_may_change_the_session(browser: Browser) -> None:
    """Where the handler awaits it."""
    await browser.post("/report", form={})
    assert (await browser.get("/")).json()["report"] == "done"


@pytest.mark.gen_test
async def test_sessions_can_be_used_by_their_id() -> None:
    """The block for code outside a request leaves no session behind."""
    names = await run_async(BY_ID, session_id="a" * 43)
    assert names["session"]["n"] == 2
    assert names["manager"].stats()["saves"] == 1


# docs/reference/settings.md


@pytest.mark.gen_test
async def test_the_settings_are_accepted() -> None:
    """As they stand in the page's examples."""
    settings, typed, cookie, several = blocks("settings.md")
    names = run(settings)
    assert names["manager"].settings.idle_timeout == 3600
    assert names["manager"].settings.lifetime == 7 * 86_400
    assert SessionManager.of(run(typed)["app"]).settings.persist == "on_finish"
    app = Application([])
    given = run(several, app=app)["admin"]
    assert given.settings.key_prefix == "mcsession:admin:"
    options = run(cookie)["cookie"]
    assert options(None, None)["samesite"] == "Lax"
    assert options(None, {"admin": True})["samesite"] == "Strict"
    SessionManager(Application(), store="memory://", cookie=options)


# docs/concepts/outages.md


ON_ERROR, WATCH, SHUTDOWN = blocks("outages.md")


@pytest.mark.gen_test
async def test_the_manager_tells_what_it_does(capsys: Any) -> None:
    """An observer is called for each operation, and for the end of a session."""
    manager = SessionManager(Application(), store=MemoryStore())
    names = await run_async(WATCH, manager=manager)
    assert names["health"]["status"] == "ok"
    await manager.set("a" * 43, {"n": 1})
    await manager.destroy("a" * 43)
    printed = capsys.readouterr().out
    assert "add on the store: stored" in printed
    assert "end on the store: logout" in printed


@pytest.mark.gen_test
async def test_a_function_may_decide_about_an_outage() -> None:
    """Public pages go on without their sessions, the others do not."""
    decide = run(ON_ERROR)["on_error"]
    SessionManager(Application(), store="memory://", on_error=decide)
    error = StoreUnavailable("get", "node", "down")
    assert decide("load", error, None) == "raise"


@pytest.mark.gen_test
async def test_the_shutdown_runs_as_it_stands() -> None:
    """It ends with a store that is closed."""
    app = Application([])
    manager = SessionManager(app, store="memory://")
    await run_async(SHUTDOWN, server=HTTPServer(app), manager=manager)
    with pytest.raises(StoreUnavailable, match="closed"):
        await manager.get("a" * 43)


# docs/guides/extending.md


STORE, TRANSPORT = blocks("extending.md")
EXTENDING = run(
    STORE, itertools=itertools, Store=Store, Entry=Entry, CasResult=CasResult
)


class TestTheStore(StoreContract):
    """The store of the page keeps the contract."""

    def make_store(self) -> Any:
        return EXTENDING["DictStore"]()


@pytest.mark.gen_test
async def test_a_transport_carries_the_id(browser: Browser, app: Application) -> None:
    """The token of a response brings the session back."""
    run(TRANSPORT, app=app)
    token = (await browser.get("/count")).header("X-Session-Token")
    headers = {"Authorization": f"Bearer {token}"}
    assert (await browser.get("/", headers=headers)).json()["n"] == 1
    assert "n" not in (await browser.get("/")).json()


# docs/guides/koa.md


def test_sessions_are_shared_as_the_page_says() -> None:
    """Its settings are accepted, and its handlers are some."""
    koa, express, handlers = blocks("koa.md")
    for block, key in ((koa, "koa:sess:"), (express, "shop:")):
        manager = SessionManager(run(block)["app"])
        assert manager.codec.key("a" * 43) == key + "a" * 43
    assert issubclass(run(handlers)["Login"], RequestHandler)


def test_the_list_of_moved_pages_is_that_of_the_demo() -> None:
    """The page's part of a configuration stands in the demo's in the same way."""
    (shown,) = re.findall(r"```nginx\n(.*?)```", text_of("koa.md"), re.S)
    template = (ROOT / "demo" / "koa" / "nginx.conf").read_text()
    first = shown.strip().splitlines()[0].rstrip(" {")
    assert f"{first} {{{{" in template


# docs/guides/cross-site.md


(PROGRAM,) = blocks("cross-site.md")
CROSS = {"Sec-Fetch-Site": "cross-site", "Origin": "https://pay.example"}
OWN = {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1"}


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    """The port of the page's program."""
    port = free_port()
    program = tmp_path / "shop.py"
    program.write_text(PROGRAM.replace("8888", str(port)))
    server = Process([sys.executable, str(program)], port, cwd=ROOT)
    yield port
    server.kill()


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


@pytest.mark.gen_test
async def test_a_payment_comes_back_to_its_session(shop: int) -> None:
    """Its form passes the bridge as it was, and only once."""
    browser = Browser(shop)
    state = fields((await browser.get("/buy")).text)["state"]
    form = {"order": '"7" <&>', "state": state}
    assert (await returns(shop, browser, "/paid", form)).status == 303
    assert (await browser.get("/orders")).json() == {"user": None, "paid": ['"7" <&>']}
    assert (await returns(shop, browser, "/paid", form)).status == 403


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
    browser: Browser, app: Application
) -> None:
    """At the end of the request none begins by itself."""
    app.add_handlers(".*", [("/writes", Writes)])
    await browser.post("/writes", headers=CROSS, form={"a": "b"})
    assert browser.cookie("session") is None
    await browser.post("/writes", headers=CROSS, form={"save": "yes"})
    assert browser.cookie("session") is not None
