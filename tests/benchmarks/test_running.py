"""What the benchmarks measure of real processes, and the commands."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load import cpu_seconds, own_seconds
from benchmarks.report import Report
from benchmarks.rounds import Plan, Scenario, play
from benchmarks.rows import ROWS
from benchmarks.servers import SUBJECTS, Fleet, Server, Subject, Wrong
from tests.support.memcached import Memcached
from tests.support.processes import find_server

ROOT = Path(__file__).parents[2]
SHORT = Plan(rounds=1, repeats=1)

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


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the benchmarks."""
    whole = [sys.executable, "-m", *args]
    environment = {**os.environ, **env}
    return subprocess.run(
        whole, cwd=ROOT, capture_output=True, text=True, env=environment
    )


def test_without_wrk_it_is_said_how_to_get_it(tmp_path: Path):
    """A missing program ends the command with the way to install it."""
    done = run("benchmarks", "--quick", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "error: wrk is needed: apt-get install wrk" in done.stderr


def test_a_name_that_is_no_row_is_refused():
    """An unknown row is an error that names those there are."""
    done = run("benchmarks", "--only", "main", "nonsense")
    assert done.returncode == 2
    assert "'nonsense'" in done.stderr
    assert "dict-reading" in done.stderr


@pytest.mark.end_to_end
def test_rows_are_measured_and_printed_as_json():
    """Rows and groups are chosen by their names; the figures are JSON."""
    done = run("benchmarks", "--quick", "--json", "--only", "calls", "burst-text")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["calls-untouched"]["shown"] == "0 + 0"
    assert rows["calls-unchanged"]["shown"] == "1 + 0"
    assert rows["calls-changed"]["shown"] == "1 + 1"
    assert rows["calls-renewed"]["shown"] == "1 + 1"
    refused, encodings, _ = rows["burst-text"]["values"]
    assert refused == 0
    assert 1 <= encodings <= 3


@pytest.mark.end_to_end
def test_a_site_without_sessions_cannot_pass_as_one(memcached: Memcached):
    """A server whose visitors get no session is not measured."""
    liar = Subject("liar", "Liar", "plain.bare")
    with pytest.raises(Wrong, match="gives its visitors no cookie"):
        Server(liar, memcached.url.removeprefix("memcached://"))


@pytest.mark.end_to_end
def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch):
    """A server that does not start is not measured, and the reason is kept."""
    monkeypatch.setitem(SUBJECTS, "x", Subject("x", "X", "no_such_module.serve"))
    with Fleet(lambda line: None) as fleet:
        assert play(fleet, [Scenario("x")], SHORT) == {}
    reason = "ModuleNotFoundError: No module named 'benchmarks.sites.no_such_module'"
    assert fleet.failed == {"x": reason}


@pytest.mark.end_to_end
def test_a_server_that_ends_early_is_not_measured():
    """Nothing is made of a server that is gone, and what happened is said."""
    find_server("wrk")
    with Fleet(lambda line: None) as fleet:
        assert fleet.why_not("dict") is None
        os.kill(fleet.servers["dict"].pid, signal.SIGKILL)
        assert play(fleet, [Scenario("dict")], SHORT) == {}
        # By wrk, or by who asks for the CPU time, whoever comes first.
        assert re.search("unable to connect|refused|process", fleet.failed["dict"])


@pytest.mark.end_to_end
def test_pairs_are_really_measured():
    """wrk loads the servers, and users who log in go on with their new ids."""
    find_server("wrk")
    told: list[str] = []
    rows = [row for row in ROWS if row.name in ("dict-writing", "login")]
    with Fleet(told.append) as fleet:
        report = Report.of(fleet, rows, SHORT)
    assert report.failed == {}, told
    for row in rows:
        [ratio] = report.results[row.name].values
        assert 0.05 < ratio < 20
    figures = json.loads(report.json())["servers"]
    assert figures["main"]["ours/write"]["rate"] > 50
    assert figures["verbs"]["moving/login"]["errors"] == 0


def test_the_calls_of_a_request_are_counted():
    """A write takes more calls than a read, and a login more than a write."""
    done = run("benchmarks.path", "--calls")
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [what for what, _, _ in rows] == ["an unchanged read", "a write", "a login"]
    read, write, login = (int(calls) for _, calls, _ in rows)
    assert 20 < read < write < login


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("benchmarks.routing --keys 100 --nodes 1 3", "| 3 | "),
        ("benchmarks.twemproxy --seconds 0.3", "| no twemproxy, `threads=2` | "),
        (
            "benchmarks.concurrency --workers 2 --updates 4 --requests 4 --rounds 2",
            "tornado-mcsession           8 of 8            4 of 4            0 of 2",
        ),
    ],
)
def test_the_small_commands_work(command: str, shown: str):
    """Each prints its table to the end."""
    done = run(*command.split())
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
