"""Saving and reloading a session, at once and at the end of a request."""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession import (
    StoreUnavailable,
)

from ..support.requests import begin, data_of, visit
from ..support.scripted import answers, down

# save


@pytest.mark.gen_test
async def test_a_new_session_is_stored_by_save(manager, store):
    """It has an id when save returns, and the end of the request writes no more."""
    late = await visit(manager)
    late.session["a"] = 1
    await late.session.save()
    session_id = late.session.id
    assert await data_of(manager, session_id) == {"a": 1}
    assert not late.session.modified
    store.calls.clear()
    assert await late.leave_with_cookie() == session_id
    assert store.calls == []


@pytest.mark.gen_test
async def test_an_empty_session_is_not_stored(manager, store):
    """Neither by save nor at the end: reading creates nothing."""
    late = await visit(manager)
    assert late.session.get("a") is None
    late.session.remember(True)
    await late.session.save()
    assert await late.leave_with_cookie() is None
    assert late.session.id is None
    assert store.calls == []


@pytest.mark.gen_test
async def test_a_request_without_a_cookie_costs_no_store_call(manager, store):
    """There is nothing to look for."""
    await visit(manager)
    for malformed in ("", "short", "x" * 201, "a/b" * 20):
        await visit(manager, malformed)
    assert store.calls == []
    assert manager.stats()["loads"] == 0


@pytest.mark.gen_test
async def test_an_unknown_id_is_never_adopted(manager, store):
    """It is looked for, and then replaced by a new one; its cookie is not cleared."""
    unknown = "an-id-that-is-well-formed-but-nobody-knows-0"
    late = await visit(manager, unknown)
    assert (late.session.id, late.session.is_new) == (None, True)
    assert await late.leave_with_cookie() is None
    late = await visit(manager, unknown)
    late.session["a"] = 1
    assert await late.leave_with_cookie() not in (None, unknown)
    assert store.calls == ["get", "get", "add"]


@pytest.mark.gen_test
async def test_save_writes_what_changed_since_the_last(manager):
    """Changes after a save are saved by the next, or at the end."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    for value in (2, 3):
        late.session["a"] = value
        await late.session.save()
        assert await data_of(manager, session_id) == {"a": value}
    late.session["b"] = [1]
    await late.leave()
    assert await data_of(manager, session_id) == {"a": 3, "b": [1]}


@pytest.mark.gen_test
async def test_a_second_save_of_the_same_costs_nothing(manager, store):
    """Unchanged since the last save is nothing to save."""
    late = await visit(manager, await begin(manager, a=1))
    late.session["a"] = 2
    await late.session.save()
    store.calls.clear()
    await late.session.save()
    assert store.calls == []


@pytest.mark.gen_test
async def test_saves_of_one_session_run_one_after_another(manager, store):
    """Two at once write once; what came between them is not lost."""
    late = await visit(manager, await begin(manager, a=1))
    store.calls.clear()

    async def slow(operate):
        await asyncio.sleep(0)
        return await operate()

    store.script("cas", slow)
    late.session["a"] = 2
    await asyncio.gather(late.session.save(), late.session.save())
    assert store.calls == ["cas"]


@pytest.mark.gen_test
async def test_what_changes_during_a_save_stays_changed(manager, store):
    """It is not in that save, so that the next one has it."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)

    async def change_meanwhile(operate):
        late.session["b"] = 2
        late.session.flash("meanwhile")
        late.session.remember(True)
        return await operate()

    store.script("cas", change_meanwhile)
    late.session["a"] = 2
    late.session.remember(False)
    await late.session.save()
    assert await data_of(manager, session_id) == {"a": 2}
    assert late.session.modified
    await late.leave()
    again = (await visit(manager, session_id)).session
    assert again == {"a": 2, "b": 2}
    assert again.flashes() == [("info", "meanwhile")]
    assert again.persistent


@pytest.mark.gen_test
async def test_emptied_is_not_destroyed(manager):
    """An empty session is stored, and its cookie stays."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session.clear()
    assert await late.leave_with_cookie() is None
    assert await data_of(manager, session_id) == {}


@pytest.mark.gen_test
async def test_a_store_that_is_down_is_no_lost_session(manager, store):
    """The save fails, nothing is sent to the client, and the next one succeeds."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2
    store.script("cas", down)
    with pytest.raises(StoreUnavailable):
        await late.session.save()
    assert late.session.modified
    assert await late.leave_with_cookie() is None
    assert await data_of(manager, session_id) == {"a": 2}


@pytest.mark.gen_test
async def test_a_load_that_fails_is_no_empty_session(manager, store):
    """Whom the store cannot tell about is neither new nor logged out."""
    session_id = await begin(manager, a=1)
    store.script("get", down)
    with pytest.raises(StoreUnavailable):
        await visit(manager, session_id)
    assert (await visit(manager, session_id)).session["a"] == 1


@pytest.mark.gen_test
async def test_a_new_id_that_is_taken_is_not_used(manager, store):
    """Another one is minted, three times at most."""
    late = await visit(manager)
    late.session["a"] = 1
    store.script("add", answers(False), answers(False))
    await late.session.save()
    assert await data_of(manager, late.session.id) == {"a": 1}
    other = await visit(manager)
    other.session["a"] = 1
    store.script("add", *[answers(False)] * 3)
    with pytest.raises(Exception, match="3 new ids in a row were taken"):
        await other.session.save()
    assert other.session.id is None


# reload


@pytest.mark.gen_test
async def test_reload_takes_what_is_stored(manager):
    """Own changes are dropped, flags and messages too."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    other = await visit(manager, session_id)
    other.session["b"] = 2
    await other.leave()
    late.session["a"] = 9
    late.session.flash("dropped")
    late.session.remember(True)
    await late.session.reload()
    assert late.session == {"a": 1, "b": 2}
    assert not late.session.modified
    assert late.session.flashes() == []
    late.session["c"] = 3
    await late.session.save()
    assert await data_of(manager, session_id) == {"a": 1, "b": 2, "c": 3}


@pytest.mark.gen_test
async def test_reload_of_a_new_session_empties_it(manager, store):
    """Nothing is stored of it."""
    late = await visit(manager)
    late.session["a"] = 1
    await late.session.reload()
    assert late.session == {}
    assert store.calls == []
