"""benchmarks/faults: what it calls wrong is wrong, and docs/faults.md is its table."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler
from tornado_mcsession._markers import Markers, Standing

from benchmarks.faults.answer import Answer
from benchmarks.faults.catalogue import FAULTS
from benchmarks.faults.judge import EMPTY, Expectation, View
from benchmarks.faults.report import row
from benchmarks.faults.site import make_app
from benchmarks.faults.stage import LIMIT, Play
from benchmarks.faults.users import User
from tornado_mcsession import CasResult, MemoryStore

ROOT = Path(__file__).parent.parent
SEEN = [
    {"stats": {"store": {"nodes": {}}}, "health": {"status": "ok", "nodes": {}}},
]


class LyingStore(MemoryStore):
    """Tells the truth until ``lie`` names an operation and what it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.lie: dict[str, Callable[..., Any]] = {}
        self.first: dict[str, Any] = {}

    async def get(self, key):
        found = await super().get(key)
        self.first.setdefault(key, found)
        return self.lie["get"](key, found) if "get" in self.lie else found

    async def cas(self, key, data, ttl, token):
        if "cas" in self.lie:
            return self.lie["cas"](key)
        return await super().cas(key, data, ttl, token)

    async def delete(self, key):
        if "delete" in self.lie:
            return self.lie["delete"](key)
        return await super().delete(key)


@asynccontextmanager
async def visited(
    application: Application, answers: list[Answer] | None = None, **options: Any
) -> AsyncIterator[list[User]]:
    """Two users of ``application``."""
    server = HTTPServer(application)
    socket, port = bind_unused_port()
    server.add_socket(socket)
    note = ([] if answers is None else answers).append
    try:
        yield [User(number, [port], note, **options) for number in range(2)]
    finally:
        server.stop()
        await server.close_all_connections()


async def move_in(users: list[User]) -> None:
    """Let both users log in, and write twice."""
    for user in users:
        for act in (user.login, user.write, user.write):
            assert not (await act()).wrong


def anothers(store: LyingStore) -> Callable[..., Any]:
    """Answer with what is under another key."""
    return lambda key, found: next(
        entry
        for other, entry in store.first.items()
        if other != key and not other.endswith("}")
    )


READ_LIES = {
    "told that there is no session": lambda store: lambda key, found: None,
    "older than what was acknowledged": lambda store: (
        lambda key, found: store.first[key]
    ),
    "another user's data": anothers,
}


@pytest.mark.gen_test
@pytest.mark.parametrize("verdict", READ_LIES)
async def test_a_store_that_lies_to_a_reader_is_caught(verdict, monkeypatch):
    """Answers of a store that hides, mixes up or goes back are wrong answers."""
    # Who else's session it is would be noticed by the marker.
    monkeypatch.setattr(Markers, "standing", lambda *_: Standing.ALIVE)
    store = LyingStore()
    async with visited(make_app(store=store)) as users:
        await move_in(users)
        store.lie["get"] = READ_LIES[verdict](store)
        assert (await users[0].read()).wrong.startswith(verdict)


@pytest.mark.gen_test
async def test_a_logout_that_was_none_is_caught():
    """A session that is alive after an acknowledged logout is a wrong answer."""
    store = LyingStore()
    async with visited(make_app(store=store)) as (user, _):
        await move_in([user])
        store.lie = {
            "cas": lambda key: CasResult.STORED,
            "delete": lambda key: True,
        }
        session_id = user.session_id
        assert not (await user.logout()).wrong
        assert user.dead[-1] == session_id
        assert (await user.try_dead(session_id)).wrong == "alive after its logout"


@pytest.mark.gen_test
@pytest.mark.parametrize("act", ["write", "count", "use_two_tabs"])
async def test_a_save_that_was_none_is_caught(act):
    """Data that was acknowledged and is not there is a wrong answer."""
    store = LyingStore()
    async with visited(make_app(store=store)) as (user, _):
        await move_in([user])
        store.lie["cas"] = lambda key: CasResult.STORED
        await getattr(user, act)()
        assert (await user.read()).wrong == "older than what was acknowledged"


@pytest.mark.gen_test
async def test_an_honest_store_is_not_blamed():
    """Whatever users do, a store that keeps what it says has no wrong answer."""
    answers: list[Answer] = []
    async with visited(make_app(store=LyingStore()), answers) as users:
        for user in users:
            for _ in range(200):
                await user.act()
    assert {answer.wrong for answer in answers} == {""}
    paths = {"/read", "/write", "/count", "/login", "/rotate", "/logout"}
    assert {answer.path for answer in answers} == paths


class Outage(RequestHandler):
    """An outage as it must not be: it takes the user's session away, or hangs."""

    async def get(self) -> None:
        self.set_status(503)
        self.set_cookie("session", "another" * 4)

    async def post(self) -> None:
        self.clear_cookie("session")
        await asyncio.Event().wait()


@pytest.mark.gen_test
async def test_an_outage_that_changes_the_cookie_is_caught():
    """A 503 with another id is a wrong answer."""
    async with visited(Application([("/read", Outage)])) as (user, _):
        assert (await user.read()).wrong == "an outage changed the cookie"


@pytest.mark.gen_test
async def test_a_request_that_hangs_is_caught():
    """No answer within a user's patience is a wrong answer."""
    async with visited(Application([("/write", Outage)]), patience=0.2) as (user, _):
        assert (await user.write()).wrong == "no answer: the request hangs"


def test_what_was_tried_may_be_done_once():
    """An increment without an answer may be there, or not; twice is wrong."""
    one = View("me", "me", 1, 1)
    expected = Expectation("me")
    expected.acknowledged(lambda _: one, began=0.0)
    expected.tried(lambda view: view._replace(counted=view.counted + 1))
    assert not expected.verdict(one)
    assert expected.verdict(one._replace(counted=3)).startswith("changes that nobody")
    assert not expected.verdict(one._replace(counted=2))
    assert expected.verdict(one) == "older than what was acknowledged"


def test_what_the_server_has_lost_may_be_gone():
    """A restart excuses an empty session, once, and nothing else."""
    one = View("me", "me", 1, 0)
    expected = Expectation("me")
    expected.acknowledged(lambda _: one, began=0.0)
    expected.may_be_lost(at=1.0)
    assert expected.verdict(one._replace(owner="you")) == "another user's data"
    assert not expected.verdict(EMPTY)
    assert expected.losses == 1
    expected.acknowledged(lambda _: one, began=2.0)
    assert expected.verdict(EMPTY).startswith("told that there is no session")


def answered(status: int = 200, **known: Any) -> tuple[str, Answer]:
    """An answer that came while the fault lasted."""
    answer = Answer("me", "/read", "id", time.monotonic(), status=status, **known)
    return "during", answer


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([answered(503, retry_after="1")], ""),
        ([answered(503)], "without Retry-After"),
        ([answered(503, retry_after="1"), answered(500)], "during: 500 for /read"),
        ([answered(503, retry_after="1", seconds=LIMIT + 1)], "/read took"),
        ([answered()], "the fault has no effect"),
    ],
)
def test_what_must_not_be_fails_the_run(answers, problem):
    """An overlong or unfit answer, and a fault that was none, are problems of a row."""
    result = row(FAULTS["hung"], Play(answers=answers, seen=[SEEN, SEEN, SEEN]))
    assert result["ok"] == (not problem)
    assert problem in "".join(result["problems"])


def test_a_wrong_answer_fails_the_run():
    """Whatever else is well."""
    for wrong in ("", "it is"):
        play = Play(answers=[answered(wrong=wrong)], seen=[SEEN, SEEN], lost=1)
        result = row(FAULTS["flushed"], play)
        assert result["wrong"] == ({"it is": 1} if wrong else {})
        assert result["ok"] == (not wrong)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "benchmarks.faults", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.integration
@pytest.mark.end_to_end
def test_the_command_plays_faults(tmp_path):
    """Played for real: users of a killed memcached get 503s, and no wrong answer."""
    played = run("--only", "killed", "stale", "--json")
    assert played.returncode == 0, played.stderr
    killed, stale = json.loads(played.stdout)
    assert [killed["wrong"], stale["wrong"]] == [{}, {}]
    assert killed["errors"] > 50
    assert "503" in killed["seen"][""]["answers"]
    # Once in each of the two processes.
    for event in ("on_disconnect", "on_connect"):
        assert killed["events"][f"{event}(memcached)"] == 2
    assert killed["health"][-1] == "ok"
    assert killed["lost_sessions"] > 0
    assert stale["errors"] == 0
    assert len(re.findall(r"^(killed|stale) +ok ", played.stderr, re.M)) == 2


def test_the_page_has_a_row_for_each_fault():
    """docs/faults.md has all faults in their order, and no wrong answers."""
    page = (ROOT / "docs" / "faults.md").read_text()
    table = [line for line in page.splitlines() if line.startswith("| ")]
    rows = [re.split(r" ?\| ?", line)[1:-1] for line in table[2:]]
    assert [cells[0] for cells in rows] == [fault.title for fault in FAULTS.values()]
    for cells in rows:
        assert cells[-1] == "0"
        assert re.fullmatch(r"\d+ ms", cells[-2])
