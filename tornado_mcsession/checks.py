"""Checks of settings and arguments.

An error names the setting, the type that it got, and what is allowed. It never shows
the value, which may be a key or a password.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

__all__ = [
    "known",
    "number",
    "of_types",
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
        if option not in allowed:
            hint = _nearest(str(option), allowed) or f"known: {', '.join(allowed)}"
            raise ValueError(f"unknown {where} setting {option!r}; {hint}")


def _nearest(word: str, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def of_types(
    settings: object, types: Mapping[str, tuple[Any, str]], where: str = ""
) -> None:
    """Raise `TypeError` unless the attributes in ``types`` have these types.

    Each type comes with the words that name it in the error.
    """
    for name, (type_, allowed) in types.items():
        value = getattr(settings, name)
        if not isinstance(value, type_):
            raise type_error(where + name, value, allowed)


def number(name: str, value: object, allowed: str) -> int | float:
    """Return ``value`` if it is a number; `True` and `False` are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise type_error(name, value, allowed)
    return value


def seconds(name: str, value: object) -> float | None:
    """Return a duration in seconds; `None` stays `None`.

    Takes a number or a `~datetime.timedelta`, both greater than 0.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    value = number(name, value, "seconds, a timedelta or None")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be finite and greater than 0 seconds")
    return float(value)


def text(name: str, value: object) -> str:
    """Return ``value`` as plain text; raise unless it is text, and Unicode."""
    if not isinstance(value, str):
        raise type_error(name, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must not hold half of a surrogate pair") from None
    return str.__str__(value)


def principal_name(principal: object) -> str:
    """Return the text under which a principal is stored."""
    if isinstance(principal, bool) or not isinstance(principal, str | int):
        raise type_error("principal", principal, "text or a whole number")
    if isinstance(principal, int):
        return str(int(principal))
    name = text("principal", principal)
    if not name:
        raise ValueError("principal must not be empty")
    return name


def one_of(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise unless ``value`` is one of the ``allowed`` words."""
    words = tuple(allowed)
    listed = ", ".join(map(repr, words))
    if not isinstance(value, str):
        raise type_error(name, value, f"one of {listed}")
    if value not in words:
        hint = _nearest(value, words)
        raise ValueError(f"{name} must be one of {listed}{hint and '; ' + hint}")


def positive_int(name: str, value: object) -> None:
    """Raise unless ``value`` is a whole number greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise type_error(name, value, "a whole number")
    if value <= 0:
        raise ValueError(f"{name} must be greater than 0")
