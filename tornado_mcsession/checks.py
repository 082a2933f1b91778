"""Checks of settings and arguments.

An error names the setting, the type that it got, and what is allowed. It never shows
the value, which may be a key or a password.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

__all__ = [
    "Kind",
    "kind_of",
    "kinds_of",
    "known",
    "number",
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


class Kind(NamedTuple):
    """What a type hint allows, and the words for it."""

    types: tuple[type, ...]
    words: tuple[str, ...]
    allowed: str

    def check(self, name: str, value: object) -> None:
        """Raise `TypeError` or `ValueError` unless ``value`` is of this kind."""
        if isinstance(value, self.types):
            return
        if not isinstance(value, str) or not self.words:
            raise type_error(name, value, self.allowed)
        if value not in self.words:
            hint = _nearest(value, self.words)
            raise ValueError(f"{name} must be {self.allowed}{hint and '; ' + hint}")


# In the order in which messages name them, with the words of a `Literal` after the
# truth values. What a callable takes and returns is seen when it is called.
_NAMES: dict[Any, tuple[str, ...]] = {
    bool: ("True", "False"),
    str: ("text",),
    Callable: ("a callable",),
    NoneType: ("None",),
}


def kind_of(hint: Any) -> Kind:
    """Return what a type hint allows.

    It knows truth values, text, words (`~typing.Literal`), callables, `None` and
    unions of these. What has another type needs a check of its own: here it passes.
    """
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    words: tuple[str, ...] = ()
    types: list[Any] = []
    for part in parts:
        if get_origin(part) is Literal:
            words += get_args(part)
        else:
            types.append(get_origin(part) or part)
    if not set(types) <= set(_NAMES):
        return Kind((object,), (), "")
    names = [name for type_ in _NAMES if type_ in types for name in _NAMES[type_]]
    before = 2 if bool in types else 0
    names[before:before] = map(repr, words)
    *first, last = names
    allowed = f"{', '.join(first)} or {last}" if first else last
    return Kind(tuple(types), words, allowed)


def kinds_of(schema: type, **unknown: Any) -> dict[str, Kind]:
    """Return what each key of a `~typing.TypedDict` allows, by `kind_of`.

    ``unknown`` are types for names in its hints that are there for type checkers only.
    """
    hints = get_type_hints(schema, localns=unknown)
    return {name: kind_of(hint) for name, hint in hints.items()}


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


def positive_int(name: str, value: object) -> None:
    """Raise unless ``value`` is a whole number greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise type_error(name, value, "a whole number")
    if value <= 0:
        raise ValueError(f"{name} must be greater than 0")
