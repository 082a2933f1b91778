"""`SessionManager.set`, while other processes begin and end the same session."""

from __future__ import annotations

import pytest

from tornado_mcsession import SessionGone, SessionManager

from ..support.clock import ManualClock
from ..support.requests import begin, data_of
from ..support.scripted import ScriptedStore, after

ID = "a-session-id-of-forty-three-characters-0123"


@pytest.mark.gen_test
async def test_a_session_that_ended_meanwhile_stays_ended(
    manager: SessionManager, other: SessionManager, store: ScriptedStore
) -> None:
    """Another process creates and destroys it, right before the add."""

    async def begin_and_end() -> None:
        await other.set(ID, {"a": 1})
        assert await other.destroy(ID)

    store.script("add", after(begin_and_end))
    with pytest.raises(SessionGone):
        await manager.set(ID, {"a": 2})
    assert await data_of(other, ID) is None


@pytest.mark.gen_test
async def test_a_session_that_began_meanwhile_keeps_what_it_is(
    manager: SessionManager,
    other: SessionManager,
    store: ScriptedStore,
    clock: ManualClock,
) -> None:
    """Its data is replaced; its messages and its beginning are not."""
    began = clock()

    async def begin_it() -> None:
        await other.set(ID, {"a": 1})
        session = await other.get(ID)
        assert session is not None
        session.flash("kept")
        await session.save()
        clock.advance(10)

    store.script("add", after(begin_it))
    await manager.set(ID, {"b": 2})
    session = await manager.get(ID)
    assert session is not None
    assert session == {"b": 2}
    assert session.created is not None
    assert session.created.timestamp() == began
    assert session.flashes() == [("info", "kept")]


@pytest.mark.gen_test
async def test_an_id_can_be_used_again_when_its_tombstone_is_over(
    manager: SessionManager, clock: ManualClock
) -> None:
    """The store keeps a tombstone for longer than it counts."""
    session_id = await begin(manager, a=1)
    assert await manager.destroy(session_id)
    clock.advance(59)
    with pytest.raises(SessionGone):
        await manager.set(session_id, {"b": 2})
    clock.advance(1)
    await manager.set(session_id, {"b": 2})
    assert await data_of(manager, session_id) == {"b": 2}
