"""Parallel requests, in two processes, on one session."""

from __future__ import annotations

import asyncio

import pytest

from ..support.requests import begin, data_of, visit
from ..support.scripted import after


@pytest.fixture
def managers(store, make):
    """Two managers that know nothing of each other, as of two processes."""
    return make(store), make(store)


async def both(managers, session_id):
    """A request in each process, begun before either ends."""
    first, second = [await visit(manager, session_id) for manager in managers]
    return first, second


@pytest.mark.gen_test
async def test_different_keys_all_survive(managers):
    """Who ends later keeps what the other changed, added and removed."""
    session_id = await begin(managers[0], a=1, b=1, c=1, d=1)
    first, second = await both(managers, session_id)
    first.session["a"] = 2
    first.session["x"] = 2
    del first.session["b"]
    second.session["c"] = 3
    second.session["y"] = 3
    del second.session["d"]
    await first.leave()
    await second.leave()
    expected = {"a": 2, "x": 2, "c": 3, "y": 3}
    assert await data_of(managers[0], session_id) == expected
    assert second.session == expected
    assert managers[1].stats()["conflicts"] == 1


@pytest.mark.parametrize(
    ("mine", "theirs", "left"),
    [
        (lambda s: s.update(a=3), lambda s: s.update(a=2), {"a": 3}),
        (lambda s: s.pop("a"), lambda s: s.update(a=2), {}),
        (lambda s: s.update(a=3), lambda s: s.pop("a"), {"a": 3}),
        (lambda s: s.clear(), lambda s: s.update(b=2), {"b": 2}),
        (lambda s: s.clear(), lambda s: s.update(a=2), {}),
        (lambda s: s.replace({"n": 1}), lambda s: s.update(b=2), {"b": 2, "n": 1}),
        (lambda s: s.update(b=2), lambda s: s.clear(), {"b": 2}),
        (lambda s: None, lambda s: s.update(a=2), {"a": 2}),
    ],
)
@pytest.mark.gen_test
async def test_the_later_save_wins_key_by_key(managers, mine, theirs, left):
    """Of one key the later value holds; a key that was not seen is not cleared."""
    session_id = await begin(managers[0], a=1)
    first, second = await both(managers, session_id)
    theirs(first.session)
    mine(second.session)
    await first.leave()
    await second.leave()
    assert await data_of(managers[0], session_id) == left


@pytest.mark.gen_test
async def test_many_parallel_requests_all_keep_their_keys(managers):
    """Forty at once, each with a key of its own."""
    session_id = await begin(managers[0], a=1)
    visits = [await visit(managers[n % 2], session_id) for n in range(40)]
    for number, late in enumerate(visits):
        late.session[f"k{number}"] = number
    await asyncio.gather(*(late.leave() for late in visits))
    data = await data_of(managers[0], session_id)
    assert data == {"a": 1, **{f"k{n}": n for n in range(40)}}


@pytest.mark.gen_test
async def test_own_objects_stay_the_same_ones(managers):
    """After a merge a handler's own lists are still those in the session."""
    session_id = await begin(managers[0], mine=[1], same=[1], theirs=[1])
    first, second = await both(managers, session_id)
    first.session["theirs"].append(2)
    await first.leave()
    mine, same = second.session["mine"], second.session["same"]
    mine.append(2)
    await second.session.save()
    assert second.session["mine"] is mine
    assert second.session["same"] is same
    assert second.session["theirs"] == [1, 2]
    mine.append(3)
    await second.leave()
    data = await data_of(managers[0], session_id)
    assert data == {"mine": [1, 2, 3], "same": [1], "theirs": [1, 2]}


@pytest.mark.gen_test
async def test_what_changes_during_a_merge_stays_changed(managers, store):
    """It is neither in that save nor lost by taking in the newer state."""
    session_id = await begin(managers[0], a=1, b=1)
    first, second = await both(managers, session_id)
    first.session["a"] = 2
    await first.leave()

    async def meanwhile():
        second.session["c"] = 3

    second.session["b"] = 2
    store.script("cas", after(meanwhile))
    await second.session.save()
    assert second.session == {"a": 2, "b": 2, "c": 3}
    assert second.session.modified
    await second.leave()
    assert await data_of(managers[0], session_id) == {"a": 2, "b": 2, "c": 3}


@pytest.mark.gen_test
async def test_a_conflict_at_each_try_is_merged_each_time(managers, store):
    """Whatever comes in between is carried over, however often."""
    session_id = await begin(managers[0], a=0)
    late = await visit(managers[1], session_id)
    late.session["mine"] = 1

    async def another():
        other = (await visit(managers[0], session_id)).session
        other["a"] += 1
        await other.save()

    async def meanwhile(operate):
        script, store.scripts["cas"] = store.scripts["cas"], []
        await another()
        store.scripts["cas"] = script
        return await operate()

    store.script("cas", *[meanwhile] * 5)
    await late.leave()
    assert await data_of(managers[0], session_id) == {"a": 5, "mine": 1}


@pytest.mark.gen_test
async def test_a_logout_between_two_tries_wins(managers, store):
    """A save that lost its first try does not bring the session back."""
    session_id = await begin(managers[0], a=1)
    first, second = await both(managers, session_id)
    first.session["a"] = 2
    await first.leave()
    second.session["b"] = 1

    async def logout():
        await managers[0].destroy(session_id)

    store.script("get", after(logout))
    assert await second.leave_with_cookie() is None
    assert await managers[0].get(session_id) is None
    assert managers[1].stats()["dropped_saves"] == 1


@pytest.mark.gen_test
async def test_options_survive_a_merge(managers):
    """One request's own timeout and another's data are both kept."""
    session_id = await begin(managers[0], a=1)
    first, second = await both(managers, session_id)
    first.session["a"] = 2
    second.session.set_idle_timeout(60)
    second.session.remember(False)
    await first.leave()
    await second.leave()
    third = (await visit(managers[0], session_id)).session
    assert (third["a"], third.idle_timeout, third.persistent) == (2, 60.0, False)
