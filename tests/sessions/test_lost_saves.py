"""Writes that were done, but whose answers never came."""

from __future__ import annotations

import pytest

from tornado_mcsession import SessionGone, StoreUnavailable

from ..support.requests import begin, data_of, key_of, visit
from ..support.scripted import after, down, dropped, lost


@pytest.mark.gen_test
async def test_an_add_that_was_done_is_recognised(manager, store):
    """The session has the id that it was stored under; there is only one."""
    late = await visit(manager)
    late.session["a"] = 1
    store.script("add", lost)
    await late.session.save()
    assert len(store.keys) == 1
    assert await data_of(manager, late.session.id) == {"a": 1}


@pytest.mark.gen_test
async def test_an_add_that_was_not_done_is_made_again(manager, store):
    """Under the same id: there is one session, also where the first comes late."""
    late = await visit(manager)
    late.session["a"] = 1
    store.script("add", dropped)
    cookie = await late.leave_with_cookie()
    assert await data_of(manager, cookie) == {"a": 1}
    assert len(store.keys) == 1


@pytest.mark.parametrize("then", [dropped, down])
@pytest.mark.gen_test
async def test_an_add_that_was_not_done_is_tried_again(manager, store, then):
    """And where that fails, a cookie without its session is never sent."""
    late = await visit(manager)
    late.session["a"] = 1
    store.script("add", dropped, then)
    if then is dropped:
        assert await data_of(manager, await late.leave_with_cookie()) == {"a": 1}
        return
    with pytest.raises(StoreUnavailable) as caught:
        await late.leave()
    assert caught.value.outcome_unknown
    assert late.session.id is None


@pytest.mark.parametrize("operation", ["add", "cas"])
@pytest.mark.gen_test
async def test_where_nobody_can_tell_the_outcome_is_unknown(manager, store, operation):
    """The write's own error is raised, not that of the look after it."""
    session_id = None if operation == "add" else await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2
    store.script(operation, lost)
    store.script("get", down)
    with pytest.raises(StoreUnavailable) as caught:
        await late.session.save()
    assert caught.value.outcome_unknown


@pytest.mark.gen_test
async def test_a_cas_that_was_done_is_recognised(manager, store):
    """It is not written again."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2
    store.calls.clear()
    store.script("cas", lost)
    await late.leave()
    assert store.calls == ["cas", "get"]
    assert await data_of(manager, session_id) == {"a": 2}


@pytest.mark.gen_test
async def test_a_cas_that_was_not_done_is_made_again(manager, store):
    """Looked for, not found, and written on what is stored now."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2
    store.script("cas", dropped)
    await late.leave()
    assert await data_of(manager, session_id) == {"a": 2}


@pytest.mark.gen_test
async def test_a_newer_write_is_not_overwritten(manager, store):
    """A save whose answer was lost finds its own write under another's."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2

    async def lost_then_another(operate):
        try:
            return await lost(operate)
        finally:
            other = (await visit(manager, session_id)).session
            assert other["a"] == 2
            other["a"] = 3
            await other.save()

    store.script("cas", lost_then_another)
    await late.leave()
    assert await data_of(manager, session_id) == {"a": 3}


@pytest.mark.gen_test
async def test_a_write_that_lands_late_overwrites_nothing(manager, store):
    """It comes with the token of a version that is gone by then."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2
    delayed = []

    async def delay(operate):
        delayed.append(operate)
        return await dropped(operate)

    store.script("cas", delay)
    await late.session.save()
    late.session["a"] = 3
    await late.session.save()
    await delayed[0]()
    assert await data_of(manager, session_id) == {"a": 3}


@pytest.mark.gen_test
async def test_a_logout_after_a_lost_save_is_not_undone(manager, store):
    """What is not there any more was ended, whether or not it was written."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2

    async def lost_then_logout(operate):
        try:
            return await lost(operate)
        finally:
            await manager.destroy(session_id)

    store.script("cas", lost_then_logout)
    with pytest.raises(SessionGone):
        await late.session.save()
    assert await manager.get(session_id) is None


@pytest.mark.parametrize("verb", ["regenerate", "login"])
@pytest.mark.parametrize(
    "script",
    [
        {"add": [lost]},
        {"cas": [lost]},
        {"add": [lost], "cas": [lost]},
        {"cas": [dropped, lost]},
        {"cas": [dropped]},
    ],
    ids=["add", "close", "both", "close again", "close not done"],
)
@pytest.mark.gen_test
async def test_a_move_that_was_done_is_recognised(manager, store, verb, script):
    """The new id has the data, the old one is dead, and no third one lives."""
    await (await visit(manager)).session.login("alice")  # makes the marker
    others = set(store.keys)
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["b"] = 2
    for operation, actions in script.items():
        store.script(operation, *actions)
    await getattr(late.session, verb)(*(["alice"] if verb == "login" else []))
    assert late.session.id != session_id
    assert late.session == {"a": 1, "b": 2}
    assert await data_of(manager, late.session.id) == {"a": 1, "b": 2}
    assert await manager.get(session_id) is None
    living = {key for key in store.keys if await store.get(key)}
    mine = {key_of(manager, sid) for sid in (session_id, late.session.id)}
    assert living - others == mine


@pytest.mark.gen_test
async def test_a_move_that_lost_an_answer_carries_over_what_came_then(manager, store):
    """The close was not done, and another request saved before the next try."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    other = await visit(manager, session_id)
    other.session["b"] = 2
    store.script("cas", after(other.leave, then=dropped))
    # The other's own cas is the second that begins, and passes.
    await late.session.regenerate()
    assert late.session == {"a": 1, "b": 2}
    assert await data_of(manager, late.session.id) == {"a": 1, "b": 2}


@pytest.mark.gen_test
async def test_a_lost_renewal_is_no_error(manager, store, clock):
    """It is counted and logged; the session is as it was, or renewed."""
    session_id = await begin(manager, a=1)
    clock.advance(80_000)
    late = await visit(manager, session_id)
    assert late.session["a"] == 1
    store.script("cas", lost)
    assert await late.leave_with_cookie() is None
    assert manager.stats()["errors_renew"] == 1
    assert await data_of(manager, session_id) == {"a": 1}


@pytest.mark.gen_test(timeout=20)
async def test_a_logout_that_is_never_answered_ends_in_time(make, store):
    """Also over a store that answers without waiting: the loop goes on meanwhile."""
    store.timeout = 0.05
    manager = make(store)
    late = await visit(manager, await begin(manager, a=1))
    store.script("cas", *[dropped] * 1_000_000)
    with pytest.raises(StoreUnavailable) as caught:
        await late.session.destroy()
    assert caught.value.outcome_unknown
    store.scripts.clear()
