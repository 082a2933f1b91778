"""The end of a session: what is ended, by which id, and when it cannot be confirmed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from tornado_mcsession import (
    CasResult,
    MemcachedStore,
    MemoryStore,
    Session,
    SessionGone,
    SessionManager,
    StoreUnavailable,
)

from ..support.clock import ManualClock
from ..support.processes import free_port
from ..support.requests import begin, data_of, is_alive, pending_done, visit
from ..support.scripted import Hold, ScriptedStore, down, dropped, lost

# New ids of the same login, and logins that took the place of one.


async def regenerate(session: Session) -> None:
    await session.regenerate()


async def regenerate_empty(session: Session) -> None:
    await session.regenerate(keep=False)


async def regenerate_with_grace(session: Session) -> None:
    await session.regenerate(grace=30)


async def revoke_others(session: Session) -> None:
    await session.revoke_others()


async def login_again(session: Session) -> None:
    await session.login("ann")


async def login_of_another(session: Session) -> None:
    await session.login("bob")


SAME_LOGIN = [
    regenerate,
    regenerate_empty,
    regenerate_with_grace,
    revoke_others,
    login_again,
]
each_move = pytest.mark.parametrize("move", SAME_LOGIN, ids=lambda f: f.__name__)


async def moved(manager: SessionManager, session_id: str, move: Any) -> str:
    """Another tab of the user's gives the session a new id; return that."""
    request = await visit(manager, session_id)
    await move(request.session)
    new = await request.leave()
    assert new is not None
    assert new != session_id
    return new


# A logout by an older id.


@each_move
@pytest.mark.gen_test
async def test_a_logout_by_an_older_id_ends_the_same_login(
    manager: SessionManager, other: SessionManager, move: Any
) -> None:
    """One tab changes the id, and the other logs out with the id that it has."""
    old = await begin(manager, "ann", a=1)
    tab = await visit(other, old)
    new = await moved(manager, old, move)
    await tab.session.destroy()
    assert not await is_alive(manager, new)
    assert await data_of(manager, old) is None


@each_move
@pytest.mark.gen_test
async def test_a_logout_that_presents_a_replaced_id_ends_the_same_login(
    manager: SessionManager, other: SessionManager, move: Any
) -> None:
    """The second tab's request begins after the id was replaced."""
    old = await begin(manager, "ann", a=1)
    new = await moved(manager, old, move)
    tab = await visit(other, old)
    await tab.session.logout()
    assert not await is_alive(manager, new)


@each_move
@pytest.mark.gen_test
async def test_an_end_by_id_follows_the_same_login(
    manager: SessionManager, other: SessionManager, move: Any
) -> None:
    """So does `SessionManager.destroy`."""
    old = await begin(manager, "ann", a=1)
    new = await moved(manager, old, move)
    assert await other.destroy(old)
    assert not await is_alive(manager, new)


@pytest.mark.gen_test
async def test_an_anonymous_session_is_followed_to_its_new_id(
    manager: SessionManager, other: SessionManager
) -> None:
    """Nobody is logged in before, nor afterwards."""
    old = await begin(manager, a=1)
    new = await moved(manager, old, regenerate)
    await (await visit(other, old)).session.destroy()
    assert not await is_alive(manager, new)


@pytest.mark.gen_test
async def test_a_logout_follows_several_new_ids(
    manager: SessionManager, other: SessionManager
) -> None:
    """The id was replaced more than once."""
    old = newest = await begin(manager, "ann", a=1)
    for move in SAME_LOGIN:
        newest = await moved(manager, newest, move)
    await (await visit(other, old)).session.destroy()
    assert not await is_alive(manager, newest)


@pytest.mark.parametrize("principal", [None, "ann"])
@pytest.mark.parametrize("steps", [0, 1], ids=["at once", "after a new id"])
@pytest.mark.gen_test
async def test_an_older_id_cannot_end_another_login(
    manager: SessionManager,
    other: SessionManager,
    caplog: pytest.LogCaptureFixture,
    principal: str | None,
    steps: int,
) -> None:
    """It is a SessionGone, counted and logged; the login stays."""
    old = newest = await begin(manager, principal, a=1)
    tab = await visit(other, old)
    for _ in range(steps):
        newest = await moved(manager, newest, regenerate)
    newest = await moved(manager, newest, login_of_another)
    late = await visit(other, old)
    with caplog.at_level(logging.INFO, "tornado_mcsession"):
        with pytest.raises(SessionGone) as caught:
            await tab.session.destroy()
        assert caught.value.status == 409
        with pytest.raises(SessionGone):
            await late.session.logout()
    assert await is_alive(manager, newest)
    assert other.stats()["refused_ends"] == 2
    lines = [r.getMessage() for r in caplog.records if r.name == "tornado_mcsession"]
    assert lines
    assert not any(old in line or newest in line for line in lines)


@pytest.mark.gen_test
async def test_an_older_id_cannot_end_another_login_later_either(
    manager: SessionManager, other: SessionManager, clock: ManualClock
) -> None:
    """After a minute its tombstone is over, and tells nothing any more."""
    old = await begin(manager, "ann", a=1)
    new = await moved(manager, old, login_of_another)
    clock.advance(61)
    request = await visit(other, old)
    assert request.session.presented == "unknown"
    with contextlib.suppress(SessionGone):
        await request.session.destroy()
    assert await is_alive(manager, new)


# What a request presented, whatever became of its load.


@pytest.mark.gen_test
async def test_a_refused_session_is_ended(
    make: Callable[..., SessionManager], store: ScriptedStore
) -> None:
    """``validate`` refuses it, and the handler logs out."""
    manager = make(store, validate=lambda handler, session: False)
    session_id = await begin(make(store), "ann", a=1)
    request = await visit(manager, session_id)
    assert request.session.presented == "refused"
    await request.session.destroy()
    assert not await is_alive(manager, session_id)


@pytest.mark.gen_test
async def test_a_session_that_could_not_be_loaded_is_ended_later(
    make: Callable[..., SessionManager], store: ScriptedStore
) -> None:
    """A logout under ``on_error="degrade"`` is a StoreUnavailable, and tried again."""
    manager = make(store, on_error="degrade")
    session_id = await begin(manager, "ann", a=1)
    store.always("any", down)
    request = await visit(manager, session_id)
    assert not request.session.available
    with pytest.raises(StoreUnavailable):
        await request.session.destroy()
    assert manager.stats()["pending_destroys"] == 1
    store.forget_scripts()
    assert await is_alive(manager, session_id)
    await pending_done(manager, store)
    assert not await is_alive(manager, session_id)


@pytest.mark.gen_test
async def test_a_logout_ends_each_of_several_sessions(
    manager: SessionManager, other: SessionManager
) -> None:
    """The browser sent two cookies of the name, and both are alive."""
    first = await begin(manager, "ann", a=1)
    second = await begin(manager, "bob", a=2)
    request = await visit(other, first, second)
    assert request.session.presented == "ambiguous"
    await request.session.destroy()
    assert not await is_alive(manager, first)
    assert not await is_alive(manager, second)


@pytest.mark.gen_test
async def test_a_login_ends_what_was_refused(
    make: Callable[..., SessionManager],
    store: ScriptedStore,
) -> None:
    """So that the next request has one session only."""
    manager = make(store, validate=lambda handler, session: False)
    session_id = await begin(make(store), "ann", a=1)
    request = await visit(manager, session_id)
    await request.session.login("ann")
    assert not await is_alive(manager, session_id)
    assert await is_alive(manager, await request.leave())


@pytest.mark.gen_test
async def test_what_is_written_after_a_logout_is_a_new_session(
    manager: SessionManager,
) -> None:
    """With a new id; the old one stays dead."""
    session_id = await begin(manager, "ann", a=1)
    request = await visit(manager, session_id)
    await request.session.destroy()
    request.session["b"] = 2
    new = await request.leave()
    assert new != session_id
    assert await data_of(manager, new) == {"b": 2}
    assert await data_of(manager, session_id) is None


@pytest.mark.gen_test
async def test_an_ended_session_tells_so_for_a_minute(
    manager: SessionManager, clock: ManualClock
) -> None:
    """What is written to it is dropped and counted; afterwards it is unknown."""
    session_id = await begin(manager, "ann", a=1)
    await manager.destroy(session_id)
    request = await visit(manager, session_id)
    assert request.session.presented == "ended"
    assert request.session == {}
    request.session["late"] = 1
    assert await request.leave() is None
    assert manager.stats()["dropped_saves"] == 1
    clock.advance(61)
    assert (await visit(manager, session_id)).session.presented == "unknown"


# Ends that cannot be confirmed.


@pytest.mark.parametrize(
    "move", [*SAME_LOGIN, None], ids=lambda move: getattr(move, "__name__", "nothing")
)
@pytest.mark.gen_test
async def test_a_retried_end_follows_the_session(
    manager: SessionManager, other: SessionManager, store: ScriptedStore, move: Any
) -> None:
    """Between an unconfirmed logout and its retry another request changes the id."""
    session_id = await begin(manager, "ann", a=1)
    request = await visit(manager, session_id)
    store.always("write", down)
    with pytest.raises(StoreUnavailable):
        await request.session.destroy()
    store.forget_scripts()
    assert manager.stats()["pending_destroys"] == 1
    new = session_id if move is None else await moved(other, session_id, move)
    await pending_done(manager, store)
    assert await data_of(manager, session_id) is None
    assert not await is_alive(manager, new)


@pytest.mark.gen_test
async def test_a_retried_end_leaves_another_login_alone(
    manager: SessionManager, other: SessionManager, store: ScriptedStore
) -> None:
    """The user's own later login was not logged out."""
    session_id = await begin(manager, "ann", a=1)
    store.always("write", down)
    with pytest.raises(StoreUnavailable):
        await manager.destroy(session_id)
    store.forget_scripts()
    new = await moved(other, session_id, login_of_another)
    await pending_done(manager, store)
    assert await is_alive(manager, new)


@pytest.mark.parametrize("fault", [lost, dropped, None])
@pytest.mark.gen_test
async def test_an_end_of_unknown_outcome_is_tried_again(
    manager: SessionManager, store: ScriptedStore, fault: Any
) -> None:
    """Neither the cas nor the look after it is answered."""
    session_id = await begin(manager, "ann", a=1)
    request = await visit(manager, session_id)
    store.always("cas", fault or store.delayed)
    store.always("get", down)
    with pytest.raises(StoreUnavailable) as caught:
        await request.session.destroy()
    assert caught.value.outcome_unknown
    store.forget_scripts()
    await pending_done(manager, store)
    assert not await is_alive(manager, session_id)
    await store.arrive()
    assert not await is_alive(manager, session_id)


@pytest.mark.gen_test
async def test_many_unconfirmed_ends_are_all_finished(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """1,500 users log out while writes do not get through."""
    ids = [secrets.token_urlsafe(32) for _ in range(1500)]
    for session_id in ids:
        await manager.set(session_id, {"a": 1})
    store.always("write", down)
    for session_id in ids:
        with pytest.raises(StoreUnavailable):
            await manager.destroy(session_id)
    assert manager.stats()["pending_destroys"] == 1500
    assert manager.stats()["dropped_ends"] == 0
    store.forget_scripts()
    await pending_done(manager, store)
    alive = [session_id for session_id in ids if await is_alive(manager, session_id)]
    assert alive == []


@pytest.mark.gen_test
async def test_unconfirmed_ends_are_bounded_and_dropped_aloud(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """50,000 are kept; what is dropped is counted, and an ERROR."""
    store = ScriptedStore()
    manager = SessionManager(store=store)
    store.always("any", down)
    for number in range(50_010):
        try:
            await manager.destroy(f"{number:043}")
        except StoreUnavailable:
            continue
        raise AssertionError("an end was confirmed without a store")
    stats = manager.stats()
    assert stats["pending_destroys"] == 50_000
    assert stats["dropped_ends"] == 10
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [r.name for r in errors] == ["tornado_mcsession"]
    assert "50" in errors[0].getMessage()
    await manager.close(timeout=0.1)


# The end of the manager.


@pytest.mark.integration
@pytest.mark.gen_test
async def test_close_fails_what_waits_for_a_node(io_loop: Any) -> None:
    """A request that waits for a node to come back does not hold up a shutdown."""
    store = MemcachedStore(f"127.0.0.1:{free_port()}", reconnect_timeout=60)
    manager = SessionManager(store=store)
    waiting = asyncio.ensure_future(manager.get("a" * 43))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    began = asyncio.get_running_loop().time()
    await manager.close(timeout=5)
    assert asyncio.get_running_loop().time() - began < 3
    with pytest.raises(StoreUnavailable):
        await waiting


@pytest.mark.gen_test
async def test_close_waits_no_longer_than_it_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A save that hangs is given up, with a warning."""
    store = ScriptedStore(MemoryStore())
    store.timeout = 30.0
    manager = SessionManager(store=store)
    session_id = await begin(manager, a=1)
    session = (await visit(manager, session_id)).session
    hold = Hold()
    store.script("add", hold)
    moving = asyncio.ensure_future(session.regenerate())
    await hold.reached()
    assert not await manager.drain(0.05)
    began = asyncio.get_running_loop().time()
    closing = asyncio.ensure_future(manager.close(timeout=0.2))
    await asyncio.sleep(0.5)
    assert any(r.levelno == logging.WARNING for r in caplog.records)
    hold.release()
    await closing
    assert asyncio.get_running_loop().time() - began < 5
    await asyncio.gather(moving, return_exceptions=True)


# Ends of all sessions.


@pytest.mark.gen_test
async def test_another_key_prefix_ends_all_sessions(
    make: Callable[..., SessionManager],
    store: ScriptedStore,
) -> None:
    """What the documentation advises after a change of nodes."""
    session_id = await begin(make(store), "ann", a=1)
    assert await data_of(make(store, key_prefix="second:"), session_id) is None


# What an end leaves in the store.


@pytest.mark.gen_test
async def test_a_tombstone_tells_nothing_of_the_session(manager, store):
    """Neither what was in it, nor whose it was."""
    late = await visit(manager)
    late.session["secret"] = "planted in the data"
    late.session.flash("planted in a message")
    await late.session.login("planted-principal")
    await late.leave()
    session_id = late.session.id
    kept = {key: await store.inner.get(key) for key in store.keys}
    assert any(b"planted" in entry.data for entry in kept.values() if entry)
    await manager.destroy(session_id)
    kept = {key: await store.inner.get(key) for key in store.keys}
    assert any(kept.values())
    assert not any(b"planted" in entry.data for entry in kept.values() if entry)


@pytest.mark.gen_test
async def test_what_cannot_be_read_here_is_ended_all_the_same(clock):
    """Other processes may have the key that is missing here."""
    store = MemoryStore(clock=clock)
    theirs = SessionManager(store=store, clock=clock, encryption_keys=[b"k" * 32])
    ours = SessionManager(store=store, clock=clock, encryption_keys=[b"o" * 32])
    session_id = await begin(theirs, a=1)
    assert await ours.destroy(session_id) is True
    assert not await is_alive(theirs, session_id)


@pytest.mark.gen_test
async def test_an_end_that_others_get_before_may_have_been_done(clock):
    """It is tried until its time is over, and kept to be tried again."""
    store = ScriptedStore(MemoryStore(clock=clock))
    store.timeout = 0.05
    manager = SessionManager(store=store, clock=clock)
    session_id = await begin(manager, a=1)

    async def too_late(operate):
        return CasResult.CONFLICT

    store.always("cas", too_late)
    with pytest.raises(StoreUnavailable) as raised:
        await manager.destroy(session_id)
    assert raised.value.outcome_unknown
    assert manager.stats()["pending_destroys"] == 1
    store.forget_scripts()
    await pending_done(manager, store)
    assert not await is_alive(manager, session_id)
