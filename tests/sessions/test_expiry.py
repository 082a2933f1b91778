"""Records, cookies and memcached's items end together, and none lives for ever."""

from __future__ import annotations

import datetime as dt
import math
import re

import pytest

from ..support.requests import begin, data_of, visit
from ..support.scripted import after, down

DAY = 86_400.0
ID = "a-session-id-of-forty-three-characters-0123"


def max_age(headers):
    match = re.search(r"Max-Age=(\d+)", headers["Set-Cookie"])
    return int(match[1])


async def use(manager, session_id):
    """A request that reads its session; return the answer's headers."""
    late = await visit(manager, session_id)
    assert late.session.get("a") == 1
    await late.leave()
    return late.headers


@pytest.mark.gen_test
async def test_an_unused_session_ends_after_its_idle_timeout(make, store, clock):
    """Not before it, and at most ``renew_after`` later."""
    manager = make(store, idle_timeout=100)
    session_id = await begin(manager, a=1)
    clock.advance(100)
    assert await data_of(manager, session_id) == {"a": 1}
    clock.advance(10)
    assert await manager.get(session_id) is None
    assert (await visit(manager, session_id)).session == {}


@pytest.mark.gen_test
async def test_record_and_cookie_move_together(make, store, clock):
    """A renewal that is due sets both anew; before that neither moves."""
    manager = make(store, idle_timeout=100)
    session_id = await begin(manager, a=1)
    clock.advance(9)
    store.calls.clear()
    assert "Set-Cookie" not in await use(manager, session_id)
    assert store.calls == ["get"]
    clock.advance(1)
    headers = await use(manager, session_id)
    assert store.calls == ["get", "get", "cas"]
    assert max_age(headers) == 110
    session = (await visit(manager, session_id)).session
    assert session.expires_at.timestamp() == clock.now + 110
    assert manager.stats()["renewals"] == 1


@pytest.mark.gen_test
async def test_a_save_in_between_moves_neither(make, store, clock):
    """It keeps the end, sends no cookie, and gives memcached what is left."""
    manager = make(store, idle_timeout=100)
    session_id = await begin(manager, a=1)
    clock.advance(9)
    late = await visit(manager, session_id)
    late.session["b"] = 2
    await late.leave()
    assert "Set-Cookie" not in late.headers
    session = (await visit(manager, session_id)).session
    assert session.expires_at.timestamp() == clock.now + 101
    # It stays readable as expired for five minutes.
    assert store.last_ttl == 401


@pytest.mark.gen_test
async def test_a_save_carries_a_renewal_that_is_due(make, store, clock):
    """One write for both, and the cookie with it."""
    manager = make(store, idle_timeout=100)
    session_id = await begin(manager, a=1)
    clock.advance(50)
    late = await visit(manager, session_id)
    late.session["b"] = 2
    store.calls.clear()
    await late.leave()
    assert max_age(late.headers) == 110
    assert store.calls == ["cas"]


@pytest.mark.gen_test
async def test_an_untouched_session_is_not_renewed(make, store, clock):
    """Loading it is no use of it."""
    manager = make(store, idle_timeout=100)
    session_id = await begin(manager, a=1)
    clock.advance(50)
    late = await visit(manager, session_id)
    await late.leave()
    headers = late.headers
    assert list(headers) == []
    assert manager.stats()["renewals"] == 0


@pytest.mark.parametrize(
    ("share", "passed", "renewed"),
    [(0, 0.5, True), (0.5, 49, False), (0.5, 50, True), (None, 99, False)],
)
@pytest.mark.gen_test
async def test_renew_after_decides(make, store, clock, share, passed, renewed):
    """0: with each request that uses the session; None: never."""
    manager = make(store, idle_timeout=100, renew_after=share)
    session_id = await begin(manager, a=1)
    clock.advance(passed)
    assert ("Set-Cookie" in await use(manager, session_id)) is renewed


@pytest.mark.gen_test
async def test_the_lifetime_ends_it_whatever_happens(make, store, clock):
    """However often it is used."""
    manager = make(store, idle_timeout=100, lifetime=250)
    session_id = await begin(manager, a=1)
    for _ in range(4):
        clock.advance(60)
        headers = await use(manager, session_id)
    assert "Set-Cookie" not in headers
    assert store.last_ttl <= 370
    clock.advance(10)
    assert await manager.get(session_id) is None


@pytest.mark.gen_test
async def test_an_own_idle_timeout_holds(make, store, clock):
    """At once, by a cookie of its own; None goes back to the setting."""
    manager = make(store, idle_timeout=100)
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session.set_idle_timeout(dt.timedelta(minutes=10))
    assert late.session.idle_timeout == 600.0
    assert late.session.expires_at.timestamp() == clock.now + 660
    await late.leave()
    assert max_age(late.headers) == 660
    clock.advance(300)
    late = await visit(manager, session_id)
    late.session.set_idle_timeout(None)
    await late.leave()
    assert max_age(late.headers) == 110
    clock.advance(110)
    assert await manager.get(session_id) is None


@pytest.mark.gen_test
async def test_an_own_end_holds(make, store, clock):
    """Requests do not put it off, and the lifetime limits it."""
    manager = make(store, idle_timeout=100, lifetime=1000, renew_after=0)
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session.set_expiry(dt.datetime.fromtimestamp(clock.now + 300, dt.UTC))
    assert late.session.idle_timeout is None
    await late.leave()
    assert max_age(late.headers) == 300
    clock.advance(299)
    assert "Set-Cookie" not in await use(manager, session_id)
    late = await visit(manager, session_id)
    late.session.set_expiry(dt.datetime.max.replace(tzinfo=dt.UTC))
    await late.leave()
    assert max_age(late.headers) == 701
    clock.advance(701)
    assert await manager.get(session_id) is None


@pytest.mark.gen_test
async def test_an_end_that_has_passed_ends_it(manager, clock):
    """It is over with the request, and no error."""
    session_id = await begin(manager, a=1)
    for when in (dt.datetime.fromtimestamp(clock.now - 1, dt.UTC), dt.datetime.min):
        late = await visit(manager, session_id)
        late.session["b"] = 1
        late.session.set_expiry(when.replace(tzinfo=dt.UTC))
        await late.leave()
        assert await manager.get(session_id) is None
        session_id = await begin(manager, a=1)
    assert manager.stats()["corrupt_records"] == 0


@pytest.mark.parametrize(
    ("when", "error"),
    [
        (dt.datetime(2030, 1, 1), ValueError),
        (dt.date(2030, 1, 1), TypeError),
        (1.5, TypeError),
    ],
)
@pytest.mark.gen_test
async def test_an_end_is_an_aware_datetime(manager, when, error):
    """One without a time zone could be meant in any."""
    session = (await visit(manager)).session
    with pytest.raises(error, match="aware datetime"):
        session.set_expiry(when)


@pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan, "5", True])
@pytest.mark.gen_test
async def test_an_own_idle_timeout_is_a_duration(manager, timeout):
    """As that of the setting."""
    session = (await visit(manager)).session
    with pytest.raises((TypeError, ValueError), match="idle_timeout must be"):
        session.set_idle_timeout(timeout)
    assert not session.modified


@pytest.mark.gen_test
async def test_remember_takes_a_truth_value(manager):
    """Text would be true, whatever it says."""
    session = (await visit(manager)).session
    with pytest.raises(TypeError, match="remember must be True or False"):
        session.remember("no")


# Renewals that meet something.


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.gen_test
async def test_a_renewal_never_overwrites_or_revives(make, store, clock, ended):
    """What came in between stays, and the cookie is left alone."""
    manager = make(store, idle_timeout=100)
    session_id = await begin(manager, a=1)
    clock.advance(50)
    reading = await visit(manager, session_id)
    assert reading.session["a"] == 1
    if ended:
        await manager.destroy(session_id)
    else:
        await manager.set(session_id, {"a": 2})
    assert await reading.leave_with_cookie() is None
    assert await data_of(manager, session_id) == (None if ended else {"a": 2})
    stats = manager.stats()
    assert (stats["renewals"], stats["dropped_saves"]) == (0, 0)


@pytest.mark.gen_test
async def test_a_session_that_ends_during_a_request_is_not_revived(make, store, clock):
    """A slow request that began in time comes too late to renew it."""
    manager = make(store, idle_timeout=100)
    session_id = await begin(manager, a=1)
    clock.advance(100)
    for change in (False, True):
        slow = await visit(manager, session_id)
        assert slow.session["a"] == 1
        if change:
            slow.session["a"] = 2
        clock.advance(20)
        assert await slow.leave_with_cookie() is None
        clock.advance(-20)
    clock.advance(20)
    assert await manager.get(session_id) is None


@pytest.mark.gen_test
async def test_a_renewal_that_fails_is_no_error(make, store, clock, caplog):
    """It is counted and logged; the answer goes out as it is."""
    manager = make(store, idle_timeout=100)
    session_id = await begin(manager, a=1)
    clock.advance(50)
    store.script("cas", down)
    assert "Set-Cookie" not in await use(manager, session_id)
    assert manager.stats()["errors_renew"] == 1
    assert "session renew failed" in caplog.text
    smaller = make(store, idle_timeout=100, max_size=10)
    assert "Set-Cookie" not in await use(smaller, session_id)
    assert smaller.stats()["errors_renew"] == 1


@pytest.mark.gen_test
async def test_a_new_session_over_an_answer_that_was_lost_has_its_whole_time(
    make, store, clock
):
    """Time that a conflict took is not added to the end."""
    manager = make(store, idle_timeout=100)
    session_id = await begin(manager, a=1)
    clock.advance(50)
    late = await visit(manager, session_id)
    other = await visit(manager, session_id)
    other.session["b"] = 1
    late.session["c"] = 1
    store.script("cas", after(other.leave))
    await late.leave()
    session = (await visit(manager, session_id)).session
    assert session == {"a": 1, "b": 1, "c": 1}
    assert session.expires_at.timestamp() == clock.now + 110
