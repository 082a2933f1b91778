"""Clocks that differ, or are put right: a session lives that much longer at most."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_mcsession import SessionManager
from tornado_mcsession.sessions.lifetime import MAX_AHEAD, Lifetime
from tornado_mcsession.sessions.record import Record
from tornado_mcsession.settings import Settings

from ..support.clock import ManualClock
from ..support.requests import begin, data_of, visit
from .test_timeouts import EternalStore

HOUR = 3600.0
NOW = 1_800_000_000.0
IDLE, LIFE = 900.0, 4 * HOUR
steps = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["ahead", "behind"])


@pytest.fixture
def store(clock):
    """A store that ends nothing: the processes' clocks decide alone."""
    return EternalStore(clock=ManualClock(NOW))


def process(store, ahead=0.0, **options):
    """A manager of a process whose clock is ``ahead`` of the true time."""
    clock = ManualClock(NOW + ahead)
    options = {"idle_timeout": IDLE, "lifetime": LIFE, **options}
    return SessionManager(store=store, clock=clock, **options)


def pass_time(seconds, *managers):
    for manager in managers:
        manager.settings.clock.advance(seconds)


async def lives_for(manager, session_id, *others, limit=3 * MAX_AHEAD):
    """The true seconds until a session that is left alone has ended."""
    for seconds in range(0, int(limit), 300):
        if await data_of(manager, session_id) is None:
            return seconds
        pass_time(300, manager, *others)
    return math.inf


async def use(manager, session_id):
    """A request that reads the session; return whether there was one."""
    late = await visit(manager, session_id)
    found = late.session.get("a") == 1
    await late.leave()
    return found


@steps
@pytest.mark.gen_test
async def test_between_processes_it_lives_the_step_longer(store, step):
    """Unused, it ends an idle timeout after the time that its maker believed in."""
    maker, other = process(store, step), process(store)
    session_id = await begin(maker, a=1)
    assert await lives_for(other, session_id) <= max(0, IDLE * 1.1 + step) + 300


@steps
@pytest.mark.gen_test
async def test_between_processes_the_lifetime_holds(store, step):
    """Used by both in turn, it ends at most the step after its lifetime."""
    one, two = process(store, step), process(store)
    session_id = await begin(two, a=1)
    lived = 0
    while await use(one, session_id) or await use(two, session_id):
        lived += 300
        pass_time(300, one, two)
        assert lived <= LIFE + HOUR
    assert not await use(one, session_id)


@steps
@pytest.mark.gen_test
async def test_within_a_process_it_lives_the_step_longer(store, step):
    """Whether its clock is put forward or back, in use or not."""
    for used in (False, True):
        manager = process(store)
        session_id = await begin(manager, a=1)
        pass_time(60, manager)
        manager.settings.clock.advance(step)  # no time passes: the clock is set
        if used:
            await use(manager, session_id)
        lived = await lives_for(manager, session_id)
        assert lived <= IDLE * 1.1 + HOUR + 300


@pytest.mark.gen_test
async def test_a_clock_that_goes_back_and_forth_ends_it_in_time(store):
    """However often, a session in use ends with its lifetime, and the step."""
    manager = process(store, renew_after=0)
    session_id = await begin(manager, a=1)
    lived = 0
    while await use(manager, session_id):
        lived += 300
        pass_time(300, manager)
        manager.settings.clock.advance(-HOUR if lived % 600 else HOUR)
        assert lived <= LIFE + HOUR


@pytest.mark.parametrize("years", [1, 10, 70])
@pytest.mark.parametrize("logs_in", [False, True])
@pytest.mark.gen_test
async def test_a_clock_that_was_years_ahead_makes_nothing_immortal(
    store, years, logs_in
):
    """A record from the far future has ended, wherever the clock is right.

    A save would else give it what is left of its time there, in memcached too.
    """
    wrong, right = process(store, years * 365 * 24 * HOUR), process(store)
    late = await visit(wrong)
    late.session["a"] = 1
    if logs_in:
        await late.session.login("ann")
    session_id = await late.leave_with_cookie()
    assert await use(wrong, session_id)
    assert await right.get(session_id) is None
    late = await visit(right, session_id)
    late.session["b"] = 1
    assert await late.leave_with_cookie() not in (None, session_id)
    assert await data_of(right, session_id) is None


def config(**options):
    settings = Settings.build(
        {"idle_timeout": IDLE, "lifetime": LIFE, **options}, name="session"
    )
    names = ("idle_timeout", "lifetime", "anonymous_timeout", "renew_after")
    return Lifetime(**{name: getattr(settings, name) for name in names})


def record(**times):
    given = {"created": NOW, "renewed_at": NOW, "expires_at": NOW + 9e9, **times}
    return Record(data=b"", **given)


@pytest.mark.parametrize("name", ["created", "renewed_at"])
@pytest.mark.parametrize("retired", [False, True])
def test_a_record_is_believed_for_a_day(name, retired):
    """From further ahead than that it has ended, a retired one too."""
    settings = config(lifetime=None)
    for ahead, over in ((HOUR, False), (MAX_AHEAD, False), (MAX_AHEAD + 1, True)):
        future = record(retired=retired, **{name: NOW + ahead})
        assert settings.is_over(future, NOW) is over


ahead = st.floats(-HOUR, HOUR)


@given(
    clocks=st.lists(ahead, min_size=1, max_size=3),
    uses=st.lists(st.tuples(st.floats(0, 2 * IDLE), st.integers(0, 2)), max_size=60),
    share=st.sampled_from([0, 0.1, 1]),
)
def test_no_mix_of_clocks_prolongs_it(clocks, uses, share):
    """Whoever uses it when: idle timeout and lifetime hold, up to the difference."""
    settings = config(renew_after=share)
    skew = max(clocks) - min(clocks)
    begun = used = now = NOW
    current = settings.renewed(
        record(created=begun + clocks[0]),
        begun + clocks[0],
    )
    for pause, who in uses:
        now += pause
        clock = now + clocks[who % len(clocks)]
        if settings.is_over(current, clock):
            continue
        assert now - begun <= LIFE + skew + 1
        assert now - used <= IDLE * (1 + share) + skew + 1
        if settings.renewal_due(current, clock):
            current = settings.renewed(current, clock)
            used = now
