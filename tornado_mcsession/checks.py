"""Checks of settings: each names the setting, what it got, and what is allowed.

The value itself is never shown: it may be a key or a password.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

__all__ = [
    "known",
    "one_of",
    "positive_int",
    "principal_name",
    "seconds",
    "text",
    "type_error",
]


def type_error(name: str, value: object, allowed: str) -> TypeError:
    """Return the error for a ``value`` of a wrong type."""
    return TypeError(f"{name} must be {allowed}, not {type(value).__name__}")


def known(options: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    """Raise `ValueError` for an option that is not among ``names``."""
    allowed = list(names)
    for option in options:
        if option in allowed:
            continue
        near = difflib.get_close_matches(str(option), allowed, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(allowed)}"
        raise ValueError(f"unknown {where} setting {option!r}; {hint}")


def seconds(name: str, value: object) -> float | None:
    """Return a duration in seconds; `None` stays `None`.

    Takes a number or a `~datetime.timedelta`, both greater than 0.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise type_error(name, value, "seconds, a timedelta or None")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be finite and greater than 0 seconds")
    return float(value)


def text(name: str, value: object) -> str:
    """Return ``value`` as plain text; raise unless it is text, and Unicode."""
    if not isinstance(value, str):
        raise type_error(name, value, "text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{name} must not hold half of a surrogate pair")
    return str.__str__(value)


def principal_name(principal: object) -> str:
    """Return the text that is kept of a principal; raise if it is none."""
    if isinstance(principal, bool) or not isinstance(principal, str | int):
        raise type_error("principal", principal, "text or a whole number")
    name = principal if isinstance(principal, str) else str(int(principal))
    if not text("principal", name):
        raise ValueError("principal must not be empty")
    return str.__str__(name)


def one_of(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise unless ``value`` is one of the ``allowed`` words."""
    words = tuple(allowed)
    listed = ", ".join(map(repr, words))
    if not isinstance(value, str):
        raise type_error(name, value, f"one of {listed}")
    if value not in words:
        near = difflib.get_close_matches(value, words, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} must be one of {listed}{hint}")


def positive_int(name: str, value: object) -> None:
    """Raise unless ``value`` is a whole number greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise type_error(name, value, "a whole number")
    if value <= 0:
        raise ValueError(f"{name} must be greater than 0")
