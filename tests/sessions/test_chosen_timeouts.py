"""`idle_timeout` as a function of the session, `last_used`, and `touch`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tornado_mcsession import EncodeError, Session, SessionManager

from ..support.clock import ManualClock
from ..support.requests import Visit, begin, data_of, visit
from ..support.scripted import ScriptedStore

DAY = 86_400.0
ID = "an-id-that-no-client-has-chosen"


def by_role(session: Session) -> float | timedelta | None:
    """Ten minutes for administrators, an hour for users, a day for all others."""
    if session.get("admin"):
        return 600
    if session.persistent:
        return None
    return timedelta(hours=1) if session.principal else DAY


@pytest.fixture
def manager(make: Callable[..., SessionManager], store: ScriptedStore) -> Any:
    """A manager with the function."""
    return make(store, idle_timeout=by_role)


def left(session: Session) -> float:
    """The seconds until the session's end."""
    clock = session._manager.settings.clock
    return session.expires_at.timestamp() - clock()


async def left_later(manager: SessionManager, session_id: str | None) -> float:
    """The seconds until the end of a stored session, for the next request."""
    return left((await visit(manager, session_id)).session)


@pytest.mark.gen_test
async def test_a_new_session_has_the_chosen_time(manager: SessionManager) -> None:
    """By the data that it is begun with; a job's as well."""
    for data, expected in (({"n": 1}, DAY), ({"admin": True}, 600)):
        request = await visit(manager)
        request.session.update(data)
        assert request.session.idle_timeout == expected
        assert left(request.session) == pytest.approx(1.1 * expected)
        session_id = await request.leave()
        assert await left_later(manager, session_id) == pytest.approx(1.1 * expected)
    await manager.set(ID, {"admin": True})
    assert await left_later(manager, ID) == pytest.approx(660)


@pytest.mark.gen_test
async def test_a_login_has_the_time_of_its_principal(manager: SessionManager) -> None:
    """Over a session, and without one."""
    for session_id in (None, await begin(manager, n=1)):
        request = await visit(manager, session_id)
        await request.session.login("ann")
        assert request.session.idle_timeout == 3600
        assert await left_later(manager, request.session.id) == pytest.approx(3960)


async def by_leaving(request: Visit) -> None:
    request.session["admin"] = True
    assert left(request.session) == pytest.approx(660)
    await request.leave()


async def by_saving(request: Visit) -> None:
    request.session["admin"] = True
    await request.session.save()


async def by_transaction(request: Visit) -> None:
    await request.session.transact(lambda data: data.update(admin=True))


async def by_slow_transaction(request: Visit) -> None:
    async def change(data: dict[str, Any]) -> None:
        data["admin"] = True

    await request.session.transact(change)


async def by_regenerating(request: Visit) -> None:
    request.session["admin"] = True
    await request.session.regenerate()


async def by_a_job(request: Visit) -> None:
    session_id = request.session.id
    assert session_id is not None
    session = await request.manager.get(session_id)
    assert session is not None
    session["admin"] = True
    await session.save()


@pytest.mark.parametrize(
    "change",
    [
        by_leaving,
        by_saving,
        by_transaction,
        by_slow_transaction,
        by_regenerating,
        by_a_job,
    ],
)
@pytest.mark.gen_test
async def test_a_change_of_the_time_holds_at_once(
    manager: SessionManager, clock: ManualClock, change: Any
) -> None:
    """Though no renewal is due: a shorter time must not wait for one."""
    request = await visit(manager, await begin(manager, n=1))
    clock.advance(10)
    await change(request)
    assert await left_later(manager, request.session.id) == pytest.approx(660)


@pytest.mark.gen_test
async def test_another_change_renews_nothing(
    manager: SessionManager, clock: ManualClock
) -> None:
    """As with a fixed time: a save keeps the end."""
    session_id = await begin(manager, n=1)
    clock.advance(100)
    request = await visit(manager, session_id)
    request.session["n"] = 2
    assert left(request.session) == pytest.approx(1.1 * DAY - 100)
    assert await request.leave_with_cookie() is None
    assert await left_later(manager, session_id) == pytest.approx(1.1 * DAY - 100)


@pytest.mark.gen_test
async def test_a_change_in_a_parallel_request_holds(
    manager: SessionManager, clock: ManualClock
) -> None:
    """Whichever of them is saved last."""
    session_id = await begin(manager, n=1)
    one, two = await visit(manager, session_id), await visit(manager, session_id)
    one.session["admin"] = True
    two.session["other"] = 1
    await one.leave()
    await two.leave()
    assert await data_of(manager, session_id) == {"n": 1, "admin": True, "other": 1}
    assert await left_later(manager, session_id) == pytest.approx(660)


@pytest.mark.gen_test
async def test_renewals_go_by_the_chosen_time(
    manager: SessionManager, clock: ManualClock
) -> None:
    """A tenth of it must have passed."""
    session_id = await begin(manager, admin=True)
    for pause, expected in ((59, 601), (2, 660)):
        clock.advance(pause)
        request = await visit(manager, session_id)
        assert request.session
        await request.leave()
        assert await left_later(manager, session_id) == pytest.approx(expected)


@pytest.mark.gen_test
async def test_own_times_come_first(manager: SessionManager) -> None:
    """`set_idle_timeout` and `set_expiry` are the session's own."""
    request = await visit(manager)
    request.session["admin"] = True
    request.session.set_idle_timeout(60)
    assert request.session.idle_timeout == 60
    session_id = await request.leave()
    assert await left_later(manager, session_id) == pytest.approx(66)
    request = await visit(manager, session_id)
    request.session.set_idle_timeout(None)
    await request.leave()
    assert await left_later(manager, session_id) == pytest.approx(660)


@pytest.mark.gen_test
async def test_none_is_no_idle_end(manager: SessionManager) -> None:
    """The session then lives as long as its lifetime; `remember` is looked at."""
    request = await visit(manager)
    request.session["n"] = 1
    request.session.remember(True)
    session_id = await request.leave()
    assert await left_later(manager, session_id) == pytest.approx(30 * DAY)


@pytest.mark.gen_test
async def test_the_time_is_kept_within_the_lifetime(
    make: Callable[..., SessionManager], store: ScriptedStore
) -> None:
    """However long the function says."""
    manager = make(store, idle_timeout=lambda session: 1e9, lifetime=100)
    session_id = await begin(manager, n=1)
    assert await left_later(manager, session_id) == pytest.approx(100)


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (float("inf"), ValueError),
        ("60", TypeError),
        (True, TypeError),
        (None, ValueError),
    ],
)
@pytest.mark.gen_test
async def test_what_the_function_returns_is_checked(
    make: Callable[..., SessionManager],
    store: ScriptedStore,
    returned: Any,
    error: type[Exception],
) -> None:
    """`None` needs a lifetime; nothing is stored."""
    manager = make(store, idle_timeout=lambda session: returned, lifetime=None)
    request = await visit(manager)
    request.session["n"] = 1
    with pytest.raises(error, match="what idle_timeout returns must"):
        await request.leave()
    assert not store.keys


@pytest.mark.gen_test
async def test_the_function_only_looks(
    make: Callable[..., SessionManager], store: ScriptedStore
) -> None:
    """It gets what is about to be stored, without the id, and cannot change it."""
    seen: list[Any] = []

    def choose(session: Session) -> float:
        seen.append(
            (session.id, session.principal, copy.deepcopy({**session}), session.exists)
        )
        session["nested"].append(2)
        with pytest.raises(RuntimeError):
            session["n"] = 1
        return 100

    manager = make(store, idle_timeout=choose)
    session_id = await begin(manager, "ann", nested=[1])
    assert seen[-1] == (None, "ann", {"nested": [1]}, True)
    assert await data_of(manager, session_id) == {"nested": [1]}


async def waits(session: Session) -> float:
    """What nobody awaits."""
    return 1


def test_the_function_is_plain() -> None:
    """And stands alone: it can look at whether somebody is logged in."""
    with pytest.raises(TypeError, match="idle_timeout must be a plain function"):
        SessionManager(store="memory://", idle_timeout=waits)
    with pytest.raises(ValueError, match="anonymous_timeout must be None"):
        SessionManager(store="memory://", idle_timeout=by_role, anonymous_timeout=60)
    assert SessionManager(store="memory://", idle_timeout=by_role)


@pytest.mark.gen_test
async def test_what_cannot_be_encoded_is_told_as_ever(manager: SessionManager) -> None:
    """By the save; the properties do not fail for it."""
    request = await visit(manager, await begin(manager, n=1))
    request.session["n"] = {1, 2}
    assert request.session.idle_timeout == DAY
    with pytest.raises(EncodeError):
        await request.session.save()


# last_used, and touch.


@pytest.mark.gen_test
async def test_last_used_is_the_last_renewal(
    make: Callable[..., SessionManager], store: ScriptedStore, clock: ManualClock
) -> None:
    """Before this request; a request that renews nothing leaves it."""
    manager = make(store)
    began = clock.now
    request = await visit(manager)
    assert request.session.last_used.timestamp() == began
    request.session["n"] = 1
    session_id = await request.leave()
    for pause, expected in ((0.05, 0.0), (0.1, 0.0), (0.01, 0.15)):
        clock.advance(pause * DAY)
        request = await visit(manager, session_id)
        used = request.session.last_used
        assert used.tzinfo is UTC
        assert used.timestamp() == pytest.approx(began + expected * DAY)
        await request.leave()


@pytest.mark.gen_test
async def test_touch_and_login_are_uses(
    make: Callable[..., SessionManager], store: ScriptedStore, clock: ManualClock
) -> None:
    """As soon as they return."""
    manager = make(store)
    request = await visit(manager, await begin(manager, n=1))
    clock.advance(10)
    await request.session.touch()
    assert request.session.last_used.timestamp() == clock.now
    clock.advance(10)
    await request.session.login("ann")
    assert request.session.last_used.timestamp() == clock.now


@pytest.mark.parametrize("renew_after", [None, 1, 0.1, 0])
@pytest.mark.gen_test
async def test_touch_renews_whatever_the_setting(
    make: Callable[..., SessionManager],
    store: ScriptedStore,
    clock: ManualClock,
    renew_after: float | None,
) -> None:
    """With the cookie, for a request; pending changes wait for the save."""
    manager = make(store, renew_after=renew_after, signed=False)
    session_id = await begin(manager, n=1)
    clock.advance(1)
    request = await visit(manager, session_id)
    request.session["n"] = 2
    await request.session.touch()
    assert left(request.session) == pytest.approx(DAY * (1 + (renew_after or 0)))
    assert await data_of(manager, session_id) == {"n": 1}
    assert await request.leave_with_cookie() == session_id
    assert await data_of(manager, session_id) == {"n": 2}


@pytest.mark.gen_test
async def test_touch_keeps_a_fixed_end(
    make: Callable[..., SessionManager], store: ScriptedStore, clock: ManualClock
) -> None:
    """Which `set_expiry(None)` takes away."""
    manager = make(store)
    request = await visit(manager, await begin(manager, n=1))
    request.session.set_expiry(datetime.fromtimestamp(clock.now + 100, UTC))
    session_id = await request.leave()
    request = await visit(manager, session_id)
    await request.session.touch()
    assert left(request.session) == 100
    request.session.set_expiry(None)
    await request.session.save()
    assert await left_later(manager, session_id) == pytest.approx(1.1 * DAY)
