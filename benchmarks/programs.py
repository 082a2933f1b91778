"""The programs that have to be there, and what the machine is."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess  # nosec B404 # asks programs for their versions
from collections.abc import Iterable
from importlib.metadata import version

from tests.support.processes import SERVER_PATH

__all__ = ["Missing", "find", "is_importable", "machine", "require"]


class Missing(Exception):
    """Something that the measurements cannot do without is not there."""


def find(name: str) -> str:
    """Return where a program is."""
    path = shutil.which(name, path=SERVER_PATH)
    if path is None:
        raise Missing(f"{name} is needed: apt-get install {name}, brew install {name}")
    return path


def is_importable(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def require(modules: Iterable[str] = ()) -> None:
    """Raise `Missing` for what is needed and not there."""
    if platform.system() != "Linux":
        raise Missing("Linux is needed: its clocks and /proc tell what servers use")
    for program in ("wrk", "memcached"):
        find(program)
    absent = [name for name in modules if not is_importable(name)]
    if absent:
        names = ", ".join(absent)
        raise Missing(f"{names} is needed: pip install -e '.[test,bench]'")


def machine() -> str:
    """Return what the figures were measured on, in a line."""
    parts = [
        f"{os.cpu_count()} CPUs",
        f"Python {platform.python_version()}",
        f"Tornado {version('tornado')}",
        f"memcached {_said('memcached', '-V')}",
        f"wrk {_said('wrk', '-v')}",
    ]
    if shutil.which("node"):
        parts.append(f"Node.js {_said('node', '--version')}")
    return ", ".join(parts)


def _said(program: str, option: str) -> str:
    done = subprocess.run(  # nosec B603 # no shell, nothing from outside
        [find(program), option], capture_output=True, text=True
    )
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "of unknown version"
