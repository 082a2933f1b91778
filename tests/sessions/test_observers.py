"""`manager.observe`: what is reported of store operations and of sessions."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tornado_mcsession import (
    CasResult,
    MemcachedStore,
    MemoryStore,
    SessionManager,
    Store,
    StoreRejected,
    StoreUnavailable,
)

from ..support.memcached import Memcached
from ..support.requests import visit
from ..support.scripted import ScriptedStore, after, answers, down

OPERATIONS = {"get", "get_many", "add", "cas"}
ID = "an-id-that-no-client-has-chosen"


class Observed:
    """Keeps what a manager reports."""

    def __init__(self, manager: SessionManager) -> None:
        self.seen: list[tuple[str, str, float, str]] = []
        manager.observe(lambda *report: self.seen.append(report))

    def take(self) -> list[tuple[str, str]]:
        """Return kinds and outcomes, and forget them."""
        taken = [(kind, outcome) for kind, _, _, outcome in self.seen]
        self.seen.clear()
        return taken


class Counting(Store):
    """A store of a user's own, which counts what it is asked for."""

    keeps_deadline = True

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.asked: Counter[str] = Counter()

    async def get(self, key: str) -> Any:
        self.asked["get"] += 1
        return await self.inner.get(key)

    async def get_many(self, keys: Any) -> Any:
        self.asked["get_many"] += 1
        return await self.inner.get_many(keys)

    async def add(self, *arguments: Any) -> Any:
        self.asked["add"] += 1
        return await self.inner.add(*arguments)

    def cas(self, *arguments: Any) -> Any:
        self.asked["cas"] += 1
        return self.inner.cas(*arguments)

    async def touch(self, key: str, ttl: float) -> bool:
        return await self.inner.touch(key, ttl)

    async def delete(self, key: str) -> bool:
        return await self.inner.delete(key)

    async def close(self) -> None:
        await self.inner.close()


class CountingWithoutDeadline(Counting):
    """One whose operations the package has to end."""

    keeps_deadline = False


class CountingFutures(Counting):
    """One whose cas is under way as soon as it is called."""

    def cas(self, *arguments: Any) -> Any:
        return asyncio.ensure_future(super().cas(*arguments))


@pytest.mark.parametrize(
    "make_store", [Counting, CountingWithoutDeadline, CountingFutures]
)
@pytest.mark.gen_test
async def test_each_operation_is_reported_once(
    make_store: Callable[[], Counting], make: Callable[..., SessionManager]
) -> None:
    """Whatever the verb, and however the store responds."""
    store = make_store()
    manager = make(store)
    observed = Observed(manager)
    request = await visit(manager)
    request.session["n"] = 1
    await request.session.save()
    request.session["n"] = 2
    await request.session.save()
    await request.session.login("bob")
    request.session["n"] = 3
    await manager.commit(request.session)
    await request.session.regenerate()
    await request.session.revoke_others()
    await request.session.touch()
    await request.session.transact(lambda data: data.update(n=4))
    await request.session.reload()
    await request.session.logout()
    await manager.set(ID, {"n": 5})
    await manager.set(ID, {"n": 6})
    await manager.destroy(ID)
    await manager.revoke("bob")
    reported = Counter(kind for kind, _ in observed.take() if kind in OPERATIONS)
    assert reported == store.asked
    assert all(reported[kind] for kind in OPERATIONS)


@pytest.mark.gen_test
async def test_the_package_s_own_stores_are_reported_once(
    any_store: Store, make: Callable[..., SessionManager]
) -> None:
    """In this process and in memcached."""
    manager = make(any_store)
    observed = Observed(manager)
    await manager.set(ID, {"n": 1})
    assert observed.take() == [
        ("get", "miss"),
        ("add", "stored"),
        ("begin", "new"),
    ]
    session = await manager.get(ID)
    assert session is not None
    session["n"] = 2
    await session.save()
    assert observed.take() == [("get", "hit"), ("cas", "stored")]


@pytest.mark.gen_test
async def test_a_report_has_the_node_and_the_seconds(
    memcached: Memcached, make: Callable[..., SessionManager]
) -> None:
    """A store of several nodes says which one it asked."""
    store = MemcachedStore([f"one=127.0.0.1:{memcached.port}"])
    async with make(store) as manager:
        observed = Observed(manager)
        await manager.get(ID)
        [(kind, node, seconds, outcome)] = observed.seen
    assert (kind, node, outcome) == ("get", "one", "miss")
    assert 0 < seconds < 5


@pytest.mark.gen_test
async def test_what_became_of_a_write_is_reported(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """Conflicts and lost records, also those that the manager goes on from."""
    request = await visit(manager)
    request.session["n"] = 1
    await request.session.save()
    observed = Observed(manager)

    async def another() -> None:
        theirs = await visit(manager, request.session.id)
        theirs.session["m"] = 1
        await theirs.session.save()

    store.script("cas", after(another))
    mine = await visit(manager, request.session.id)
    mine.session["n"] = 2
    await mine.session.save()
    outcomes = [outcome for kind, outcome in observed.take() if kind == "cas"]
    assert outcomes == ["stored", "conflict", "stored"]
    store.script("cas", answers(CasResult.MISSING))
    mine = await visit(manager, request.session.id)
    mine.session["n"] = 3
    await manager.commit(mine.session)
    assert ("cas", "missing") in observed.take()
    store.script("add", answers(False))
    new = await visit(manager)
    new.session["n"] = 4
    await new.session.save()
    outcomes = [outcome for kind, outcome in observed.take() if kind == "add"]
    assert outcomes == ["not_stored", "stored"]


@pytest.mark.gen_test
async def test_failures_are_reported(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """A store that cannot tell, and one that refuses."""
    observed = Observed(manager)
    store.script("get", down)
    with pytest.raises(StoreUnavailable):
        await manager.get(ID)
    assert observed.take() == [("get", "unavailable")]

    async def refuses(operate: Any) -> Any:
        raise StoreRejected("add", "", "out of memory")

    store.script("add", refuses)
    with pytest.raises(StoreRejected):
        await manager.set(ID, {"n": 1})
    assert observed.take() == [("get", "miss"), ("add", "rejected")]


@pytest.mark.gen_test
async def test_sessions_that_begin_and_end_are_reported(
    manager: SessionManager,
) -> None:
    """With the reason of the end."""
    observed = Observed(manager)

    def of_sessions() -> list[tuple[str, str]]:
        return [each for each in observed.take() if each[0] not in OPERATIONS]

    request = await visit(manager)
    request.session["n"] = 1
    await request.session.save()
    assert of_sessions() == [("begin", "new")]
    await request.session.login("bob")
    assert of_sessions() == [("end", "rotated")]
    await request.session.logout()
    assert of_sessions() == [("end", "logout")]
    await manager.revoke("bob")
    assert of_sessions() == [("end", "revoked")]


@pytest.mark.gen_test
async def test_an_observer_that_fails_harms_nothing(
    manager: SessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the other observers are called."""

    def fails(*report: object) -> None:
        raise RuntimeError("a bug")

    manager.observe(fails)
    observed = Observed(manager)
    await manager.set(ID, {"n": 1})
    assert await manager.get(ID) == {"n": 1}
    assert ("add", "stored") in observed.take()
    records = [record for record in caplog.records if record.exc_info]
    assert {record.levelno for record in records} == {logging.ERROR}
    assert "observer" in records[0].getMessage()


class FailingFutures(Counting):
    """A store whose cas is a future that fails by what is no error of the package."""

    is_failing = False

    def cas(self, *arguments: Any) -> Any:
        if not self.is_failing:
            return super().cas(*arguments)
        future = asyncio.get_running_loop().create_future()
        future.set_exception(ConnectionResetError("its own"))
        return future


async def saves(manager: SessionManager) -> None:
    session = await manager.get(ID)
    assert session is not None
    session["n"] = 2
    await session.save()


async def commits(manager: SessionManager) -> None:
    request = await visit(manager, ID)
    request.session["n"] = 2
    await manager.commit(request.session)


async def revokes(manager: SessionManager) -> None:
    await manager.revoke("bob")


async def destroys(manager: SessionManager) -> None:
    await manager.destroy(ID)


@pytest.mark.parametrize("act", [saves, commits, revokes, destroys])
@pytest.mark.gen_test
async def test_a_future_s_own_error_cannot_tell(
    act: Callable[[SessionManager], Awaitable[None]],
    make: Callable[..., SessionManager],
) -> None:
    """Whatever a store's future raises is a `StoreUnavailable`, in every verb."""
    store = FailingFutures()
    manager = make(store)
    await manager.set(ID, {"n": 1})
    request = await visit(manager)
    await request.session.login("bob")
    store.is_failing = True
    with pytest.raises(StoreUnavailable) as caught:
        await act(manager)
    cause: BaseException | None = caught.value
    while isinstance(cause, StoreUnavailable):
        cause = cause.__cause__
    assert isinstance(cause, ConnectionResetError)


@pytest.mark.gen_test
async def test_a_future_s_own_error_over_an_old_record_cannot_tell(
    make: Callable[..., SessionManager],
) -> None:
    """`set` also writes over what has ended by itself, by the same way."""
    store = FailingFutures()
    manager = make(store)
    await manager.set(ID, {"n": 1}, ttl=10)
    manager.settings.clock.advance(20)  # type: ignore[attr-defined]
    store.is_failing = True
    with pytest.raises(StoreUnavailable):
        await manager.set(ID, {"n": 2})
