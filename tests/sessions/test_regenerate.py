"""`Session.regenerate`, after another request has changed the id."""

from __future__ import annotations

import pytest

from tornado_mcsession import SessionGone, SessionManager

from ..support.clock import ManualClock
from ..support.requests import begin, data_of, is_alive, visit


@pytest.mark.gen_test
async def test_an_empty_one_is_empty_behind_a_grace_too(
    manager: SessionManager, other: SessionManager
) -> None:
    """Another request has just given the session the new id that serves for both."""
    session_id = await begin(manager, "ann", secret=1)
    tab = await visit(other, session_id)
    first = await visit(manager, session_id)
    first.session.flash("old message")
    await first.session.regenerate(grace=30)
    new = await first.leave()
    tab.session["mine"] = 1
    await tab.session.regenerate(keep=False, grace=30)
    assert tab.session == {}
    assert tab.session.flashes() == []
    assert await data_of(manager, await tab.leave()) == {}
    if await is_alive(manager, new):
        assert await data_of(manager, new) == {}


@pytest.mark.gen_test
async def test_an_empty_one_that_presents_the_old_id_is_empty(
    manager: SessionManager, other: SessionManager
) -> None:
    """The request begins within the grace, after the id was changed."""
    session_id = await begin(manager, "ann", secret=1)
    first = await visit(manager, session_id)
    await first.session.regenerate(grace=30)
    new = await first.leave()
    tab = await visit(other, session_id)
    assert tab.session == {"secret": 1}
    await tab.session.regenerate(keep=False, grace=30)
    assert await data_of(manager, await tab.leave()) == {}
    assert not await data_of(manager, new)
    assert not await data_of(manager, session_id)


@pytest.mark.gen_test
async def test_both_keep_what_both_wrote(
    manager: SessionManager, other: SessionManager
) -> None:
    """Two rotations at once with a grace end in one session."""
    session_id = await begin(manager, "ann", a=1)
    tab = await visit(other, session_id)
    first = await visit(manager, session_id)
    first.session["first"] = 1
    tab.session["tab"] = 1
    await first.session.regenerate(grace=30)
    await tab.session.regenerate(grace=30)
    newest = await tab.leave()
    assert await data_of(manager, newest) == {"a": 1, "first": 1, "tab": 1}
    assert await data_of(manager, await first.leave()) == {
        "a": 1,
        "first": 1,
        "tab": 1,
    }


@pytest.mark.gen_test
async def test_without_a_grace_the_second_is_gone(
    manager: SessionManager, other: SessionManager
) -> None:
    """One id cannot be changed twice."""
    session_id = await begin(manager, a=1)
    tab = await visit(other, session_id)
    first = await visit(manager, session_id)
    await first.session.regenerate()
    with pytest.raises(SessionGone):
        await tab.session.regenerate(keep=False)
    assert await data_of(manager, await first.leave()) == {"a": 1}


@pytest.mark.gen_test
async def test_a_grace_ends(
    manager: SessionManager, other: SessionManager, clock: ManualClock
) -> None:
    """Afterwards the old id is as dead as without one."""
    session_id = await begin(manager, a=1)
    first = await visit(manager, session_id)
    await first.session.regenerate(grace=30)
    assert await data_of(other, session_id) == {"a": 1}
    clock.advance(31)
    assert await data_of(other, session_id) is None
    assert (await visit(other, session_id)).session.presented == "ended"
    assert await is_alive(other, first.session.id)


@pytest.mark.gen_test
async def test_an_empty_one_drops_messages_and_options(manager: SessionManager) -> None:
    """Nothing of the user before is left."""
    session_id = await begin(manager, a=1)
    request = await visit(manager, session_id)
    request.session.flash("old message")
    request.session.set_idle_timeout(60)
    request.session.remember(False)
    await request.leave()
    request = await visit(manager, session_id)
    await request.session.regenerate(keep=False)
    found = (await visit(manager, await request.leave())).session
    assert found == {}
    assert found.flashes() == []
    assert found.idle_timeout == 86_400
    assert found.persistent is None
