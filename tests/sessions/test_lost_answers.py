"""Writes whose response is lost, and writes that arrive late."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tornado_mcsession import SessionGone, SessionManager, StoreUnavailable

from ..support.clock import ManualClock
from ..support.requests import begin, data_of, is_alive, visit
from ..support.scripted import (
    Action,
    Operate,
    ScriptedStore,
    before,
    done,
    down,
    dropped,
    lost,
    twice,
)

# Beginnings of sessions. Each returns the id that the client was told, and is given
# one of an anonymous session with data, made beforehand.


async def first_save(manager: SessionManager, old: str) -> str | None:
    request = await visit(manager)
    request.session["a"] = 1
    return await request.leave()


async def awaited_save(manager: SessionManager, old: str) -> str | None:
    request = await visit(manager)
    request.session["a"] = 1
    await request.session.save()
    return request.session.id


async def first_transact(manager: SessionManager, old: str) -> str | None:
    request = await visit(manager)
    await request.session.transact(increment)
    return request.session.id


async def first_login(manager: SessionManager, old: str) -> str | None:
    request = await visit(manager)
    await request.session.login("ann")
    return await request.leave()


async def login(manager: SessionManager, old: str) -> str | None:
    request = await visit(manager, old)
    await request.session.login("ann")
    return await request.leave()


async def login_again(manager: SessionManager, old: str) -> str | None:
    return await login(manager, await begin(manager, "ann"))


async def regenerate(manager: SessionManager, old: str) -> str | None:
    request = await visit(manager, old)
    await request.session.regenerate()
    return await request.leave()


async def regenerate_empty(manager: SessionManager, old: str) -> str | None:
    request = await visit(manager, old)
    await request.session.regenerate(keep=False)
    return await request.leave()


async def revoke_others(manager: SessionManager, old: str) -> str | None:
    request = await visit(manager, await begin(manager, "ann"))
    await request.session.revoke_others()
    return await request.leave()


def increment(data: dict[str, Any]) -> None:
    data["n"] = data.get("n", 0) + 1


BEGINNINGS = [
    first_save,
    awaited_save,
    first_transact,
    first_login,
    login,
    login_again,
    regenerate,
    regenerate_empty,
    revoke_others,
]

# Ends of a session, each by another process.
End = Callable[[SessionManager, ScriptedStore, str], Awaitable[None]]


async def by_verb(manager: SessionManager, store: ScriptedStore, its_id: str) -> None:
    await (await visit(manager, its_id)).session.destroy()


async def by_id(manager: SessionManager, store: ScriptedStore, its_id: str) -> None:
    assert await manager.destroy(its_id)


async def by_new_id(manager: SessionManager, store: ScriptedStore, its_id: str) -> None:
    await (await visit(manager, its_id)).session.regenerate()


async def by_login(manager: SessionManager, store: ScriptedStore, its_id: str) -> None:
    await (await visit(manager, its_id)).session.login("bob")


def with_fault(name: str, fault: Action | None) -> End:
    async def end(manager: SessionManager, store: ScriptedStore, its_id: str) -> None:
        store.script("cas", fault or store.delayed)
        await by_verb(manager, store, its_id)

    end.__name__ = name
    return end


ENDS = [
    by_verb,
    by_id,
    by_new_id,
    by_login,
    with_fault("its_response_lost", lost),
    with_fault("never_done", dropped),
    with_fault("late_itself", None),
]

each_beginning = pytest.mark.parametrize(
    "start", BEGINNINGS, ids=lambda function: function.__name__
)
each_end = pytest.mark.parametrize("end", ENDS, ids=lambda function: function.__name__)


async def writes_of(
    start: Callable[..., Awaitable[Any]], manager: SessionManager, store: ScriptedStore
) -> int:
    """How many writes ``start`` asks for, without those of its preparation."""
    old = await begin(manager, a=1)
    before = len(store.calls)
    await start(manager, old)
    return sum(call in ("add", "cas") for call in store.calls[before:])


@each_beginning
@each_end
@pytest.mark.gen_test
async def test_a_late_write_revives_no_session(
    manager: SessionManager,
    other: SessionManager,
    store: ScriptedStore,
    clock: ManualClock,
    start: Callable[..., Awaitable[str | None]],
    end: End,
) -> None:
    """Each write of a beginning is delayed in turn, and arrives after the end."""
    told = 0
    for number in range(await writes_of(start, manager, store)):
        old = await begin(manager, a=1)
        store.script("write", *[done] * number, store.delayed)
        try:
            session_id = await start(manager, old)
        except StoreUnavailable:
            store.forget_scripts()
            store.late.clear()
            continue
        store.forget_scripts()
        assert session_id is not None
        assert await is_alive(other, session_id)
        told += 1
        await end(other, store, session_id)
        assert not await is_alive(manager, session_id)
        clock.advance(50)
        await store.arrive()
        assert not await is_alive(manager, session_id), f"write {number} revived it"
        if start in (login, regenerate, regenerate_empty):
            assert not await is_alive(manager, old)
    assert told, "no beginning got through"


@each_beginning
@pytest.mark.gen_test
async def test_a_late_write_revives_no_revoked_session(
    manager: SessionManager,
    other: SessionManager,
    store: ScriptedStore,
    start: Callable[..., Awaitable[str | None]],
) -> None:
    """The late write may be that of the principal's marker."""
    if start not in (first_login, login, login_again, revoke_others):
        return
    for number in range(await writes_of(start, manager, store)):
        old = await begin(manager, a=1)
        store.script("write", *[done] * number, store.delayed)
        try:
            session_id = await start(manager, old)
        except StoreUnavailable:
            session_id = None
        store.forget_scripts()
        await other.revoke("ann")
        await store.arrive()
        assert session_id is None or not await is_alive(manager, session_id)
        again = await begin(other, "ann")
        assert await is_alive(manager, again), "the late write broke a later login"


@each_beginning
@pytest.mark.parametrize(
    "fault", [lost, dropped, None], ids=["lost", "dropped", "late"]
)
@pytest.mark.gen_test
async def test_one_lost_response_costs_nobody_the_session(
    manager: SessionManager,
    other: SessionManager,
    store: ScriptedStore,
    start: Callable[..., Awaitable[str | None]],
    fault: Action | None,
) -> None:
    """A beginning that loses one response goes through, or says "cannot tell"."""
    for number in range(await writes_of(start, manager, store)):
        old = await begin(manager, a=1)
        store.script("write", *[done] * number, fault or store.delayed)
        session_id = await start(manager, old)
        store.forget_scripts()
        await store.arrive()
        assert await is_alive(other, session_id)
        if start in (login, regenerate):
            assert await data_of(other, session_id) == {"a": 1}


@contextlib.contextmanager
def unknown_at_most() -> Iterator[None]:
    """What is done within may fail, if it says that it may have been done."""
    caught = None
    try:
        yield
    except StoreUnavailable as error:
        caught = error
    assert caught is None or caught.outcome_unknown


# Between a lost response and the look at what was stored, others write so often. Up
# to the last but one a record remembers all of it.
REMEMBERED = [0, 1, 4, 5, 30]
FORGOTTEN = [200]

FAULTS: dict[str, Action | None] = {
    "lost": lost,
    "dropped": dropped,
    "late": None,
    "twice": twice,
}


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest, store: ScriptedStore) -> Action:
    """What becomes of the first cas."""
    return FAULTS[request.param] or store.delayed


def counting(manager: SessionManager, session_id: str, times: int) -> Any:
    """Other requests count ``times``, one after another."""

    async def count() -> None:
        for _ in range(times):
            session = await manager.get(session_id)
            assert session is not None
            await session.transact(increment)

    return count


@pytest.mark.parametrize("times", REMEMBERED)
@pytest.mark.gen_test
async def test_transact_counts_exactly(
    manager: SessionManager,
    other: SessionManager,
    store: ScriptedStore,
    fault: Action,
    times: int,
) -> None:
    """However a response is lost, and however much others count meanwhile."""
    session_id = await begin(manager, n=0)
    session = (await visit(manager, session_id)).session
    store.script("cas", before(counting(other, session_id, times), fault))
    await session.transact(increment)
    await store.arrive()
    assert await data_of(other, session_id) == {"n": times + 1}


@pytest.mark.gen_test
async def test_a_first_try_that_arrives_before_the_second_is_known_again(
    manager: SessionManager, other: SessionManager, store: ScriptedStore
) -> None:
    """The second meets what the first has made, and nothing is done twice."""
    session_id = await begin(manager, n=0)
    session = (await visit(manager, session_id)).session

    async def behind_the_first(operate: Operate) -> Any:
        await store.arrive()
        return await operate()

    store.script("cas", store.delayed, behind_the_first)
    await session.transact(increment)
    assert await data_of(other, session_id) == {"n": 1}


@pytest.mark.gen_test
async def test_the_writes_of_the_last_seconds_are_remembered(
    manager: SessionManager,
    other: SessionManager,
    store: ScriptedStore,
    clock: ManualClock,
) -> None:
    """All of them, not only the newest four."""
    session_id = await begin(manager, n=0)
    session = (await visit(manager, session_id)).session

    async def long_ago(operate: Operate) -> Any:
        await operate()
        for _ in range(10):
            clock.advance(0.2)
            await counting(other, session_id, 1)()
        raise StoreUnavailable("cas", "", "the test says so", outcome_unknown=True)

    store.script("cas", long_ago)
    await session.transact(increment)
    assert await data_of(other, session_id) == {"n": 11}


@pytest.mark.parametrize("times", FORGOTTEN)
@pytest.mark.gen_test
async def test_transact_counts_once_or_says_that_it_cannot_tell(
    manager: SessionManager,
    other: SessionManager,
    store: ScriptedStore,
    fault: Action,
    times: int,
) -> None:
    """When more was written than a record remembers, nothing is done twice."""
    if fault is twice:
        return  # the store's own business: it says "unknown" where it asked twice
    session_id = await begin(manager, n=0)
    session = (await visit(manager, session_id)).session
    store.script("cas", before(counting(other, session_id, times), fault))
    told = False
    with unknown_at_most():
        await session.transact(increment)
        told = True
    await store.arrive()
    found = await data_of(other, session_id)
    assert found["n"] in ([times + 1] if told else [times, times + 1])


@pytest.mark.parametrize("times", [1, *REMEMBERED[2:], *FORGOTTEN])
@pytest.mark.gen_test
async def test_an_older_value_never_replaces_a_newer_one(
    manager: SessionManager, other: SessionManager, store: ScriptedStore, times: int
) -> None:
    """A plain change whose response was lost is not made again over a newer one."""
    session_id = await begin(manager, x="first")

    async def newer() -> None:
        for number in range(times):
            session = await other.get(session_id)
            assert session is not None
            session["x"] = f"newer {number}"
            await session.save()

    request = await visit(manager, session_id)
    request.session["x"] = "older"
    store.script("cas", before(newer, lost))
    with unknown_at_most():
        await request.leave()
    assert await data_of(other, session_id) == {"x": f"newer {times - 1}"}


@pytest.mark.parametrize("times", [0, *REMEMBERED[2:], *FORGOTTEN])
@pytest.mark.gen_test
async def test_a_message_that_was_read_is_not_shown_again(
    manager: SessionManager, other: SessionManager, store: ScriptedStore, times: int
) -> None:
    """Whoever wrote it lost the response, and somebody read it meanwhile."""
    session_id = await begin(manager, n=0)

    async def read() -> None:
        reader = await visit(other, session_id)
        assert reader.session.flashes() == [("info", "saved")]
        await reader.leave()
        await counting(other, session_id, times)()

    request = await visit(manager, session_id)
    request.session.flash("saved")
    store.script("cas", before(read, lost))
    with unknown_at_most():
        await request.leave()
    assert (await visit(manager, session_id)).session.flashes() == []


@pytest.mark.parametrize("times", [0, *REMEMBERED[2:], *FORGOTTEN])
@pytest.mark.gen_test
async def test_reading_messages_takes_no_newer_ones_away(
    manager: SessionManager, other: SessionManager, store: ScriptedStore, times: int
) -> None:
    """The reader's response is lost, and an equal message comes meanwhile."""
    session_id = await begin(manager, n=0)
    first = await visit(manager, session_id)
    first.session.flash("saved")
    await first.leave()

    async def flash() -> None:
        writer = await visit(other, session_id)
        writer.session.flash("saved")
        await writer.leave()
        await counting(other, session_id, times)()

    reader = await visit(manager, session_id)
    assert reader.session.flashes() == [("info", "saved")]
    store.script("cas", before(flash, lost))
    with unknown_at_most():
        await reader.leave()
    assert (await visit(manager, session_id)).session.flashes() == [("info", "saved")]


@pytest.mark.gen_test
async def test_a_change_that_is_known_not_to_be_done_is_no_unknown_outcome(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """A request whose cas never left can be repeated by the client."""
    session_id = await begin(manager, n=0)
    session = (await visit(manager, session_id)).session
    store.always("cas", down)
    with pytest.raises(StoreUnavailable) as caught:
        await session.transact(increment)
    store.forget_scripts()
    assert not caught.value.outcome_unknown
    assert await data_of(manager, session_id) == {"n": 0}


@pytest.mark.gen_test
async def test_an_end_after_a_lost_change_wins(
    manager: SessionManager, other: SessionManager, store: ScriptedStore
) -> None:
    """Somebody logs out between a lost response and the look after it."""
    session_id = await begin(manager, n=0)
    session = (await visit(manager, session_id)).session

    async def log_out() -> None:
        await other.destroy(session_id)

    store.script("cas", before(log_out, lost))
    # It was done, and ended afterwards: that may be told in either way.
    with contextlib.suppress(StoreUnavailable, SessionGone):
        await session.transact(increment)
    assert not await is_alive(manager, session_id)
