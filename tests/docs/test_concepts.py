"""The pages under docs/concepts/: their lists are complete, and their code runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tornado.httpserver import HTTPServer
from tornado.web import Application

from tornado_mcsession import MemoryStore, SessionManager, StoreUnavailable

from ..support.clock import ManualClock
from ..support.pages import ROOT, blocks, run, run_async, text_of

ON_ERROR, SHUTDOWN = blocks("outages.md")


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


@pytest.mark.gen_test
async def test_the_function_chooses_by_the_session(clock: ManualClock) -> None:
    """By what is in it, by what `remember` chose, and by who is logged in."""
    (time_function,) = blocks("lifetimes.md")
    app = Application(session={"store": MemoryStore(clock=clock), "clock": clock})
    manager = run(time_function, app=app)["manager"]
    for data, expected in (({"admin": True}, 600), ({"n": 1}, 86_400)):
        await manager.set("a" * 43, data)
        session = await manager.get("a" * 43)
        assert session.idle_timeout == expected
