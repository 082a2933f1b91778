"""`manager.on_begin` and `manager.on_end`: sessions that begin, and why they end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from tornado_mcsession import (
    MemoryStore,
    SessionGone,
    SessionManager,
    StoreUnavailable,
)

from ..support.clock import ManualClock
from ..support.requests import begin, pending_done, visit
from ..support.scripted import ScriptedStore, down

ID = "an-id-that-no-client-has-chosen"
DAY = 86_400.0


class Told:
    """Keeps what a manager tells."""

    def __init__(self, manager: SessionManager) -> None:
        self.seen: list[tuple[Any, ...]] = []
        manager.on_begin(lambda *about: self.seen.append(("begin", *about)))
        manager.on_end(lambda *about: self.seen.append(about))

    def take(self) -> list[tuple[Any, ...]]:
        """Return what was told, and forget it."""
        taken, self.seen = self.seen, []
        return taken


@pytest.fixture
def told(manager: SessionManager) -> Told:
    """What the manager of the test tells."""
    return Told(manager)


@pytest.mark.gen_test
async def test_a_first_save_begins_a_session(
    manager: SessionManager, told: Told
) -> None:
    """Once, and with the request's handler; reading and later saves begin none."""
    assert await (await visit(manager)).leave() is None
    request = await visit(manager)
    request.session["n"] = 1
    assert told.take() == []
    session_id = await request.leave()
    assert told.take() == [("begin", None, request.handler)]
    request = await visit(manager, session_id)
    request.session["n"] = 2
    await request.leave()
    assert told.take() == []


@pytest.mark.gen_test
async def test_a_login_without_a_session_begins_one(
    manager: SessionManager, told: Told
) -> None:
    """With its principal."""
    request = await visit(manager)
    await request.session.login(7)
    assert told.take() == [("begin", "7", request.handler)]


@pytest.mark.gen_test
async def test_jobs_begin_and_end_sessions_without_a_handler(
    manager: SessionManager, told: Told
) -> None:
    """By `set` and `destroy`; what was not there does not end."""
    await manager.set(ID, {"n": 1})
    await manager.set(ID, {"n": 2})
    assert told.take() == [("begin", None, None)]
    await manager.destroy(ID)
    await manager.destroy(ID)
    assert told.take() == [("logout", None, None)]


@pytest.mark.gen_test
async def test_a_logout_ends_it(manager: SessionManager, told: Told) -> None:
    """At once, or with the request; once."""
    for way in ("at once", "with the request"):
        session_id = await begin(manager, "ann", n=1)
        told.take()
        request = await visit(manager, session_id)
        if way == "at once":
            await request.session.logout()
            assert told.take() == [("logout", "ann", request.handler)]
        else:
            request.session._doom()
        await request.leave()
        again = await visit(manager, session_id)
        await again.session.destroy()
    assert told.take() == [("logout", "ann", request.handler)]


@pytest.mark.gen_test
async def test_a_new_id_rotates_it(manager: SessionManager, told: Told) -> None:
    """With whom the older id was; the session goes on, and does not begin."""
    request = await visit(manager, await begin(manager, n=1))
    told.take()
    await request.session.login("ann")
    assert told.take() == [("rotated", None, request.handler)]
    await request.session.regenerate()
    assert told.take() == [("rotated", "ann", request.handler)]


@pytest.mark.gen_test
async def test_a_revocation_is_told_once(manager: SessionManager, told: Told) -> None:
    """However many sessions it ends; and not where nobody was logged in."""
    ids = [await begin(manager, "ann", n=n) for n in range(3)]
    told.take()
    await manager.revoke("nobody")
    assert told.take() == []
    await manager.revoke("ann")
    assert told.take() == [("revoked", "ann", None)]
    for session_id in ids:
        assert (await visit(manager, session_id)).session.presented == "ended"
    assert told.take() == []


@pytest.mark.gen_test
async def test_the_others_are_revoked(manager: SessionManager, told: Told) -> None:
    """And the own one gets a new id."""
    request = await visit(manager, await begin(manager, "ann", n=1))
    told.take()
    await request.session.revoke_others()
    assert told.take() == [
        ("rotated", "ann", request.handler),
        ("revoked", "ann", request.handler),
    ]


@pytest.mark.gen_test
async def test_an_expired_session_is_told_when_it_is_presented(
    manager: SessionManager,
    other: SessionManager,
    told: Told,
    clock: ManualClock,
) -> None:
    """Once by each process, also if it is presented among other ids."""
    session_id = await begin(manager, "ann", n=1)
    told.take()
    clock.advance(1.1 * DAY + 10)
    assert told.take() == [], "nobody has asked"
    first = await visit(manager, "u" * 43, session_id)
    assert first.session.presented == "expired"
    assert told.take() == [("expired", "ann", first.handler)]
    assert (await visit(manager, session_id)).session.presented == "expired"
    assert told.take() == []
    in_the_other = Told(other)
    await visit(other, session_id)
    assert [reason for reason, *_ in in_the_other.take()] == ["expired"]


@pytest.mark.gen_test
async def test_what_was_told_is_remembered_within_bounds(clock: ManualClock) -> None:
    """A thousand sessions or so; what was forgotten is told again."""
    manager = SessionManager(store=MemoryStore(clock=clock), clock=clock)
    told = Told(manager)
    ids = [f"{number:043}" for number in range(1100)]
    for session_id in ids:
        await manager.set(session_id, {}, ttl=1)
    clock.advance(2)
    told.take()
    for session_id in ids:
        await visit(manager, session_id)
        await visit(manager, session_id)
    assert len(told.take()) == len(ids)
    await visit(manager, ids[0])
    assert len(told.take()) == 1


@pytest.mark.gen_test
async def test_a_refused_session_is_told(
    make: Callable[..., SessionManager], store: ScriptedStore
) -> None:
    """Once; it is alive, and a logout still ends it."""
    session_id = await begin(make(store), "ann", n=1)
    manager = make(store, validate=lambda handler, session: False)
    told = Told(manager)
    request = await visit(manager, session_id)
    assert told.take() == [("refused", "ann", request.handler)]
    request = await visit(manager, session_id)
    assert told.take() == []
    await request.session.logout()
    assert told.take() == [("logout", "ann", request.handler)]


@pytest.mark.gen_test
async def test_other_sessions_that_a_login_ends_are_told(
    manager: SessionManager, told: Told
) -> None:
    """Where the request presented several living ones."""
    ids = [await begin(manager, who, n=1) for who in ("ann", "bob")]
    told.take()
    request = await visit(manager, *ids)
    await request.session.login("eve")
    seen = told.take()
    assert seen[0] == ("begin", "eve", request.handler)
    assert sorted(seen[1:], key=lambda each: each[1]) == [
        ("logout", "ann", request.handler),
        ("logout", "bob", request.handler),
    ]


@pytest.mark.gen_test
async def test_an_end_that_is_not_confirmed_is_told_when_it_is(
    manager: SessionManager, told: Told, store: ScriptedStore
) -> None:
    """Without a handler, since its request is over."""
    request = await visit(manager, await begin(manager, "ann", n=1))
    told.take()
    store.script("cas", down)
    with pytest.raises(StoreUnavailable):
        await request.session.logout()
    assert told.take() == []
    await pending_done(manager, store)
    assert told.take() == [("logout", "ann", None)]


@pytest.mark.gen_test
async def test_an_end_that_is_refused_is_none(
    manager: SessionManager, told: Told
) -> None:
    """An older id does not end the login that came after it."""
    session_id = await begin(manager, n=1)
    late = await visit(manager, session_id)
    await (await visit(manager, session_id)).session.login("ann")
    told.take()
    with pytest.raises(SessionGone):
        await late.session.destroy()
    assert told.take() == []


@pytest.mark.gen_test
async def test_a_callback_that_fails_harms_nothing(
    manager: SessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the others are called."""

    def fails(*about: object) -> None:
        raise RuntimeError("a bug")

    manager.on_begin(fails)
    manager.on_end(fails)
    told = Told(manager)
    request = await visit(manager, await begin(manager, n=1))
    await request.session.logout()
    assert [each[0] for each in told.take()] == ["begin", "logout"]
    logged = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [r.getMessage() for r in logged] == [
        "a callback of on_begin failed",
        "a callback of on_end failed",
    ]


@pytest.mark.gen_test
async def test_observers_are_told_by_the_same_words(
    manager: SessionManager, told: Told, clock: ManualClock
) -> None:
    """An end that is found late included."""
    kinds: list[tuple[str, str]] = []
    manager.observe(lambda kind, node, seconds, word: kinds.append((kind, word)))
    session_id = await begin(manager, n=1)
    clock.advance(1.1 * DAY + 10)
    await visit(manager, session_id)
    assert [each for each in kinds if each[0] in ("begin", "end")] == [
        ("begin", "new"),
        ("end", "expired"),
    ]


async def waits(*about: object) -> None:
    """What nobody awaits."""


@pytest.mark.parametrize("callback", [None, "text", waits])
def test_a_callback_is_a_plain_function(manager: SessionManager, callback: Any) -> None:
    """Nobody would await another one."""
    for add in (manager.on_begin, manager.on_end):
        with pytest.raises(TypeError, match="callback of on_"):
            add(callback)
