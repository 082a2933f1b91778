"""`Session.transact`: what the function gets, returns, and may get wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tornado_mcsession import EncodeError, Session, SessionManager

from ..support.requests import begin, data_of, visit
from ..support.scripted import ScriptedStore, after


async def opened(manager: SessionManager, kind: str) -> Any:
    """A request with a new session, or with a stored one."""
    return await visit(manager, None if kind == "new" else await begin(manager, a=1))


each_kind = pytest.mark.parametrize("kind", ["new", "stored"])


@each_kind
@pytest.mark.gen_test
async def test_a_write_during_an_async_function_is_kept(
    manager: SessionManager, kind: str
) -> None:
    """The function changes nothing, and the handler does meanwhile."""
    request = await opened(manager, kind)
    begun = asyncio.Event()
    written = asyncio.Event()

    async def look(data: dict[str, Any]) -> str:
        begun.set()
        await written.wait()
        return "seen"

    running = asyncio.ensure_future(request.session.transact(look))
    await begun.wait()
    request.session["y"] = 1
    written.set()
    assert await running == "seen"
    assert request.session["y"] == 1
    session_id = await request.leave()
    assert (await data_of(manager, session_id))["y"] == 1


def new_dict(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "n": 1}


async def new_dict_later(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "n": 1}


@each_kind
@pytest.mark.parametrize("fn", [new_dict, new_dict_later])
@pytest.mark.gen_test
async def test_a_new_dict_instead_of_a_change_is_a_type_error(
    manager: SessionManager, store: ScriptedStore, kind: str, fn: Any
) -> None:
    """It says to change the data in place, and nothing is stored."""
    request = await opened(manager, kind)
    writes = store.calls.count("cas") + store.calls.count("add")
    with pytest.raises(TypeError, match="in place"):
        await request.session.transact(fn)
    assert store.calls.count("cas") + store.calls.count("add") == writes
    assert "n" not in request.session
    # The request can go on.
    request.session["b"] = 2
    session_id = await request.leave()
    found = await data_of(manager, session_id)
    assert found == ({"b": 2} if kind == "new" else {"a": 1, "b": 2})


@each_kind
@pytest.mark.gen_test
async def test_the_result_may_be_anything(manager: SessionManager, kind: str) -> None:
    """A dict as well, where the data was changed."""
    session = (await opened(manager, kind)).session

    def count(data: dict[str, Any]) -> Any:
        data["n"] = data.get("n", 0) + 1
        return data

    assert (await session.transact(count))["n"] == 1
    assert await session.transact(lambda data: data["n"]) == 1
    assert await session.transact(lambda data: None) is None
    assert await session.transact(lambda data: [data["n"]]) == [1]


@each_kind
@pytest.mark.gen_test
async def test_what_raises_has_no_effect(manager: SessionManager, kind: str) -> None:
    """Changes that were pending stay pending."""
    request = await opened(manager, kind)
    request.session["pending"] = [1]

    def fail(data: dict[str, Any]) -> None:
        data["pending"].append(2)
        data["n"] = 1
        raise KeyError("of the function")

    with pytest.raises(KeyError, match="of the function"):
        await request.session.transact(fail)
    assert request.session["pending"] == [1]
    assert "n" not in request.session
    found = await data_of(manager, await request.leave())
    assert found["pending"] == [1]
    assert "n" not in found


@each_kind
@pytest.mark.gen_test
async def test_a_value_that_would_not_come_back_is_refused(
    manager: SessionManager, kind: str
) -> None:
    """As anywhere, and without an effect."""
    request = await opened(manager, kind)
    with pytest.raises(EncodeError, match="tuple"):
        await request.session.transact(lambda data: data.update(t=(1, 2)))
    assert "t" not in request.session


@pytest.mark.gen_test
async def test_it_is_run_again_on_the_newer_state(
    manager: SessionManager, other: SessionManager, store: ScriptedStore
) -> None:
    """Another request saved in between; pending changes are made to that as well."""
    session_id = await begin(manager, n=0, box={"x": 1})
    request = await visit(manager, session_id)
    request.session["box"]["mine"] = 1
    seen = []

    async def faster() -> None:
        session = await other.get(session_id)
        assert session is not None
        session["n"] = 10
        session["box"]["theirs"] = 1
        await session.save()

    def count(data: dict[str, Any]) -> None:
        seen.append(data["box"])
        data["n"] += 1

    store.script("cas", after(faster))
    await request.session.transact(count)
    assert seen == [{"x": 1, "mine": 1}, {"x": 1, "mine": 1, "theirs": 1}]
    assert await data_of(manager, session_id) == {"n": 11, "box": seen[-1]}


@pytest.mark.gen_test
async def test_a_hundred_at_once_count_exactly(
    manager: SessionManager, other: SessionManager
) -> None:
    """From two processes."""
    session_id = await begin(manager, n=0)

    async def count(which: SessionManager) -> None:
        session = await which.get(session_id)
        assert session is not None
        await session.transact(lambda data: data.update(n=data["n"] + 1))

    await asyncio.gather(*(count(m) for m in (manager, other) for _ in range(50)))
    assert await data_of(manager, session_id) == {"n": 100}


@pytest.mark.gen_test
async def test_it_cannot_await_the_session_itself(manager: SessionManager) -> None:
    """That would wait for itself: a RuntimeError says so."""
    session: Session = (await opened(manager, "stored")).session

    async def save(data: dict[str, Any]) -> None:
        await session.save()

    with pytest.raises(RuntimeError, match="being saved"):
        async with asyncio.timeout(5):
            await session.transact(save)
