"""Verbs and hooks at moments when something else has just happened."""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession import (
    MemoryStore,
    SessionManager,
    StoreUnavailable,
)

from ..support.requests import FakeHandler, begin, data_of, is_alive, visit
from ..support.scripted import down


@pytest.mark.gen_test
async def test_touch_keeps_what_others_have_saved(manager, other):
    """It puts the end off, and is no save of what the request has seen."""
    session_id = await begin(manager, k=1)
    late = await visit(manager, session_id)
    assert late.session["k"] == 1
    newer = await other.get(session_id)
    newer.update(k=2, y=1)
    await newer.save()
    await late.session.touch()
    await late.leave()
    assert await data_of(manager, session_id) == {"k": 2, "y": 1}


def broken(*_):
    raise ZeroDivisionError


@pytest.mark.gen_test
async def test_what_nobody_has_accepted_cannot_be_used(make, store, manager):
    """A ``validate`` that fails has not accepted the session."""
    session_id = await begin(manager, k=1)
    strict = make(store, validate=broken)
    session = strict.session_of(FakeHandler(f"session={session_id}"))
    with pytest.raises(ZeroDivisionError):
        await strict.load(session)
    assert dict(session) == {}
    assert session.presented == "refused"
    assert await is_alive(manager, session_id)


@pytest.mark.gen_test
async def test_a_session_is_not_shown_before_it_is_accepted(make, store, manager):
    """A second load waits for the hook of the first."""
    session_id = await begin(manager, k=1)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def refuse(handler, session):
        asked.set()
        await answer.wait()
        return False

    strict = make(store, validate=refuse)
    handler = FakeHandler(f"session={session_id}")  # held weakly
    session = strict.session_of(handler)
    first = asyncio.ensure_future(strict.load(session))
    await asked.wait()
    second = asyncio.ensure_future(strict.load(session))
    await asyncio.sleep(0)
    assert not second.done()
    answer.set()
    await asyncio.gather(first, second)
    assert dict(session) == {}


@pytest.mark.gen_test
async def test_an_end_follows_an_id_as_far_as_it_leads(manager):
    """However often the session was given another one."""
    session_id = await begin(manager, k=1)
    moving = await visit(manager, session_id)
    for _ in range(12):
        await moving.session.regenerate()
    newest = moving.session.id
    await (await visit(manager, session_id)).session.destroy()
    assert not await is_alive(manager, newest)


class RaisesAtOnce(MemoryStore):
    """Keeps its deadline, and raises from a plain function."""

    fails = False

    def cas(self, *arguments, **options):
        if self.fails:
            raise ConnectionError("no route")
        return super().cas(*arguments, **options)


@pytest.mark.gen_test
async def test_a_store_that_raises_at_once_cannot_tell(clock):
    """``on_error`` decides, as where it raises later."""
    store = RaisesAtOnce(clock=clock)
    asked = []

    def degrade(phase, error, handler):
        asked.append((phase, type(error)))
        return "degrade"

    manager = SessionManager(store=store, clock=clock, on_error=degrade)
    session_id = await begin(manager, k=1)
    late = await visit(manager, session_id)
    late.session["k"] = 2
    store.fails = True
    await late.leave()
    assert asked == [("save", StoreUnavailable)]


@pytest.mark.gen_test
async def test_after_a_failed_end_nothing_is_renewed(manager, store, clock):
    """The response clears the cookie, though a renewal is due."""
    session_id = await begin(manager, k=1)
    clock.advance(50_000)
    late = await visit(manager, session_id)
    assert late.session["k"] == 1
    store.script("any", down)
    with pytest.raises(StoreUnavailable):
        await late.session.destroy()
    await late.leave()
    assert "Max-Age=0" in late.headers["Set-Cookie"]
    assert manager.stats()["renewals"] == 0


@pytest.mark.gen_test
async def test_a_save_that_never_ends_holds_up_nobody_for_ever(make, store):
    """The next request waits for it as long as a load may take."""
    store.timeout = 0.05
    manager = make(store)
    session_id = await begin(manager, k=1)
    never = asyncio.Event()
    manager.tasks.start(never.wait(), manager.codec.key(session_id))
    async with asyncio.timeout(5):
        late = await visit(manager, session_id)
    assert late.session["k"] == 1
    never.set()
    assert await manager.drain(5)
