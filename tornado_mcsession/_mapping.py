"""The mapping that a session is: it knows when it is read and when written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Self

from .checks import type_error
from ._state import SessionState
from .exceptions import EncodeError, SessionNotLoaded

__all__ = ["SessionMapping"]

_MISSING: Any = object()


class SessionMapping(MutableMapping[str, Any]):
    """The data of one request's session.

    All but repr counts as access: the answer then depends on the session.
    """

    __slots__ = ("_state",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, state: SessionState) -> None:
        self._state = state

    def _read(self) -> dict[str, Any]:
        state = self._state
        state.accessed = True
        if state.unloaded is not None:
            raise SessionNotLoaded(state.unloaded)
        return state.data

    def _write(self) -> dict[str, Any]:
        state = self._state
        if state.closed:
            raise RuntimeError("the answer is finished: too late to change the session")
        if state.begins_too_late:
            raise RuntimeError(
                "the headers have left: too late to begin a session, since its "
                "cookie could not be sent"
            )
        return self._read()

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        _check_key(key)
        self._write()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._write()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __contains__(self, key: object) -> bool:
        return key in self._read()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SessionMapping):
            return self._read() == other._read()
        if isinstance(other, Mapping):
            return self._read() == dict(other)
        return NotImplemented

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return self._read() | dict(other)

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return dict(other) | self._read()

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        self.update(other)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of ``key``, or ``default``."""
        return self._read().get(key, default)

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove ``key`` and return its value, or ``default`` if given."""
        data = self._write()
        return data.pop(key) if default is _MISSING else data.pop(key, default)

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the pair that was added last."""
        return self._write().popitem()

    def clear(self) -> None:
        """Remove all keys that this request sees; the session itself stays."""
        self._write().clear()

    def copy(self) -> dict[str, Any]:
        """Return the data as a new dict."""
        return dict(self._read())

    def replace(self, data: Mapping[str, Any]) -> None:
        """Put ``data`` in place of all keys that this request sees."""
        if not isinstance(data, Mapping):
            raise type_error("session", data, "a mapping or None")
        items = dict(data)
        for key in items:
            _check_key(key)
        kept = self._write()
        kept.clear()
        kept.update(items)

    def __repr__(self) -> str:
        state = self._state
        words = ["new" if state.is_new else "loaded"]
        if not state.available:
            words = ["unavailable"]
        if state.unloaded is not None:
            words = ["not loaded"]
        if state.closed:
            words.append("closed")
        return f"<Session {' '.join(words)} keys={len(state.data)}>"


def _check_key(key: object) -> None:
    if type(key) is not str:
        raise EncodeError(
            "session", "mapping", f"with a key that is no text: {type(key).__name__}"
        )
