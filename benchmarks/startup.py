"""What importing the package costs, beyond Tornado and pymemcache."""

from __future__ import annotations

import json
import os
import subprocess  # nosec B404 # starts Python again and again
import sys
import tempfile

from .rounds import Plan
from .running import Fleet
from .verdict import Result, Target, measured

__all__ = ["import_ms", "needed_modules"]

# What the package brings of the two in its dependencies.
NEEDED = """
import json, sys
import tornado_mcsession
print(json.dumps([name for name in sys.modules
                  if name.partition(".")[0] in ("tornado", "pymemcache")]))
"""
TIMED = """
import importlib, sys, time
for name in sys.argv[1:]:
    importlib.import_module(name)
began = time.process_time()
import tornado_mcsession
print((time.process_time() - began) * 1000)
"""


def python(program: str, *args: str, cache: str) -> str:
    # As where it is installed: compiled once, wherever that is kept.
    env = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", program, *args]
    done = subprocess.run(  # nosec B603 # no shell, nothing from outside
        command, capture_output=True, text=True, check=True, env=env
    )
    return done.stdout


def needed_modules(cache: str) -> list[str]:
    """Return the modules of Tornado and pymemcache that the package imports."""
    modules: list[str] = json.loads(python(NEEDED, cache=cache))
    return modules


def import_ms(fleet: Fleet, plan: Plan, target: Target) -> Result:
    """Measure the import in fresh interpreters that have those modules already."""
    with tempfile.TemporaryDirectory() as cache:
        needed = needed_modules(cache)
        times = [
            float(python(TIMED, *needed, cache=cache)) for _ in range(plan.repeats)
        ]
    return measured(times, target)
