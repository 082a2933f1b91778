"""The pages about tests: their programs pass, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tornado_mcsession import testing

from ..support.pages import blocks, text_of

ROOT = Path(__file__).parents[2]
PAGE = text_of("testing.md")
TOOLS = text_of("testing-tools.md")
UNITTEST, PYTEST_TORNADO, PYTEST = blocks("testing.md")
(HELD,) = blocks("testing-tools.md")
PLUGIN = ["-p", "_tornado_mcsession_pytest"]
# pytest-tornado warns of itself.
WARNINGS = """[pytest]
filterwarnings =
    error
    ignore:The hookimpl pytest_:pytest.PytestDeprecationWarning
    ignore:pkg_resources is deprecated:UserWarning
    ignore:(make|clear)_current is deprecated:DeprecationWarning:pytest_tornado.plugin
    ignore:There is no current event loop:DeprecationWarning:tornado.platform.asyncio
"""


def run(path: Path, program: str, *arguments: str, plugins: bool = True) -> str:
    """What a program prints; it must succeed."""
    (path / "test_page.py").write_text(program)
    (path / "pytest.ini").write_text(WARNINGS)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    if not plugins:
        env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        [sys.executable, "-X", "dev", *arguments, "test_page.py"],
        cwd=path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_program_for_unittest(tmp_path: Path) -> None:
    """Without pytest, and with warnings as errors."""
    assert "Ran 1 test" in run(tmp_path, UNITTEST, "-W", "error")


def test_the_lines_for_self_fetch(tmp_path: Path) -> None:
    """They are a test of that program's class, which waits for nothing."""
    (lines,) = re.findall(r"send the client's headers:\n\n(.*?)\n\n\S", PAGE, re.S)
    assert "self.fetch(" in lines
    method = f"""
    def test_fetch(self):
{textwrap.indent(lines, "    ")}
        self.assertEqual(response.code, 405)
        session = self.io_loop.run_sync(self.client.session)
        self.assertEqual(session["cart"], [])
"""
    program = UNITTEST.replace("\n\nif __name__", f"{method}\n\nif __name__")
    assert "Ran 2 tests" in run(tmp_path, program, "-W", "error")


def test_the_program_for_pytest_tornado(tmp_path: Path) -> None:
    """With its mark, and the fixtures of this package."""
    assert "2 passed" in run(tmp_path, PYTEST_TORNADO, "-m", "pytest", *PLUGIN)


def test_the_program_for_plain_pytest(tmp_path: Path) -> None:
    """With no plugin at all."""
    printed = run(tmp_path, PYTEST, "-m", "pytest", plugins=False)
    assert "2 passed" in printed


def test_the_program_with_a_held_request(tmp_path: Path) -> None:
    """Another request saves meanwhile, and nothing is lost."""
    assert "1 passed" in run(tmp_path, HELD, "-m", "pytest", plugins=False)


@pytest.mark.parametrize("name", testing.__all__)
def test_each_name_is_on_the_page(name: str) -> None:
    """What the module has can be found here; a `Held` as ``held``."""
    assert name.casefold() in TOOLS.casefold()


def test_each_method_is_on_the_page() -> None:
    """Those of the client, and of the store that fails."""
    for owner in (testing.SessionClient, testing.FaultyStore, testing.Memcached):
        own = [name for name in vars(owner) if not name.startswith("_")]
        inherited = {"get", "get_many", "add", "cas", "touch", "delete", "close"}
        inherited |= {"node_of", "stop_waiting", "on_connect", "on_disconnect"}
        inherited |= {"stats", "health", "keeps_deadline", "flush"}
        for name in own:
            if owner is testing.SessionClient or name not in inherited:
                assert re.search(rf"\b{name}\b", TOOLS), name
