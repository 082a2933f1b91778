"""Changes by a function, as if no other request were there."""

from __future__ import annotations

import asyncio
import copy

import msgspec
import pytest

from tornado_mcsession import (
    EncodeError,
    SessionConflict,
    SessionTooLarge,
    StoreUnavailable,
)
from tornado_mcsession.stores.base import CasResult

from ..support.requests import begin, data_of, key_of, visit
from ..support.scripted import after, answers, down, lost


def count(data):
    data["n"] = data.get("n", 0) + 1
    return data["n"]


async def count_slowly(data):
    await asyncio.sleep(0)
    return count(data)


@pytest.mark.parametrize("fn", [count, count_slowly])
@pytest.mark.gen_test
async def test_fifty_parallel_increments_count_to_fifty(store, make, fn):
    """None is lost and none made twice, in two processes; each sees its own number."""
    managers = [make(store), make(store)]
    session_id = await begin(managers[0], a=1)
    visits = [await visit(managers[n % 2], session_id) for n in range(50)]
    results = await asyncio.gather(*(late.session.transact(fn) for late in visits))
    assert sorted(results) == list(range(1, 51))
    assert await data_of(managers[0], session_id) == {"a": 1, "n": 50}


@pytest.mark.parametrize("fn", [count, count_slowly])
@pytest.mark.gen_test
async def test_a_new_session_begins_by_a_transaction(manager, fn):
    """It is stored when transact returns."""
    late = await visit(manager)
    late.session["a"] = 1
    assert await late.session.transact(fn) == 1
    assert await data_of(manager, late.session.id) == {"a": 1, "n": 1}
    assert late.session == {"a": 1, "n": 1}
    assert not late.session.modified
    assert await late.leave_with_cookie() == late.session.id


@pytest.mark.gen_test
async def test_the_function_gets_a_plain_dict_of_its_own(manager):
    """What is stored, with this request's changes; nested values are copies."""
    session_id = await begin(manager, a=[1], b=1)
    late = await visit(manager, session_id)
    other = await visit(manager, session_id)
    other.session["c"] = 3
    await other.leave()
    late.session["b"] = 2
    mine = late.session["a"]
    seen = []

    def look(data):
        seen.append((type(data), copy.deepcopy(data)))
        data["a"].append(2)
        assert late.session["a"] == [1]

    await late.session.transact(look)
    # The first try met what this request had loaded.
    assert seen == [(dict, {"a": [1], "b": 2}), (dict, {"a": [1], "b": 2, "c": 3})]
    assert late.session == {"a": [1, 2], "b": 2, "c": 3}
    assert mine == [1]


@pytest.mark.gen_test
async def test_unchanged_values_keep_their_objects(manager):
    """In a session that begins with it, too."""
    for session_id in (None, await begin(manager, kept=[1])):
        late = await visit(manager, session_id)
        late.session["own"] = [1]
        own = late.session["own"]
        await late.session.transact(count)
        assert late.session["own"] is own


class Refused(Exception):
    pass


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("is_new", [False, True])
@pytest.mark.gen_test
async def test_a_function_that_raises_changes_nothing(manager, is_async, is_new):
    """Its effects are dropped, and pending changes stay pending."""
    session_id = None if is_new else await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["b"] = [2]
    late.session.flash("pending")

    def refuse(data):
        data["b"].append(3)
        data.pop("a", None)
        raise Refused

    async def refuse_slowly(data):
        refuse(data)

    with pytest.raises(Refused):
        await late.session.transact(refuse_slowly if is_async else refuse)
    before = {} if is_new else {"a": 1}
    assert late.session == {**before, "b": [2]}
    assert late.session.modified
    await late.leave()
    after_all = (await visit(manager, late.session.id)).session
    assert after_all == {**before, "b": [2]}
    assert after_all.flashes() == [("info", "pending")]


@pytest.mark.parametrize("is_new", [False, True])
@pytest.mark.gen_test
async def test_a_transaction_that_is_not_stored_has_no_effect(manager, store, is_new):
    """After an outage it can be tried again, and counts once."""
    late = await visit(manager, None if is_new else await begin(manager, a=1))
    store.script("add" if is_new else "cas", down)
    with pytest.raises(StoreUnavailable):
        await late.session.transact(count)
    assert "n" not in late.session
    assert await late.session.transact(count) == 1
    assert await data_of(manager, late.session.id) == late.session


@pytest.mark.gen_test
async def test_a_transaction_that_is_too_large_has_no_effect(make, store):
    """As with any save, nothing of it was sent."""
    manager = make(store, max_size=1000)
    for session_id in (None, await begin(manager, a=1)):
        late = await visit(manager, session_id)
        with pytest.raises(SessionTooLarge):
            await late.session.transact(lambda data: data.update(big="x" * 1000))
        assert "big" not in late.session


@pytest.mark.gen_test
async def test_what_a_function_leaves_is_checked(manager):
    """A value that would not come back is named, and nothing is stored."""
    for session_id in (None, await begin(manager, a=1)):
        late = await visit(manager, session_id)
        with pytest.raises(EncodeError) as caught:
            await late.session.transact(lambda data: data.update(x=[{1}]))
        assert (caught.value.path, caught.value.type_name) == ("session['x']", "set")
        assert "x" not in late.session


@pytest.mark.gen_test
async def test_a_transaction_that_leaves_nothing_creates_nothing(manager, store):
    """An empty session is stored only where one was."""
    late = await visit(manager)
    late.session["a"] = 1
    await late.session.transact(dict.clear)
    assert late.session == {}
    assert await late.leave_with_cookie() is None
    assert store.calls == []
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    await late.session.transact(dict.clear)
    assert await data_of(manager, session_id) == {}


@pytest.mark.gen_test
async def test_pending_changes_go_along(manager):
    """They are stored with the transaction, and not again at the end."""
    session_id = await begin(manager, a=1, b=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2
    del late.session["b"]
    late.session.flash("hello")
    late.session.remember(True)
    await late.session.transact(count)
    assert not late.session.modified
    again = (await visit(manager, session_id)).session
    assert again == {"a": 2, "n": 1}
    assert again.flashes() == [("info", "hello")]
    assert again.persistent
    assert await late.leave_with_cookie() == session_id


@pytest.mark.gen_test
async def test_a_transaction_renews_where_that_is_due(manager, clock):
    """It is a save like another one."""
    session_id = await begin(manager, a=1)
    clock.advance(80_000)
    late = await visit(manager, session_id)
    await late.session.transact(count)
    assert await late.leave_with_cookie() == session_id
    clock.advance(80_000)
    assert await data_of(manager, session_id) == {"a": 1, "n": 1}


@pytest.mark.gen_test
async def test_what_changes_meanwhile_stays_pending(manager, store):
    """A handler's other task may go on changing the session."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)

    async def meanwhile():
        late.session["b"] = 2

    store.script("cas", after(meanwhile))
    await late.session.transact(count)
    assert late.session == {"a": 1, "n": 1, "b": 2}
    assert await data_of(manager, session_id) == {"a": 1, "n": 1}
    await late.leave()
    assert await data_of(manager, session_id) == {"a": 1, "n": 1, "b": 2}


@pytest.mark.gen_test
async def test_a_lost_answer_does_not_count_twice(manager, store):
    """What was done is recognised, even when others have written since."""
    session_id = await begin(manager, n=0)
    late = await visit(manager, session_id)
    other = await visit(manager, session_id)

    async def lost_then_another(operate):
        try:
            return await lost(operate)
        finally:
            await other.session.transact(count)

    store.script("cas", lost_then_another)
    assert await late.session.transact(count) == 1
    assert await data_of(manager, session_id) == {"n": 2}


@pytest.mark.gen_test
async def test_a_functions_own_time_does_not_count(make, store):
    """Only the store has a deadline; a slow function is not cut off."""
    store.timeout = 0.02
    manager = make(store)
    late = await visit(manager, await begin(manager, a=1))
    store.script("cas", answers(CasResult.CONFLICT))

    async def slow(data):
        await asyncio.sleep(0.1)
        data["b"] = 2

    await late.session.transact(slow)
    assert late.session["b"] == 2


@pytest.mark.gen_test
async def test_a_functions_own_timeout_is_its_own(manager):
    """Its TimeoutError is not taken for the store's."""
    late = await visit(manager, await begin(manager, a=1))

    async def impatient(data):
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await late.session.transact(impatient)


@pytest.mark.gen_test
async def test_transactions_that_always_conflict_end(store, make):
    """After a bounded number of tries, with no effect."""
    store.timeout = 0.5  # twice that is what they may take
    manager = make(store)
    late = await visit(manager, await begin(manager, a=1))
    store.script("cas", *[answers(CasResult.CONFLICT)] * 1000)
    with pytest.raises(SessionConflict):
        await late.session.transact(count)
    assert late.session == {"a": 1}


@pytest.mark.gen_test
async def test_what_was_stored_before_is_not_checked_again(manager, store):
    """An old value that could not be stored now harms no other key; a new one does."""
    session_id = await begin(manager, n=1, old="here")
    key = key_of(manager, session_id)
    entry = await store.get(key)
    record = manager.codec.decode(entry.data, 0, key)
    data = msgspec.msgpack.encode({"n": 1, "old": {99: "x"}})
    odd = msgspec.structs.replace(record, data=data)
    encoded = manager.codec.encode(odd, key)
    await store.cas(key, encoded, 1000.0, entry.token)
    late = await visit(manager, session_id)
    assert await late.session.transact(count) == 2
    with pytest.raises(EncodeError, match="no text"):
        await late.session.transact(lambda data: data.update(new={1: 2}))
