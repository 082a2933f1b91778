"""When a session ends, and when using it puts that off.

Pure rules, tried by themselves with records of any age.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_mcsession.sessions.lifetime import Lifetime
from tornado_mcsession.sessions.record import Record
from tornado_mcsession.settings import Settings

NOW = 1_000_000.0


def config(**options):
    settings = Settings.build(options, name="session")
    names = ("idle_timeout", "lifetime", "anonymous_timeout", "renew_after")
    return Lifetime(**{name: getattr(settings, name) for name in names})


def record(**fields):
    times = {"created": NOW, "renewed_at": NOW, "expires_at": NOW + 100, "data": b""}
    return Record(**{**times, **fields})


@pytest.mark.parametrize(
    ("options", "fields", "timeout"),
    [
        ({}, {}, 86_400.0),
        ({"idle_timeout": 60}, {}, 60.0),
        ({"idle_timeout": None}, {}, None),
        ({"anonymous_timeout": 60}, {}, 60.0),
        ({"anonymous_timeout": 60}, {"principal": "a"}, 86_400.0),
        ({"anonymous_timeout": 60}, {"idle_timeout": 7.0}, 7.0),
        ({"idle_timeout": None}, {"idle_timeout": 7.0}, 7.0),
        ({}, {"end": NOW + 50}, None),
        ({}, {"end": NOW + 50, "idle_timeout": 7.0}, 7.0),
    ],
)
def test_the_idle_timeout_that_holds(options, fields, timeout):
    """A session's own comes first, then that of anonymous ones, then the setting."""
    assert config(**options).idle_timeout_of(record(**fields)) == timeout


@pytest.mark.parametrize(
    ("options", "fields", "end"),
    [
        ({"idle_timeout": 100}, {}, NOW + 110),
        ({"idle_timeout": 100, "renew_after": 0}, {}, NOW + 100),
        ({"idle_timeout": 100, "renew_after": None}, {}, NOW + 100),
        ({"idle_timeout": 100, "renew_after": 1}, {}, NOW + 200),
        ({"idle_timeout": 100, "lifetime": 105}, {}, NOW + 105),
        ({"idle_timeout": 100, "lifetime": 105}, {"created": NOW - 50}, NOW + 55),
        ({"idle_timeout": None, "lifetime": 500}, {}, NOW + 500),
        ({"idle_timeout": 100, "lifetime": None}, {}, NOW + 110),
        ({}, {"end": NOW + 5}, NOW + 5),
        ({"lifetime": 50}, {"end": NOW + 500}, NOW + 50),
        ({}, {"end": NOW + 5, "idle_timeout": 3.0, "created": NOW}, NOW + 3.3),
    ],
)
def test_a_renewal_puts_the_end_off(options, fields, end):
    """By the idle timeout and the share that may pass before the next, if it lives."""
    renewed = config(**options).renewed(record(**fields), NOW)
    assert renewed.expires_at == pytest.approx(end)
    assert renewed.renewed_at == NOW


@pytest.mark.parametrize(
    ("share", "passed", "due"),
    [
        (0, 0, True),
        (0.1, 9.9, False),
        (0.1, 10, True),
        (1, 99, False),
        (1, 100, True),
        (None, 100, False),
    ],
)
def test_a_renewal_is_due_after_its_share(share, passed, due):
    """``renew_after`` of the idle timeout must have passed; None: never."""
    settings = config(idle_timeout=100, renew_after=share)
    renewed = settings.renewed(record(), NOW)
    assert settings.renewal_due(renewed, NOW + passed) is due


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"idle_timeout": None}, {}),
        ({"idle_timeout": 100, "lifetime": 100}, {}),
        ({"idle_timeout": 100}, {"end": NOW + 200}),
    ],
)
def test_no_renewal_is_due_where_it_would_change_nothing(options, fields):
    """A session that ends at a fixed time is not written again and again."""
    settings = config(renew_after=0, **options)
    renewed = settings.renewed(record(**fields), NOW)
    assert not settings.renewal_due(renewed, NOW + 90)


@given(
    idle=st.floats(1, 1e6),
    share=st.floats(0, 1),
    pauses=st.lists(st.floats(0, 2e6), max_size=20),
)
def test_a_session_never_ends_early_and_at_most_a_share_late(idle, share, pauses):
    """However it is used, it ends after its idle timeout and before the share more."""
    settings = config(idle_timeout=idle, renew_after=share, lifetime=None)
    now = NOW
    current = settings.renewed(record(), now)
    for pause in pauses:
        last, now = now, now + pause
        over = settings.is_over(current, now)
        if pause < idle * 0.999:
            assert not over
        if pause > idle * (1.001 + share):
            assert over
        if over:
            return
        if settings.renewal_due(current, now):
            current = settings.renewed(current, now)
        assert current.expires_at >= now + idle * 0.999 or last == now


def test_the_end_itself_is_the_end():
    """At ``expires_at`` a session is over, a moment before it is not."""
    assert not config().is_over(record(), NOW + 99.9)
    assert config().is_over(record(), NOW + 100)


def test_a_shorter_lifetime_holds_for_older_sessions_too():
    """The settings of today end what was stored under those of yesterday."""
    stored = record(expires_at=NOW + 5000)
    assert not config().is_over(stored, NOW + 200)
    assert config(lifetime=100).is_over(stored, NOW + 200)


def test_a_retired_record_outlives_the_session():
    """Late requests find it, though the session would have ended before."""
    stored = record(retired=True, expires_at=NOW + 60, end=NOW + 1)
    assert not config(lifetime=1).is_over(stored, NOW + 59)
    assert config().is_over(stored, NOW + 60)
