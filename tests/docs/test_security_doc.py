"""What docs/security.md says is so: its defaults, its links, its code, its limits."""

from __future__ import annotations

import ast
import os
import re
import secrets
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler, authenticated

from tornado_mcsession import MemoryStore, SessionManager, SessionMixin, SessionRefused
from tornado_mcsession.settings import DAY, Settings

from ..support.browser import Browser
from ..support.pages import text_of
from ..support.requests import FakeHandler, begin, data_of, key_of, visit

ROOT = Path(__file__).parents[2]
PAGES = [text_of(name) for name in ("security.md", "threats.md", "asvs.md")]
TEXT = "\n".join([*PAGES, text_of("logins.md")])
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)
PRODUCTION, ENDINGS, JOB, FRESH, LIMIT = BLOCKS

# OWASP ASVS 5.0.0: each requirement's level.
LEVELS = {
    **{"V7.1.1": 2, "V7.1.2": 2, "V7.1.3": 2},
    **{"V7.2.1": 1, "V7.2.2": 1, "V7.2.3": 1, "V7.2.4": 1},
    **{"V7.3.1": 2, "V7.3.2": 2},
    **{"V7.4.1": 1, "V7.4.2": 1, "V7.4.3": 2, "V7.4.4": 2, "V7.4.5": 2},
    **{"V7.5.1": 2, "V7.5.2": 2, "V7.5.3": 3, "V7.6.1": 2, "V7.6.2": 2},
    **{"V3.3.1": 1, "V3.3.2": 2, "V3.3.3": 2, "V3.3.4": 2, "V3.3.5": 3},
}
MEANT = {"1 day": DAY, "30 days": 30 * DAY}
ENVIRONMENT = {
    "COOKIE_SECRET_1": "c" * 43,
    "SESSION_KEY_1": "k" * 43,
    "SESSION_STORE": "memory://",
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    _, _, section = TEXT.partition(f"\n## {heading}\n")
    lines = section.partition("\n## ")[0].splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in cells[2:]]


class Shared(MemoryStore):
    """Stays open for the next manager, as a memcached does."""

    async def close(self) -> None:
        pass


class Page(SessionMixin, RequestHandler):
    """The README's, which tells Tornado who is logged in."""

    def get_current_user(self) -> str | None:
        return self.session.principal


class Login(Page):
    async def post(self) -> None:
        await self.session.login(self.get_body_argument("name", "ann"))


class Account(Page):
    def get(self) -> None:
        self.write({"who": self.session.principal, **self.session})


class Write(Page):
    def post(self) -> None:
        self.session["n"] = self.session.get("n", 0) + 1


def read_everywhere() -> dict[str, Any]:
    """The names that the blocks leave to the reader."""
    given: dict[str, Any] = {"os": os, "time": time, "secrets": secrets}
    for named in (
        *(timedelta, datetime, Counter, defaultdict, ip_address, ip_network),
        *(SessionManager, HTTPServer, Application, authenticated, Page),
    ):
        given[named.__name__] = named
    return {**given, "UTC": UTC, "handlers": [], "app": Application([])}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a block as the body of a coroutine; returns its names."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    async def run(block: str, **given: Any) -> SimpleNamespace:
        names = {**read_everywhere(), **given}
        body = textwrap.indent(f"{block}\nreturn locals()", "    ")
        exec(f"async def block():\n{body}", names)
        return SimpleNamespace(**await names["block"]())

    return run


# The text.


@pytest.mark.parametrize("row", rows("What the defaults are for"), ids=lambda r: r[0])
def test_each_default_is_that_of_the_code(row: list[str]) -> None:
    """A setting that the table names is there, with the default that it says."""
    config: Any = Settings.build({}, name="session")
    for part in row[0].strip("`").split("."):
        config = getattr(config, part)
    default = row[1].strip("`")
    assert config == (MEANT[default] if default in MEANT else ast.literal_eval(default))


def test_each_requirement_has_its_row() -> None:
    """All of ASVS 5.0 V7 and V3.3, with their levels, and where each is met."""
    found = {}
    for heading in (
        "ASVS 5.0, chapter 7: sessions",
        "ASVS 5.0, section 3.3: cookies",
    ):
        for number, level, _, met, where in rows(heading):
            assert number not in found
            found[number] = int(level)
            assert met in ("default", "setting", "application")
            assert "](" in where
    assert found == LEVELS


# What the text says of settings and secrets.


@pytest.mark.gen_test
async def test_the_settings_for_production_are_accepted(run: Any) -> None:
    """And they are what is said of them."""
    names = await run(PRODUCTION)
    manager = names.app.settings["session_manager"]
    assert manager.settings.idle_timeout == 3600
    assert manager.settings.lifetime == DAY
    assert manager.settings.encryption_keys
    headers = await headers_of_a_new_session(manager)
    (name, value), *attributes = (
        part.partition("=")[::2] for part in headers["Set-Cookie"].split("; ")
    )
    assert name == "__Host-session"
    assert value.startswith("2|1:1|")
    assert {key for key, _ in attributes} == {"Path", "HttpOnly", "Secure", "SameSite"}


async def headers_of_a_new_session(manager: SessionManager) -> Any:
    first = await visit(manager)
    first.session["a"] = 1
    await first.leave()
    return first.headers


@pytest.mark.gen_test
async def test_a_text_secret_is_number_0_of_a_dict(
    app: Application, http_server: Any, http_port: int
) -> None:
    """Sessions and logins from before the rotation stay valid, and can be revoked."""
    browser = await logged_in(http_port)
    assert browser.cookie("session").value.startswith("2|1:0|")
    store = app.settings["session"]["store"]
    secrets_of = {0: app.settings["cookie_secret"], 1: "n" * 43}
    rotated = Application([], cookie_secret=secrets_of, key_version=1)
    manager = SessionManager(rotated, store=store)
    handler: Any = FakeHandler(browser.cookie_header())
    assert (await manager.open(handler)).principal == "ann"
    assert await manager.revoke("ann")
    assert await who(browser) is None


@pytest.mark.gen_test
async def test_another_prefix_ends_all_sessions() -> None:
    """Of whomever, logged in or not."""
    store = MemoryStore()
    manager = SessionManager(store=store)
    nobody = await begin(manager, a=1)
    first = await visit(manager)
    await first.session.login("ann")
    ann = await first.leave_with_cookie()
    other = SessionManager(store=store, key_prefix="other:")
    assert [await data_of(manager, i) for i in (nobody, ann)] == [{"a": 1}, {}]
    assert [await data_of(other, i) for i in (nobody, ann)] == [None, None]


@pytest.mark.parametrize("options", [{}, {"encryption_keys": [b"k" * 32]}])
@pytest.mark.gen_test
async def test_what_is_put_back_is_alive_but_no_longer(
    clock: Any, options: dict[str, Any]
) -> None:
    """Replay is not defended against, as is said; its own end holds all the same."""
    store = MemoryStore(clock=clock)
    manager = SessionManager(Application(), store=store, clock=clock, **options)
    first = await visit(manager)
    await first.session.login("ann")
    ann = await first.leave_with_cookie()
    key = key_of(manager, ann)
    marker = key[: key.index("}") + 1]
    kept = await store.get_many([key, marker])
    assert len(kept) == 2
    for end in (manager.revoke("ann"), manager.destroy(ann)):
        await end
        assert await manager.get(ann) is None
    for name, entry in kept.items():
        await store.delete(name)
        await store.add(name, entry.data, 100 * DAY)
    assert (await manager.get(ann)).principal == "ann"
    clock.advance(1.2 * DAY)
    assert await manager.get(ann) is None


# The recipes.


@pytest.fixture
def app() -> Application:
    """Login, account and what a test adds to them."""
    return Application(
        [("/login", Login), ("/account", Account), ("/write", Write)],
        cookie_secret="c" * 43,
        login_url="/login",
        session={"store": MemoryStore()},
    )


async def logged_in(port: int) -> Browser:
    browser = Browser(port)
    await browser.post("/login", form={})
    return browser


async def who(browser: Browser) -> Any:
    return (await browser.get("/account")).json()["who"]


@pytest.mark.gen_test
async def test_others_are_logged_out_and_then_all(
    run: Any, app: Application, http_server: Any, http_port: int
) -> None:
    """A changed password ends the other sessions; the other page ends them all."""
    names = await run(ENDINGS)
    app.add_handlers(
        ".*", [("/password", names.ChangePassword), ("/all", names.LogOutEverywhere)]
    )
    here, there, third = [await logged_in(http_port) for _ in range(3)]
    before = here.cookie("session").value
    assert (await here.post("/password", form={})).status == 302
    assert [await who(browser) for browser in (here, there, third)] == [
        "ann",
        None,
        None,
    ]
    assert here.cookie("session").value != before
    there = await logged_in(http_port)
    await there.post("/all", form={})
    assert there.cookie("session") is None
    assert await who(here) is None


@pytest.mark.gen_test
async def test_a_job_ends_what_the_application_began(run: Any) -> None:
    """With the application's secrets, as it says; without, it is refused."""
    store = Shared()
    names = await run(PRODUCTION)
    secrets_of = names.app.settings["session_manager"].settings.encryption_keys
    app = Application([], cookie_secret={1: "c" * 43}, key_version=1)
    manager = SessionManager(app, store=store, encryption_keys=secrets_of)
    first = await visit(manager)
    await first.session.login("user-7")
    await first.leave()
    session_id = first.session.id

    def here(**options: Any) -> SessionManager:
        return SessionManager(**{**options, "store": store})

    assert await data_of(manager, session_id) == {}
    await run(JOB, SessionManager=here)
    assert await data_of(manager, session_id) is None
    with pytest.raises(RuntimeError, match="secret"):
        await SessionManager(store=store).revoke("user-7")


@pytest.mark.gen_test
async def test_a_page_asks_for_a_fresh_login(
    run: Any, app: Application, http_server: Any, http_port: int, clock: Any
) -> None:
    """Nobody and a login of long ago are sent away; a new one of the same is let in."""
    clock.now = time.time() - 3600
    SessionManager(app, clock=clock, store=MemoryStore(clock=clock))
    app.add_handlers(".*", [("/email", (await run(FRESH)).ChangeEmail)])
    browser = Browser(http_port)
    assert (await browser.post("/email", form={})).status == 302
    await browser.post("/login", form={})
    await browser.post("/write", form={})
    refused = await browser.post("/email", form={})
    assert refused.header("Location") == "/login?next=/email"
    clock.now = time.time()
    await browser.post("/login", form={})
    assert (await browser.post("/email", form={})).text == "changed"
    assert (await browser.get("/account")).json() == {"who": "ann", "n": 1}


def of(address: str) -> Any:
    return SimpleNamespace(request=SimpleNamespace(remote_ip=address))


@pytest.mark.gen_test
async def test_the_limiter_counts_networks_for_a_minute(run: Any, clock: Any) -> None:
    """Others are not concerned; IPv6 counts by 64 bits; its memory is bounded."""
    limiter = (await run(LIMIT)).NewSessions(limit=2, addresses=3, clock=clock)
    for one, too in (("10.0.0.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::ffff")):
        assert [limiter(of(a)) for a in (one, too, one)] == [True, True, False]
    assert limiter(of("10.0.0.2"))
    assert not limiter(of("10.0.0.3"))
    clock.advance(61)
    assert limiter(of("10.0.0.3"))
    assert limiter(of("10.0.0.1"))


@pytest.mark.gen_test
async def test_new_sessions_can_be_limited(
    run: Any, app: Application, http_server: Any, http_port: int
) -> None:
    """What is too many is a 429 with nothing stored; who has a session goes on."""
    names = await run(LIMIT)
    store = MemoryStore()
    manager = SessionManager(app, store=store, allow_new=names.NewSessions(limit=2))
    browsers = [Browser(http_port) for _ in range(4)]
    statuses = [(await b.post("/write", form={})).status for b in browsers]
    assert statuses == [200, 200, 429, 429]
    assert manager.stats()["saves"] == 2
    assert (await browsers[0].post("/write", form={})).status == 200
    assert (await browsers[3].get("/account")).status == 200
    late = await visit(manager)
    late.session["a"] = 1
    late.handler.request.remote_ip = "127.0.0.1"
    with pytest.raises(SessionRefused):
        await late.leave()


# What bandit was answered.


def sources(*folders: str) -> list[Path]:
    return [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "node_modules" not in path.parts
    ]


def test_each_finding_is_answered_with_its_reason() -> None:
    """No comment silences bandit as a whole, or without saying why."""
    wrong = []
    for path in sources("tornado_mcsession", "demo", "benchmarks"):
        for line in path.read_text().splitlines():
            if "# nosec" in line and not re.search(r"# nosec B\d{3} # \w", line):
                wrong.append((path.name, line))
    assert wrong == []


def test_no_assert_looks_at_what_comes_from_outside() -> None:
    """Each only tells a type (B101 is switched off for that): python -O is safe.

    But for the tests that the package has for stores.
    """
    for path in sources("tornado_mcsession"):
        if path.match("testing/contract.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assert):
                said = ast.unparse(node.test)
                assert re.fullmatch(r"[\w.]+ is not None|isinstance\(.*\)", said), path
