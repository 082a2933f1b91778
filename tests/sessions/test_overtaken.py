"""Requests that are overtaken: by a rotation, a login, a logout, or each other."""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession import CasResult, SessionGone, SessionManager, StoreUnavailable

from ..support.requests import begin, data_of, key_of, unloaded, visit
from ..support.scripted import answers, down


def lazily(manager, session_id):
    """A session of a request that has not loaded it."""
    return unloaded(manager, session_id)


@pytest.mark.parametrize("is_lazy", [True, False])
@pytest.mark.gen_test
async def test_a_logout_follows_a_rotation(manager, is_lazy):
    """Within the grace it ends the session where it is by then."""
    session_id = await begin(manager, a=1)
    late = (await visit(manager, session_id)).session
    rotating = await visit(manager, session_id)
    await rotating.session.regenerate(grace=30)
    await (lazily(manager, session_id) if is_lazy else late).destroy()
    assert await manager.get(rotating.session.id) is None


@pytest.mark.parametrize("is_lazy", [True, False])
@pytest.mark.parametrize("by", ["destroy", "None"])
@pytest.mark.gen_test
async def test_a_logout_with_an_older_id_cannot_end_a_later_login(
    manager, store, is_lazy, by
):
    """It is refused; the tombstone stays, and so does the login."""
    session_id = await begin(manager, a=1)
    late = (await visit(manager, session_id)).session
    moving = await visit(manager, session_id)
    await moving.session.login("ann")
    overtaken = await visit(manager, session_id)
    overtaken.session = lazily(manager, session_id) if is_lazy else late
    if by == "None":
        overtaken.session._doom()
    with pytest.raises(SessionGone):
        await (overtaken.leave() if by == "None" else overtaken.session.destroy())
    assert manager.stats()["refused_ends"] == 1
    assert await overtaken.leave_with_cookie() is None
    assert await store.get(key_of(manager, session_id)) is not None
    assert await data_of(manager, moving.session.id) == {"a": 1}


@pytest.mark.parametrize("is_lazy", [True, False])
@pytest.mark.gen_test
async def test_a_logout_with_an_older_id_ends_the_same_login(manager, is_lazy):
    """However often it was given a new id."""
    session_id = await begin(manager, a=1)
    late = (await visit(manager, session_id)).session
    moving = await visit(manager, session_id)
    await moving.session.regenerate()
    await moving.session.regenerate()
    await (lazily(manager, session_id) if is_lazy else late).destroy()
    assert await data_of(manager, moving.session.id) is None


@pytest.mark.gen_test
async def test_a_rotation_amid_a_logout_finds_the_session_closed(manager, store):
    """Whichever closes the old record first has it."""
    session_id = await begin(manager, a=1)
    rotating = await visit(manager, session_id)

    async def rotate_first(operate):
        await rotating.session.regenerate(grace=30)
        return await operate()

    store.script("cas", rotate_first)
    await manager.destroy(session_id)
    assert await manager.get(rotating.session.id) is None


@pytest.mark.gen_test
async def test_any_number_of_rotations_is_followed(manager):
    """A request loads where its saves would go."""
    session_id = await begin(manager, a=1)
    rotating = await visit(manager, session_id)
    for _ in range(3):
        await rotating.session.regenerate(grace=30)
    assert (await visit(manager, session_id)).session == {"a": 1}


@pytest.mark.gen_test
async def test_a_login_follows_a_rotation(manager):
    """It keeps the data, and ends the session where it is by then."""
    session_id = await begin(manager, cart=["pen"])
    late = await visit(manager, session_id)
    rotating = await visit(manager, session_id)
    await rotating.session.regenerate(grace=30)
    await late.session.login("ann")
    assert late.session == {"cart": ["pen"]}
    assert await manager.get(rotating.session.id) is None


@pytest.mark.parametrize("verb", ["save", "transact"])
@pytest.mark.gen_test
async def test_what_cannot_send_a_cookie_does_not_renew(manager, clock, verb):
    """A job's saves leave the record's end where the cookie's is."""
    session_id = await begin(manager, a=1)
    clock.advance(50_000)
    session = await manager.get(session_id)
    expires_at = session.expires_at
    if verb == "save":
        session["a"] = 2
        await session.save()
    else:
        await session.transact(lambda data: data.update(a=2))
    assert session.expires_at == expires_at


@pytest.mark.gen_test
async def test_a_polling_handler_does_not_renew_by_save(manager, clock):
    """session_renew = False holds for awaited saves too."""
    late = await visit(manager, await begin(manager, a=1))
    late.handler.session_renew = False
    clock.advance(50_000)
    expires_at = late.session.expires_at
    late.session["a"] = 2
    await late.session.save()
    assert late.session.expires_at == expires_at


@pytest.mark.gen_test
async def test_a_helper_task_within_a_turn_is_refused_too(manager):
    """It would wait for its parent, and its parent for it."""
    late = await visit(manager, await begin(manager, a=1))

    async def fn(data):
        await asyncio.gather(late.session.save())

    with pytest.raises(RuntimeError, match="cannot await"):
        async with asyncio.timeout(5):
            await late.session.transact(fn)


@pytest.mark.gen_test
async def test_a_logout_that_is_given_up_goes_on(manager, store):
    """Cancelled in between, it still ends the session."""
    late = await visit(manager, await begin(manager, a=1))
    session_id = late.session.id
    half_way = asyncio.Event()

    async def tell(operate):
        half_way.set()
        return await operate()

    store.script("cas", tell)
    task = asyncio.ensure_future(late.session.logout())
    await half_way.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await manager.drain(5)
    assert await manager.get(session_id) is None


@pytest.mark.gen_test
async def test_unconfirmed_logouts_are_tried_again_unasked(manager, store, monkeypatch):
    """A store that tells of no connections, or was only overloaded, gets there too."""
    monkeypatch.setattr(manager.rotation.pending, "_pause", 0.001)
    session_id = await begin(manager, a=1)
    store.script("get", down, down)
    with pytest.raises(StoreUnavailable):
        await manager.destroy(session_id)
    async with asyncio.timeout(10):
        while manager.stats()["pending_destroys"]:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert await manager.get(session_id) is None


@pytest.mark.gen_test
async def test_a_logout_needs_no_readable_record(make, store):
    """With the keys of another release it is ended all the same."""
    session_id = await begin(make(store, encryption_keys=[b"k" * 32]), a=1)
    other = make(store, encryption_keys=[b"o" * 32])
    late = await visit(other, session_id)
    await late.session.logout()
    assert (await visit(other, session_id)).session.presented == "ended"


@pytest.mark.gen_test
async def test_hundreds_of_parallel_writes_are_all_kept(clock):
    """The deadline bounds the tries of each, and not their number."""
    manager = SessionManager(store="memory://", clock=clock)
    await manager.set("a" * 43, {"n": 0})

    async def write(number):
        session = await manager.get("a" * 43)
        session[f"k{number}"] = number
        await asyncio.sleep(0)
        await session.save()

    await asyncio.gather(*(write(number) for number in range(300)))
    assert len(await manager.get("a" * 43)) == 301


@pytest.mark.gen_test
async def test_a_logout_that_always_conflicts_ends(make, store):
    """In twice the store's timeout, as one that cannot be confirmed."""
    store.timeout = 0.05
    manager = make(store)
    session_id = await begin(manager, a=1)
    store.script("cas", *[answers(CasResult.CONFLICT)] * 100_000)
    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailable, match="destroy"):
            await manager.destroy(session_id)
    assert manager.stats()["pending_destroys"] == 1
