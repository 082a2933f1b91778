"""What to do where the store cannot tell: the ``on_error`` setting."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from .config import SessionConfig
from .exceptions import SessionError

__all__ = ["Failures"]

logger = logging.getLogger("tornado_mcsession")


class Failures:
    """Counts failures, asks the application what to do, and logs what it hides."""

    def __init__(self, config: SessionConfig, counts: Counter[str]) -> None:
        self._config = config
        self._counts = counts

    def decide(self, phase: str, error: SessionError, handler: Any) -> str:
        """Return ``"raise"`` or ``"degrade"``.

        ``phase`` is load, save, renew or destroy.
        """
        self._counts[f"errors_{phase}"] += 1
        choose = self._config.on_error
        chosen = choose if isinstance(choose, str) else choose(phase, error, handler)
        if chosen not in ("raise", "degrade"):
            raise ValueError("on_error must return 'raise' or 'degrade'")
        # What is raised is logged where it makes the answer an error; a logout
        # always is, a renewal never.
        if phase == "renew" or (chosen == "degrade" and phase != "destroy"):
            logger.error("session %s failed%s: %s", phase, _where(handler), error)
        return chosen


def _where(handler: Any) -> str:
    if handler is None:
        return ""
    request = handler.request
    return f" for {request.method} {request.path}"
