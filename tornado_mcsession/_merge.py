"""The three-way merge of a session's top-level keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["Delta", "apply", "diff"]


class Delta(NamedTuple):
    """What a request did to the keys: those it set, and those it removed."""

    changed: dict[str, Any]
    deleted: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.changed or self.deleted)


def diff(
    base: Mapping[str, Any],
    current: Mapping[str, Any],
    dumps: Callable[[Any], object],
) -> Delta:
    """Return what leads from ``base`` to ``current``.

    A key counts as changed where its encoded values differ, so that changes
    within lists and mappings are found, and an equal value set again is not.
    ``dumps`` must be able to encode the values of both.
    """
    changed = {
        key: value
        for key, value in current.items()
        if key not in base or dumps(base[key]) != dumps(value)
    }
    return Delta(changed, frozenset(base.keys() - current.keys()))


def apply(delta: Delta, newer: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``newer`` with the changes of ``delta`` made to it."""
    merged = {key: value for key, value in newer.items() if key not in delta.deleted}
    merged.update(delta.changed)
    return merged
