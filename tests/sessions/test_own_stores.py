"""Stores of users' own: what they raise, return, and do not know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tornado_mcsession import (
    CasResult,
    Entry,
    MemoryStore,
    SessionError,
    SessionManager,
    Store,
    StoreUnavailable,
)

from ..support.requests import begin, data_of, is_alive, pending_done, visit
from ..support.scripted import ScriptedStore

ERRORS = [
    ConnectionError("refused"),
    ConnectionResetError("reset"),
    TimeoutError("its own"),
    OSError("no route"),
    KeyError("a bug"),
    RuntimeError("pool is closed"),
]
each_error = pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)


class OldStore(Store):
    """A store as users wrote it: no flags, no deadline, nothing but the contract."""

    def __init__(self) -> None:
        self.inner = MemoryStore()

    async def get(self, key: str) -> Entry | None:
        return await self.inner.get(key)

    async def add(self, key: str, data: bytes, ttl: float) -> bool:
        return await self.inner.add(key, data, ttl)

    async def cas(self, key: str, data: bytes, ttl: float, token: Any) -> CasResult:
        return await self.inner.cas(key, data, ttl, token)

    async def touch(self, key: str, ttl: float) -> bool:
        return await self.inner.touch(key, ttl)

    async def delete(self, key: str) -> bool:
        return await self.inner.delete(key)

    async def close(self) -> None:
        await self.inner.close()


class FutureStore(OldStore):
    """A store whose cas is under way as soon as it is called."""

    def cas(  # type: ignore[override]
        self, key: str, data: bytes, ttl: float, token: Any
    ) -> Awaitable[CasResult]:
        return asyncio.ensure_future(self.inner.cas(key, data, ttl, token))


def raising(error: Exception) -> Callable[..., Awaitable[Any]]:
    async def act(operate: Any) -> Any:
        raise error

    return act


@pytest.mark.parametrize("make_store", [OldStore, FutureStore])
@pytest.mark.gen_test
async def test_the_contract_alone_is_enough(make_store: Callable[[], Store]) -> None:
    """Every verb works on it."""
    manager = SessionManager(store=make_store(), cookie_secret="secret")
    session_id = await begin(manager, "ann", a=1)
    device = await begin(manager, "ann")
    request = await visit(manager, session_id)
    request.session["b"] = 2
    await request.session.save()
    await request.session.transact(lambda data: data.update(c=3))
    await request.session.touch()
    await request.session.regenerate()
    await request.session.revoke_others()
    assert not await is_alive(manager, device)
    new = await request.leave()
    assert await data_of(manager, new) == {"a": 1, "b": 2, "c": 3}
    await request.session.destroy()
    assert await data_of(manager, new) is None
    last = await begin(manager, "ann")
    await manager.revoke("ann")
    assert not await is_alive(manager, last)
    await manager.close()


@each_error
@pytest.mark.gen_test
async def test_what_a_load_raises_is_unavailable(error: Exception) -> None:
    """With the store's own error as its cause."""
    store = ScriptedStore()
    manager = SessionManager(store=store)
    session_id = await begin(manager, a=1)
    store.script("get", raising(error), raising(error))
    with pytest.raises(StoreUnavailable) as caught:
        await visit(manager, session_id)
    assert caught.value.__cause__ is error
    assert not caught.value.outcome_unknown
    with pytest.raises(StoreUnavailable):
        await manager.get(session_id)


@each_error
@pytest.mark.gen_test
async def test_on_error_decides(error: Exception) -> None:
    """It is asked as for memcached."""
    store = ScriptedStore()
    asked = []

    def decide(phase: str, failure: Exception, handler: Any) -> str:
        asked.append((phase, type(failure)))
        return "degrade"

    manager = SessionManager(store=store, on_error=decide)
    session_id = await begin(manager, a=1)
    store.script("get", raising(error))
    request = await visit(manager, session_id)
    assert not request.session.available
    assert asked == [("load", StoreUnavailable)]


@each_error
@pytest.mark.parametrize("verb", ["save", "transact", "regenerate", "login"])
@pytest.mark.gen_test
async def test_what_a_write_raises_is_of_unknown_outcome(
    error: Exception, verb: str
) -> None:
    """Nobody knows what the store had done when it raised."""
    store = ScriptedStore()
    manager = SessionManager(store=store)
    session_id = await begin(manager, a=1)
    request = await visit(manager, session_id)
    request.session["b"] = 2
    store.always("any", raising(error))
    call: Any = {
        "save": request.session.save,
        "transact": lambda: request.session.transact(lambda data: data.update(n=1)),
        "regenerate": request.session.regenerate,
        "login": lambda: request.session.login("ann"),
    }[verb]
    with pytest.raises(StoreUnavailable) as caught:
        await call()
    cause = caught.value.__cause__
    assert cause is error or (cause is not None and cause.__cause__ is error)
    if verb in ("save", "transact"):
        assert caught.value.outcome_unknown
    store.forget_scripts()
    assert await is_alive(manager, session_id)
    assert request.session["b"] == 2


@each_error
@pytest.mark.gen_test
async def test_an_end_is_tried_again(error: Exception) -> None:
    """A logout that a store of one's own could not do is not forgotten."""
    store = ScriptedStore()
    manager = SessionManager(store=store)
    session_id = await begin(manager, a=1)
    request = await visit(manager, session_id)
    store.always("any", raising(error))
    with pytest.raises(StoreUnavailable):
        await request.session.destroy()
    assert manager.stats()["pending_destroys"] == 1
    store.forget_scripts()
    await pending_done(manager, store)
    assert not await is_alive(manager, session_id)


@pytest.mark.parametrize("operation", ["get", "add", "cas"])
@pytest.mark.parametrize("answer", [None, 1, "stored", b"", object()])
@pytest.mark.gen_test
async def test_an_answer_that_is_none_is_not_taken_for_one(
    operation: str, answer: Any
) -> None:
    """As of a store that forgot a ``return``; None of a get means "not there"."""
    if operation == "get" and answer is None:
        return
    store = ScriptedStore()
    store.timeout = 0.1  # a cas is tried again until its time is over
    manager = SessionManager(store=store)
    session_id = await begin(manager, a=1)

    async def act(operate: Any) -> Any:
        return answer

    request = await visit(manager, None if operation == "add" else session_id)
    request.session["b"] = 2
    store.always(operation, act)
    save = request.session.reload if operation == "get" else request.session.save
    with pytest.raises((SessionError, TypeError)):
        await save()


@pytest.mark.gen_test
async def test_a_cancelled_request_is_no_failure_of_the_store() -> None:
    """A CancelledError passes as it is."""
    store = ScriptedStore()
    manager = SessionManager(store=store)
    session_id = await begin(manager, a=1)

    async def never(operate: Any) -> Any:
        await asyncio.sleep(60)

    store.script("get", never)
    loading = asyncio.ensure_future(visit(manager, session_id))
    await asyncio.sleep(0.01)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading


@pytest.mark.gen_test
async def test_a_store_without_a_deadline_gets_one() -> None:
    """A get that hangs ends within its timeout."""

    class Hanging(OldStore):
        timeout = 0.1

        async def get(self, key: str) -> Entry | None:
            await asyncio.sleep(60)
            return None

    manager = SessionManager(store=Hanging())
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(5):
            await manager.get("a" * 43)
