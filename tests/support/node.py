"""Node, and the npm packages that tests run beside the package."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from .processes import Process, free_port

_INSTALL = (
    "is needed by these tests and was not found. Install Node 20 or newer with npm "
    "(apt-get install nodejs npm, brew install node), or start the tests with "
    "scripts/test, which does."
)


def find_node(name: str = "node") -> str:
    """The path of ``node`` or ``npm``; without it the test fails."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} {_INSTALL}", pytrace=False)
    return path


def install_packages(directory: Path) -> None:
    """Install what ``package-lock.json`` says, unless that has been done."""
    node, npm = find_node("node"), find_node("npm")
    lock = (directory / "package-lock.json").read_bytes()
    version = subprocess.check_output([node, "--version"])
    wanted = hashlib.sha256(lock + version).hexdigest()
    stamp = directory / "node_modules" / ".installed"
    # Several workers of one run, or several runs, may want them at the same time.
    name = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    with Path(tempfile.gettempdir(), f"mcsession-npm-{name}").open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        command = [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            pytest.fail(f"npm ci failed: {done.stderr}", pytrace=False)
        stamp.write_text(wanted)


def start_node(script: Path, options: Any) -> Process:
    """Start a script that listens on the port in its first argument."""
    install_packages(script.parent)
    port = free_port()
    return Process([find_node(), str(script), str(port), json.dumps(options)], port)
