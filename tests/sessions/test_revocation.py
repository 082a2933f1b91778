"""Sessions of one principal, ended all at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from tornado.web import Application

from tornado_mcsession import (
    MemoryStore,
    SessionGone,
    SessionManager,
    StoreError,
    StoreUnavailable,
)

from ..support.requests import begin, data_of, key_of, visit
from ..support.scripted import down, dropped, lost

SECRET = "s" * 40
OTHER = "t" * 40


async def logged_in(manager, principal="alice", **data):
    """Log in on a new session; return its id."""
    late = await visit(manager)
    late.session.update(data)
    await late.session.login(principal)
    await late.leave()
    return late.session.id


async def whose(manager, session_id):
    """Who is logged in, as a request with this id sees it."""
    return (await visit(manager, session_id)).session.principal


def marker_key(manager, session_id):
    return key_of(manager, session_id).partition("}")[0] + "}"


@pytest.fixture
def manager(make, store):
    """A manager that knows what digests are made with: an empty secret."""
    return make(store, cookie_secret="")


@pytest.mark.gen_test
async def test_revoke_ends_all_sessions_of_a_principal(manager):
    """However many; those of others, and of nobody, go on."""
    mine = [await logged_in(manager) for _ in range(5)]
    others = [await logged_in(manager, "bob"), await begin(manager, a=1)]
    assert await manager.revoke("alice") is True
    assert [await whose(manager, session_id) for session_id in mine] == [None] * 5
    assert [await manager.get(session_id) for session_id in mine] == [None] * 5
    assert await whose(manager, others[0]) == "bob"
    assert await data_of(manager, others[1]) == {"a": 1}


@pytest.mark.parametrize("sessions", [1, 20])
@pytest.mark.gen_test
async def test_revoke_costs_the_same_however_many_there_are(manager, store, sessions):
    """One write, and the look before it."""
    for _ in range(sessions):
        await logged_in(manager)
    store.calls.clear()
    await manager.revoke("alice")
    assert store.calls == ["get", "cas"]


@pytest.mark.gen_test
async def test_revoking_again_writes_nothing(manager, store):
    """Where nobody has logged in since, all are ended already."""
    await logged_in(manager)
    assert await manager.revoke("alice") is True
    store.calls.clear()
    assert await manager.revoke("alice") is False
    assert store.calls == ["get"]


@pytest.mark.gen_test
async def test_revoke_tells_whether_there_may_have_been_any(manager):
    """Of whom nobody has logged in as, there is nothing to end."""
    await logged_in(manager, 7)
    assert await manager.revoke("alice") is False
    assert await manager.revoke(7) is True
    assert await manager.revoke("7") is False


@pytest.mark.gen_test
async def test_who_logs_in_after_a_revocation_stays(manager):
    """And what was revoked before does not come back with it."""
    before = await logged_in(manager)
    await manager.revoke("alice")
    after = await logged_in(manager)
    assert (await whose(manager, before), await whose(manager, after)) == (
        None,
        "alice",
    )


@pytest.mark.gen_test
async def test_a_revocation_that_is_not_confirmed_is_an_error(manager, store):
    """Whoever asked for it is not told that it is done."""
    session_id = await logged_in(manager)
    store.script("cas", down)
    with pytest.raises(StoreUnavailable):
        await manager.revoke("alice")
    assert await whose(manager, session_id) == "alice"


@pytest.mark.gen_test
async def test_a_lost_marker_ends_the_sessions(manager, store):
    """What cannot be revoked is not alive: memcached may evict a marker."""
    session_id = await logged_in(manager)
    await store.delete(marker_key(manager, session_id))
    assert await whose(manager, session_id) is None


@pytest.mark.parametrize("marker", [b"", b"x", b"x" * 16, b"x" * 32, b"x" * 500])
@pytest.mark.gen_test
async def test_a_foreign_marker_ends_the_sessions(manager, store, marker):
    """Whatever it is. The next login puts a new one there, and works."""
    session_id = await logged_in(manager)
    key = marker_key(manager, session_id)
    await store.cas(key, marker, 60, (await store.get(key)).token)
    assert await whose(manager, session_id) is None
    assert await manager.get(session_id) is None
    again = await logged_in(manager)
    assert await whose(manager, again) == "alice"
    assert await whose(manager, session_id) is None


@pytest.mark.gen_test
async def test_a_record_without_its_marker_is_nobodys(manager, store):
    """A principal in a record counts with the marker's value only."""
    session_id = await logged_in(manager)
    plain = await begin(manager, a=1)
    entry = await store.get(key_of(manager, session_id))
    # The record of a logged-in session under the id of an anonymous one.
    old = await store.get(key_of(manager, plain))
    await store.cas(key_of(manager, plain), entry.data, 60, old.token)
    assert await whose(manager, plain) is None


@pytest.mark.gen_test
async def test_a_session_is_read_with_its_marker(manager, store):
    """Both are asked for together: what is there costs no second hop."""
    session_id = await logged_in(manager)
    asked = []

    async def get_many(keys):
        asked.append(set(keys))
        return await type(store).get_many(store, keys)

    store.get_many = get_many
    late = await visit(manager, session_id)
    key = key_of(manager, session_id)
    assert late.session.principal == "alice"
    assert asked == [{key, marker_key(manager, session_id)}]
    await late.leave()
    assert len(asked) == 1


@pytest.mark.gen_test
async def test_a_session_that_was_reloaded_is_not_revoked(manager):
    """`reload` sees the revocation too."""
    late = await visit(manager, await logged_in(manager))
    await manager.revoke("alice")
    with pytest.raises(SessionGone):
        await late.session.reload()


@pytest.mark.gen_test
async def test_a_revoked_session_cannot_be_set(manager):
    """Nobody could read it: that it is stored would be a lie."""
    session_id = await logged_in(manager)
    await manager.set(session_id, {"a": 1})
    await manager.revoke("alice")
    with pytest.raises(SessionGone):
        await manager.set(session_id, {"a": 2})
    assert await manager.get(session_id) is None


@pytest.mark.gen_test
async def test_what_a_slow_request_saves_revives_nothing(manager):
    """Nor does the new id that it takes."""
    late = await visit(manager, await logged_in(manager, a=1))
    await manager.revoke("alice")
    late.session["a"] = 2
    await late.session.regenerate()
    await late.leave()
    assert await whose(manager, late.session.id) is None
    assert await manager.get(late.session.id) is None


# revoke_others


@pytest.mark.gen_test
async def test_revoke_others_leaves_the_own_session(manager):
    """Under a new id, with its data, messages and changes; all others are dead."""
    others = [await logged_in(manager) for _ in range(3)]
    old = await logged_in(manager, a=1)
    late = await visit(manager, old)
    late.session["b"] = 2
    late.session.flash("changed")
    since = late.session.authenticated_at
    await late.session.revoke_others()
    assert late.session.id not in (None, old)
    assert await late.leave_with_cookie() == late.session.id
    again = await visit(manager, late.session.id)
    assert dict(again.session) == {"a": 1, "b": 2}
    assert again.session.flashes() == [("info", "changed")]
    assert (again.session.principal, again.session.authenticated_at) == ("alice", since)
    dead = [await manager.get(session_id) for session_id in (*others, old)]
    assert dead == [None] * 4


@pytest.mark.parametrize("sessions", [1, 20])
@pytest.mark.gen_test
async def test_revoke_others_costs_the_same_however_many(manager, store, sessions):
    """A new id, and the marker's cas."""
    for _ in range(sessions):
        await logged_in(manager)
    late = await visit(manager, await logged_in(manager))
    store.calls.clear()
    await late.session.revoke_others()
    assert store.calls == ["add", "cas", "get", "cas"]


@pytest.mark.gen_test
async def test_nobody_has_no_others(manager, store):
    """It says so, before anything is asked of the store."""
    late = await visit(manager, await begin(manager, a=1))
    store.calls.clear()
    with pytest.raises(RuntimeError, match="nobody is logged in"):
        await late.session.revoke_others()
    with pytest.raises(RuntimeError, match="nobody is logged in"):
        await (await visit(manager)).session.revoke_others()
    assert store.calls == []


@pytest.mark.gen_test
async def test_a_revoked_session_ends_no_others(manager):
    """Who was thrown out cannot throw out whoever did it."""
    late = await visit(manager, await logged_in(manager))
    await manager.revoke("alice")
    after = await logged_in(manager)
    with pytest.raises(SessionGone):
        await late.session.revoke_others()
    assert await whose(manager, after) == "alice"


@pytest.mark.gen_test
async def test_of_two_that_end_the_others_one_is_left(manager):
    """Neither both, nor none."""
    visits = [await visit(manager, await logged_in(manager)) for _ in range(2)]
    done = await asyncio.gather(
        *(late.session.revoke_others() for late in visits), return_exceptions=True
    )
    assert sorted(map(type, done), key=str) == sorted(
        [type(None), SessionGone], key=str
    )
    winner = visits[done.index(None)].session.id
    assert await whose(manager, winner) == "alice"


@pytest.mark.parametrize("act", [lost, dropped])
@pytest.mark.gen_test
async def test_a_new_marker_whose_answer_is_lost_is_looked_for(manager, store, act):
    """Done or not done, it is done once."""
    other = await logged_in(manager)
    late = await visit(manager, await logged_in(manager, a=1))
    store.script("cas", act)
    await late.session.revoke_others()
    assert await data_of(manager, late.session.id) == {"a": 1}
    assert await whose(manager, other) is None


@pytest.mark.parametrize("act", [lost, dropped])
@pytest.mark.parametrize("operation", ["add", "cas"])
@pytest.mark.gen_test
async def test_a_login_whose_marker_is_not_answered_is_done(
    manager, store, clock, operation, act
):
    """What is there when it looks again is good for it."""
    if operation == "cas":
        await logged_in(manager)
        clock.advance(100)
    store.script(operation, act)
    assert await whose(manager, await logged_in(manager)) == "alice"


@pytest.mark.gen_test
async def test_many_logins_of_one_principal_do_not_hold_each_other_up(manager, store):
    """The marker's end is put off by the first of them."""
    await logged_in(manager)
    store.calls.clear()
    ids = await asyncio.gather(*(logged_in(manager) for _ in range(20)))
    assert "cas" not in store.calls
    assert [await whose(manager, session_id) for session_id in ids] == ["alice"] * 20


@pytest.mark.gen_test
async def test_a_login_without_a_marker_is_none(manager, store):
    """Where it cannot be stored, nobody is logged in, and the id stays."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    store.script("add", down)
    with pytest.raises(StoreError):
        await late.session.login("alice")
    assert (late.session.principal, late.session.id) == (None, session_id)


@pytest.mark.gen_test
async def test_a_marker_that_goes_during_a_login_is_made_anew(manager, store, clock):
    """A revocation that comes in between concerns those before it."""
    await logged_in(manager)
    clock.advance(100)

    async def revoked_first(operate):
        await manager.revoke("alice")
        return await operate()

    store.script("cas", revoked_first)
    assert await whose(manager, await logged_in(manager)) == "alice"


# What an overtaken session does


@pytest.mark.parametrize("how", ["revoke_others", "revoke and login"])
@pytest.mark.gen_test
async def test_a_late_request_begins_no_second_session(manager, clock, how):
    """For a minute its writes are dropped: its cookie would replace the new one."""
    old = await logged_in(manager)
    late = await visit(manager, old)
    if how == "revoke_others":
        await late.session.revoke_others()
    else:
        await manager.revoke("alice")
        await logged_in(manager)
    parallel = await visit(manager, old)
    parallel.session["a"] = 1
    assert await parallel.leave_with_cookie() is None
    assert manager.stats()["dropped_saves"] == 1


@pytest.mark.gen_test
async def test_an_overtaken_device_can_begin_anew_later(manager, clock):
    """After a minute its old id is an unknown one."""
    other = await logged_in(manager)
    late = await visit(manager, await logged_in(manager))
    await late.session.revoke_others()
    clock.advance(61)
    again = await visit(manager, other)
    again.session["a"] = 1
    assert await again.leave_with_cookie() not in (None, other)


@pytest.mark.gen_test
async def test_an_overtaken_device_can_log_in_at_once(manager):
    """What the password was changed for."""
    other = await logged_in(manager)
    late = await visit(manager, await logged_in(manager))
    await late.session.revoke_others()
    again = await visit(manager, other)
    await again.session.login("alice")
    cookie = await again.leave_with_cookie()
    assert await whose(manager, cookie) == "alice"
    assert await whose(manager, late.session.id) == "alice"


# How long a marker lives


@pytest.mark.gen_test
async def test_a_marker_lives_as_long_as_its_sessions(make, clock):
    """A login puts off its end, by the lifetime of the new session."""
    manager = make(MemoryStore(clock=clock), lifetime=100, idle_timeout=100)
    await logged_in(manager)
    clock.advance(90)
    session_id = await logged_in(manager)
    clock.advance(99)
    assert await whose(manager, session_id) == "alice"


@pytest.mark.parametrize("change", [False, True])
@pytest.mark.gen_test
async def test_a_marker_lives_on_where_sessions_have_no_end(make, clock, change):
    """Each renewal puts off its end."""
    day = timedelta(days=1)
    manager = make(MemoryStore(clock=clock), lifetime=None, idle_timeout=30 * day)
    session_id = await logged_in(manager)
    for month in range(30):
        clock.advance(29 * day.total_seconds())
        late = await visit(manager, session_id)
        assert late.session.principal == "alice"
        if change:
            late.session["month"] = month
        await late.leave()


@pytest.mark.gen_test
async def test_a_marker_that_cannot_be_kept_is_no_error(make, store, clock):
    """The next renewal does it, long before it is too late."""
    manager = make(store, lifetime=None, idle_timeout=100)
    late = await visit(manager, await logged_in(manager))
    clock.advance(50)
    late.session["a"] = 1
    store.script("get", down)
    await late.leave()
    assert await whose(manager, late.session.id) == "alice"


# Rotated secrets


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"cookie_secret": SECRET}, {"cookie_secret": {1: SECRET, 2: OTHER}}),
        ({}, {"cookie_secret": SECRET}),
        ({"cookie_secret": SECRET}, {"cookie_secret": SECRET, "keys": [b"k" * 32]}),
    ],
    ids=["rotated", "first secret", "first key"],
)
@pytest.mark.gen_test
async def test_sessions_outlive_a_new_secret_and_can_be_revoked(store, before, after):
    """Their digests are those of the older secrets, all of which are looked for."""

    def manager(cookie_secret=None, keys=()):
        version = 2 if isinstance(cookie_secret, dict) else None
        app = Application(cookie_secret=cookie_secret, key_version=version)
        # With keys set plain records are foreign, which is not what is tried here.
        built = SessionManager(app, store=store, signed=False, encryption_keys=keys)
        return built

    old = manager(**before)
    ids = [await logged_in(old) for _ in range(2)]
    new = manager(**after)
    if not after.get("keys"):
        assert await whose(new, ids[0]) == "alice"
        late = await visit(new, ids[0])
        await late.session.revoke_others()
        assert await whose(new, ids[1]) is None
        assert await whose(new, late.session.id) == "alice"
    assert await new.revoke("alice") is True
    assert [await whose(old, session_id) for session_id in ids] == [None, None]


@pytest.mark.gen_test
async def test_a_session_that_nobody_could_revoke_is_dead(store):
    """One whose secret is not among the settings any more."""

    def manager(secret):
        app = Application(cookie_secret=secret)
        return SessionManager(app, store=store, signed=False)

    session_id = await logged_in(manager(SECRET))
    assert await whose(manager(SECRET), session_id) == "alice"
    assert await whose(manager(OTHER), session_id) is None


@pytest.mark.gen_test
async def test_a_job_revokes_with_the_secret_of_the_application(store, make, clock):
    """Without it, it would look in the wrong place: it says so."""
    app = Application(cookie_secret=SECRET)
    site = SessionManager(app, store=store, clock=clock)
    late_id = (await visit_signed_in(site)).session.id
    with pytest.raises(RuntimeError, match=r"SessionManager\(cookie_secret="):
        await make(store, cookie_secret=None).revoke("alice")
    assert await make(store, cookie_secret=None).get(late_id) is not None
    job = make(store, cookie_secret=SECRET)
    assert await job.revoke("alice") is True
    assert await site.get(late_id) is None


async def visit_signed_in(manager):
    late = await visit(manager)
    await late.session.login("alice")
    return late


@pytest.mark.parametrize("given", [{"cookie_secret": SECRET}, {"key_version": 1}])
def test_an_application_has_its_own_secret(given):
    """Another one beside it would be one too many."""
    with pytest.raises(ValueError, match="are settings of the application"):
        SessionManager(Application(), store=MemoryStore(), **given)


@pytest.mark.parametrize("principal", ["", None, True, 1.5, b"alice"])
@pytest.mark.gen_test
async def test_revoke_wants_a_principal(manager, principal):
    """The same as login does."""
    with pytest.raises((TypeError, ValueError), match="principal"):
        await manager.revoke(principal)
