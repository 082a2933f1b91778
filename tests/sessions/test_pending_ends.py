"""Ends that could not be confirmed, and when they are tried again.

Most of them are played on a loop whose time is virtual.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from tornado_mcsession import MemoryStore, SessionManager, StoreUnavailable

from ..support.clock import ManualClock
from ..support.requests import begin, data_of, is_alive, pending_done, visit
from ..support.scripted import Hold, Operate, ScriptedStore, down, lost
from ..support.stepping import run_virtually

DAY = 86_400.0


@pytest.fixture
def store(clock: ManualClock) -> ScriptedStore:
    """A scripted store in memory."""
    return ScriptedStore(MemoryStore(clock=clock))


def pending(manager: SessionManager) -> int:
    count: int = manager.stats()["pending_destroys"]
    return count


async def fail_to_end(
    manager: SessionManager, store: ScriptedStore, session_id: str
) -> None:
    """Destroy a session while the store is down, and let it be back."""
    store.always("any", down)
    with pytest.raises(StoreUnavailable):
        await manager.destroy(session_id)
    store.forget_scripts()


async def move_without_a_response(
    manager: SessionManager, store: ScriptedStore, session_id: str
) -> str:
    """Give a session a new id; the old one is dead, and nobody can tell."""
    request = await visit(manager, session_id)
    store.script("cas", lost)
    store.always("get", down)
    with pytest.raises(StoreUnavailable) as raised:
        await request.session.regenerate()
    assert raised.value.outcome_unknown
    store.forget_scripts()
    assert request.session.id not in (None, session_id)
    return str(request.session.id)


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


# What is ended.


@pytest.mark.gen_test
async def test_ending_the_old_id_later_leaves_the_new_one_alive(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """It is the old id alone that must be dead: the user goes on with the new one."""
    session_id = await begin(manager, "ann", a=1)
    new_id = await move_without_a_response(manager, store, session_id)
    assert pending(manager) == 1
    await pending_done(manager, store)
    assert not await is_alive(manager, session_id)
    assert await data_of(manager, new_id) == {"a": 1}


@pytest.mark.gen_test
async def test_a_logout_that_waits_ends_the_new_id_as_well(
    manager: SessionManager, other: SessionManager, store: ScriptedStore
) -> None:
    """The user logged out before the id was changed, and must not stay logged in."""
    session_id = await begin(manager, "ann", a=1)
    store.always("write", down)
    with pytest.raises(StoreUnavailable):
        await manager.destroy(session_id)
    store.forget_scripts()
    new_id = await move_without_a_response(manager, store, session_id)
    assert pending(manager) == 1
    await pending_done(manager, store)
    assert not await is_alive(manager, session_id)
    assert not await is_alive(other, new_id)


def test_the_oldest_are_dropped_where_there_are_too_many(clock: ManualClock) -> None:
    """The newest logouts are those whose sessions are still in use."""

    async def play() -> None:
        store = ScriptedStore(MemoryStore(clock=clock))
        manager = SessionManager(store=store, clock=clock)
        oldest, newest = [await begin(manager, a=number) for number in range(2)]
        store.always("any", down)
        for session_id in (oldest, *(f"{n:043}" for n in range(49_999)), newest):
            with contextlib.suppress(StoreUnavailable):
                await manager.destroy(session_id)
        assert pending(manager) == 50_000
        assert manager.stats()["dropped_ends"] == 1
        store.forget_scripts()
        await asyncio.sleep(10)
        assert pending(manager) == 0
        assert await is_alive(manager, oldest)
        assert not await is_alive(manager, newest)

    run_virtually(play())


# When.


def test_they_are_tried_again_after_a_second_and_then_less_often(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """Nobody need tell that the store is back; and when all is done, it begins anew."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        tried: list[float] = []

        async def note(operate: Operate) -> Any:
            tried.append(round(loop.time() - began, 2))
            return await down(operate)

        first = await begin(manager, a=1)
        await fail_to_end(manager, store, first)
        store.always("get", note)
        await asyncio.sleep(300)
        assert tried == [1, 3, 7, 15, 31, 63, 123, 183, 243]
        assert pending(manager) == 1
        store.forget_scripts()
        await asyncio.sleep(60)
        assert pending(manager) == 0
        assert not await is_alive(manager, first)

        second = await begin(manager, a=1)
        await fail_to_end(manager, store, second)
        await asyncio.sleep(1.1)
        assert not await is_alive(manager, second)

    run_virtually(play())


def test_they_are_tried_no_longer_than_the_session_may_live(
    manager: SessionManager, store: ScriptedStore, clock: ManualClock
) -> None:
    """Then it has ended by itself, whatever the store says."""

    async def play() -> None:
        await fail_to_end(manager, store, await begin(manager, a=1))
        store.always("any", down)
        clock.advance(400 * DAY)
        calls = len(store.calls)
        await asyncio.sleep(10)
        assert pending(manager) == 0
        assert len(store.calls) == calls

    run_virtually(play())


def test_each_is_tried_once_however_often_the_store_is_back(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """A node that comes and goes does not multiply the work."""

    async def play() -> None:
        await fail_to_end(manager, store, await begin(manager, a=1))
        hold = Hold()
        store.always("get", hold)
        calls = len(store.calls)
        for _ in range(5):
            store.connected()
            await settle()
        assert store.calls[calls:] == ["get"]
        hold.release()
        await settle()
        assert pending(manager) == 0
        assert store.calls[calls:] == ["get", "cas"]

    run_virtually(play())


def test_a_store_that_is_back_while_they_are_tried_is_asked_once_more(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """The try under way may have met the outage; the next one need not wait."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        session_id = await begin(manager, a=1)
        await fail_to_end(manager, store, session_id)
        hold = Hold()

        async def fail_when_released(operate: Operate) -> Any:
            await hold(operate)
            return await down(operate)

        store.script("get", fail_when_released)
        store.connected()
        await hold.reached()
        store.connected()
        began = loop.time()
        hold.release()
        await settle()
        assert pending(manager) == 0
        assert loop.time() == began
        assert not await is_alive(manager, session_id)

    run_virtually(play())


def test_they_survive_the_loop_that_tried_them(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """A loop ends in the middle of a try; the next failing end begins it anew."""

    async def left_half_done() -> str:
        session_id = await begin(manager, a=1)
        await fail_to_end(manager, store, session_id)
        hold = Hold()
        store.always("get", hold)
        store.connected()
        await hold.reached()
        return session_id

    async def elsewhere(first: str) -> None:
        second = await begin(manager, a=2)
        await fail_to_end(manager, store, second)
        await asyncio.sleep(5)
        assert pending(manager) == 0
        assert not await is_alive(manager, first)
        assert not await is_alive(manager, second)

    first = run_virtually(left_half_done())
    store.forget_scripts()
    run_virtually(elsewhere(first))


def test_a_timer_of_a_loop_that_has_ended_is_not_waited_for(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """A loop ends before its timer does."""

    async def fail() -> str:
        session_id = await begin(manager, a=1)
        await fail_to_end(manager, store, session_id)
        return session_id

    async def elsewhere(first: str) -> None:
        second = await fail()
        await asyncio.sleep(5)
        assert pending(manager) == 0
        assert not await is_alive(manager, first)
        assert not await is_alive(manager, second)

    run_virtually(elsewhere(run_virtually(fail())))


def test_after_close_nothing_is_tried_again(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """Neither what was kept before, nor what fails afterwards."""

    async def play() -> None:
        await fail_to_end(manager, store, await begin(manager, a=1))
        await manager.close()
        assert pending(manager) == 0
        store.always("any", down)
        with pytest.raises(StoreUnavailable):
            await manager.destroy("x" * 43)
        assert pending(manager) == 0
        calls = len(store.calls)
        store.connected()
        await asyncio.sleep(100)
        assert len(store.calls) == calls

    run_virtually(play())
