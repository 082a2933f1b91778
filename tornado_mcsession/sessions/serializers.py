"""How a session's values become bytes, and which values may be in a session."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from ..exceptions import EncodeError

__all__ = [
    "Encoded",
    "JSONSerializer",
    "MsgpackSerializer",
    "Serializer",
    "check_items",
    "check_value",
    "encoded_values",
    "is_too_deep",
    "values_of",
]

# msgspec's decoders share Python's recursion limit: deeper values could not be decoded
# from within a deep call stack.
MAX_DEPTH = 100

_TEXT = frozenset({str})
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})


class Serializer(Protocol):
    """Turns a value into bytes and back.

    ``loads`` may raise any exception for bytes that ``dumps`` did not make; such a
    record counts as an empty session. It must never run code that the bytes name, as
    pickle does.
    """

    def dumps(self, value: Any, /) -> bytes: ...
    def loads(self, data: bytes, /) -> Any: ...


def _as_plain(value: Any, *, plain: type[datetime] = datetime) -> Any:
    """Return what msgspec encodes for a subclass of text or of datetime.

    ``plain`` is bound here: libraries that replace `datetime` in a module during a
    test do not find it.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, plain):
        return plain.combine(value.date(), value.timetz())
    raise NotImplementedError


def _refuse_extension(code: int, data: memoryview) -> Any:
    raise ValueError("a MessagePack extension, which no session holds")


class MsgpackSerializer:
    """MessagePack, encoded by msgspec: the default.

    Carries text, bytes, numbers (integers from -2**63 to 2**64-1), booleans,
    `None`, aware datetimes (as an instant: they come back in UTC), lists, and
    mappings with text keys.
    """

    def __init__(self) -> None:
        self.dumps: Callable[[Any], bytes] = msgspec.msgpack.Encoder(
            enc_hook=_as_plain
        ).encode
        self.loads: Callable[[bytes], Any] = msgspec.msgpack.Decoder(
            ext_hook=_refuse_extension
        ).decode


class JSONSerializer:
    """JSON, encoded by msgspec, for stores that other programs read as well.

    Carries text, finite numbers, booleans, `None`, lists, and mappings with text
    keys.
    """

    def __init__(self) -> None:
        self.dumps: Callable[[Any], bytes] = msgspec.json.Encoder(
            enc_hook=_as_plain
        ).encode
        self.loads: Callable[[bytes], Any] = msgspec.json.Decoder().decode


# A value as it stands in an encoded mapping. Two of them can be compared.
Encoded = bytes | msgspec.Raw

# How an encoded mapping is split into its values. For the exact types only: a subclass
# may compress its bytes, for example.
_SPLIT: dict[type, Callable[[bytes], dict[str, msgspec.Raw]]] = {
    MsgpackSerializer: msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode,
    JSONSerializer: msgspec.json.Decoder(dict[str, msgspec.Raw]).decode,
}


def split_values(serializer: Serializer, data: bytes) -> dict[str, Any] | None:
    """Return the values of an encoded mapping as `msgspec.Raw`, none of them decoded.

    That takes a sixth of the time of decoding it. The serializer decodes each of them,
    and encodes it as it is. None: another serializer than the package's own made it.
    """
    split = _SPLIT.get(type(serializer))
    return None if split is None else split(data)


def encoded_values(
    serializer: Serializer, data: bytes, decoded: Mapping[str, Any] | None = None
) -> Mapping[str, Encoded]:
    """Return the values of an encoded mapping, each still encoded.

    For the package's own serializers the mapping is split without decoding it, in a
    tenth of the time. For others, ``decoded`` spares decoding it here.
    """
    split = _SPLIT.get(type(serializer))
    if split is not None:
        return split(data)
    if decoded is None:
        decoded = serializer.loads(data)
    return {key: serializer.dumps(value) for key, value in decoded.items()}


def values_of(
    serializer: Serializer, data: bytes, keys: Collection[str]
) -> dict[str, Any]:
    """Return the values under ``keys`` in an encoded mapping, decoded."""
    if not data:
        return {}
    split = _SPLIT.get(type(serializer))
    if split is None:
        values = serializer.loads(data)
        return {key: values[key] for key in keys if key in values}
    encoded = split(data)
    return {key: serializer.loads(encoded[key]) for key in keys if key in encoded}


# The bytes with which no list or mapping begins, in MessagePack and in JSON.
_NO_BOX = bytes(
    set(range(256)) - set(range(0x80, 0xA0)) - set(range(0xDC, 0xE0)) - set(b"[{")
)


def is_too_deep(serializer: Serializer, data: bytes, values: Any) -> bool:
    """Return whether ``values``, decoded from ``data``, are deeper than is allowed.

    A decoder may accept far deeper values than can be compared, shown or encoded
    again.
    """
    # Each level takes a byte to begin it. Counting those bytes is four times as fast
    # as looking at the values.
    if len(data) <= MAX_DEPTH:
        return False
    if type(serializer) in _SPLIT and len(data.translate(None, _NO_BOX)) <= MAX_DEPTH:
        return False
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


# Which values may be in a session.


def check_items(
    serializer: Serializer, items: Mapping[str, Any], *, encoded: bool = False
) -> None:
    """Raise `.EncodeError` unless all ``items`` of a session come back as they are.

    ``encoded`` says that the serializer has encoded them without an error.
    """
    # MessagePack carries the plain types as they are.
    is_enough = encoded and isinstance(serializer, MsgpackSerializer)
    for key, value in items.items():
        if type(key) is not str:
            raise _key_error(key, "session", 0)
        is_plain = type(value) in _PLAIN or _is_plain(value, MAX_DEPTH)
        if is_plain and is_enough:
            continue
        path = f"session[{key!r}]"
        _check_leaf(serializer, key, path, 0)
        if not is_plain or not _comes_back(serializer, value):
            _walk(serializer, value, path, 0)


def check_value(serializer: Serializer, value: Any, path: str) -> None:
    """Raise `.EncodeError` unless ``value`` comes back as it is.

    The error calls it by its ``path``.
    """
    if not _is_plain(value, MAX_DEPTH) or not _comes_back(serializer, value):
        _walk(serializer, value, path, 0)


def _comes_back(serializer: Serializer, value: Any) -> bool:
    try:
        return bool(serializer.loads(serializer.dumps(value)) == value)
    except Exception:
        return False  # the walk finds the value, and raises the right error


def _is_plain(value: Any, depth: int) -> bool:
    """Return whether ``value`` is made of the plain types, and not too deep."""
    kind = type(value)
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        value = value.values()
    elif kind is not list:
        return kind in _PLAIN
    if depth == 0:
        return False
    for item in value:
        if type(item) not in _PLAIN and not _is_plain(item, depth - 1):
            return False
    return True


def _walk(serializer: Serializer, value: Any, path: str, depth: int) -> None:
    """Raise for the first value within ``value`` that would not come back.

    Nested keys are users' data. So an error names the session's own key, and how deep
    below it the value is.
    """
    if depth == MAX_DEPTH:
        raise EncodeError(
            path,
            _name(value),
            f"that is nested deeper than {MAX_DEPTH} levels, or within itself",
        )
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise _key_error(key, path, depth)
            _check_leaf(serializer, key, path, depth + 1)
            _walk(serializer, item, path, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _walk(serializer, item, path, depth + 1)
    else:
        _check_leaf(serializer, value, path, depth)


def _key_error(key: object, path: str, depth: int) -> EncodeError:
    reason = f"with a key that is no text: {_name(key)}"
    return EncodeError(path, "mapping", reason, depth=depth)


def _check_leaf(serializer: Serializer, value: Any, path: str, depth: int) -> None:
    try:
        back = serializer.loads(serializer.dumps(value))
    except Exception as error:
        raise EncodeError(
            path,
            _name(value),
            f"that cannot be encoded ({_name(error)})" + _advice(value),
            depth=depth,
        ) from None
    if isinstance(value, bytearray | memoryview) or not _is_same(value, back):
        raise EncodeError(
            path,
            _name(value),
            "that would not come back as it was" + _advice(value),
            depth=depth,
        )


def _is_same(value: Any, back: Any) -> bool:
    if isinstance(value, datetime) and isinstance(back, datetime):
        # In the repeated hour of a time zone, == between zones is always false.
        return value.tzinfo is not None and value.astimezone(UTC) == back
    if isinstance(value, float) and math.isnan(value):
        return isinstance(back, float) and math.isnan(back)
    return bool(back == value)


_ADVICE = {
    "tuple": "use a list",
    "set": "use a list",
    "frozenset": "use a list",
    "bytearray": "use bytes",
    "memoryview": "use bytes",
    "UUID": "use its text: str(value)",
    "Decimal": "use its text: str(value)",
    "date": "use its text: value.isoformat()",
    "time": "use its text: value.isoformat()",
    "timedelta": "use its seconds: value.total_seconds()",
}


def _advice(value: object) -> str:
    if isinstance(value, datetime):
        advice = "use one that is aware and that UTC can express"
    else:
        advice = _ADVICE.get(_name(value), "")
    return f"; {advice}" if advice else ""


def _name(value: object) -> str:
    return type(value).__name__
