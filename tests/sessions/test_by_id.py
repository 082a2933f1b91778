"""Sessions by their id, for code outside a request."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tornado_mcsession import (
    EncodeError,
    SessionGone,
    SessionTooLarge,
    StoreUnavailable,
)

from ..support.requests import begin, data_of, key_of, visit
from ..support.scripted import after, down, lost

ID = "a-session-id-of-forty-three-characters-0123"
BAD = ["", "short", "x" * 21, "x" * 224, "a b" * 20, "é" * 43, ID + "\n", None, 5, b"x"]
DAY = 86_400


@pytest.mark.gen_test
async def test_what_is_set_can_be_got(manager):
    """A mapping of any kind; the session can then be changed and saved."""
    await manager.set(ID, {"a": [1]})
    session = await manager.get(ID)
    assert (session.id, session.is_new, dict(session)) == (ID, False, {"a": [1]})
    session["a"].append(2)
    await session.save()
    assert await data_of(manager, ID) == {"a": [1, 2]}
    late = await visit(manager, ID)
    assert late.session == {"a": [1, 2]}


@pytest.mark.gen_test
async def test_getting_never_creates(manager, store):
    """What is not there is None, and one get is all it costs."""
    assert await manager.get(ID) is None
    assert store.calls == ["get"]


@pytest.mark.gen_test
async def test_setting_replaces_the_data_and_keeps_the_rest(manager, clock):
    """Principal, beginning and messages stay; the end is put off as by a request."""
    late = await visit(manager)
    late.session["a"] = 1
    late.session.flash("kept")
    await late.session.login("alice")
    session_id = await late.leave_with_cookie()
    created = late.session.created
    clock.advance(3600)
    await manager.set(session_id, {"b": 2})
    session = await manager.get(session_id)
    assert session == {"b": 2}
    assert (session.principal, session.created) == ("alice", created)
    assert session.flashes() == [("info", "kept")]
    assert session.expires_at.timestamp() == pytest.approx(clock.now + 1.1 * DAY)


@pytest.mark.parametrize("ttl", [60, 60.0, timedelta(minutes=1)])
@pytest.mark.gen_test
async def test_a_ttl_ends_it(manager, clock, ttl):
    """A new one and an old one alike; using it does not put that off."""
    old = await begin(manager, a=1)
    for session_id in (ID, old):
        await manager.set(session_id, {"a": 1}, ttl)
    clock.advance(59)
    for session_id in (ID, old):
        late = await visit(manager, session_id)
        assert late.session["a"] == 1
        await late.leave()
    clock.advance(1)
    for session_id in (ID, old):
        assert await manager.get(session_id) is None


@pytest.mark.gen_test
async def test_a_ttl_is_limited_by_the_lifetime(make, store, clock):
    """The lifetime ends a session whatever happens; without one the TTL holds."""
    limited = make(store, lifetime=100)
    await limited.set(ID, {}, ttl=500)
    assert (await limited.get(ID)).expires_at.timestamp() == clock.now + 100
    endless = make(store, lifetime=None)
    await endless.set(ID[::-1], {}, ttl=400 * DAY)
    session = await endless.get(ID[::-1])
    assert session.expires_at.timestamp() == clock.now + 400 * DAY


@pytest.mark.gen_test
async def test_without_a_ttl_an_earlier_one_stays(manager, clock):
    """Data that is replaced does not live longer than was said."""
    await manager.set(ID, {"a": 1}, ttl=60)
    await manager.set(ID, {"a": 2})
    clock.advance(60)
    assert await manager.get(ID) is None


@pytest.mark.gen_test
async def test_destroying_tells_whether_it_was_there(manager):
    """A second time it was not."""
    await manager.set(ID, {})
    assert await manager.destroy(ID) is True
    assert await manager.get(ID) is None
    assert await manager.destroy(ID) is False
    assert await manager.destroy(ID[::-1]) is False, "there was none"


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.gen_test
async def test_a_bad_id_is_a_value_error(manager, store, bad):
    """It is neither shown nor looked for."""
    for use in (manager.get(bad), manager.set(bad, {}), manager.destroy(bad)):
        with pytest.raises(
            ValueError, match="a session id must be 22 to 200"
        ) as caught:
            await use
        assert str(bad) not in str(caught.value) or bad == ""
    assert store.calls == []


@pytest.mark.parametrize(
    ("data", "ttl", "error"),
    [
        ([("a", 1)], None, TypeError),
        (None, None, TypeError),
        ({"a": {1}}, None, EncodeError),
        ({1: 1}, None, EncodeError),
        ({}, 0, ValueError),
        ({}, "60", TypeError),
        ({"a": "x" * 1_000_000}, None, SessionTooLarge),
    ],
)
@pytest.mark.gen_test
async def test_what_is_set_is_checked(manager, data, ttl, error):
    """As in a request; nothing is stored."""
    with pytest.raises(error):
        await manager.set(ID, data, ttl)
    assert await manager.get(ID) is None


@pytest.mark.gen_test
async def test_a_change_in_between_is_replaced_all_the_same(manager, store):
    """By cas, on top of the newer version: what is set holds."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2
    store.script("cas", after(late.leave))
    await manager.set(session_id, {"a": 3})
    assert await data_of(manager, session_id) == {"a": 3}


@pytest.mark.gen_test
async def test_many_that_set_a_new_one_at_once_agree(manager):
    """One creates it, the others replace what it wrote."""
    await asyncio.gather(*(manager.set(ID, {"n": n}) for n in range(10)))
    assert (await data_of(manager, ID))["n"] in range(10)


@pytest.mark.gen_test
async def test_a_lost_answer_is_no_failure(manager, store):
    """What was done is recognised."""
    store.script("add", lost)
    await manager.set(ID, {"a": 1})
    store.script("cas", lost)
    await manager.set(ID, {"a": 2})
    assert await data_of(manager, ID) == {"a": 2}


@pytest.mark.gen_test
async def test_a_store_that_is_down_is_no_missing_session(manager, store):
    """All three say that they cannot tell."""
    await manager.set(ID, {"a": 1})
    for use in (manager.get, lambda i: manager.set(i, {}), manager.destroy):
        store.script("get", down)
        store.script("delete", down)
        with pytest.raises(StoreUnavailable):
            await use(ID)
        store.scripts.clear()
    assert manager.stats()["pending_destroys"] == 1


@pytest.mark.gen_test
async def test_a_session_that_has_ended_can_be_set_anew(manager, clock):
    """memcached may still hold what ended a moment ago."""
    await manager.set(ID, {"a": 1}, ttl=1)
    clock.advance(1)
    assert await manager.get(ID) is None
    await manager.set(ID, {"b": 2})
    assert await data_of(manager, ID) == {"b": 2}


@pytest.mark.gen_test
async def test_a_corrupt_record_can_be_set_anew(manager, store):
    """It holds nothing that anybody could read."""
    await store.inner.add(key_of(manager, ID), b"foreign", 60)
    assert await manager.get(ID) is None
    await manager.set(ID, {"b": 2})
    assert await data_of(manager, ID) == {"b": 2}


@pytest.mark.gen_test
async def test_a_retired_id_stays_dead(manager):
    """Not even a job brings it back within its minute."""
    session_id = await begin(manager, a=1)
    session = await manager.get(session_id)
    await session.regenerate()
    assert await manager.get(session_id) is None
    with pytest.raises(SessionGone):
        await manager.set(session_id, {"b": 2})
    assert await manager.get(session_id) is None
