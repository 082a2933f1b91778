"""What is built from the project, and which packages it tells people to install."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

import tornado_mcsession

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
# What tests and tools leave behind, and what does not belong to the project.
LEFT_BEHIND = re.compile(r"__pycache__|node_modules|\.egg-info|/\.|\.pyc$|/_build/")


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=]", requirement)[0]


def files_of(folder: str) -> set[str]:
    found = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*")}
    names = {path.as_posix() for path in found if (ROOT / path).is_file()}
    return {name for name in names if not LEFT_BEHIND.search(f"/{name}")}


FOLDERS = ["benchmarks", "demo", "docs", "scripts", "tests", "tornado_mcsession"]


def test_a_source_distribution_is_the_whole_project(tmp_path):
    """Its tests can be run where it is unpacked: they find all that they use."""
    copy = tmp_path / "project"
    ignored = shutil.ignore_patterns(
        "__pycache__",
        "node_modules",
        "*.egg-info",
        ".venv*",
        ".git",
        ".*_cache",
        "_build",
    )
    shutil.copytree(ROOT, copy, ignore=ignored)
    program = "from setuptools.build_meta import build_sdist; build_sdist('.')"
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=copy,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        check=True,
        timeout=120,
    )
    (archive,) = copy.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {name.partition("/")[2] for name in opened.getnames()}
    for folder in FOLDERS:
        missing = files_of(folder) - packed
        assert not missing, sorted(missing)
    assert {"README.md", "CHANGELOG.md", "SECURITY.md", ".ci/run"} <= packed
    assert ".github/workflows/ci.yml" in packed
    assert not any("__pycache__" in name for name in packed)


def test_the_public_ci_calls_the_same_scripts():
    """Those that developers call, and no commands of its own."""
    public = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    runs = set(re.findall(r"run: (\S+)", public))
    assert runs == {
        f"scripts/{name}" for name in ("build", "check", "docs", "test", "types")
    }
    assert all(os.access(ROOT / name, os.X_OK) for name in runs)
    ours = set(
        re.findall(r"^(?:exec )?(scripts/\w+)", (ROOT / ".ci/run").read_text(), re.M)
    )
    # Here one machine has several Pythons.
    assert ours - {"scripts/matrix"} <= runs


def test_the_changelog_has_the_version():
    """The newest entry is this release's, with its date."""
    version = re.escape(tornado_mcsession.__version__)
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{version}\] - \d{{4}}-\d\d-\d\d$", changes, re.M)


def test_extras_are_for_users():
    """What developers need is in groups, which no wheel tells of."""
    assert set(EXTRAS) == {"encryption", "metrics", "telemetry"}
    assert set(GROUPS) == {"bench", "docs", "fuzz", "package", "test"}


def test_the_extras_are_tested():
    """The tests need no less than what they offer."""
    needed = {name_of(each) for each in GROUPS["test"]}
    needed |= {"opentelemetry-api"} if "opentelemetry-sdk" in needed else set()
    for requirements in EXTRAS.values():
        assert {name_of(each) for each in requirements} <= needed


def told_to_install() -> dict[str, str]:
    """The names after "pip install" in code, messages and pages, and where."""
    found = {}
    folders = set(FOLDERS) - {"tests"}
    pages = [path for name in folders for path in (ROOT / name).rglob("*.*")]
    for path in [*pages, *ROOT.glob("*.md")]:
        if path.suffix not in (".py", ".md") or "node_modules" in path.parts:
            continue
        for told in re.findall(r"pip install ([^`\n\"#]*)", path.read_text()):
            for name in told.split():
                found[name] = path.name
    return found


def test_only_known_names_are_told():
    """Nobody is sent to a package of somebody else.

    This project is not on an index, so its own name must not be told there.
    """
    known = {name_of(each) for extra in EXTRAS.values() for each in extra}
    options = {".", "-e", "--group", *GROUPS}
    for name, where in told_to_install().items():
        assert name in known | options, (name, where)
    assert "cryptography" in told_to_install()


SCRIPT = str(Path(sys.executable).with_name("mcsession"))


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ([SCRIPT], "mcsession"),
        ([sys.executable, "-m", "tornado_mcsession"], "python -m tornado_mcsession"),
    ],
)
def test_the_command_has_two_names(command, name):
    """A script, and the module; each shows itself in its help."""
    help_ = subprocess.run(
        [*command, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert help_.stdout.startswith(f"usage: {name} [--help]")


def test_nothing_is_left_in_the_project():
    """At its top there is what belongs there, and no file that a program wrote."""
    names = {path.name for path in ROOT.iterdir() if path.is_file()}
    # What git does not see, and what a source distribution has besides.
    names = {name for name in names if not name.startswith(".")}
    assert names - {"PKG-INFO", "setup.cfg"} == {
        *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "README.md"),
        *("SECURITY.md", "pyproject.toml", "setup.py", "_tornado_mcsession_pytest.py"),
    }
