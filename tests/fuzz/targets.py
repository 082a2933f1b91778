"""All fuzz targets: each takes any bytes, and raises where a promise is broken.

They are called by hypothesis in each test run (`test_fuzz`), and by atheris, which
looks for inputs that reach new code, in ``scripts/fuzz``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import answers, cookies, interleavings, records, sessions, settings

__all__ = ["TARGETS", "Target"]


class Target(NamedTuple):
    """A boundary, and what is known of the bytes that come over it."""

    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    words: Sequence[bytes]


TARGETS = {
    module.__name__.rpartition(".")[2]: Target(module.check, module.seeds, module.WORDS)
    for module in (answers, cookies, interleavings, records, sessions, settings)
}
