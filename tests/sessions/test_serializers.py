"""Which values may be in a session, and what is said of the others.

Limits of depth are also tried on the check itself, which says how deep it looks.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import math
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_mcsession import EncodeError, JSONSerializer, MsgpackSerializer
from tornado_mcsession.sessions.serializers import MAX_DEPTH, check_items

MSGPACK, JSON = MsgpackSerializer(), JSONSerializer()
both = pytest.mark.parametrize("serializer", [MSGPACK, JSON], ids=["msgpack", "json"])

Point = collections.namedtuple("Point", "x y")
AWARE = dt.datetime(2027, 1, 15, 8, tzinfo=dt.timezone(dt.timedelta(hours=2)))


class Colour(enum.Enum):
    RED = 1


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def cycle():
    value = {"a": []}
    value["a"].append(value)
    return value


REFUSED = {
    "tuple": (1, 2),
    "set": {1},
    "frozenset": frozenset({1}),
    "UUID": uuid.UUID(int=1),
    "Decimal": decimal.Decimal("1.10"),
    "datetime": dt.datetime(2027, 1, 15),
    "date": dt.date(2027, 1, 15),
    "time": dt.time(12),
    "timedelta": dt.timedelta(1),
    "bytearray": bytearray(b"a"),
    "memoryview": memoryview(b"a"),
    "object": object(),
    "Point": Point(1, 2),
    "Colour": Colour.RED,
    "complex": 1j,
    "str": "\ud800",
}


@both
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("where", ["top", "dict", "list", "deep"])
def test_what_would_not_come_back_is_refused(serializer, name, where):
    """The error leads to the value and names its type, however deep it is."""
    value = REFUSED[name]
    items, depth = {
        "top": ({"k": value}, 0),
        "dict": ({"a": 1, "k": {"x": 1, "y": value}}, 1),
        "list": ({"k": ["a", value]}, 1),
        "deep": ({"k": [{"a": [0, {"b": value}]}]}, 4),
    }[where]
    with pytest.raises(EncodeError) as caught:
        check_items(serializer, items)
    assert (caught.value.path, caught.value.type_name) == ("session['k']", name)
    assert caught.value.depth == depth
    assert f" holds a {name} " in str(caught.value)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**100])
def test_msgpack_refuses_integers_that_are_too_large(value):
    """MessagePack has 64 bits."""
    with pytest.raises(EncodeError, match="1 level down, holds a int"):
        check_items(MSGPACK, {"a": [value]})


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"bytes", "bytes"),
        (math.nan, "float"),
        (math.inf, "float"),
        (-math.inf, "float"),
        (AWARE, "datetime"),
    ],
)
def test_json_refuses_what_only_msgpack_carries(value, name):
    """JSON would turn them into text or null."""
    check_items(MSGPACK, {"a": [value]})
    with pytest.raises(EncodeError) as caught:
        check_items(JSON, {"a": [value]})
    assert (caught.value.path, caught.value.type_name) == ("session['a']", name)


@both
@pytest.mark.parametrize("key", [1, None, True, b"k", (1, 2), 1.5, Colour.RED])
@pytest.mark.parametrize(
    ("build", "path"),
    [
        (lambda key: {key: 1}, "session"),
        (lambda key: {"a": {key: 1}}, "session['a']"),
        (lambda key: {"a": [{"b": {key: 1}}]}, "session['a']"),
        (lambda key: {"a": {"x": 1, key: AWARE}}, "session['a']"),
    ],
)
def test_keys_must_be_text(serializer, key, build, path):
    """A mapping with another key is named, with the type of the key."""
    with pytest.raises(EncodeError) as caught:
        check_items(serializer, build(key))
    assert (caught.value.path, caught.value.type_name) == (path, "mapping")
    assert f"no text: {type(key).__name__}" in str(caught.value)


@both
@pytest.mark.parametrize(
    ("items", "path"),
    [
        ({"\ud800": 1}, "session['\\ud800']"),
        ({"a": {"\udfff": 1}}, "session['a']"),
    ],
)
def test_keys_must_be_unicode(serializer, items, path):
    """Half of a surrogate pair cannot be encoded."""
    with pytest.raises(EncodeError) as caught:
        check_items(serializer, items)
    assert caught.value.path == path


@both
@pytest.mark.parametrize("value", [nested(MAX_DEPTH), nested(5000), cycle()])
def test_what_is_nested_too_deep_is_refused(serializer, value):
    """A value within itself, or too deep to be read again, is no RecursionError."""
    with pytest.raises(EncodeError, match="nested deeper than 100 levels"):
        check_items(serializer, {"a": value})


@both
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**63),
        2**64 - 1,
        0.1,
        -0.0,
        1e300,
        "",
        "é\0\U0001f600",
        [],
        {},
        nested(MAX_DEPTH - 2),
        {"a": [{"b": [1, "x", None, {"c": {}}]}]},
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        enum.IntEnum("Number", "ONE").ONE,
    ],
)
def test_what_comes_back_is_accepted(serializer, value):
    """A value that compares equal after the way through the store may be used."""
    check_items(serializer, {"k": value, "list": [value]})
    assert serializer.loads(serializer.dumps(value)) == value


@pytest.mark.parametrize("value", [AWARE, b"\x00\xff", math.inf])
def test_msgpack_carries_more(value):
    """Aware datetimes, bytes and infinities come back equal, at any depth."""
    check_items(MSGPACK, {"k": value, "deep": [{"a": value}]})
    assert MSGPACK.loads(MSGPACK.dumps([value])) == [value]


def test_not_a_number_is_accepted():
    """NaN comes back as NaN, though it is not equal to itself."""
    check_items(MSGPACK, {"k": math.nan, "list": [AWARE, math.nan]})
    assert math.isnan(MSGPACK.loads(MSGPACK.dumps(math.nan)))


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(dt.UTC))
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(VALUES)
def test_all_that_msgpack_carries_makes_the_round_trip(value):
    """What is accepted comes back equal, and of the same types."""
    check_items(MSGPACK, {"a": value})
    back = MSGPACK.loads(MSGPACK.dumps(value))
    assert back == value
    assert MSGPACK.dumps(back) == MSGPACK.dumps(value)


ODD = VALUES | st.sampled_from(list(REFUSED.values())) | st.integers()


@both
@given(
    value=st.recursive(
        ODD,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_what_is_accepted_always_comes_back(serializer, value):
    """Any value either comes back equal or is an EncodeError, never another."""
    try:
        check_items(serializer, {"a": value})
    except EncodeError:
        return
    assert serializer.loads(serializer.dumps(value)) == value
