"""Which of a family of processes this one is."""

from __future__ import annotations

import os

__all__ = ["generation"]

_generation = 0


def generation() -> int:
    """Return how many forks this process is away from the one that began.

    What remembers the number it began with knows by it that it was inherited.
    Asked for by each operation: `os.getpid` is a system call.
    """
    return _generation


def _note_fork() -> None:
    global _generation
    _generation += 1


os.register_at_fork(after_in_child=_note_fork)
