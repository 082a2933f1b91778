"""Which times to live memcached gets."""

from __future__ import annotations

import datetime as dt
import math
import time

import pytest

from ..support.requests import begin, data_of, key_of, visit

DAY = 86_400.0
ID = "a-session-id-of-forty-three-characters-0123"

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "seconds", [0.5, 1, 59.5, 30 * DAY - 1, 30 * DAY, 30 * DAY + 1, 400 * DAY]
)
@pytest.mark.gen_test
async def test_memcached_keeps_an_item_as_long_as_its_session(
    make, memcached, memcached_store, clock, seconds
):
    """What is left, rounded up, and five minutes: through every way to set it."""
    manager = make(
        memcached_store,
        idle_timeout=seconds,
        lifetime=None,
        renew_after=None,
    )
    ids = [await begin(manager, a=1)]
    late = await visit(manager)
    late.session["a"] = 1
    late.session.set_idle_timeout(seconds)
    ids.append(await late.leave_with_cookie())
    late = await visit(manager)
    late.session["a"] = 1
    late.session.set_expiry(dt.datetime.fromtimestamp(clock.now + seconds, dt.UTC))
    ids.append(await late.leave_with_cookie())
    await manager.set(ID, {"a": 1}, ttl=seconds)
    ids.append(ID)
    await manager.set(ID.upper(), {"a": 1}, ttl=dt.timedelta(seconds=seconds))
    ids.append(ID.upper())
    expected = math.ceil(seconds) + 302
    # More than 30 days are a point in time; memcached's own clock may be behind.
    behind = max(0, math.ceil(time.time() - float(memcached.stats()["time"])))
    for session_id in ids:
        left = memcached.ttl(key_of(manager, session_id))
        assert expected - 2 <= left <= expected + behind


@pytest.mark.gen_test
async def test_nothing_is_immortal(make, memcached, memcached_store):
    """Sessions without an idle end, retired records and markers end in memcached."""
    manager = make(memcached_store, idle_timeout=None, lifetime=100)
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    await late.session.regenerate()
    await late.session.login("alice")
    late.session.set_idle_timeout(1e12)
    await late.leave()
    keys = memcached.keys()
    assert len(keys) == 4
    for key in keys:
        # A marker is kept for 30 days, and renewals put that off.
        assert memcached.ttl(key) <= (30 * DAY if key.endswith("}") else 402)


@pytest.mark.gen_test
async def test_an_endless_duration_is_not_too_long_for_memcached(
    make, memcached, memcached_store
):
    """Centuries are stored as long as memcached can, and read again."""
    manager = make(memcached_store, idle_timeout=1e12, lifetime=None)
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    assert late.session["a"] == 1
    assert late.session.expires_at.year == 9999
    assert memcached.ttl(key_of(manager, session_id)) < 2**31


@pytest.mark.parametrize("timeout", [1e12, 1.7e308])
@pytest.mark.gen_test
async def test_a_time_beyond_all_numbers_can_be_saved(build, timeout):
    """Its end is far away, and a number that a record can hold."""
    manager = build(lifetime=None)
    late = await visit(manager, await begin(manager, a=1))
    late.session.set_idle_timeout(timeout)
    await late.session.save()
    await late.session.regenerate()
    assert await data_of(manager, late.session.id) == {"a": 1}
