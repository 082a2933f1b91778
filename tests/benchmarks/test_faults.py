"""benchmarks/faults: what is wrong fails a run, and faults.md has its figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import __main__ as command
from benchmarks.faults.catalogue import FAULTS, Fault
from benchmarks.faults.page import cells, filled, rows
from benchmarks.faults.stage import Stage
from benchmarks.soak.machines import Application
from benchmarks.soak.web import Reply

from ..support.pages import page

ROOT = Path(__file__).parents[2]
PAGE = page("faults.md")
FIGURES = ROOT / "docs" / "figures" / "faults.json"
QUIET = [{"stats": {}, "health": {"status": "ok", "nodes": {}}}]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("statuses", "problem"),
    [
        ([200, 503], ""),
        ([200], "nobody got a 503: the fault has no effect"),
    ],
)
async def test_a_fault_without_effect_fails_the_run(tmp_path, statuses, problem):
    """Where no user notices a fault, it was none."""

    async def act(stage: Stage) -> None:
        stage.seen.facts += [QUIET, QUIET]
        application = Application({}, tmp_path / "log")
        for status in statuses:
            stage.seen.replies.append(
                Reply("/read", "id", application, 1, status=status)
            )

    figures = await command.play("none", Fault(act, stays=True))
    assert list(figures["problems"]) == ([problem] if problem else [])
    assert figures["errors"] == statuses.count(503)


@pytest.mark.gen_test
async def test_a_run_that_breaks_off_fails():
    """What a fault raises is a problem of its row."""

    async def act(stage: Stage) -> None:
        raise RuntimeError("no memcached")

    figures = await command.play("broken", Fault(act))
    assert "the run failed: RuntimeError('no memcached')" in figures["problems"]


@pytest.mark.integration
@pytest.mark.end_to_end
def test_the_command_plays_faults():
    """Played for real: users of a killed memcached get 503s, and nothing wrong."""
    args = ["--only", "killed", "stale", "--json"]
    played = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert played.returncode == 0, played.stderr
    killed, stale = json.loads(played.stdout)
    assert [killed["problems"], stale["problems"]] == [{}, {}]
    assert killed["errors"] > 50
    # Once in each of the two processes.
    assert killed["log"]["memcached answers again"] == 2
    assert killed["health"][-1] == "ok"
    assert killed["lost_sessions"] > 0
    assert stale["errors"] == 0
    assert len(re.findall(r"^(killed|stale) +ok ", played.stderr, re.M)) == 2


def test_figures_have_their_places_in_the_page():
    """Three cells of a fault's row are measured; the rest is written by hand."""
    page = "text\n| it fails | an error | 9% | 9 ms | 9 | `x` |\ntext\n"
    result = {"name": "x", "longest_ms": 12, "requests": 4, "problems": {"wrong": 1}}
    result["statuses"] = {"all sessions": {"200": 2, "409": 1, "503": 1}}
    assert cells(result) == ["25%", "12 ms", "1"]
    new = filled(page, [result])
    assert rows(new) == {"x": ["it fails", "an error", "25%", "12 ms", "1", "`x`"]}
    result["statuses"] = {
        "its sessions": {"503": 2},
        "other sessions": {"200": 2},
        "new sessions": {"503": 9},
    }
    assert cells(result)[0] == "100%, others 0%"


def test_the_page_has_all_faults_and_their_figures():
    """faults.md has all faults, what was measured of them, and nothing wrong."""
    figures = {each["name"]: each for each in json.loads(FIGURES.read_text())}
    page = rows(PAGE.read_text())
    assert list(page) == list(figures) == list(FAULTS)
    for name, row in page.items():
        assert row[-4:-1] == cells(figures[name])
        assert row[-2] == "0", f"{name}: {figures[name]['problems']}"


def test_what_operators_see_was_seen():
    """The log lines, counters and health of the page are those of the figures."""
    figures = {each["name"]: each for each in json.loads(FIGURES.read_text())}
    for name, row in rows(PAGE.read_text()).items():
        seen = figures[name]
        log, health = "\n".join(seen["log"]), " / ".join(seen["health"])
        for words in re.findall(r"`([^`]+)`", row[2]):
            known = words in log or words in seen["counters"] or words == "misses"
            assert known, f"{name}: {words}"
        for status in re.findall(r"\*(\w+)\*", row[2]):
            assert status in health, f"{name}: {health}"
