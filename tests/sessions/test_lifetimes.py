"""When sessions end, what a page can know of it, and how long a store keeps them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tornado_mcsession import MemoryStore, SessionGone, SessionManager

from ..support.clock import ManualClock
from ..support.requests import begin, data_of, is_alive, visit
from ..support.scripted import ScriptedStore

DAY = 86_400.0
KEPT_FOR = 300.0
MARKER = 30 * DAY


def is_marker(key: str) -> bool:
    return key.endswith("}")


# What became of a presented id.


@pytest.mark.gen_test
async def test_presented_tells_what_became_of_the_id(
    manager: SessionManager, clock: ManualClock
) -> None:
    """Of none, a living, an unknown and a malformed one."""
    assert (await visit(manager)).session.presented == "none"
    session_id = await begin(manager, a=1)
    assert (await visit(manager, session_id)).session.presented == "live"
    assert (await visit(manager, "u" * 43)).session.presented == "unknown"
    assert (await visit(manager, "short")).session.presented == "unknown"


@pytest.mark.parametrize("principal", [None, "ann"])
@pytest.mark.gen_test
async def test_an_expired_session_is_told_as_expired_for_five_minutes(
    manager: SessionManager, clock: ManualClock, principal: str | None
) -> None:
    """It is empty, and nothing of it can be used."""
    session_id = await begin(manager, principal, a=1)
    expires = (await visit(manager, session_id)).session.expires_at.timestamp()
    clock.now = expires - 1
    assert await data_of(manager, session_id) == {"a": 1}
    for after in (0, 1, KEPT_FOR - 5):
        clock.now = expires + after
        request = await visit(manager, session_id)
        assert request.session.presented == "expired"
        assert request.session == {}
        assert request.session.principal is None
        assert not request.session.exists
        assert await data_of(manager, session_id) is None
    request.session["b"] = 2
    new = await request.leave()
    assert new != session_id
    assert await data_of(manager, new) == {"b": 2}


@pytest.mark.gen_test
async def test_after_that_it_is_unknown(clock: ManualClock) -> None:
    """The store has dropped it."""
    manager = SessionManager(store=MemoryStore(clock=clock), clock=clock)
    session_id = await begin(manager, a=1)
    expires = (await visit(manager, session_id)).session.expires_at.timestamp()
    clock.now = expires + KEPT_FOR + 2
    assert (await visit(manager, session_id)).session.presented == "unknown"


@pytest.mark.gen_test
async def test_a_verb_on_a_session_that_expires_meanwhile_is_gone(
    manager: SessionManager, clock: ManualClock
) -> None:
    """Though its record is still there."""
    session_id = await begin(manager, a=1)
    requests = [await visit(manager, session_id) for _ in range(5)]
    clock.now = requests[0].session.expires_at.timestamp() + 1
    for number, request in enumerate(requests):
        request.session["b"] = 2
        session = request.session
        verb: Any = (
            session.save,
            session.reload,
            session.regenerate,
            lambda session=session: session.transact(lambda data: None),
            session.touch,
        )[number]
        with pytest.raises(SessionGone):
            await verb()
    assert (await visit(manager, session_id)).session.presented == "expired"


@pytest.mark.gen_test
async def test_a_revoked_session_is_told_as_ended(manager: SessionManager) -> None:
    """So that the page can say so."""
    session_id = await begin(manager, "ann", a=1)
    await manager.revoke("ann")
    request = await visit(manager, session_id)
    assert request.session.presented == "ended"
    assert request.session == {}


@pytest.mark.gen_test
async def test_a_living_one_among_dead_ids_is_the_session(
    manager: SessionManager, clock: ManualClock
) -> None:
    """Of several cookies of the name."""
    ended = await begin(manager, a=1)
    await manager.destroy(ended)
    living = await begin(manager, a=2)
    request = await visit(manager, ended, living, "u" * 43)
    assert request.session.presented == "live"
    assert request.session == {"a": 2}


# How long a store keeps what is written.


@pytest.mark.gen_test
async def test_a_record_is_kept_until_five_minutes_after_its_end(
    manager: SessionManager, store: ScriptedStore, clock: ManualClock
) -> None:
    """After a first save, an update, a renewal, and with an own end."""
    session_id = await begin(manager, a=1)
    (key,) = store.keys

    async def left() -> float:
        session = (await visit(manager, session_id)).session
        return session.expires_at.timestamp() - clock.now

    def is_kept_for(seconds: float) -> bool:
        return seconds + KEPT_FOR <= store.ttls[key] < seconds + KEPT_FOR + 2

    assert await left() == pytest.approx(1.1 * DAY)
    assert is_kept_for(await left())
    clock.advance(1000)
    request = await visit(manager, session_id)
    request.session["b"] = 1
    await request.leave()
    assert await left() == pytest.approx(1.1 * DAY - 1000), "a mere save put it off"
    assert is_kept_for(await left())
    clock.advance(0.2 * DAY)
    request = await visit(manager, session_id)
    assert request.session["b"] == 1
    await request.leave()
    assert await left() == pytest.approx(1.1 * DAY)
    assert is_kept_for(await left())
    for change, expected in (
        (lambda s: s.set_idle_timeout(60), 66),
        (lambda s: s.set_expiry(datetime.fromtimestamp(clock.now + 500, UTC)), None),
    ):
        request = await visit(manager, session_id)
        change(request.session)
        await request.leave()
        if expected is not None:
            assert await left() == pytest.approx(expected)
        assert is_kept_for(await left())


@pytest.mark.gen_test
async def test_a_tombstone_is_kept_a_minute_and_five(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """It lasts 60 s by the record's own clock."""
    session_id = await begin(manager, a=1)
    (key,) = store.keys
    await manager.destroy(session_id)
    assert 60 <= store.ttls[key] <= 60 + KEPT_FOR + 2


# The marker of a principal.


@pytest.mark.gen_test
async def test_a_marker_is_written_for_30_days_at_most(
    make: Callable[..., SessionManager], store: ScriptedStore, clock: ManualClock
) -> None:
    """memcached takes more for a date by its own clock, which may be wrong."""
    manager = make(store, lifetime=365 * DAY, idle_timeout=2 * DAY)
    request = await visit(manager, await begin(manager, "ann", a=1))
    await request.session.revoke_others()
    session_id = await request.leave()
    for _ in range(40):
        clock.advance(DAY)
        request = await visit(manager, session_id)
        assert request.session == {"a": 1}
        await request.leave()
        markers = [ttl for key, ttl in store.ttls.items() if is_marker(key)]
        assert markers
        assert all(ttl <= MARKER for ttl in markers)


@pytest.mark.parametrize("way", ["requests", "touch", "set_idle_timeout"])
@pytest.mark.gen_test
async def test_renewals_put_a_markers_end_off(way: str, clock: ManualClock) -> None:
    """A session that is used lives on for a year, logged in once."""
    store = ScriptedStore(MemoryStore(clock=clock))
    manager = SessionManager(
        store=store, clock=clock, lifetime=365 * DAY, idle_timeout=5 * DAY
    )
    session_id: str | None = await begin(manager, "ann", a=1)
    for _ in range(80):
        clock.advance(4.5 * DAY)
        request = await visit(manager, session_id)
        assert request.session.principal == "ann", f"lost after {clock.now}"
        if way == "touch":
            await request.session.touch()
        elif way == "set_idle_timeout":
            request.session.set_idle_timeout(5 * DAY)
        session_id = await request.leave()


@pytest.mark.gen_test
async def test_a_marker_outlives_each_of_its_sessions(clock: ManualClock) -> None:
    """One device logs in long after the other, which is never used again."""
    store = ScriptedStore(MemoryStore(clock=clock))
    manager = SessionManager(store=store, clock=clock, idle_timeout=20 * DAY)
    first = await begin(manager, "ann", a=1)
    clock.advance(19 * DAY)
    second = await begin(manager, "ann", a=2)
    assert await is_alive(manager, first)
    clock.advance(19 * DAY)
    assert await is_alive(manager, second)
    assert not await is_alive(manager, first)


# A session's own times.


@pytest.mark.gen_test
async def test_set_expiry_none_takes_a_fixed_end_back(
    manager: SessionManager, clock: ManualClock
) -> None:
    """The idle timeout of the settings holds again."""
    session_id = await begin(manager, a=1)
    request = await visit(manager, session_id)
    request.session.set_expiry(datetime.fromtimestamp(clock.now + 100, UTC))
    await request.leave()
    found = (await visit(manager, session_id)).session
    assert found.expires_at.timestamp() == clock.now + 100
    request = await visit(manager, session_id)
    request.session.set_expiry(None)
    assert request.session.expires_at.timestamp() == pytest.approx(
        clock.now + 1.1 * DAY
    )
    await request.leave()
    found = (await visit(manager, session_id)).session
    assert found.expires_at.timestamp() == pytest.approx(clock.now + 1.1 * DAY)


@pytest.mark.gen_test
async def test_set_expiry_none_without_a_fixed_end_is_no_error(
    manager: SessionManager,
) -> None:
    """Of a new session as well."""
    request = await visit(manager)
    request.session.set_expiry(None)
    request.session["a"] = 1
    assert await data_of(manager, await request.leave()) == {"a": 1}


@pytest.mark.gen_test
async def test_set_idle_timeout_none_goes_back_to_the_setting(
    manager: SessionManager,
) -> None:
    """After an own one."""
    session_id = await begin(manager, a=1)
    for own, expected in ((timedelta(minutes=1), 60), (None, DAY)):
        request = await visit(manager, session_id)
        request.session.set_idle_timeout(own)
        await request.leave()
        found = (await visit(manager, session_id)).session
        assert found.idle_timeout == expected


@pytest.mark.gen_test
async def test_touch_puts_the_end_off_now(
    manager: SessionManager, clock: ManualClock
) -> None:
    """Though no renewal is due, and though nothing was changed."""
    session_id = await begin(manager, "ann", a=1)
    clock.advance(10)
    request = await visit(manager, session_id)
    await request.session.touch()
    assert request.session.expires_at.timestamp() == clock.now + 1.1 * DAY
    found = (await visit(manager, session_id)).session
    assert found.expires_at.timestamp() == clock.now + 1.1 * DAY
    assert found == {"a": 1}


@pytest.mark.gen_test
async def test_touch_of_nothing_does_nothing(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """A new session is not begun by it."""
    request = await visit(manager)
    await request.session.touch()
    assert await request.leave() is None
    assert store.calls == []


@pytest.mark.gen_test
async def test_a_session_never_ends_before_its_idle_timeout(
    manager: SessionManager, clock: ManualClock
) -> None:
    """Whenever it was last used, and however it was saved."""
    for pause in (0.01, 0.05, 0.0999, 0.1, 0.5, 0.99):
        session_id = await begin(manager, a=1)
        clock.advance(pause * DAY)
        request = await visit(manager, session_id)
        request.session["b"] = pause
        await request.leave()
        clock.advance(DAY - 1)
        assert await data_of(manager, session_id) is not None, pause


# Whether there is a session.


@pytest.mark.gen_test
async def test_exists_tells_whether_a_session_is_stored(
    manager: SessionManager, other: SessionManager
) -> None:
    """With or without data, which decides whether it is true."""
    request = await visit(manager)
    session = request.session
    assert not session.exists
    session["a"] = 1
    assert not session.exists
    await session.save()
    assert session.exists
    session.clear()
    session_id = await request.leave()
    found = (await visit(manager, session_id)).session
    assert found.exists
    assert not found
    login = (await visit(manager)).session
    await login.login("ann")
    assert login.exists
    assert not login
    await login.destroy()
    assert not login.exists
    gone = (await visit(manager, session_id)).session
    assert session_id is not None
    await other.destroy(session_id)
    gone["b"] = 1
    with pytest.raises(SessionGone):
        await gone.save()
    assert not gone.exists
    outside = await manager.get(await begin(manager, a=1))
    assert outside is not None
    assert outside.exists


# Whose it is.


@pytest.mark.gen_test
async def test_a_number_as_principal_is_kept_as_text(manager: SessionManager) -> None:
    """As `login` documents."""
    request = await visit(manager)
    await request.session.login(7)
    assert request.session.principal == "7"
    found = (await visit(manager, await request.leave())).session
    assert found.principal == "7"
    assert '"7"' in (type(found).login.__doc__ or "")
    assert await manager.revoke(7)
    assert not await is_alive(manager, found.id)
