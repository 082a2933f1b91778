"""The errors: their tree, their status, and what they carry."""

from __future__ import annotations

import pytest

from tornado_mcsession import exceptions as e

EXAMPLES = [
    (e.SessionNotLoaded("why"), e.SessionError, 500, None),
    (e.SessionConflict(32), e.SessionError, 503, 1),
    (e.SessionGone("why"), e.SessionError, 409, None),
    (e.SessionRefused(), e.SessionError, 429, None),
    (e.SessionTooLarge(5, 4, [("cart", 3)]), e.SessionError, 500, None),
    (
        e.EncodeError("session['a']", "set", "that would not come back"),
        e.SessionError,
        500,
        None,
    ),
    (e.DecodeError("foreign"), e.SessionError, 500, None),
    (e.StoreError("get", "a:1", "why"), e.SessionError, 503, 1),
    (e.StoreUnavailable("get", "a:1", "why"), e.StoreError, 503, 1),
    (e.StoreRejected("add", "", "why"), e.StoreError, 503, 1),
]


@pytest.mark.parametrize(
    ("error", "parent", "status", "retry_after"),
    EXAMPLES,
    ids=[type(example[0]).__name__ for example in EXAMPLES],
)
def test_each_error_has_its_place_and_its_status(error, parent, status, retry_after):
    """One root; 503 with Retry-After where trying again may help."""
    assert type(error).__bases__ == (parent,)
    assert (error.status, error.retry_after) == (status, retry_after)
    assert type(error).__name__ in e.__all__


def test_the_examples_are_all():
    """An error that is added gets its line above."""
    assert {type(example[0]).__name__ for example in EXAMPLES} | {
        "SessionError"
    } == set(e.__all__)


@pytest.mark.parametrize(
    ("error", "text", "attributes"),
    [
        (e.SessionConflict(3), "3 attempts", {"attempts": 3}),
        (
            e.SessionTooLarge(2000, 1000, [("cart", 900)]),
            "session of 2000 bytes exceeds max_size 1000; largest keys: 'cart' 900",
            {"size": 2000, "limit": 1000, "largest_keys": (("cart", 900),)},
        ),
        (
            e.SessionTooLarge(2000, None),
            "session of 2000 bytes exceeds the node's item size",
            {"limit": None, "largest_keys": ()},
        ),
        (
            e.EncodeError("session['a']", "set", "that would not come back", depth=1),
            "session['a'], 1 level down, holds a set that would not come back",
            {"path": "session['a']", "type_name": "set"},
        ),
        (e.DecodeError("foreign"), "foreign", {"reason": "foreign"}),
        (
            e.StoreUnavailable("get", "a:1", "timed out"),
            "get on a:1: timed out",
            {"operation": "get", "node": "a:1", "outcome_unknown": False},
        ),
        (
            e.StoreUnavailable("cas", "", "closed", outcome_unknown=True),
            "cas: closed",
            {"node": "", "outcome_unknown": True},
        ),
        (
            e.StoreRejected("add", "a:1", "full", too_large=True),
            "add on a:1: full",
            {"reason": "full", "too_large": True},
        ),
    ],
)
def test_an_error_carries_its_evidence(error, text, attributes):
    """As attributes, and in words."""
    assert text in str(error)
    for name, value in attributes.items():
        assert getattr(error, name) == value
