"""How a session's values become bytes, and which values may."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard

import msgspec

from .exceptions import EncodeError

__all__ = [
    "Encoded",
    "JSONSerializer",
    "MsgpackSerializer",
    "Serializer",
    "check",
    "check_items",
    "encoded_values",
    "is_too_deep",
    "may_be_deep",
]

# Deeper values could not be decoded again from within a deep call stack:
# msgspec's decoders share Python's recursion limit.
MAX_DEPTH = 100

_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})


class Serializer(Protocol):
    """Turns a value into bytes and back.

    ``loads`` may raise any exception for bytes that ``dumps`` never made; such
    a record is taken as an empty session. It must never run code that the
    bytes name, as pickle does.
    """

    def dumps(self, value: Any, /) -> bytes: ...
    def loads(self, data: bytes, /) -> Any: ...


class MsgpackSerializer:
    """MessagePack by way of msgspec: the default.

    Carries text, bytes, numbers (integers from -2**63 to 2**64-1), booleans,
    `None`, aware datetimes (as an instant: they come back in UTC), lists, and
    mappings with text keys.
    """

    def __init__(self) -> None:
        self.dumps = msgspec.msgpack.Encoder().encode
        self.loads = msgspec.msgpack.Decoder().decode
        self.split = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode


class JSONSerializer:
    """JSON by way of msgspec, for stores that other programs read as well.

    Carries text, finite numbers, booleans, `None`, lists, and mappings with
    text keys.
    """

    def __init__(self) -> None:
        self.dumps = msgspec.json.Encoder().encode
        self.loads = msgspec.json.Decoder().decode
        self.split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def is_own(serializer: Serializer) -> TypeGuard[MsgpackSerializer | JSONSerializer]:
    """Return whether the bytes are known; a subclass may compress them, say."""
    return type(serializer) is MsgpackSerializer or type(serializer) is JSONSerializer


# A value as it stands in an encoded mapping; two of them can be compared.
Encoded = bytes | msgspec.Raw


def encoded_values(
    serializer: Serializer, data: bytes, decoded: dict[str, Any] | None = None
) -> Mapping[str, Encoded]:
    """Return the values of an encoded mapping, each still encoded.

    The package's own serializers find them without decoding them, in a tenth of
    the time. For others it helps where the mapping is ``decoded`` as well.
    """
    if is_own(serializer):
        return serializer.split(data)
    if decoded is None:
        decoded = serializer.loads(data)
    return {key: serializer.dumps(value) for key, value in decoded.items()}


def check(serializer: Serializer, value: Any, path: str) -> None:
    """Raise `.EncodeError` unless ``value`` comes back as it was.

    ``path`` is where it stands, for the message.
    """
    if _is_plain(value, MAX_DEPTH):
        # MessagePack carries the plain types as they are, so that encoding is
        # enough: it finds integers that are too large and text that is not
        # Unicode. For 30 small mappings this takes as long as decoding and
        # comparing (6 µs), and it sees keys that are no text too.
        try:
            encoded = serializer.dumps(value)
            if isinstance(serializer, MsgpackSerializer):
                return
            if serializer.loads(encoded) == value:
                return
        except Exception:  # nosec B110 # the walk below finds where, and says what
            pass
    _walk(serializer, value, path, MAX_DEPTH)


def check_items(
    serializer: Serializer, items: dict[str, Any], *, encoded: bool = False
) -> None:
    """Raise `.EncodeError` unless all ``items`` of a session come back as they are.

    ``encoded`` tells that they have been, without an error.
    """
    enough = encoded and isinstance(serializer, MsgpackSerializer)
    for key, value in items.items():
        if type(key) is not str:
            raise EncodeError(
                "session", "mapping", f"with a key that is no text: {_name(key)}"
            )
        if enough and _is_plain(value, MAX_DEPTH):
            continue  # as in `check`
        check(serializer, key, "a key of session")
        check(serializer, value, f"session[{key!r}]")


# What a list or mapping begins with, in MessagePack and in JSON.
_NO_BOX = bytes(
    set(range(256)) - set(range(0x80, 0xA0)) - set(range(0xDC, 0xE0)) - set(b"[{")
)


def may_be_deep(serializer: Serializer, data: bytes) -> bool:
    """Return whether encoded ``data`` may be deeper than `check` allows.

    It holds no more boxes within each other than bytes that a box begins with:
    counting those is four times as fast as `is_too_deep`.
    """
    if is_own(serializer):
        return len(data.translate(None, _NO_BOX)) > MAX_DEPTH
    return True


def is_too_deep(values: Any) -> bool:
    """Return whether a session's decoded ``values`` are deeper than `check` allows.

    Their decoder may take far more, by the Python and the call stack, than can
    be compared, shown or encoded again.
    """
    level = [values]
    for _ in range(1 + MAX_DEPTH):
        level = [
            item
            for box in level
            for item in (box.values() if type(box) is dict else box)
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return False
    return True


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind in _PLAIN:
        return True
    if depth == 0:
        return False
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                return False
            if type(item) not in _PLAIN and not _is_plain(item, depth - 1):
                return False
        return True
    if kind is list:
        for item in value:
            if type(item) not in _PLAIN and not _is_plain(item, depth - 1):
                return False
        return True
    return False


def _walk(serializer: Serializer, value: Any, path: str, depth: int) -> None:
    if depth == 0:
        raise EncodeError(
            path,
            type(value).__name__,
            f"nested deeper than {MAX_DEPTH} levels, or within itself",
        )
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise EncodeError(
                    path, "mapping", f"with a key that is no text: {_name(key)}"
                )
            _check_leaf(serializer, key, f"a key of {path}")
            _walk(serializer, item, f"{path}[{key!r}]", depth - 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _walk(serializer, item, f"{path}[{index}]", depth - 1)
    else:
        _check_leaf(serializer, value, path)


def _check_leaf(serializer: Serializer, value: Any, path: str) -> None:
    try:
        back = serializer.loads(serializer.dumps(value))
    except Exception as error:
        raise EncodeError(
            path, _name(value), f"which cannot be encoded ({_name(error)})"
        ) from None
    if isinstance(value, bytearray | memoryview):
        raise EncodeError(path, _name(value), "which would come back as bytes")
    if back == value or (_is_nan(value) and _is_nan(back)):
        return
    raise EncodeError(path, _name(value))


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _name(value: object) -> str:
    return type(value).__name__
