"""The search of all logs finds what it is there for: see `tests.support.log_check`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tornado_mcsession.sessions.ids import record_key

from . import leaks
from .log_check import Secrets

ROOT = Path(__file__).parents[2]
LEAKS = [name for name in vars(leaks) if name.startswith("test_")]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a test run of its own over `tests.support.leaks`."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, leaks.__file__, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_run_that_logs_a_secret_fails():
    """Every test passed, and the run names all that leaked, and no other."""
    ran = run()
    assert f"{len(LEAKS)} passed" in ran.stdout
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
    told = re.findall(r"^LEAK \S+::(\w+)$", ran.stdout, re.MULTILINE)
    assert sorted(told) == sorted(set(LEAKS) - {"test_nothing"})
    assert not ran.stderr


@pytest.mark.parametrize("name", ["test_store_key", "test_id"])
def test_one_test_alone_fails_the_run(name):
    """Also where the rest of the suite is not run."""
    assert run("-k", name).returncode == pytest.ExitCode.TESTS_FAILED


def test_a_run_without_leaks_passes():
    """Logging as such is no fault, nor are secrets in lines of source."""
    ran = run("-k", "test_nothing")
    assert ran.returncode == pytest.ExitCode.OK
    assert "LEAK" not in ran.stdout


@pytest.mark.parametrize("text", ["{}", "x{}x", "session={};", "\n{}\n", "%{}"])
def test_a_secret_is_found_wherever_it_stands(text):
    """Within a line or a word, at the beginning and at the end."""
    found = Secrets()
    found.add("planted-secret")
    assert found.is_in(text.format("planted-secret"))
    assert not found.is_in(text.format("planted-secre"))
    assert not found.is_in(text.format("planted_secret"))


def test_a_session_id_is_known_in_all_its_forms():
    """Plain, signed, or as the store's key; that of another process by its cookie."""
    found = Secrets()
    signed = "24:cGxhbnRlZC1zZXNzaW9uLWlk"
    found.add_cookie(f"2|1:0|10:1800000000|7:session|{signed}|0f")
    for form in ("planted-session-id", signed, record_key("", "planted-session-id")):
        assert found.is_in(f"opened {form}")
