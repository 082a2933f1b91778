"""What counts as a change of a key, and how changes meet a newer state."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_mcsession import MsgpackSerializer
from tornado_mcsession._merge import apply, diff

dumps = MsgpackSerializer().dumps


@pytest.mark.parametrize(
    ("base", "current", "changed", "deleted"),
    [
        ({}, {}, {}, set()),
        ({"a": 1}, {"a": 1}, {}, set()),
        ({"a": 1}, {"a": 2}, {"a": 2}, set()),
        ({"a": 1}, {"a": True}, {"a": True}, set()),
        ({"a": 1}, {"a": 1.0}, {"a": 1.0}, set()),
        ({"a": 0.0}, {"a": -0.0}, {"a": -0.0}, set()),
        ({"a": "1"}, {"a": b"1"}, {"a": b"1"}, set()),
        ({"a": math.nan}, {"a": math.nan}, {}, set()),
        ({"a": None}, {}, {}, {"a"}),
        ({}, {"a": None}, {"a": None}, set()),
        ({"a": [1]}, {"a": [1, 2]}, {"a": [1, 2]}, set()),
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}, {}, set()),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {}, set()),
        ({"a": 1, "b": 2}, {"c": 3, "b": 5}, {"c": 3, "b": 5}, {"a"}),
    ],
)
def test_a_difference_is_by_key_and_encoded_value(base, current, changed, deleted):
    """Equal values and another order of keys are none; another type is one."""
    delta = diff(base, current, dumps)
    assert dumps(delta.changed) == dumps(changed)
    assert delta.deleted == deleted
    assert bool(delta) is bool(changed or deleted)


def test_the_order_within_a_value_is_part_of_it():
    """A nested mapping that was put in another order is saved in that order."""
    delta = diff({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, dumps)
    assert list(delta.changed["a"]) == ["y", "x"]


DATA = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 3))


@given(DATA, DATA)
def test_a_delta_leads_from_base_to_current(base, current):
    """Applied to the base itself, the changes give what they were taken from."""
    assert apply(diff(base, current, dumps), base) == current


@given(DATA, DATA, DATA)
def test_own_keys_win_and_others_stay(base, mine, theirs):
    """Keys that were changed or removed are mine, all others are theirs."""
    merged = apply(diff(base, mine, dumps), theirs)
    for key in "abcde":
        winner = theirs if mine.get(key) == base.get(key) else mine
        assert merged.get(key) == winner.get(key)


@given(DATA, DATA, DATA)
def test_applying_twice_is_applying_once(base, mine, theirs):
    """A save whose answer was lost may be made again."""
    delta = diff(base, mine, dumps)
    once = apply(delta, theirs)
    assert apply(delta, once) == once
