"""What ``import tornado_mcsession`` gives, and what it does to a process."""

from __future__ import annotations

import subprocess
import sys
import types

import tornado_mcsession
from tornado_mcsession import exceptions

DESIGNED = {
    "CookieSettings",
    "JSONSerializer",
    "MemcachedStore",
    "MemoryStore",
    "MsgpackSerializer",
    "Session",
    "SessionManager",
    "SessionMixin",
    "SessionSettings",
    "SessionStatusHandler",
    "Store",
    # The errors.
    "DecodeError",
    "EncodeError",
    "SessionConflict",
    "SessionError",
    "SessionGone",
    "SessionNotLoaded",
    "SessionRefused",
    "SessionTooLarge",
    "StoreError",
    "StoreRejected",
    "StoreUnavailable",
}


def public_names():
    return {
        name
        for name, value in vars(tornado_mcsession).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and name != "annotations"
    }


def test_all_is_complete_and_sorted():
    """``__all__`` has every public name of the package once, in order."""
    exported = [name for name in tornado_mcsession.__all__ if name[0] != "_"]
    in_order = sorted(exported, key=lambda name: (name[0].islower(), name.casefold()))
    assert exported == in_order  # classes, then functions
    assert set(exported) == public_names()
    assert len(set(exported)) == len(exported)


def test_all_has_what_was_designed():
    """The classes that users construct, subclass or catch are at the top."""
    assert set(tornado_mcsession.__all__) >= DESIGNED
    assert set(tornado_mcsession.__all__) >= set(exceptions.__all__)


def run(program):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_import_brings_in_no_optional_package():
    """Importing the package loads nothing of its extras or of test tools."""
    finished = run(
        "import sys, tornado_mcsession\n"
        "unwanted = {'cryptography', 'hypothesis', 'opentelemetry', 'pickle5',\n"
        "    'prometheus_client', 'pytest'}\n"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    assert (finished.stdout, finished.stderr) == ("[]\n", "")


def test_import_starts_nothing():
    """Importing the package starts no thread and makes no event loop."""
    finished = run(
        "import asyncio, threading\n"
        "made = []\n"
        "asyncio.new_event_loop = lambda: made.append(1)\n"
        "import tornado_mcsession\n"
        "print(threading.active_count(), made)"
    )
    assert (finished.stdout, finished.stderr) == ("1 []\n", "")
