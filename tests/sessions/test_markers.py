"""Revocation's markers: how long they live, and what a failing change of one means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tornado.web import Application

from tornado_mcsession import MemoryStore, SessionManager, StoreUnavailable

from ..support.clock import ManualClock
from ..support.requests import begin, is_alive, visit
from ..support.scripted import ScriptedStore, done, down, dropped, lost

DAY = 86_400.0
SECRETS = {1: "s" * 40, 2: "t" * 40}


@pytest.mark.parametrize("after", [5, 28.75, 28.83, 29, 29.9, 35])
@pytest.mark.gen_test
async def test_a_marker_outlives_each_session_that_logs_in(
    clock: ManualClock, after: float
) -> None:
    """Another device has made it long ago, and is not used any more."""
    manager = SessionManager(store=MemoryStore(clock=clock), clock=clock)
    await begin(manager, "ann")
    clock.advance(after * DAY)
    session_id = await begin(manager, "ann")
    session = await manager.get(session_id)
    assert session is not None
    assert session.expires_at is not None
    clock.advance(session.expires_at.timestamp() - clock() - 1)
    assert await is_alive(manager, session_id)


@pytest.mark.parametrize("days", [29, 31, 90])
@pytest.mark.gen_test
async def test_a_marker_lives_as_long_as_the_longest_session(
    clock: ManualClock, days: float
) -> None:
    """Sessions may live for longer than memcached takes a TTL for one."""
    manager = SessionManager(
        store=MemoryStore(clock=clock),
        clock=clock,
        idle_timeout=days * DAY,
        lifetime=None,
        renew_after=None,
    )
    session_id = await begin(manager, "ann")
    clock.advance(days * DAY - 1)
    assert await is_alive(manager, session_id)


# What ends them.

End = Callable[[SessionManager, str], Awaitable[None]]


async def by_revoke(manager: SessionManager, session_id: str) -> None:
    assert await manager.revoke("ann")


async def by_another_device(manager: SessionManager, session_id: str) -> None:
    request = await visit(manager, await begin(manager, "ann"))
    await request.session.revoke_others()
    await request.leave()


@pytest.mark.parametrize("end", [by_revoke, by_another_device])
@pytest.mark.gen_test
async def test_a_request_right_after_the_end_begins_no_session(
    manager: SessionManager, other: SessionManager, clock: ManualClock, end: End
) -> None:
    """However long ago the principal logged in first."""
    session_id = await begin(manager, "ann")
    clock.advance(3600)
    await end(manager, session_id)
    late = await visit(other, session_id)
    late.session["written"] = "late"
    assert await late.leave() is None
    assert other.stats()["dropped_saves"] == 1


def with_secrets(
    store: ScriptedStore, clock: ManualClock, secret: Any, version: int | None = None
) -> SessionManager:
    app = Application(cookie_secret=secret, key_version=version)
    return SessionManager(app, store=store, clock=clock, signed=False)


@pytest.mark.gen_test
async def test_revoke_others_ends_those_of_all_secrets(
    store: ScriptedStore, clock: ManualClock
) -> None:
    """Some devices logged in before the secret was changed, this one afterwards."""
    old = with_secrets(store, clock, SECRETS[1])
    new = with_secrets(store, clock, SECRETS, 2)
    before = await begin(old, "ann")
    mine = await visit(new, await begin(new, "ann"))
    assert await is_alive(new, before)
    await mine.session.revoke_others()
    assert await is_alive(new, await mine.leave())
    assert not await is_alive(new, before)
    assert not await is_alive(old, before)


@pytest.mark.parametrize("skipped", [0, 1])
@pytest.mark.gen_test
async def test_a_revocation_that_fails_for_one_secret_is_done_for_the_other(
    store: ScriptedStore, clock: ManualClock, skipped: int
) -> None:
    """It is an error all the same, since it is not done for all."""
    old = with_secrets(store, clock, SECRETS[1])
    new = with_secrets(store, clock, SECRETS, 2)
    ids = [await begin(old, "ann"), await begin(new, "ann")]
    store.script("cas", *[done] * skipped, down)
    with pytest.raises(StoreUnavailable):
        await new.revoke("ann")
    alive = [session_id for session_id in ids if await is_alive(new, session_id)]
    assert len(alive) == 1
    assert await new.revoke("ann")
    assert not await is_alive(new, alive[0])


# What is told where a response is lost.


@pytest.mark.gen_test
async def test_a_revocation_whose_response_was_lost_tells_what_it_ended(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """The second look finds the marker as the first try left it."""
    session_id = await begin(manager, "ann")
    store.script("cas", lost)
    assert await manager.revoke("ann") is True
    assert not await is_alive(manager, session_id)


@pytest.mark.parametrize("fails_then", ["get", "cas"])
@pytest.mark.gen_test
async def test_a_later_failure_leaves_a_revocation_of_unknown_outcome(
    manager: SessionManager, store: ScriptedStore, fails_then: str
) -> None:
    """The first try may still arrive, whatever became of what followed it."""
    session_id = await begin(manager, "ann")
    store.script("cas", store.delayed)
    store.script(fails_then, *([done] if fails_then == "get" else []), down)
    with pytest.raises(StoreUnavailable) as raised:
        await manager.revoke("ann")
    assert raised.value.outcome_unknown
    assert await is_alive(manager, session_id)
    await store.arrive()
    assert not await is_alive(manager, session_id)


@pytest.mark.gen_test
async def test_a_revocation_that_is_never_done_is_of_unknown_outcome(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """Each try loses its response, and nothing is ever done."""
    await begin(manager, "ann")
    store.always("cas", dropped)
    with pytest.raises(StoreUnavailable) as raised:
        await manager.revoke("ann")
    assert raised.value.outcome_unknown
