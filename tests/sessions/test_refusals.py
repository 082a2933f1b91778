"""Saves and verbs that are refused, and leave all as it was."""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession import (
    EncodeError,
    SessionConflict,
    SessionTooLarge,
    StoreUnavailable,
)
from tornado_mcsession.stores.base import CasResult

from ..support.requests import (
    FakeHandler,
    begin,
    carried,
    data_of,
    key_of,
    seal,
    visit,
)
from ..support.scripted import answers, down


@pytest.mark.gen_test
async def test_a_value_that_cannot_be_stored_leaves_all_as_it_was(manager, store):
    """The error names it; nothing is half-written, and it can be put right."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["b"] = 2
    late.session["c"] = {"x": [object()]}
    with pytest.raises(EncodeError) as caught:
        await late.session.save()
    assert caught.value.path == "session['c']"
    assert await data_of(manager, session_id) == {"a": 1}
    late.session["c"] = 3
    await late.session.save()
    assert await data_of(manager, session_id) == {"a": 1, "b": 2, "c": 3}


@pytest.mark.gen_test
async def test_only_changed_values_are_looked_at(manager, store):
    """A tuple that another program stored as a list does not stop a save."""
    late = await visit(manager, await begin(manager, a=[1], b=1))
    late.session["b"] = 2
    late.session["a"] = (1,)
    await late.session.save()
    assert late.session["a"] == (1,)
    late.session["a"] = (1, 2)
    with pytest.raises(EncodeError, match=r"session\['a'\] holds a tuple"):
        await late.session.save()


@pytest.mark.gen_test
async def test_a_session_that_is_too_large_is_refused(make, store):
    """Before anything is sent, with its largest keys."""
    manager = make(store, max_size=1000)
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session.update(small="x", big="x" * 1000, medium="x" * 500)
    store.calls.clear()
    with pytest.raises(SessionTooLarge) as caught:
        await late.session.save()
    assert store.calls == []
    assert caught.value.limit == 1000
    assert caught.value.size > 1500
    assert [key for key, _ in caught.value.largest_keys] == ["big", "medium", "small"]
    assert await data_of(manager, session_id) == {"a": 1}


@pytest.mark.gen_test
async def test_a_large_session_is_warned_of_once(manager, caplog):
    """Above 64 KiB each request pays for it."""
    late = await visit(manager)
    for size in (64, 65, 66):
        late.session["a"] = "x" * (size * 1024)
        await late.session.save()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "larger than 65536 bytes" in caplog.text


@pytest.mark.gen_test
async def test_endless_conflicts_end(make, store):
    """When the time for it is over the save is an error, and never a plain set."""
    store.timeout = 0.2
    manager = make(store)
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2
    store.script("cas", *[answers(CasResult.CONFLICT)] * 1000)
    with pytest.raises(SessionConflict) as caught:
        await late.session.save()
    assert caught.value.attempts >= 4
    assert manager.stats()["conflicts"] >= caught.value.attempts - 1
    assert await data_of(manager, session_id) == {"a": 1}


@pytest.mark.gen_test
async def test_slow_conflicts_end_within_the_deadline(make, store):
    """Twice the store's timeout is all that a save may take."""
    store.timeout = 0.1
    manager = make(store)
    late = await visit(manager, await begin(manager, a=1))
    late.session["a"] = 2

    async def slow_conflict(operate):
        await asyncio.sleep(0.03)
        return CasResult.CONFLICT

    loop = asyncio.get_running_loop()
    store.script("cas", *[slow_conflict] * 1000)
    began = loop.time()
    with pytest.raises((SessionConflict, StoreUnavailable)):
        await late.session.save()
    assert 0.15 < loop.time() - began < 1


VERBS = {
    "save": lambda s: s.save(),
    "reload": lambda s: s.reload(),
    "regenerate": lambda s: s.regenerate(),
    "login": lambda s: s.login("x"),
    "transact": lambda s: s.transact(dict.clear),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.gen_test
async def test_an_unavailable_session_refuses_its_verbs(make, store, verb):
    """In degraded mode it takes plain writes, for this request only."""
    manager = make(store, on_error="degrade")
    session_id = await begin(manager, a=1)
    store.script("get", down)
    late = await visit(manager, session_id)
    assert (dict(late.session), late.session.available) == ({}, False)
    late.session["b"] = 2
    store.calls.clear()
    with pytest.raises(StoreUnavailable):
        await VERBS[verb](late.session)
    assert await late.leave_with_cookie() is None
    assert store.calls == []
    assert await data_of(manager, session_id) == {"a": 1}


@pytest.mark.parametrize("verb", ["save", "regenerate", "login", "transact"])
@pytest.mark.gen_test
async def test_after_the_headers_no_id_can_be_new(manager, store, verb):
    """What would need a cookie is refused before the store is asked."""
    new = (await visit(manager)).session
    new["a"] = 1
    old = (await visit(manager, await begin(manager, a=1))).session
    old["a"] = 2
    store.calls.clear()
    sessions = [new] if verb in ("save", "transact") else [new, old]
    for session in sessions:
        seal(session)
        with pytest.raises(RuntimeError, match="the headers have left: too late to"):
            await VERBS[verb](session)
    assert store.calls == []


@pytest.mark.gen_test
async def test_a_cookie_is_written_only_with_its_session(manager, store):
    """An answer whose session could not be stored carries none."""
    late = await visit(manager)
    late.session["a"] = 1
    store.script("add", down)
    with pytest.raises(StoreUnavailable):
        await late.leave()
    assert late.session.id is None


@pytest.mark.gen_test
async def test_ids_never_reach_the_store(manager, store, request):
    """A store key is the prefix and a digest: who lists keys has no session."""
    session_id = await begin(manager, a=1)
    key = key_of(manager, session_id)
    assert session_id not in key
    assert key.startswith("mcsession:")
    assert await store.get(key) is not None
    assert (
        carried(manager.transport, FakeHandler(f"session={session_id}")) == session_id
    )
