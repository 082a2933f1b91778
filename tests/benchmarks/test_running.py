"""What the benchmarks measure of real processes, and the command that starts them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.load import cpu_seconds, own_seconds, usage
from benchmarks.report import Report
from benchmarks.rounds import Plan, Scenario, play
from benchmarks.rows import ROWS
from benchmarks.servers import Fleet, Server, Subject, Wrong
from tests.support.memcached import Memcached
from tests.support.processes import find_server

ROOT = Path(__file__).parents[2]
SHORT = Plan(rounds=1, seconds=1, crowd_seconds=1, repeats=1)

BURN = """
import threading, time
def burn():
    while time.thread_time() < 0.1: pass
thread = threading.Thread(target=burn)
thread.start()
thread.join()
print(time.process_time(), flush=True)
input()
"""


@contextlib.contextmanager
def burning() -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A process that has used CPU time in a thread that is over, and how much."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=pipe, stdout=pipe
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        yield child, float(child.stdout.readline())
        child.stdin.write(b"\n")


def test_cpu_time_of_another_process():
    """A process's CPU time is seen from outside, that of ended threads too."""
    with burning() as (child, used):
        seen = cpu_seconds(child.pid)
    assert 0.1 <= used <= seen < used + 0.1


def test_cpu_time_of_the_measurement_itself():
    """What children use counts as our own, while they run and when they have ended."""
    before = own_seconds()
    with burning() as (_, used):
        assert own_seconds() >= before + used
    assert own_seconds() >= before + used


def test_cpu_time_of_no_process():
    """A process that is not there is an error, not a zero."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(ProcessLookupError):
        cpu_seconds(child.pid)


def test_threads_and_memory_are_counted():
    """A thread more is a thread more."""
    before = usage(os.getpid())
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    during = usage(os.getpid())
    over.set()
    thread.join()
    assert during.threads == before.threads + 1
    assert during.memory > 1 << 20


def run_command(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "benchmarks", *args]
    environment = {**os.environ, **env}
    return subprocess.run(
        whole, cwd=ROOT, capture_output=True, text=True, env=environment
    )


def test_without_wrk_it_is_said_how_to_get_it(tmp_path: Path):
    """A missing program ends the command with the way to install it."""
    done = run_command("--quick", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "error: wrk is needed: apt-get install wrk" in done.stderr


def test_a_name_that_is_no_row_is_refused():
    """An unknown row is an error that names those there are."""
    done = run_command("--only", "read,nonsense")
    assert done.returncode == 2
    assert "'nonsense' is none of read, dict-read" in done.stderr


def test_rows_and_groups_are_chosen_by_name():
    """A comma or a space stands between names of rows and of groups."""
    assert command.names("read,koa-write") == ["read", "koa-write"]


@pytest.mark.end_to_end
def test_a_site_without_sessions_cannot_pass_as_one(memcached: Memcached):
    """A server whose visitors get no session is not measured."""
    liar = Subject("liar", "Liar", "plain.bare")
    with pytest.raises(Wrong, match="gives its visitors no cookie"):
        Server(liar, memcached.url.removeprefix("memcached://"), users=1)


@pytest.mark.end_to_end
def test_a_server_that_ends_early_is_not_measured():
    """Nothing is made of a server that is gone, and what happened is said."""
    find_server("wrk")
    with Fleet(lambda line: None) as fleet:
        assert fleet.why_not("dict") is None
        os.kill(fleet.server("dict").pid, signal.SIGKILL)
        assert play(fleet, [Scenario("dict")], SHORT) == {}
        # By wrk, or by who asks the server for its counts, whoever comes first.
        assert re.search("unable to connect|refused", fleet.failed["dict"])


@pytest.mark.end_to_end
def test_a_pair_is_really_measured():
    """wrk loads two servers, their counts rise, and a ratio comes out."""
    find_server("wrk")
    told: list[str] = []
    rows = [row for row in ROWS if row.name in ("dict-write", "calls-changed")]
    with Fleet(told.append) as fleet:
        report = Report.of(fleet, rows, SHORT)
    text = report.text()
    assert report.failed == {}, told
    assert report.results["calls-changed"].shown == "1 + 1"
    [ratio] = report.results["dict-write"].values
    assert 0.05 < ratio < 20
    assert "writing / the same over a dict" in text
    figures = json.loads(report.json())
    [ours] = figures["samples"]["write"]["ours/write"]
    assert ours["requests"] > 100
    assert ours["cpu_seconds"] > 0
    assert figures["rows"]["dict-write"]["values"] == [ratio]


def test_the_calls_of_a_request_are_counted():
    """A write takes more calls than a read, and a login more than a write."""
    command = [sys.executable, "-m", "benchmarks.path", "--calls"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [what for what, _, _ in rows] == ["an unchanged read", "a write", "a login"]
    read, write, login = (int(calls) for _, calls, _ in rows)
    assert 20 < read < write < login
