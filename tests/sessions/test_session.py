"""The session as a mapping, and what it tells of itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import MutableMapping

import pytest

from tornado_mcsession import EncodeError, Session, SessionNotLoaded

from ..support.requests import (
    FakeHandler,
    begin,
    finish,
    unavailable,
    unloaded,
    visit,
)

NOW = dt.datetime.fromtimestamp(1_800_000_000, dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture
def session(io_loop, manager):
    """The session of a request that carries no cookie."""
    return io_loop.run_sync(lambda: manager.open(FakeHandler()))


# The mapping.


def test_it_is_a_mapping(session):
    """All that a dict can do, a session can."""
    assert isinstance(session, MutableMapping)
    session["a"] = 1
    session.update({"b": 2}, c=3)
    session |= {"d": 4}
    session |= [("e", 5)]
    assert session.setdefault("a", 9) == 1
    assert session.setdefault("f", 6) == 6
    assert list(session) == list("abcdef")
    assert len(session) == 6
    assert "a" in session
    assert "x" not in session
    assert session.get("x") is None
    assert session.get("x", 7) == 7
    assert next(iter(session.items())) == ("a", 1)
    assert list(session.values()) == [1, 2, 3, 4, 5, 6]
    assert session.pop("f") == 6
    assert session.pop("f", None) is None
    assert session.popitem() == ("e", 5)
    del session["d"]
    assert session == {"a": 1, "b": 2, "c": 3}
    session.clear()
    assert not session


def test_a_missing_key_is_a_key_error(session):
    """As with a dict."""
    for use in (
        lambda: session["x"],
        lambda: session.pop("x"),
        lambda: session.__delitem__("x"),
        session.popitem,
    ):
        with pytest.raises(KeyError):
            use()


def test_it_compares_by_its_data(session, manager, io_loop):
    """With dicts and other sessions; it is never equal to something else."""
    session["a"] = [1]
    other = io_loop.run_sync(lambda: manager.open(FakeHandler()))
    assert session != other
    other["a"] = [1]
    assert session == other
    assert session == {"a": [1]}
    assert {"a": [1]} == session
    assert session != {"a": [2]}
    assert session != [("a", [1])]
    with pytest.raises(TypeError):
        hash(session)


def test_a_union_and_a_copy_are_new_dicts(session):
    """They are the data, without the session behind it."""
    session["a"] = 1
    assert session | {"b": 2} == {"a": 1, "b": 2}
    assert {"a": 0, "b": 2} | session == {"a": 1, "b": 2}
    assert session.copy() == {"a": 1}
    for made in (session | {}, {} | session, session.copy()):
        assert type(made) is dict
        made["x"] = 1
    assert session == {"a": 1}


@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_keys_are_text(session, key):
    """Another key is refused at once, and changes nothing."""
    session["a"] = 1
    for use in (
        lambda: session.__setitem__(key, 1),
        lambda: session.setdefault(key, 1),
        lambda: session.update({key: 1}),
        lambda: session.replace({"b": 2, key: 1}),
    ):
        with pytest.raises(EncodeError, match="no text"):
            use()
    assert session == {"a": 1}


def test_replacing_takes_a_mapping(session):
    """``session = {…}`` in a handler; its own data may be part of the new."""
    session.update(a=1, b=2)
    session.replace({"b": session["b"], "c": 3})
    assert session == {"b": 2, "c": 3}
    session.replace(session)
    assert session == {"b": 2, "c": 3}
    with pytest.raises(TypeError, match="session must be a mapping or None, not list"):
        session.replace([("a", 1)])


# What is known of it.


def test_a_new_session_knows_that_it_is(session):
    """No id, nothing in it, and the end that it would have."""
    assert session.id is None
    assert session.is_new
    assert session.available
    assert not session.modified
    assert session.principal is None
    assert session.authenticated_at is None
    assert session.created == NOW
    assert session.idle_timeout == 86_400.0
    assert session.expires_at == NOW + 1.1 * DAY


@pytest.mark.gen_test
async def test_a_stored_session_knows_its_times(manager, clock):
    """When it began stays; when it ends is told in UTC."""
    session_id = await begin(manager, a=1)
    clock.advance(3600)
    session = (await visit(manager, session_id)).session
    assert session.id == session_id
    assert not session.is_new
    assert session.created == NOW
    assert session.expires_at == NOW + 1.1 * DAY
    assert session.expires_at.tzinfo is dt.UTC


@pytest.mark.gen_test
async def test_a_session_that_was_saved_is_still_new(manager):
    """New is what the request found, not what it did."""
    session = (await visit(manager)).session
    session["a"] = 1
    await session.save()
    assert session.is_new
    assert session.id is not None


USES = {
    "getitem": lambda s: s["a"],
    "get": lambda s: s.get("a"),
    "in": lambda s: "a" in s,
    "len": lambda s: len(s),
    "bool": lambda s: bool(s),
    "iter": lambda s: list(s),
    "items": lambda s: list(s.items()),
    "eq": lambda s: s == {},
    "copy": lambda s: s.copy(),
    "or": lambda s: s | {},
    "ror": lambda s: {} | s,
    "set": lambda s: s.__setitem__("b", 1),
    "del": lambda s: s.__delitem__("a"),
    "pop": lambda s: s.pop("a"),
    "popitem": lambda s: s.popitem(),
    "clear": lambda s: s.clear(),
    "replace": lambda s: s.replace({}),
    "id": lambda s: s.id,
    "is_new": lambda s: s.is_new,
    "created": lambda s: s.created,
    "expires_at": lambda s: s.expires_at,
    "idle_timeout": lambda s: s.idle_timeout,
    "principal": lambda s: s.principal,
    "authenticated_at": lambda s: s.authenticated_at,
    "flash": lambda s: s.flash("x"),
    "flashes": lambda s: s.flashes(),
    "remember": lambda s: s.remember(True),
    "set_idle_timeout": lambda s: s.set_idle_timeout(5),
    "set_expiry": lambda s: s.set_expiry(NOW + DAY),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.gen_test
async def test_any_use_is_access(manager, use):
    """Then the answer depends on the session."""
    session_id = await begin(manager, a=1)
    session = (await visit(manager, session_id)).session
    USES[use](session)
    assert session.accessed


@pytest.mark.gen_test
async def test_looking_from_outside_is_no_access(manager):
    """A repr in a log does not make an answer private."""
    session = (await visit(manager, await begin(manager, a=1))).session
    assert repr(session)
    assert not session.modified
    assert session.available
    assert not session.accessed


@pytest.mark.gen_test
async def test_what_was_not_loaded_cannot_be_used(manager):
    """Each use, but a logout, says why."""
    session_id = await begin(manager, a=1)
    session = unloaded(manager, session_id)
    for name, use in USES.items():
        if name != "replace":
            with pytest.raises(SessionNotLoaded, match="because"):
                use(session)
    for verb in (session.save, session.reload, session.regenerate):
        with pytest.raises(SessionNotLoaded, match="because"):
            await verb()
    assert "not loaded" in repr(session)
    await session.destroy()
    assert await manager.get(session_id) is None
    assert dict(session) == {}


# The repr.


@pytest.mark.gen_test
async def test_the_repr_shows_counts_and_no_contents(manager):
    """Neither id, names nor values."""
    session_id = await begin(manager, planted="planted")
    session = (await visit(manager, session_id)).session
    session.flash("planted")
    assert repr(session) == "<Session loaded keys=1>"
    assert repr((await visit(manager)).session) == "<Session new keys=0>"
    finish(session)
    assert repr(session) == "<Session loaded closed keys=1>"
    session = unavailable(manager)
    assert repr(session) == "<Session unavailable keys=0>"
    assert isinstance(session, Session)
