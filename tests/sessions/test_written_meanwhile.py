"""What a handler writes while one of the session's verbs is under way survives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from tornado_mcsession import Session, SessionGone, SessionManager, StoreUnavailable

from ..support.requests import Visit, begin, visit
from ..support.scripted import Hold, ScriptedStore, done, down

MOST = 12  # operations of one verb


async def do_nothing(data: dict[str, Any]) -> None:
    await asyncio.sleep(0)


async def change(data: dict[str, Any]) -> None:
    await asyncio.sleep(0)
    data["fn"] = 1


VERBS: dict[str, Callable[[Session], Awaitable[Any]]] = {
    "save": lambda session: session.save(),
    "reload": lambda session: session.reload(),
    "touch": lambda session: session.touch(),
    "regenerate": lambda session: session.regenerate(),
    "regenerate, empty": lambda session: session.regenerate(keep=False),
    "regenerate, grace": lambda session: session.regenerate(grace=30),
    "login": lambda session: session.login("ann"),
    "login of another": lambda session: session.login("bob"),
    "revoke_others": lambda session: session.revoke_others(),
    "destroy": lambda session: session.destroy(),
    "logout": lambda session: session.logout(),
    "transact": lambda session: session.transact(lambda data: data.update(fn=1)),
    "transact, nothing": lambda session: session.transact(lambda data: None),
    "transact, async": lambda session: session.transact(change),
    "transact, async nothing": lambda session: session.transact(do_nothing),
}


class State(NamedTuple):
    """A session in some state, and whether what is written to it is stored."""

    request: Visit
    is_stored: bool


async def new(manager: SessionManager, store: ScriptedStore) -> State:
    return State(await visit(manager), True)


async def new_with_data(manager: SessionManager, store: ScriptedStore) -> State:
    request = await visit(manager)
    request.session.update(a=1, list=[1], box={"x": 1})
    return State(request, True)


async def loaded(manager: SessionManager, store: ScriptedStore) -> State:
    session_id = await begin(manager, "ann", a=1, list=[1], box={"x": 1})
    return State(await visit(manager, session_id), True)


async def loaded_and_changed(manager: SessionManager, store: ScriptedStore) -> State:
    state = await loaded(manager, store)
    session = state.request.session
    session["b"] = 2
    session["list"].append(2)
    session.flash("before")
    return state


async def loaded_and_overtaken(manager: SessionManager, store: ScriptedStore) -> State:
    state = await loaded_and_changed(manager, store)
    faster = await visit(manager, state.request.session.id)
    faster.session["theirs"] = 1
    await faster.leave()
    return state


async def destroyed(manager: SessionManager, store: ScriptedStore) -> State:
    state = await loaded(manager, store)
    await state.request.session.destroy()
    return state


async def ended_by_another(manager: SessionManager, store: ScriptedStore) -> State:
    state = await loaded_and_changed(manager, store)
    session_id = state.request.session.id
    assert session_id is not None
    await manager.destroy(session_id)
    return State(state.request, False)


async def presenting_an_ended_one(
    manager: SessionManager, store: ScriptedStore
) -> State:
    session_id = await begin(manager, "ann", a=1)
    await manager.destroy(session_id)
    return State(await visit(manager, session_id), False)


async def refused(manager: SessionManager, store: ScriptedStore) -> State:
    return State(await visit(manager, "u" * 43), True)


STATES = [
    new,
    new_with_data,
    loaded,
    loaded_and_changed,
    loaded_and_overtaken,
    destroyed,
    ended_by_another,
    presenting_an_ended_one,
    refused,
]


def write(session: Session) -> None:
    """Write whatever can be written, in every way."""
    session["meanwhile"] = {"deep": [1]}
    session.setdefault("list", []).append("m")
    session.setdefault("box", {})["m"] = 1
    session.flash("meanwhile")


def is_there(session: Session) -> bool:
    """Whether all of it is there."""
    return (
        session.get("meanwhile") == {"deep": [1]}
        and "m" in session.get("list", ())
        and session.get("box", {}).get("m") == 1
    )


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", STATES, ids=lambda function: function.__name__)
@pytest.mark.gen_test
async def test_it_is_there_afterwards_and_is_saved(
    manager: SessionManager, store: ScriptedStore, state: Any, verb: str
) -> None:
    """The verb is held at each of its operations in turn."""
    for number in range(MOST):
        request, is_stored = await state(manager, store)
        session = request.session
        hold = Hold()
        store.script("any", *[done] * number, hold)
        running = asyncio.ensure_future(VERBS[verb](session))
        held = asyncio.ensure_future(hold.reached())
        await asyncio.wait([running, held], return_when="FIRST_COMPLETED")
        missed = running.done()  # it has fewer operations
        write(session)
        hold.release()
        held.cancel()
        (error,) = await asyncio.gather(running, return_exceptions=True)
        store.forget_scripts()
        if isinstance(error, Exception):
            assert isinstance(error, SessionGone | RuntimeError), error
        assert is_there(session), f"lost, held at operation {number}"
        if is_stored or (verb.startswith("login") and not isinstance(error, Exception)):
            new_id = await request.leave()
            assert new_id is not None
            found = await visit(manager, new_id)
            assert is_there(found.session), f"not saved, held at operation {number}"
            messages = [message for _, message in found.session.flashes()]
            assert messages.count("meanwhile") == 1
        else:
            await request.leave()
        if missed:
            break


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", [new, loaded], ids=lambda function: function.__name__)
@pytest.mark.gen_test
async def test_what_is_written_right_after_the_call_is_there(
    manager: SessionManager, store: ScriptedStore, state: Any, verb: str
) -> None:
    """Before the verb has asked the store for anything: it was called before."""
    request, _ = await state(manager, store)
    running = asyncio.ensure_future(VERBS[verb](request.session))
    await asyncio.sleep(0)
    write(request.session)
    (error,) = await asyncio.gather(running, return_exceptions=True)
    assert not isinstance(error, Exception) or isinstance(error, RuntimeError)
    assert is_there(request.session)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.gen_test
async def test_a_verb_that_fails_leaves_it_there_too(
    manager: SessionManager, store: ScriptedStore, verb: str
) -> None:
    """Each operation fails in turn, after the handler has written something."""
    for number in range(MOST):
        request, _ = await loaded_and_changed(manager, store)
        session = request.session
        hold = Hold()

        async def fail(operate: Any, hold: Hold = hold) -> Any:
            await hold(done_nothing)
            return await down(operate)

        store.script("any", *[done] * number, fail)
        running = asyncio.ensure_future(VERBS[verb](session))
        held = asyncio.ensure_future(hold.reached())
        await asyncio.wait([running, held], return_when="FIRST_COMPLETED")
        missed = running.done()
        write(session)
        hold.release()
        held.cancel()
        (error,) = await asyncio.gather(running, return_exceptions=True)
        store.forget_scripts()
        if isinstance(error, Exception):
            assert isinstance(error, StoreUnavailable), error
        assert is_there(session), f"lost, failed at operation {number}"
        if missed:
            break
        if isinstance(error, Exception) and verb not in ("destroy", "logout"):
            # The request can go on: what it changed before is there as well.
            assert session["b"] == 2
            assert session["list"][:2] == [1, 2]


async def done_nothing() -> None:
    """Stand for the operation while it is held."""


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.gen_test
async def test_without_a_store_it_is_there_for_this_request(
    make: Callable[..., SessionManager], store: ScriptedStore, verb: str
) -> None:
    """A verb of an unavailable session raises, and takes nothing away."""
    manager = make(store, on_error="degrade")
    session_id = await begin(manager, "ann", a=1)
    store.always("get", down)
    request = await visit(manager, session_id)
    assert not request.session.available
    write(request.session)
    with pytest.raises(StoreUnavailable):
        await VERBS[verb](request.session)
    if verb not in ("destroy", "logout"):
        assert is_there(request.session)
    await request.leave()


@pytest.mark.gen_test
async def test_options_set_meanwhile_are_saved(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """Also an own idle timeout that is set during a save."""
    request, _ = await loaded_and_changed(manager, store)
    hold = Hold()
    store.script("cas", hold)
    saving = asyncio.ensure_future(request.session.save())
    await hold.reached()
    request.session.set_idle_timeout(1234)
    hold.release()
    await saving
    assert request.session.idle_timeout == 1234
    session_id = await request.leave()
    assert (await visit(manager, session_id)).session.idle_timeout == 1234


@pytest.mark.gen_test
async def test_a_deletion_meanwhile_is_saved(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """Of a key that is stored, and of a nested one."""
    request, _ = await loaded_and_changed(manager, store)
    hold = Hold()
    store.script("cas", hold)
    saving = asyncio.ensure_future(request.session.save())
    await hold.reached()
    del request.session["a"]
    del request.session["box"]["x"]
    hold.release()
    await saving
    session_id = await request.leave()
    found = (await visit(manager, session_id)).session
    assert "a" not in found
    assert found["box"] == {}


@pytest.mark.gen_test
async def test_verbs_run_one_after_another(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """Those of one session; none of them is lost."""
    request, _ = await loaded_and_changed(manager, store)
    session = request.session

    def count(data: dict[str, Any]) -> None:
        data["n"] = data.get("n", 0) + 1

    await asyncio.gather(
        *(session.transact(count) for _ in range(5)),
        session.save(),
        session.regenerate(),
        *(session.transact(count) for _ in range(5)),
        session.login("ann"),
        session.touch(),
    )
    assert session["n"] == 10
    found = (await visit(manager, await request.leave())).session
    assert found["n"] == 10
