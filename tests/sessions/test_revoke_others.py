"""`Session.revoke_others`, while other requests do something else."""

from __future__ import annotations

from typing import Any

import pytest

from tornado_mcsession import SessionGone, SessionManager, StoreUnavailable

from ..support.requests import begin, data_of, is_alive, visit
from ..support.scripted import ScriptedStore, after, done, dropped, lost

MOST = 12  # operations of one call


class Play:
    """The user's session on two devices, and what other requests were told."""

    def __init__(self, manager: SessionManager, other: SessionManager) -> None:
        self.manager = manager
        self.other = other
        self.told: str | None = None
        self.new: str | None = None

    async def begin(self) -> None:
        self.id = await begin(self.manager, "ann", a=1)
        self.device = await begin(self.manager, "ann", b=1)
        self.request = await visit(self.manager, self.id)
        self.tab = await visit(self.other, self.id)

    async def meanwhile(self, act: str) -> None:
        """Another tab does something with the same session."""
        session = self.tab.session
        try:
            if act == "regenerate":
                await session.regenerate()
            elif act == "save":
                session["c"] = 1
                await session.save()
            elif act == "login":
                await session.login("ann")
            elif act == "revoke_others":
                await session.revoke_others()
            elif act == "destroy":
                await session.destroy()
            else:
                await self.other.revoke("ann")
            self.told = "done"
        except SessionGone:
            self.told = "gone"
        self.new = session.id


ACTS = ["regenerate", "save", "login", "revoke_others", "destroy", "revoke"]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.gen_test
async def test_done_or_gone_and_nothing_in_between(
    manager: SessionManager, other: SessionManager, store: ScriptedStore, act: str
) -> None:
    """The other request comes before each of the operations in turn."""
    told = set()
    for number in range(MOST):
        play = Play(manager, other)
        await play.begin()
        store.script(
            "any", *[done] * number, after(lambda play=play: play.meanwhile(act))
        )
        try:
            await play.request.session.revoke_others()
            mine = "done"
        except SessionGone:
            mine = "gone"
        store.forget_scripts()
        if play.told is None:
            break  # it has no operation of this number
        told.add((mine, play.told))
        device = await is_alive(manager, play.device)
        if mine == "done":
            assert not device, "another session stayed alive"
            assert not await is_alive(manager, play.id)
            # Whoever logs out or revokes later ends this one too.
            if act in ("save", "login") or play.told == "gone":
                assert await is_alive(manager, play.request.session.id)
            if act == "save" and play.told == "done":
                kept = await data_of(manager, play.request.session.id)
                assert kept == {"a": 1, "c": 1}
        else:
            assert play.told == "done", "neither got through"
            if act in ("regenerate", "login"):
                assert device, "SessionGone, but the others were ended"
                assert await is_alive(manager, play.new)
                assert (await data_of(manager, play.new)) == {"a": 1}
            elif act == "destroy":
                assert device, "SessionGone, but the others were ended"
            elif act == "revoke_others":
                assert await is_alive(manager, play.new)
            else:
                assert act == "revoke"
        if act in ("destroy", "revoke") and play.told == "done":
            for each in (play.id, play.new, play.request.session.id):
                assert each is None or not await is_alive(manager, each)
    assert told, "the other request never came in between"


@pytest.mark.parametrize(
    "fault", [lost, dropped, None], ids=["lost", "dropped", "late"]
)
@pytest.mark.gen_test
async def test_a_lost_response_is_no_half_success(
    manager: SessionManager, other: SessionManager, store: ScriptedStore, fault: Any
) -> None:
    """Each write loses its response in turn."""
    for number in range(MOST):
        play = Play(manager, other)
        await play.begin()
        seen = len(store.calls)
        store.script("write", *[done] * number, fault or store.delayed)
        try:
            await play.request.session.revoke_others()
            told = "done"
        except StoreUnavailable:
            told = "cannot tell"
        writes = sum(call in ("add", "cas") for call in store.calls[seen:])
        store.forget_scripts()
        await store.arrive()
        if told == "done":
            assert not await is_alive(manager, play.device)
            assert not await is_alive(manager, play.id)
            assert await data_of(manager, play.request.session.id) == {"a": 1}
        if number >= writes:
            break
    # No late write has brought an older value of the marker back.
    await other.revoke("ann")
    await store.arrive()
    assert not await is_alive(manager, play.request.session.id)
    assert not await is_alive(manager, play.device)


@pytest.mark.gen_test
async def test_it_needs_a_login(manager: SessionManager) -> None:
    """Nobody is logged in: a RuntimeError, and nothing is done."""
    session_id = await begin(manager, a=1)
    request = await visit(manager, session_id)
    with pytest.raises(RuntimeError, match="logged in"):
        await request.session.revoke_others()
    assert await is_alive(manager, session_id)


@pytest.mark.gen_test
async def test_changes_of_the_request_are_kept(manager: SessionManager) -> None:
    """What was not saved yet goes along to the new id."""
    session_id = await begin(manager, "ann", a=1)
    request = await visit(manager, session_id)
    request.session["b"] = 2
    request.session.flash("others are logged out")
    await request.session.revoke_others()
    new = await request.leave()
    assert await data_of(manager, new) == {"a": 1, "b": 2}
    messages = (await visit(manager, new)).session.flashes()
    assert messages == [("info", "others are logged out")]
