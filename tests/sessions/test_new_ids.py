"""New ids for old sessions."""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession import (
    MsgpackSerializer,
    SessionConflict,
    SessionGone,
    StoreError,
    StoreUnavailable,
)
from tornado_mcsession.sessions.codec import Codec
from tornado_mcsession.stores.base import CasResult

from ..support.requests import begin, data_of, key_of, visit
from ..support.scripted import after, answers, down


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.gen_test
async def test_a_session_gets_a_new_id(manager, keep):
    """With its data or empty; the old id is dead when it returns."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["b"] = 2
    await late.session.regenerate(keep)
    new_id = late.session.id
    expected = {"a": 1, "b": 2} if keep else {}
    assert new_id != session_id
    assert late.session == expected
    assert not late.session.modified
    assert await manager.get(session_id) is None
    assert await data_of(manager, new_id) == expected
    assert await late.leave_with_cookie() == new_id


@pytest.mark.gen_test
async def test_own_objects_survive_a_new_id(manager):
    """A nested value that is at hand is still that of the session."""
    late = await visit(manager, await begin(manager, a=[1]))
    mine = late.session["a"]
    await late.session.regenerate()
    mine.append(2)
    await late.leave()
    assert await data_of(manager, late.session.id) == {"a": [1, 2]}


@pytest.mark.parametrize(("keep", "data"), [(True, {"a": 1}), (False, {})])
@pytest.mark.gen_test
async def test_a_new_session_is_only_saved(manager, keep, data):
    """It has no old id; where nothing is left in it, none at all."""
    late = await visit(manager)
    late.session["a"] = 1
    await late.session.regenerate(keep)
    assert (late.session.id is None) is not keep
    assert late.session == data


@pytest.mark.gen_test
async def test_who_is_late_with_the_old_id_changes_nothing(manager):
    """Within a minute it reads as empty, and what is written is dropped."""
    session_id = await begin(manager, a=1)
    moving = await visit(manager, session_id)
    under_way = await visit(manager, session_id)
    await moving.session.regenerate()
    after_it = await visit(manager, session_id)
    assert (after_it.session, after_it.session.is_new) == ({}, True)
    for late in (under_way, after_it):
        late.session["evil"] = 1
        assert await late.leave_with_cookie() is None
    assert manager.stats()["dropped_saves"] == 2
    assert await data_of(manager, moving.session.id) == {"a": 1}


@pytest.mark.gen_test
async def test_nothing_is_left_under_the_old_id(make, store):
    """What remains there for a minute says that it is retired, and no more."""
    manager = make(store)
    late = await visit(manager)
    late.session["word"] = "planted"
    late.session.flash("planted")
    await late.session.login("planted")
    key = key_of(manager, late.session.id)
    await late.session.regenerate()
    data = (await store.get(key)).data
    assert Codec(MsgpackSerializer(), "mcsession:").decode(data, 0, key).retired
    assert b"planted" not in data


@pytest.mark.gen_test
async def test_a_late_logout_with_the_old_id_ends_the_session(manager):
    """Who regenerated it is still the same user."""
    session_id = await begin(manager, a=1)
    moving = await visit(manager, session_id)
    await moving.session.regenerate()
    late = await visit(manager, session_id)
    await late.session.destroy()
    assert await late.leave_with_cookie() == ""
    assert await data_of(manager, moving.session.id) is None


@pytest.mark.gen_test
async def test_the_old_id_is_remembered_for_a_minute(make, store, clock):
    """Even where the session itself would have ended before."""
    manager = make(store)
    late = await visit(manager)
    late.session["a"] = 1
    late.session.set_idle_timeout(5)
    session_id = await late.leave_with_cookie()
    moving = await visit(manager, session_id)
    await moving.session.regenerate()
    assert store.last_ttl == 360
    clock.advance(30)
    late = await visit(manager, session_id)
    late.session["b"] = 1
    assert await late.leave_with_cookie() is None
    clock.advance(40)
    late = await visit(manager, session_id)
    late.session["b"] = 1
    assert await late.leave_with_cookie() not in (None, session_id)


@pytest.mark.gen_test
async def test_a_save_in_between_is_carried_over(manager, store):
    """What another request was told is stored is in the new session, too."""
    session_id = await begin(manager, a=1, b=1)
    late = await visit(manager, session_id)
    other = await visit(manager, session_id)
    other.session["b"] = 2
    other.session.flash("between")
    late.session["a"] = 2
    store.script("add", after(other.leave))
    await late.session.regenerate()
    assert late.session == {"a": 2, "b": 2}
    assert late.session.flashes() == [("info", "between")]
    assert await data_of(manager, late.session.id) == {"a": 2, "b": 2}
    assert await manager.get(session_id) is None


@pytest.mark.parametrize("operation", ["add", "cas"])
@pytest.mark.gen_test
async def test_a_logout_in_between_wins(manager, store, operation):
    """Nothing of the session is left under either id."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)

    async def logout():
        await manager.destroy(session_id)

    store.script(operation, after(logout))
    with pytest.raises(SessionGone):
        await late.session.regenerate()
    assert len(store.keys - {key_of(manager, session_id)}) == 1
    assert await data_of(manager, session_id) is None
    for key in store.keys:
        assert manager.codec.decode((await store.get(key)).data, 0, key).retired


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ([down], StoreError),
        ([answers(CasResult.CONFLICT)] * 1000, (SessionConflict, StoreError)),
    ],
)
@pytest.mark.gen_test
async def test_where_the_old_one_cannot_be_closed_the_new_one_goes(
    make, store, script, error
):
    """The request fails, the old session is as it was, and there is only one."""
    store.timeout = 0.2
    manager = make(store)
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    store.script("cas", *script)
    with pytest.raises(error):
        await late.session.regenerate()
    assert late.session.id == session_id
    assert await data_of(manager, session_id) == {"a": 1}
    store.scripts.clear()
    manager.rotation.pending.retry_soon()
    assert await manager.drain(5)
    records = {key: (await store.get(key)).data for key in store.keys}
    living = [k for k in records if not manager.codec.decode(records[k], 0, k).retired]
    assert living == [key_of(manager, session_id)]
    await late.session.regenerate()
    assert await data_of(manager, late.session.id) == {"a": 1}


@pytest.mark.gen_test
async def test_where_the_new_one_cannot_be_stored_the_old_one_stays(manager, store):
    """Nothing has changed."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    store.script("add", down)
    with pytest.raises(StoreError):
        await late.session.regenerate()
    assert await data_of(manager, session_id) == {"a": 1}
    assert await late.leave_with_cookie() is None


@pytest.mark.gen_test
async def test_where_nobody_can_tell_both_ids_are_provided_for(make, store):
    """The new one is told with the error; the old one is ended when that is possible.

    Its end may be under way, so that the new one is all that is left of it.
    """
    store.timeout, store.keeps_deadline = 0.05, False
    manager = make(store)
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)

    async def hang(operate):
        await asyncio.Event().wait()

    store.script("cas", *[hang] * 100)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(StoreUnavailable) as caught:
        await late.session.regenerate()
    assert caught.value.outcome_unknown
    assert loop.time() - began < 1
    assert late.session.id != session_id
    assert await late.leave_with_cookie() == late.session.id
    assert await data_of(manager, late.session.id) == {"a": 1}
    assert manager.stats()["pending_destroys"] == 1
    store.scripts.clear()
    manager.rotation.pending.retry_soon()
    await manager.drain()
    assert await manager.get(session_id) is None
    assert manager.stats()["pending_destroys"] == 0


@pytest.mark.gen_test
async def test_two_at_once_leave_one_session(store, make):
    """One of them succeeds; the other is told that the session is gone."""
    managers = [make(store), make(store)]
    session_id = await begin(managers[0], a=1)
    visits = [await visit(manager, session_id) for manager in managers]
    outcomes = await asyncio.gather(
        *(late.session.regenerate() for late in visits), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        "NoneType",
        "SessionGone",
    ]
    winner = visits[outcomes.index(None)]
    assert await data_of(managers[0], winner.session.id) == {"a": 1}
    assert await managers[0].get(session_id) is None


@pytest.mark.gen_test
async def test_what_it_is_stays_with_the_new_id(manager, clock):
    """Beginning, principal and options go along; its end is put off."""
    late = await visit(manager)
    await late.session.login("alice")
    late.session.remember(False)
    session_id = await late.leave_with_cookie()
    created = late.session.created
    clock.advance(3600)
    late = await visit(manager, session_id)
    expires_at = late.session.expires_at
    await late.session.regenerate()
    again = (await visit(manager, late.session.id)).session
    assert again.created == created
    assert (again.principal, again.persistent) == ("alice", False)
    assert (again.expires_at - expires_at).total_seconds() == 3600
