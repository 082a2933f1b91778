"""A rotation that leads the requests under way to the session's new id.

A tombstone that cannot be made through public names is made by its functions.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tornado_mcsession import SessionGone
from tornado_mcsession.sessions.ids import seal, successor_of
from tornado_mcsession.sessions.record import Record

from ..support.requests import begin, data_of, key_of, visit


@pytest.mark.gen_test
async def test_a_request_with_the_old_id_finds_the_session(manager, clock):
    """For so many seconds it reads and writes it; then the old id is dead."""
    session_id = await begin(manager, a=1)
    rotating = await visit(manager, session_id)
    await rotating.session.regenerate(grace=10)
    late = await visit(manager, session_id)
    assert late.session == {"a": 1}
    late.session["b"] = 2
    assert await late.leave_with_cookie() is None
    assert await data_of(manager, rotating.session.id) == {"a": 1, "b": 2}
    clock.advance(10)
    assert (await visit(manager, session_id)).session == {}


@pytest.mark.parametrize("act", ["leave", "save", "transact", "reload"])
@pytest.mark.gen_test
async def test_a_request_that_loaded_before_is_led_too(manager, act):
    """What it changed is saved where the session is by then."""
    session_id = await begin(manager, a=1)
    under_way = await visit(manager, session_id)
    rotating = await visit(manager, session_id)
    await rotating.session.regenerate(grace=timedelta(seconds=10))
    under_way.session["b"] = 2
    if act == "transact":
        await under_way.session.transact(lambda data: None)
    elif act != "leave":
        await getattr(under_way.session, act)()
    assert await under_way.leave_with_cookie() is None
    expected = {"a": 1} if act == "reload" else {"a": 1, "b": 2}
    assert await data_of(manager, rotating.session.id) == expected
    assert manager.stats()["dropped_saves"] == 0


@pytest.mark.parametrize("act", ["leave", "save"])
@pytest.mark.gen_test
async def test_a_request_that_loaded_before_is_led_no_longer_than_that(
    manager, clock, act
):
    """What a slower one changed is dropped, as without a grace."""
    session_id = await begin(manager, a=1)
    under_way = await visit(manager, session_id)
    rotating = await visit(manager, session_id)
    await rotating.session.regenerate(grace=10)
    clock.advance(10)
    under_way.session["b"] = 2
    if act == "leave":
        assert await under_way.leave_with_cookie() is None
    else:
        with pytest.raises(SessionGone):
            await under_way.session.save()
    assert await data_of(manager, rotating.session.id) == {"a": 1}


@pytest.mark.gen_test
async def test_parallel_rotations_are_one(manager):
    """A request that wants to rotate what another just rotated goes on with it."""
    session_id = await begin(manager, a=1)
    first, second = [await visit(manager, session_id) for _ in range(2)]
    second.session["b"] = 2
    await first.session.regenerate(grace=10)
    await second.session.regenerate(grace=10)
    assert second.session.id == first.session.id
    assert await data_of(manager, first.session.id) == {"a": 1, "b": 2}


@pytest.mark.gen_test
async def test_a_login_leads_nobody(manager):
    """Not from the id before it, nor through a rotation that came earlier."""
    session_id = await begin(manager, a=1)
    under_way = await visit(manager, session_id)
    rotating = await visit(manager, session_id)
    await rotating.session.regenerate(grace=10)
    logging_in = await visit(manager, rotating.session.id)
    before = rotating.session.id
    await logging_in.session.login("ann")
    for old in (session_id, before):
        assert (await visit(manager, old)).session.principal is None
    under_way.session["evil"] = 1
    with pytest.raises(SessionGone):
        await under_way.session.save()


@pytest.mark.gen_test
async def test_a_logout_with_the_old_id_ends_the_session(manager):
    """A request that was led to the new id can end the session there."""
    session_id = await begin(manager, a=1)
    rotating = await visit(manager, session_id)
    await rotating.session.regenerate(grace=10)
    leaving = await visit(manager, session_id)
    await leaving.session.logout()
    assert await manager.get(rotating.session.id) is None


@pytest.mark.gen_test
async def test_who_reads_the_store_learns_no_id(manager, store):
    """The way to the new id lies in the store, readable with the old one alone."""
    session_id = await begin(manager, a=1)
    rotating = await visit(manager, session_id)
    await rotating.session.regenerate(grace=10)
    entry = await store.get(key_of(manager, session_id))
    assert rotating.session.id.encode() not in entry.data


def test_the_way_is_found_with_the_old_id_alone():
    """Another id opens nothing that has the form of one; twice is never the same."""
    sealed = seal("a" * 43, "b" * 43)
    record = Record(
        created=0,
        renewed_at=0,
        expires_at=9,
        data=b"",
        successor=sealed,
        successor_until=5,
    )
    assert successor_of("a" * 43, record) == "b" * 43
    assert successor_of("c" * 43, record) is None
    assert sealed != seal("a" * 43, "b" * 43)


@pytest.mark.parametrize("grace", [-1, 61, "10", True])
@pytest.mark.gen_test
async def test_a_senseless_grace_is_refused(manager, grace):
    """It is from 0 to 60 seconds: so long the old id is remembered."""
    rotating = await visit(manager, await begin(manager, a=1))
    with pytest.raises((ValueError, TypeError), match="grace"):
        await rotating.session.regenerate(grace=grace)


@pytest.mark.parametrize("verb", ["regenerate", "login"])
@pytest.mark.gen_test
async def test_a_new_id_is_not_left_half_done(manager, store, verb):
    """Cancelled in between, it goes on; the end of the request waits for it."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    half_way = asyncio.Event()

    async def tell(operate):
        half_way.set()
        return await operate()

    store.script("add", tell)
    session = late.session
    task = asyncio.ensure_future(
        session.login("ann") if verb == "login" else session.regenerate()
    )
    await half_way.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    cookie = await late.leave_with_cookie()
    assert await manager.get(session_id) is None
    assert await data_of(manager, session.id) == {"a": 1}
    assert cookie == session.id
