"""benchmarks/faults: what is wrong fails a run, and docs/faults.md is its page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import __main__ as command
from benchmarks.faults.catalogue import FAULTS, Fault
from benchmarks.faults.page import document
from benchmarks.faults.stage import Stage
from benchmarks.soak.machines import Application
from benchmarks.soak.web import Reply

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
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
            reply = Reply("/read", "id", application, 1, status=status)
            stage.seen.replies.append(("during", reply))

    figures = await command.play(Fault(act, "none", "", "", stays=True))
    assert list(figures["problems"]) == ([problem] if problem else [])
    assert figures["errors"] == statuses.count(503)


@pytest.mark.gen_test
async def test_a_run_that_breaks_off_fails():
    """What a fault raises is a problem of its row."""

    async def act(stage: Stage) -> None:
        raise RuntimeError("no memcached")

    figures = await command.play(Fault(act, "broken", "", ""))
    assert "the run failed: RuntimeError('no memcached')" in figures["problems"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    args = [sys.executable, "-m", "benchmarks.faults", *arguments]
    return subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.integration
@pytest.mark.end_to_end
def test_the_command_plays_faults():
    """Played for real: users of a killed memcached get 503s, and nothing wrong."""
    played = run("--only", "killed", "stale", "--json")
    assert played.returncode == 0, played.stderr
    killed, stale = json.loads(played.stdout)
    assert [killed["problems"], stale["problems"]] == [{}, {}]
    assert killed["errors"] > 50
    # Once in each of the two processes.
    for event in ("on_disconnect", "on_connect"):
        assert killed["events"][f"{event}(memcached)"] == 2
    assert killed["health"][-1] == "ok"
    assert killed["lost_sessions"] > 0
    assert stale["errors"] == 0
    assert len(re.findall(r"^(killed|stale) +ok ", played.stderr, re.M)) == 2


def test_the_page_is_made_of_its_figures():
    """docs/faults.md has all faults in their order, and nothing is wrong."""
    figures = json.loads(FIGURES.read_text())
    assert [each["name"] for each in figures] == list(FAULTS)
    assert not any(each["problems"] for each in figures)

    def rows(page: str) -> list[str]:
        return [line for line in page.splitlines() if line.startswith("| ")]

    assert rows(PAGE.read_text()) == rows(document(figures))
