"""Sessions whose keys had another form, while they are being moved."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

import pytest

from tornado_mcsession import StoreRejected, StoreUnavailable

from .scripted import after, down, lost
from .visits import key_of, stored_data, stored_id, visit

ID = "a-session-id-of-forty-three-characters-0123"


def plain_key(session_id):
    """What releases of some libraries use: the id itself."""
    return f"old:{session_id}"


@pytest.fixture
def before(make, store):
    """A manager with another prefix, whose sessions are to be moved."""
    return make(store, key_prefix="old:", cookie_secret="")


@pytest.fixture
def manager(make, store, before):
    """The manager that moves them."""

    def older(session_id):
        return key_of(before, session_id)

    return make(store, legacy_key=older, cookie_secret="")


async def logged_in(manager, principal="alice"):
    late = await visit(manager)
    late.session["a"] = 1
    await late.session.login(principal)
    await late.leave()
    return late.session.id


@pytest.mark.gen_test
async def test_a_session_is_moved_when_it_is_used(before, manager, store):
    """It keeps its id; its old key is closed, the new one is written as ever."""
    session_id = await stored_id(before, a=1)
    late = await visit(manager, session_id)
    assert dict(late.session) == {"a": 1}
    late.session["b"] = 2
    assert await late.leave_with_cookie() is None
    assert await stored_data(manager, session_id) == {"a": 1, "b": 2}
    assert await store.get(key_of(manager, session_id)) is not None
    assert await stored_data(before, session_id) is None


@pytest.mark.gen_test
async def test_a_moved_session_costs_what_any_does(before, manager, store):
    """The old key is looked at while the new one is missing, and not afterwards."""
    session_id = await stored_id(before, a=1)
    await visit(manager, session_id)
    store.calls.clear()
    await visit(manager, session_id)
    assert store.calls == ["get"]


@pytest.mark.gen_test
async def test_an_id_that_is_nowhere_is_looked_for_twice(manager, store):
    """That is what a migration costs; nothing is written."""
    await visit(manager, ID)
    assert store.calls == ["get", "get"]


@pytest.mark.parametrize("verb", ["get", "set"])
@pytest.mark.gen_test
async def test_code_outside_a_request_moves_it_too(before, manager, verb):
    """By id, read or set."""
    session_id = await stored_id(before, a=1)
    if verb == "set":
        await manager.set(session_id, {"a": 2})
    assert dict(await manager.get(session_id)) == {"a": 2 if verb == "set" else 1}
    assert await stored_data(before, session_id) is None


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.gen_test
async def test_a_logout_ends_both(before, manager, loaded):
    """Also where nobody has moved it yet."""
    session_id = await stored_id(before, a=1)
    if loaded:
        await visit(manager, session_id)
    assert await manager.destroy(session_id) is True
    assert await manager.get(session_id) is None
    assert await before.get(session_id) is None
    assert await manager.destroy(session_id) is False


@pytest.mark.gen_test
async def test_a_logout_that_fails_is_made_good_at_both(before, manager, store):
    """When the store answers again."""
    session_id = await stored_id(before, a=1)
    store.script("get", down)
    with pytest.raises(StoreUnavailable):
        await manager.destroy(session_id)
    assert manager.stats()["pending_destroys"] == 2
    manager._parts.undeleted.retry_soon()
    await manager.drain()
    assert await manager.get(session_id) is None
    assert await before.get(session_id) is None


@pytest.mark.gen_test
async def test_a_logout_while_it_is_moved_wins(before, manager, store):
    """The move finds the old key closed, and takes back what it wrote."""
    session_id = await stored_id(before, a=1)
    store.script("add", after(lambda: manager.destroy(session_id)))
    late = await visit(manager, session_id)
    assert dict(late.session) == {}
    assert await manager.get(session_id) is None
    assert await before.get(session_id) is None


@pytest.mark.gen_test
async def test_two_requests_move_it_once(before, manager):
    """Both see it, and neither ends it."""
    session_id = await stored_id(before, a=1)
    visits = await asyncio.gather(*(visit(manager, session_id) for _ in range(8)))
    assert [dict(late.session) for late in visits] == [{"a": 1}] * 8
    assert await stored_data(manager, session_id) == {"a": 1}


@pytest.mark.parametrize("operation", ["add", "cas"])
@pytest.mark.gen_test
async def test_a_move_whose_answer_is_lost_is_done(before, manager, store, operation):
    """What was written is recognised."""
    session_id = await stored_id(before, a=1)
    store.script(operation, lost)
    assert dict((await visit(manager, session_id)).session) == {"a": 1}


@pytest.mark.gen_test
async def test_a_move_that_fails_is_no_logout(before, manager, store):
    """The store cannot tell, or is full: an error, and the session is still there."""
    session_id = await stored_id(before, a=1)

    async def full(operate):
        raise StoreRejected("add", "", "out of memory")

    for act, error in ((down, StoreUnavailable), (full, StoreRejected)):
        store.script("add", act)
        with pytest.raises(error):
            await visit(manager, session_id)
    assert dict((await visit(manager, session_id)).session) == {"a": 1}


@pytest.mark.gen_test
async def test_who_was_logged_in_still_is(before, manager):
    """On all devices, and whatever is moved first; a revocation ends all of them."""
    ids = [await logged_in(before) for _ in range(3)]
    assert (await visit(manager, ids[0])).session.principal == "alice"
    ids.append(await logged_in(manager))
    assert (await visit(manager, ids[1])).session.principal == "alice"
    assert await manager.revoke("alice") is True
    assert [await manager.get(session_id) for session_id in ids] == [None] * 4


@pytest.mark.gen_test
async def test_what_was_revoked_before_stays_so(before, manager):
    """The marker is moved, not made anew."""
    session_id = await logged_in(before)
    await before.revoke("alice")
    assert (await visit(manager, session_id)).session.principal is None
    await logged_in(manager)
    assert (await visit(manager, session_id)).session.principal is None


@pytest.mark.gen_test
async def test_a_revocation_while_a_marker_is_moved_wins(before, manager, store):
    """Its value does not come back under the new key."""
    session_id = await logged_in(before)
    store.script("add", after(lambda: manager.revoke("alice")))
    assert (await visit(manager, session_id)).session.principal is None
    assert await manager.get(session_id) is None


@pytest.mark.parametrize("act", ["login", "move"])
@pytest.mark.parametrize("answer", ["comes", "is lost"])
@pytest.mark.gen_test
async def test_an_ended_marker_does_not_come_back(before, manager, store, act, answer):
    """Whoever was about to keep it under the new key, and whether that was told."""
    session_id = await logged_in(before)

    async def revoked_first(operate):
        await manager.revoke("alice")
        return await (operate() if answer == "comes" else lost(operate))

    store.script("add", revoked_first)
    if act == "login":
        assert await manager.get(await logged_in(manager)) is not None
    else:
        with contextlib.suppress(StoreUnavailable):
            await visit(manager, session_id)
    assert (await visit(manager, session_id)).session.principal is None
    assert await manager.get(session_id) is None


@pytest.mark.gen_test
async def test_revoke_others_reaches_those_not_moved(before, manager):
    """Their marker is ended where it was."""
    others = [await logged_in(before) for _ in range(2)]
    late = await visit(manager, await logged_in(before))
    await late.session.revoke_others()
    assert [(await manager.get(session_id)) for session_id in others] == [None] * 2
    assert (await visit(manager, late.session.id)).session.principal == "alice"


@pytest.mark.gen_test
async def test_other_digests_can_be_moved_too(make, store):
    """Any key that the store takes: here the SHA-1 of the id."""
    session_id = await stored_id(make(store), a=1)
    entry = await store.get(
        "mcsession:" + hashlib.sha256(session_id.encode()).hexdigest()
    )

    def older(sid):
        return "sess:" + hashlib.sha1(sid.encode()).hexdigest()

    await store.add(older(session_id), entry.data, 60)
    manager = make(store, key_prefix="new:", legacy_key=older)
    assert await stored_data(manager, session_id) == {"a": 1}


@pytest.mark.parametrize(
    ("older", "error"),
    [(lambda _: b"key", TypeError), (lambda _: "two words", ValueError)],
)
@pytest.mark.gen_test
async def test_a_key_that_is_none_is_an_error(make, store, older, error):
    """It is the application's, and shows neither key nor id."""
    with pytest.raises(error) as caught:
        await visit(make(store, legacy_key=older), ID)
    assert ID not in str(caught.value)
    assert "words" not in str(caught.value)


@pytest.mark.parametrize("older", [None, "same"])
@pytest.mark.gen_test
async def test_an_id_may_have_had_no_other_key(make, store, older):
    """None, or today's: it is looked for once."""
    manager = make(store)
    same = make(store, legacy_key=lambda sid: older and key_of(manager, sid))
    store.calls.clear()
    await visit(same, ID)
    assert store.calls == ["get"]
