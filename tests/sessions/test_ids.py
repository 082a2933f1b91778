"""Session ids: how they look, what passes for one, and where its record is.

Tried by themselves: not each of so many texts can be sent by a client.
"""

from __future__ import annotations

import hashlib
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tornado_mcsession.sessions import ids

ALPHABET = set(string.ascii_letters + string.digits + "_-")
DIGEST = "d" * 22
valid_ids = st.text(alphabet=sorted(ALPHABET), min_size=22, max_size=200)


def has_form(text: str) -> bool:
    """Whether ``text`` is an id, with or without a digest behind a dot, or none."""
    base, *digests = text.split(".")
    return (
        22 <= len(base) <= 200
        and len(digests) <= 1
        and all(len(digest) in (0, 22) for digest in digests)
        and set(text) - {"."} <= ALPHABET
    )


def test_new_ids_are_random_and_of_one_form():
    """A thousand ids are all different, and 43 characters of the alphabet each."""
    made = {ids.new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert {len(one) for one in made} == {43}
    assert set("".join(made)) == ALPHABET
    assert all(map(ids.is_valid, made))


def test_a_new_id_ends_with_its_digest():
    """The id of a logged-in session is 65 characters that end with the digest."""
    session_id = ids.new_id(DIGEST)
    assert len(session_id) == 65
    assert session_id.endswith(DIGEST)
    assert ids.is_valid(session_id)
    assert ids.digest_of(session_id) == DIGEST


@given(st.one_of(st.text(), st.text(alphabet="aZ0_-. \n\0é", max_size=230)))
@example("a" * 21)
@example("a" * 22)
@example("a" * 200)
@example("a" * 201)
@example("a" * 43 + "\n")
@example("\n" + "a" * 43)
@example("a" * 42 + "é")
@example("a" * 42 + "\u0661")
@example("a" * 42 + "\uff21")
@example("a" * 22 + "." + DIGEST)
@example("a" * 22 + "." + DIGEST + "\n")
@example("a" * 22 + "." + DIGEST + "." + DIGEST)
@example("a" * 22 + "." + "d" * 21)
@example("a" * 65 + ".")
@example("a" * 21 + "." + DIGEST)
@example("{" + "a" * 43 + "}")
def test_only_what_has_the_form_is_valid(text):
    """Of all text, ids are 22 to 200 of 64 characters, then perhaps a digest."""
    assert bool(ids.is_valid(text)) == has_form(text)


@given(valid_ids)
@example("a" * 65)
def test_an_id_of_a_hook_is_valid(base):
    """Whatever a hook may make passes, and its digest, or none, is found again."""
    assert ids.is_valid(base)
    without = ids.with_digest(base, "")
    assert without.rstrip(".") == base
    assert ids.is_valid(without)
    assert ids.digest_of(without) == ""
    with_digest = ids.with_digest(base, DIGEST)
    assert ids.is_valid(with_digest)
    assert ids.digest_of(with_digest) == DIGEST


def test_an_id_without_a_digest_has_none():
    """Nothing is read into the id of a session where nobody is logged in."""
    assert ids.digest_of(ids.new_id()) == ""
    assert ids.digest_of("a" * 22) == ""
    assert ids.digest_of("a" * 200) == ""


def test_a_digest_stands_for_one_principal_under_one_key():
    """The same principal has the same digest; another, or another key, has not."""
    digest = ids.principal_digest("ann", b"key")
    assert digest == ids.principal_digest("ann", b"key")
    assert len(digest) == 22
    assert set(digest) <= ALPHABET
    others = [("bob", b"key"), ("ann", b"other"), ("", b"key"), ("ann", b"")]
    digests = {ids.principal_digest(*other) for other in others}
    assert len(digests | {digest}) == 5


@given(st.text())
@example("\ud800")
def test_every_text_can_be_a_principal(principal):
    """Any text has a digest that makes a valid id."""
    digest = ids.principal_digest(principal, b"key")
    assert ids.is_valid(ids.new_id(digest))


def test_a_record_key_does_not_hold_the_id():
    """The key of a record is the prefix and a hash, so that no listing has ids."""
    session_id = "a" * 43
    hashed = hashlib.sha256(session_id.encode()).hexdigest()
    assert ids.record_key("mcsession:", session_id) == f"mcsession:{hashed}"


@pytest.mark.parametrize("session_id", ["a" * 43 + DIGEST, "a" * 22 + "." + DIGEST])
def test_a_record_key_has_the_digest_in_braces(session_id):
    """All records of a principal share the part of the key that places them."""
    hashed = hashlib.sha256(session_id.encode()).hexdigest()
    key = ids.record_key("mcsession:", session_id)
    assert key == f"mcsession:{{{DIGEST}}}{hashed}"


@given(valid_ids, valid_ids)
def test_different_ids_have_different_keys(one, other):
    """Two ids share a record key only if they are the same."""
    same = ids.record_key("p", one) == ids.record_key("p", other)
    assert same == (one == other)
