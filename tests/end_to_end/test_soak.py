"""benchmarks/soak: a short run is clean, and a planted fault is found."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak.ledger import Ledger, View
from benchmarks.soak.schedule import schedule

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "benchmarks.soak", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.integration
@pytest.mark.end_to_end
def test_all_promises_are_kept():
    """Nodes and applications come and go, and no response is wrong."""
    done = run("--seconds", "15", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all promises were kept" in done.stdout
    for fault in ("kill node", "hang node", "freeze application"):
        assert f"× {fault}" in done.stdout
    # Not an idle run: users worked, and were hit.
    [row] = [line for line in done.stdout.splitlines() if line.startswith("/count")]
    _, ok, _, unavailable, _ = row.split()
    assert int(ok) > 100
    assert int(unavailable) > 0


@pytest.mark.integration
@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("plant", "found"),
    [
        ("lost-cas", "a confirmed write was lost"),
        ("skipped-logout", "an ended session is alive"),
        ("swapped-reads", "another user's data"),
    ],
)
def test_a_planted_fault_is_found(plant: str, found: str):
    """A store that lies now and then fails the run, which says how."""
    done = run("--seconds", "8", "--plant", plant)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"× {found}" in done.stdout


def found_by(use) -> list[str]:
    """Return the problems that a ledger reports."""
    problems: list[str] = []
    ledger = Ledger("ann", lambda what, _: problems.append(what), 0.0)
    use(ledger)
    return problems


def view(n: int = 0, marks: tuple[str, ...] = (), owner: str = "ann", **slots: int):
    return View(owner, None, n, list(marks), slots)


def test_an_increment_of_unknown_outcome_may_be_there_once():
    """Without a confirmation it may be there or not, and not twice."""

    def use(ledger: Ledger, *marks: str) -> None:
        for mark in ("a", "b"):
            ledger.asks_increment(mark)
        ledger.counted("a", 1)
        before = ledger.before(1.0)
        assert ledger.check(view(len(marks), marks), before, may_be_gone=False)

    assert found_by(lambda ledger: use(ledger, "a")) == []
    assert found_by(lambda ledger: use(ledger, "a", "b")) == []
    twice = found_by(lambda ledger: use(ledger, "a", "b", "b"))
    assert twice == ["an increment was done twice"]
    assert "a confirmed increment was lost" in found_by(lambda ledger: use(ledger, "b"))


def test_a_confirmed_write_is_not_undone():
    """A value that was confirmed, or seen, is the least that is shown later."""

    def use(ledger: Ledger, shown: int) -> None:
        ledger.wrote("slot0", ledger.next_value("slot0"))
        ledger.next_value("slot0")
        before = ledger.before(1.0)
        ledger.check(view(slot0=shown), before, may_be_gone=False)

    found = [found_by(lambda ledger, n=n: use(ledger, n)) for n in range(4)]
    lost, unwritten = "a confirmed write was lost", "a value that nobody wrote"
    assert found == [[lost], [], [], [unwritten]]


def test_only_a_reason_excuses_an_empty_session():
    """A session that is not there is a problem, unless its node lost its data."""

    def use(ledger: Ledger, excused: bool) -> None:
        empty = View(None, None, 0, [], {})
        before = ledger.before(1.0)
        assert not ledger.check(empty, before, may_be_gone=excused)

    assert found_by(lambda ledger: use(ledger, True)) == []
    assert found_by(lambda ledger: use(ledger, False)) == ["a session was lost"]


def test_the_course_of_faults_is_the_seed_s():
    """The same seed has the same faults; all kinds come before one comes again."""
    options = {"nodes": 3, "applications": 3, "network": True}
    first = schedule(120.0, 7, **options)
    assert first == schedule(120.0, 7, **options) != schedule(120.0, 8, **options)
    for course in first:
        kinds = {event.kind for event in course}
        assert {event.kind for event in course[: len(kinds)]} == kinds
        for event, following in itertools.pairwise(course):
            assert event.at + event.seconds < following.at
    assert all(e.target for e in first[1] if e.kind != "freeze application")
