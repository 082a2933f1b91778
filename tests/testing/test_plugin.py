"""The fixtures of pytest, as an application's own tests use them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import tornado_mcsession

ROOT = Path(__file__).parents[2]
PLUGIN = "_tornado_mcsession_pytest"

APP = """
import asyncio
import gc
import pytest
from tornado.web import Application, RequestHandler
from tornado_mcsession import SessionMixin

class Count(SessionMixin, RequestHandler):
    def get(self):
        self.session["n"] = self.session.get("n", 0) + 1
        self.write(str(self.session["n"]))

def make_app(**session):
    return Application([("/", Count)], cookie_secret="s", session=session)
"""


def run_pytest(path: Path, program: str, *arguments: str) -> str:
    """What pytest prints of a program, with warnings as errors and nothing else."""
    (path / "test_program.py").write_text(program)
    (path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    # As if nothing else were installed: no plugin is loaded but this one.
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "pytest", "-p", PLUGIN, *arguments],
        cwd=path,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


@pytest.mark.integration
def test_fixtures_work_without_any_other_plugin(tmp_path):
    """Sessions, time, faults and a memcached; nothing is left open."""
    printed = run_pytest(
        tmp_path,
        APP
        + """
@pytest.fixture(params=["faulty", "memcached"])
def app(request, session_clock, session_store, memcached):
    store = session_store if request.param == "faulty" else memcached.url
    return make_app(store=store, clock=session_clock)

async def play(session_client, session_clock):
    await session_client.begin({"n": 5}, principal="ann")
    assert (await session_client.fetch("/")).body == b"6"
    session_clock.advance(86_400 * 2)
    assert (await session_client.fetch("/")).body == b"1"

def test_time(session_client, session_clock):
    asyncio.run(play(session_client, session_clock))
    gc.collect()

async def fail(session_client, session_store):
    await session_client.begin({"n": 5})
    session_store.fail("get")
    return await session_client.fetch("/")

@pytest.mark.parametrize("app", ["faulty"], indirect=True)
def test_fault(session_client, session_store):
    assert asyncio.run(fail(session_client, session_store)).code == 503

def test_nothing_is_left():
    gc.collect()

def test_memcached_is_empty(memcached):
    import socket
    with socket.create_connection(("127.0.0.1", memcached.port)) as connection:
        connection.sendall(b"stats items\\r\\n")
        assert connection.recv(100) == b"END\\r\\n"
""",
    )
    assert "5 passed" in printed


def test_a_client_needs_an_application(tmp_path):
    """pytest says which fixture is missing."""
    printed = run_pytest(tmp_path, "def test(session_client): pass")
    assert "fixture 'app' not found" in printed


def test_a_failed_contract_shows_the_values(tmp_path):
    """As in a test of one's own."""
    printed = run_pytest(
        tmp_path,
        """
from tornado_mcsession import MemoryStore
from tornado_mcsession.testing import StoreContract

class Bad(MemoryStore):
    async def delete(self, key):
        return 7

class TestBad(StoreContract):
    def make_store(self):
        return Bad()
""",
        "-k",
        "delete_says",
    )
    assert "assert 7 is True" in printed
    assert "1 failed" in printed


def test_who_uses_no_fixture_pays_nothing(tmp_path):
    """The plugin imports neither the package nor Tornado."""
    printed = run_pytest(
        tmp_path,
        """
import sys

def test():
    loaded = {"tornado", "tornado_mcsession", "pymemcache", "msgspec", "asyncio"}
    assert not loaded & set(sys.modules)
""",
    )
    assert "1 passed" in printed


def test_fixtures_are_described(tmp_path):
    """With what pytest --fixtures prints."""
    printed = run_pytest(tmp_path, "", "--fixtures")
    shown = printed.partition("fixtures defined from _tornado_mcsession_pytest")[2]
    for name in ("session_client", "session_clock", "session_store", "memcached"):
        assert f"\n{name} -- " in shown
    assert "no docstring" not in shown


@pytest.mark.parametrize("name", ["tornado_mcsession", "tornado_mcsession.testing"])
def test_nothing_needs_pytest(name):
    """Tests with unittest work where it is not installed."""
    program = f"""
import sys
sys.modules["pytest"] = None
import {name}
from tornado_mcsession.testing import SessionClient
try:
    from tornado_mcsession.testing import StoreContract
except ImportError as error:
    print(error)
"""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr == ""
    assert "import of pytest halted" in done.stdout


def test_a_name_that_is_not_there():
    """A misspelt one is the usual error."""
    with pytest.raises(AttributeError, match=r"tornado_mcsession\.testing.*'Nothing'"):
        tornado_mcsession.testing.Nothing  # noqa: B018


def test_all_names_are_there():
    """The list of names is complete, and sorted."""
    names = tornado_mcsession.testing.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(tornado_mcsession.testing, name).__doc__


def test_it_is_installed_as_a_plugin():
    """pytest finds it, by one name, wherever the package is installed."""
    project = (ROOT / "pyproject.toml").read_text()
    assert f'[project.entry-points.pytest11]\n{PLUGIN} = "{PLUGIN}"\n' in project
    found = metadata.entry_points(group="pytest11")
    assert {each.value for each in found if "mcsession" in each.name} <= {PLUGIN}
