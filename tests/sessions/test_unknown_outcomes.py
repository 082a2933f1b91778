"""A change whose response was lost, and what became of the session meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tornado_mcsession import (
    CasResult,
    MemoryStore,
    SessionGone,
    SessionManager,
    StoreUnavailable,
)

from ..support.clock import ManualClock
from ..support.requests import begin, data_of, is_alive, visit
from ..support.scripted import (
    Operate,
    ScriptedStore,
    after,
    before,
    down,
    dropped,
    lost,
)
from ..support.stepping import run_virtually


def increment(data: dict[str, Any]) -> None:
    data["n"] = data.get("n", 0) + 1


def moving(
    manager: SessionManager, session_id: str, told: list[str | None], grace: float
) -> Callable[[], Awaitable[None]]:
    """Another request gives the session a new id, which is appended to ``told``."""

    async def move() -> None:
        request = await visit(manager, session_id)
        await request.session.regenerate(grace=grace)
        told.append(await request.leave())

    return move


@pytest.mark.parametrize("grace", [0, 30])
@pytest.mark.gen_test
async def test_a_change_that_was_carried_to_a_new_id_is_done(
    manager: SessionManager, other: SessionManager, store: ScriptedStore, grace: float
) -> None:
    """It was made before the session moved, so it is neither lost nor made twice."""
    session_id = await begin(manager, n=0)
    session = (await visit(manager, session_id)).session
    told: list[str | None] = []
    store.script("cas", before(moving(other, session_id, told, grace), lost))
    await session.transact(increment)
    assert await data_of(other, told[0]) == {"n": 1}


@pytest.mark.gen_test
async def test_a_request_that_outlives_the_grace_changes_nothing(
    manager: SessionManager, other: SessionManager, clock: ManualClock
) -> None:
    """It began with the old id, and saves when that leads nowhere any more."""
    session_id = await begin(manager, a=1)
    slow = [await visit(manager, session_id) for _ in range(2)]
    told: list[str | None] = []
    await moving(other, session_id, told, 30)()
    for request in slow:
        request.session["late"] = 1
    clock.advance(29)
    await slow[0].session.save()
    assert await data_of(other, told[0]) == {"a": 1, "late": 1}
    clock.advance(1)
    slow[1].session["late"] = 2
    with pytest.raises(SessionGone):
        await slow[1].session.save()
    assert await data_of(other, told[0]) == {"a": 1, "late": 1}


@pytest.mark.gen_test
async def test_an_end_is_tried_again_however_much_was_written_meanwhile(
    manager: SessionManager, other: SessionManager, store: ScriptedStore
) -> None:
    """A living record proves that it was not done, whatever the record remembers."""
    session_id = await begin(manager, n=0)

    async def write_much() -> None:
        for _ in range(200):
            session = await other.get(session_id)
            assert session is not None
            await session.transact(increment)

    store.script("cas", before(write_much, dropped))
    assert await manager.destroy(session_id)
    assert not await is_alive(other, session_id)
    assert manager.stats()["pending_destroys"] == 0


@pytest.mark.gen_test
async def test_what_the_store_loses_afterwards_leaves_the_outcome_unknown(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """The change may have been made before its session was evicted."""
    session_id = await begin(manager, n=0)
    session = (await visit(manager, session_id)).session

    async def evict() -> None:
        for key in store.keys:
            await store.inner.delete(key)

    store.script("cas", dropped, after(evict))
    with pytest.raises(StoreUnavailable) as raised:
        await session.transact(increment)
    assert raised.value.outcome_unknown


@pytest.mark.gen_test
async def test_a_later_failure_leaves_the_outcome_unknown(
    manager: SessionManager, other: SessionManager, store: ScriptedStore
) -> None:
    """The old id's tombstone may be there, whatever became of the second try."""
    session_id = await begin(manager, n=0)
    session = (await visit(manager, session_id)).session

    async def write() -> None:
        found = await other.get(session_id)
        assert found is not None
        await found.transact(increment)

    store.script("cas", before(write, dropped))

    async def then_down(operate: Operate) -> Any:
        if store.calls.count("cas") > allowed:
            return await down(operate)
        return await operate()

    allowed = store.calls.count("cas") + 2  # the lost one, and the other request's
    store.always("cas", then_down)
    with pytest.raises(StoreUnavailable) as raised:
        await session.regenerate()
    assert raised.value.outcome_unknown


async def _conflict(operate: Operate) -> CasResult:
    return CasResult.CONFLICT


async def _hang(operate: Operate) -> Any:
    await asyncio.Event().wait()


def patient(clock: ManualClock, timeout: float) -> tuple[ScriptedStore, SessionManager]:
    store = ScriptedStore(MemoryStore(clock=clock))
    store.timeout = timeout
    manager = SessionManager(store=store, clock=clock, cookie_secret="a secret")
    return store, manager


def test_too_many_tries_leave_the_outcome_unknown(clock: ManualClock) -> None:
    """Even with all the time in the world a change gives up at last."""

    async def play() -> None:
        store, manager = patient(clock, 1000)
        session_id = await begin(manager, n=0)
        session = (await visit(manager, session_id)).session
        store.script("cas", dropped)
        store.always("cas", _conflict)
        with pytest.raises(StoreUnavailable) as raised:
            await session.transact(increment)
        assert raised.value.outcome_unknown

    run_virtually(play())


@pytest.mark.parametrize(("operation", "unknown"), [("get", False), ("cas", True)])
def test_a_change_that_ran_out_of_time_is_unknown_if_it_was_sent(
    clock: ManualClock, operation: str, *, unknown: bool
) -> None:
    """A store that hangs while the session is read has changed nothing."""

    async def play() -> None:
        store, manager = patient(clock, 1)
        session_id = await begin(manager, n=0)
        store.always(operation, _hang)
        with pytest.raises(StoreUnavailable) as raised:
            await manager.destroy(session_id)
        assert raised.value.outcome_unknown is unknown

    run_virtually(play())
