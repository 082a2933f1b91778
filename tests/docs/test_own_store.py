"""The store of docs/guides/own-store.md keeps sessions as the page says."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.browser import Browser
from ..support.pages import ROOT, blocks
from ..support.processes import Process, free_port

PROGRAM, CONTRACT = blocks("own-store.md")
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
# Run by two processes at once: each adds keys, and counts under one of them.
WRITER = """
import asyncio
from program import CasResult, SQLiteStore

async def increment(store):
    while True:
        entry = await store.get("counter")
        more = b"%d" % (int(entry.data) + 1)
        if await store.cas("counter", more, 100, entry.token) is CasResult.STORED:
            return

async def main():
    store = SQLiteStore("sessions.db")
    await store.add("counter", b"0", 100)
    added = 0
    for n in range(100):
        added += await store.add(f"key{n}", b"x", 100)
        await increment(store)
    print(added, (await store.get("counter")).data.decode())
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The page's program, in a folder of its own."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def start(program: Path) -> Iterator[Callable[[], Process]]:
    """Starts a process of the program; all share one file."""
    servers = []

    def start() -> Process:
        port = free_port()
        command = [sys.executable, "-W", "error", str(program), str(port)]
        servers.append(Process(command, port, cwd=program.parent, env=ENV))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def test_the_store_keeps_the_contract(program: Path) -> None:
    """The page's test module passes, which runs all of it."""
    (program.parent / "test_store.py").write_text(CONTRACT)
    (program.parent / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_store.py"],
        cwd=program.parent,
        env={**ENV, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split(" passed")[0].split()[-1]) > 130


def test_two_processes_share_a_file(program: Path) -> None:
    """Of their adds of a key one is done, and none of their increments is lost."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER],
            cwd=program.parent,
            env=ENV,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    printed = [writer.communicate(timeout=60)[0].split() for writer in writers]
    added, counts = zip(*printed, strict=True)
    assert sum(map(int, added)) == 100
    assert max(map(int, counts)) == 200


@pytest.mark.gen_test(timeout=60)
async def test_two_servers_have_the_same_sessions(
    start: Callable[[], Process],
) -> None:
    """Visits are counted exactly by both, and after both were stopped."""
    first, second = start(), start()
    browser = Browser(first.port)
    for n, port in enumerate((first.port, second.port, first.port), 1):
        browser.port = port
        assert (await browser.get("/")).text == f"visit {n}\n"
    for server in (first, second):
        server.terminate()
    browser.port = start().port
    assert (await browser.get("/")).text == "visit 4\n"


@pytest.mark.gen_test(timeout=60)
async def test_a_locked_file_is_a_503(
    start: Callable[[], Process], program: Path
) -> None:
    """And nobody is logged out: when it is free again, visits are counted on."""
    browser = Browser(start().port)
    await browser.get("/")
    lock = sqlite3.connect(program.parent / "sessions.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    assert (await browser.get("/")).status == 503
    lock.execute("ROLLBACK")
    lock.close()
    assert (await browser.get("/")).text == "visit 2\n"


@pytest.mark.gen_test(timeout=60)
async def test_a_file_that_is_locked_at_the_start_is_used_later(
    start: Callable[[], Process], program: Path
) -> None:
    """The process makes the table when it can, and need not be started again."""
    lock = sqlite3.connect(program.parent / "sessions.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    browser = Browser(start().port)
    assert (await browser.get("/")).status == 503
    lock.execute("ROLLBACK")
    lock.close()
    assert (await browser.get("/")).text == "visit 1\n"


@pytest.mark.gen_test(timeout=60)
async def test_an_entry_that_has_ended_leaves_the_file(program: Path) -> None:
    """The next add removes it."""
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(PROGRAM, "<own-store.md>", "exec", dont_inherit=True), names)
    now = [1000.0]
    names["time"] = type("Time", (), {"time": lambda: now[0]})
    store = names["SQLiteStore"](program.parent / "sessions.db")
    await store.add("old", b"1", 10)
    now[0] += 11
    assert await store.get("old") is None
    await store.add("new", b"1", 10)
    connection = sqlite3.connect(program.parent / "sessions.db")
    assert connection.execute("SELECT key FROM sessions").fetchall() == [("new",)]
    connection.close()
    await store.close()
