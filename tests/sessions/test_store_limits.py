"""Stores of the application's own: their deadline, their limits, their answers."""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession import (
    MemoryStore,
    SessionManager,
    SessionTooLarge,
    StoreRejected,
    StoreUnavailable,
)

from ..support.requests import FakeHandler, begin, data_of, visit
from ..support.scripted import ScriptedStore

ID = "a-session-id-of-forty-three-characters-0123"


async def hang(operate):
    await asyncio.Event().wait()


async def done_but_silent(operate):
    await operate()
    await hang(operate)


def rejects(**details):
    async def act(operate):
        raise StoreRejected("add", "node", "no", **details)

    return act


@pytest.fixture
def store(clock):
    """One that keeps no deadline by itself."""
    store = ScriptedStore(MemoryStore(clock=clock))
    store.keeps_deadline = False
    store.timeout = 0.05
    return store


@pytest.mark.parametrize(
    ("operation", "use"),
    [
        ("get", lambda manager, sid: manager.get(sid)),
        ("get", lambda manager, sid: manager.open(FakeHandler(f"session={sid}"))),
        ("add", lambda manager, sid: manager.set(ID, {"a": 1})),
        ("cas", lambda manager, sid: manager.set(sid, {"a": 2})),
        ("cas", lambda manager, sid: manager.destroy(sid)),
    ],
)
@pytest.mark.gen_test
async def test_an_operation_that_hangs_is_ended(manager, store, operation, use):
    """After the store's ``timeout``, as one that cannot tell."""
    session_id = await begin(manager, a=1)
    store.script(operation, *[hang] * 2)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(StoreUnavailable, match=r"no answer within 0\.05 s|not done"):
        await use(manager, session_id)
    assert loop.time() - began < 1


@pytest.mark.gen_test
async def test_a_write_that_hangs_may_have_been_done(manager, store):
    """So it is looked for, and recognised."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2
    store.script("cas", done_but_silent)
    await late.leave()
    assert store.calls[-2:] == ["cas", "get"]
    assert await data_of(manager, session_id) == {"a": 2}


@pytest.mark.gen_test
async def test_what_is_too_large_for_a_node_is_too_large(manager, store):
    """Its limit may be below ``max_size``."""
    late = await visit(manager)
    late.session["a"] = "x" * 100
    store.script("add", rejects(too_large=True), rejects())
    with pytest.raises(SessionTooLarge) as caught:
        await late.session.save()
    assert caught.value.limit is None
    assert isinstance(caught.value.__cause__, StoreRejected)
    with pytest.raises(StoreRejected):
        await late.session.save()


@pytest.mark.gen_test
async def test_a_rejected_logout_is_kept_too(manager, store):
    """It was not confirmed, for whatever reason."""
    session_id = await begin(manager, a=1)
    store.script("cas", rejects())
    with pytest.raises(StoreRejected):
        await manager.destroy(session_id)
    assert manager.stats()["pending_destroys"] == 1


@pytest.mark.gen_test
async def test_a_new_id_that_is_taken_leaves_the_old_one(store, clock):
    """A hook that gives the same id again cannot overwrite a session."""
    manager = SessionManager(
        store=store, clock=clock, generate_id=lambda handler: "x" * 30
    )
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    with pytest.raises(StoreRejected, match="the new id is taken"):
        await late.session.regenerate()
    assert await data_of(manager, session_id) == {"a": 1}
