"""Tools for the tests of applications, and of stores of your own.

`SessionClient` begins sessions and sends requests; `ManualClock` moves the time;
`FaultyStore` fails on cue; `Memcached` is a process to break; `.StoreContract` has the
tests that every store must pass. With pytest there are fixtures, too. Only
`.StoreContract` needs pytest. See docs/guides/testing.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .client import SessionClient
from .clock import ManualClock
from .faults import FaultyStore, Held
from .memcached import Memcached

if TYPE_CHECKING:
    from .contract import StoreContract

__all__ = [
    "FaultyStore",
    "Held",
    "ManualClock",
    "Memcached",
    "SessionClient",
    "StoreContract",
]


def __getattr__(name: str) -> Any:
    # It imports pytest, which tests with unittest do not need.
    if name == "StoreContract":
        from .contract import StoreContract

        return StoreContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
