"""The list of a user's sessions, and the end of one of them."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from tornado.web import Application

from tornado_mcsession import (
    EncodeError,
    MemoryStore,
    SessionGone,
    SessionManager,
    SessionRefused,
    SessionTooLarge,
    StoreUnavailable,
    UserSession,
)
from tornado_mcsession.sessions.codec import Codec
from tornado_mcsession.sessions.serializers import JSONSerializer

from ..support.clock import ManualClock
from ..support.requests import begin, data_of, is_alive, key_of, pending_done, visit
from ..support.scripted import ScriptedStore, after, before, done, down, dropped, lost

DAY = 86_400.0
MOST = 12  # operations of one call
Make = Callable[..., SessionManager]


@pytest.fixture
def manager(make: Make, store: ScriptedStore) -> SessionManager:
    return make(store, track_sessions=True)


@pytest.fixture
def other(make: Make, store: ScriptedStore) -> SessionManager:
    """The manager of another process."""
    return make(store, track_sessions=True)


async def log_in(
    manager: SessionManager, label: str = "", who: str = "ann", **data: Any
) -> str:
    """Log in on a new device; return the session's id."""
    request = await visit(manager)
    request.session.update(data)
    await request.session.login(who, label=label)
    session_id = await request.leave()
    assert session_id is not None
    return session_id


async def labels(manager: SessionManager, who: str = "ann") -> list[str]:
    return [one.label for one in await manager.sessions(who)]


async def handle_of(manager: SessionManager, session_id: str) -> str:
    session = await manager.get(session_id)
    assert session is not None
    assert session.principal is not None
    listed = await manager.sessions(session.principal, session)
    (handle,) = [one.handle for one in listed if one.is_current]
    return handle


def marker_key(manager: SessionManager, session_id: str) -> str:
    return key_of(manager, session_id).partition("}")[0] + "}"


async def size(store: ScriptedStore, key: str) -> int:
    entry = await store.inner.get(key)
    assert entry is not None
    return len(entry.data)


def utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(int(timestamp), UTC)


# The list.


@pytest.mark.gen_test
async def test_a_session_is_listed_with_what_is_known_of_it(
    manager: SessionManager, clock: ManualClock
) -> None:
    """The last used ones first; the current one has been used now."""
    phone = await log_in(manager, "phone")
    begun = clock()
    clock.advance(3600)
    laptop = await log_in(manager, "laptop")
    clock.advance(3600)
    current = await manager.get(phone)
    first, second = await manager.sessions("ann", current)
    assert first._replace(handle="") == UserSession(
        handle="",
        label="phone",
        begun=utc(begun),
        last_used=utc(clock()),
        expires_at=utc(begun + 1.1 * DAY),
        is_current=True,
    )
    assert (second.label, second.is_current) == ("laptop", False)
    assert second.last_used == second.begun == utc(begun + 3600)
    assert await is_alive(manager, laptop)


@pytest.mark.gen_test
async def test_a_renewal_notes_the_use(
    manager: SessionManager, clock: ManualClock
) -> None:
    """And until when the session lives now."""
    session_id = await log_in(manager)
    clock.advance(0.5 * DAY)
    request = await visit(manager, session_id)
    assert request.session.principal
    await request.leave()
    (listed,) = await manager.sessions("ann")
    assert listed.last_used == utc(clock())
    assert listed.expires_at == utc(clock() + 1.1 * DAY)


@pytest.mark.gen_test
async def test_a_new_id_renews_the_session_in_the_list(
    manager: SessionManager, clock: ManualClock
) -> None:
    """As it renews the session itself."""
    request = await visit(manager, await log_in(manager))
    clock.advance(600)
    await request.session.regenerate()
    (listed,) = await manager.sessions("ann")
    assert listed.last_used == utc(clock())
    assert listed.expires_at == utc(clock() + 1.1 * DAY)


@pytest.mark.gen_test
async def test_what_has_ended_is_not_listed(
    manager: SessionManager, clock: ManualClock
) -> None:
    """By a logout, by its id, by a login of another user, or by itself."""
    out = await visit(manager, await log_in(manager, "logged out"))
    await out.session.logout()
    await manager.destroy(await log_in(manager, "destroyed"))
    taken = await visit(manager, await log_in(manager, "taken over"))
    await taken.session.login("bob", label="bob's")
    assert await labels(manager) == []
    assert await labels(manager, "bob") == ["bob's"]
    await log_in(manager, "unused")
    clock.advance(1.2 * DAY)
    assert await labels(manager) == []


@pytest.mark.gen_test
async def test_a_new_login_of_the_same_device_takes_its_place(
    manager: SessionManager,
) -> None:
    """It is one session, with the newer label; and so it is after a new id."""
    session_id = await log_in(manager, "old name")
    before = await handle_of(manager, session_id)
    request = await visit(manager, session_id)
    await request.session.login("ann", label="new name")
    await request.session.regenerate()
    session_id = await request.leave()
    (listed,) = await manager.sessions("ann", request.session)
    assert (listed.label, listed.is_current) == ("new name", True)
    assert listed.handle != before
    assert not await manager.end("ann", before)
    assert await is_alive(manager, session_id)


@pytest.mark.gen_test
async def test_a_handle_is_no_id_and_says_nothing_of_one(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """It is random, and it is the same in each process."""
    session_id = await log_in(manager)
    handle = await handle_of(manager, session_id)
    assert handle not in session_id
    with pytest.raises(ValueError, match="session id"):
        await manager.get(handle)
    assert key_of(manager, session_id).find(handle) == -1


@pytest.mark.gen_test
async def test_a_label_is_cut_off(manager: SessionManager) -> None:
    """A browser's own words may be long."""
    await log_in(manager, "\N{GREEK SMALL LETTER ALPHA}" * 150)
    assert await labels(manager) == ["\N{GREEK SMALL LETTER ALPHA}" * 100]


@pytest.mark.gen_test
async def test_labels_are_encrypted(make: Make, store: ScriptedStore) -> None:
    """By the keys that encrypt the records; without their key they are empty."""
    keys = [secrets.token_bytes(32), secrets.token_bytes(32)]
    manager = make(store, track_sessions=True, encryption_keys=keys[:1])
    session_id = await log_in(manager, "Ann's telephone")
    entry = await store.inner.get(marker_key(manager, session_id))
    assert entry is not None
    assert b"telephone" not in entry.data
    assert await labels(manager) == ["Ann's telephone"]
    rotated = make(store, track_sessions=True, encryption_keys=keys[::-1])
    assert await labels(rotated) == ["Ann's telephone"]
    without = make(store, track_sessions=True, encryption_keys=keys[1:])
    assert await labels(without) == []  # it looks elsewhere


@pytest.mark.gen_test
async def test_sessions_that_nobody_can_read_are_not_listed(
    make: Make, store: ScriptedStore
) -> None:
    """Turning encryption on has ended them."""
    await log_in(make(store, track_sessions=True), "plain")
    manager = make(
        store, track_sessions=True, encryption_keys=[secrets.token_bytes(32)]
    )
    assert await labels(manager) == []


@pytest.mark.gen_test
async def test_sessions_of_before_a_new_secret_are_listed(
    store: ScriptedStore, clock: ManualClock
) -> None:
    """And can be ended."""
    secrets_ = {1: "s" * 40, 2: "t" * 40}

    def with_secrets(secret: Any, version: int | None = None) -> SessionManager:
        app = Application(cookie_secret=secret, key_version=version)
        return SessionManager(
            app, store=store, clock=clock, signed=False, track_sessions=True
        )

    old, new = with_secrets(secrets_[1]), with_secrets(secrets_, 2)
    session_id = await log_in(old, "old")
    clock.advance(1)
    await log_in(new, "new")
    assert await labels(new) == ["new", "old"]
    handle = await handle_of(new, session_id)
    store.script("get", down)  # the marker under the new secret
    assert await new.end("ann", handle)
    assert not await is_alive(old, session_id)


# The end of one.


@pytest.mark.gen_test
async def test_one_session_ends_and_the_others_go_on(
    manager: SessionManager, other: SessionManager
) -> None:
    """At once, and in every process."""
    ids = [await log_in(manager, str(number)) for number in range(3)]
    assert await manager.end("ann", await handle_of(manager, ids[1])) is True
    assert [await is_alive(other, each) for each in ids] == [True, False, True]
    assert sorted(await labels(other)) == ["0", "2"]


@pytest.mark.gen_test
async def test_only_a_session_of_that_user_ends(manager: SessionManager) -> None:
    """And nothing does by what is no handle."""
    session_id = await log_in(manager)
    handle = await handle_of(manager, session_id)
    unknown = base64.urlsafe_b64encode(bytes(12)).decode()
    for who, name in [
        ("bob", handle),
        ("ann", unknown),
        ("ann", ""),
        ("ann", "no handle!"),
        ("ann", handle + "\N{GREEK SMALL LETTER ALPHA}"),
    ]:
        assert await manager.end(who, name) is False
    assert await is_alive(manager, session_id)
    with pytest.raises(TypeError, match="handle must be text"):
        await manager.end("ann", 7)  # type: ignore[arg-type]
    assert await manager.end("ann", handle)
    assert await manager.end("ann", handle) is False


@pytest.mark.gen_test
async def test_what_a_late_request_writes_is_dropped(
    manager: SessionManager, other: SessionManager, clock: ManualClock
) -> None:
    """For a minute; then its id is like any other that has ended."""
    session_id = await log_in(manager)
    clock.advance(3600)
    await manager.end("ann", await handle_of(manager, session_id))
    late = await visit(other, session_id)
    late.session["written"] = "late"
    assert late.session.presented == "ended"
    assert await late.leave() is None
    assert other.stats()["dropped_saves"] == 1
    clock.advance(61)
    later = await visit(other, session_id)
    assert later.session.presented == "ended"
    later.session["written"] = "anew"
    assert await later.leave() not in (None, session_id)


@pytest.mark.parametrize("verb", ["regenerate", "revoke_others", "touch", "save"])
@pytest.mark.gen_test
async def test_no_request_under_way_brings_it_back(
    manager: SessionManager, other: SessionManager, verb: str
) -> None:
    """Whatever it does: its new id is as dead as the old one."""
    session_id = await log_in(manager, n=1)
    device = await log_in(manager)
    request = await visit(other, session_id)
    request.session["n"] = 2
    await manager.end("ann", await handle_of(manager, session_id))
    try:
        await getattr(request.session, verb)()
        assert verb != "revoke_others"
    except SessionGone:
        assert verb == "revoke_others"
    assert not await is_alive(manager, session_id)
    assert not await is_alive(manager, request.session.id)
    assert await is_alive(manager, device), "another device was ended"


@pytest.mark.gen_test
async def test_a_login_after_the_end_stands_for_itself(
    manager: SessionManager, other: SessionManager
) -> None:
    """As after a logout."""
    session_id = await log_in(manager)
    request = await visit(other, session_id)
    await manager.end("ann", await handle_of(manager, session_id))
    await request.session.login("ann", label="again")
    assert await is_alive(manager, await request.leave())
    assert await labels(manager) == ["again"]


@pytest.mark.gen_test
async def test_all_others_can_be_ended(manager: SessionManager) -> None:
    """The list is as short as what is alive."""
    ids = [await log_in(manager, str(number)) for number in range(3)]
    request = await visit(manager, ids[1])
    await request.session.revoke_others()
    assert await is_alive(manager, await request.leave())
    assert await labels(manager) == ["1"]
    await manager.revoke("ann")
    assert await labels(manager) == []


@pytest.mark.gen_test
async def test_without_the_marker_all_are_over(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """A store that lost the list must not bring an ended session back."""
    ids = [await log_in(manager) for _ in range(2)]
    await manager.end("ann", await handle_of(manager, ids[0]))
    await store.inner.delete(marker_key(manager, ids[0]))
    new = await log_in(manager, "new")
    assert [await is_alive(manager, each) for each in (*ids, new)] == [False] * 2 + [
        True
    ]
    assert await labels(manager) == ["new"]


# How many.


@pytest.mark.gen_test
async def test_a_login_ends_the_oldest(make: Make, store: ScriptedStore) -> None:
    """Where there would be more than ``max_sessions``."""
    manager = make(store, track_sessions=True, max_sessions=2)
    ids = [await log_in(manager, str(number)) for number in range(4)]
    alive = [await is_alive(manager, each) for each in ids]
    assert alive == [False, False, True, True]
    late = await visit(manager, ids[1])
    assert late.session.presented == "ended"


@pytest.mark.gen_test
async def test_a_device_that_logs_in_again_ends_no_other(
    make: Make, store: ScriptedStore
) -> None:
    """Its own session makes room."""
    manager = make(store, track_sessions=True, max_sessions=2)
    ids = [await log_in(manager, str(number)) for number in range(2)]
    request = await visit(manager, ids[1])
    await request.session.login("ann")
    assert await is_alive(manager, ids[0])
    assert await is_alive(manager, await request.leave())


@pytest.mark.parametrize("verb", ["regenerate", "logout"])
@pytest.mark.parametrize("notices", [True, False])
@pytest.mark.gen_test
async def test_a_login_under_an_id_that_was_replaced_keeps_to_the_limit(
    make: Make, store: ScriptedStore, verb: str, notices: bool
) -> None:
    """Another request's new id is one session, and this login's another."""
    manager = make(store, track_sessions=True, max_sessions=1)
    session_id = await log_in(manager)
    first, second = await visit(manager, session_id), await visit(manager, session_id)
    await getattr(first.session, verb)()
    if notices:
        with pytest.raises(SessionGone):
            await second.session.touch()
    await second.session.login("ann", label="mine")
    assert await is_alive(manager, await second.leave())
    assert not await is_alive(manager, first.session.id)
    assert await labels(manager) == ["mine"]


@pytest.mark.gen_test
async def test_a_login_under_an_id_that_was_replaced_ends_none_where_there_is_room(
    make: Make, store: ScriptedStore
) -> None:
    """The client may have either of the two ids."""
    manager = make(store, track_sessions=True, max_sessions=3)
    device, session_id = await log_in(manager), await log_in(manager)
    first, second = await visit(manager, session_id), await visit(manager, session_id)
    await first.session.regenerate()
    await second.session.login("ann")
    for each in (device, await first.leave(), await second.leave()):
        assert await is_alive(manager, each)
    assert len(await manager.sessions("ann")) == 3


@pytest.mark.gen_test
async def test_a_login_that_is_not_allowed_ends_no_other_session(
    make: Make, store: ScriptedStore
) -> None:
    """Also one whose session was ended meanwhile; each is asked about once."""
    asked = []

    def allow(handler: Any) -> bool:
        asked.append(handler)
        return is_allowed

    is_allowed = True
    manager = make(store, track_sessions=True, max_sessions=2, allow_new=allow)
    device, session_id = await log_in(manager), await log_in(manager)
    assert len(asked) == 2
    request = await visit(manager, session_id)
    is_allowed = False
    with pytest.raises(SessionRefused):
        await log_in(manager)
    await manager.destroy(session_id)
    newer = await visit(manager, device)
    await newer.session.regenerate()
    late = await visit(manager, None)
    for refused in (request, late):
        with pytest.raises(SessionRefused):
            await refused.session.login("ann")
    assert await is_alive(manager, await newer.leave())
    assert len(await manager.sessions("ann")) == 1
    assert len(asked) == 5


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(
    ("value", "error"),
    [("x" * 5000, SessionTooLarge), (object(), EncodeError)],
    ids=["too large", "no data"],
)
@pytest.mark.gen_test
async def test_a_login_that_cannot_be_stored_ends_no_other_session(
    make: Make, store: ScriptedStore, stored: bool, value: Any, error: Any
) -> None:
    """Neither does a new session, nor one that was there before."""
    manager = make(store, track_sessions=True, max_sessions=1, max_size=2000)
    device = await log_in(manager)
    request = await visit(manager, await begin(manager, n=1) if stored else None)
    request.session["large"] = value
    with pytest.raises(error):
        await request.session.login("ann")
    assert await is_alive(manager, device)
    assert len(await manager.sessions("ann")) == 1


@pytest.mark.gen_test
async def test_a_login_without_an_id_ends_no_other_session(
    make: Make, store: ScriptedStore
) -> None:
    """The application makes the ids, and fails."""

    def generate(handler: Any) -> str:
        return secrets.token_urlsafe(32) if works else ""

    works = True
    manager = make(store, track_sessions=True, max_sessions=1, generate_id=generate)
    device = await log_in(manager)
    works = False
    with pytest.raises(ValueError, match="id"):
        await log_in(manager)
    assert await is_alive(manager, device)


@pytest.mark.gen_test
async def test_what_has_expired_makes_room_first(
    make: Make, store: ScriptedStore, clock: ManualClock
) -> None:
    """An older session that is still used is not ended for it."""
    manager = make(store, track_sessions=True, max_sessions=2)
    used = await log_in(manager, "used")
    await log_in(manager, "unused")
    for _ in range(3):
        clock.advance(0.5 * DAY)
        request = await visit(manager, used)
        assert request.session.principal
        await request.leave()
    await log_in(manager, "new")
    assert await is_alive(manager, used)
    assert await labels(manager) == ["new", "used"]


@pytest.mark.gen_test
async def test_the_list_is_bounded(
    manager: SessionManager, store: ScriptedStore, clock: ManualClock
) -> None:
    """A hundred sessions at most, and a few that have just ended."""
    first = await log_in(manager)
    for _ in range(130):
        clock.advance(0.1)
        last = await log_in(manager, "x" * 500)
    listed = await manager.sessions("ann")
    assert len(listed) == 100
    assert not await is_alive(manager, first)
    assert await is_alive(manager, last)
    assert await size(store, marker_key(manager, last)) < 15_000


@pytest.mark.gen_test
async def test_those_that_were_ended_are_forgotten(
    make: Make, store: ScriptedStore, clock: ManualClock
) -> None:
    """After a minute; and no more than twenty of them are remembered until then."""
    manager = make(store, track_sessions=True, max_sessions=1)
    key = marker_key(manager, await log_in(manager))
    await log_in(manager)
    one = await size(store, key)
    for _ in range(20):
        await log_in(manager)
    twenty = await size(store, key)
    for _ in range(20):
        await log_in(manager)
    assert await size(store, key) == twenty > one
    clock.advance(61)
    await log_in(manager)
    assert await size(store, key) == one


@pytest.mark.gen_test
async def test_what_has_expired_leaves_the_list(
    manager: SessionManager, store: ScriptedStore, clock: ManualClock
) -> None:
    """The marker does not grow with each login of a device that comes back."""
    await log_in(manager)
    session_id = await log_in(manager)
    before = await size(store, marker_key(manager, session_id))
    for _ in range(20):
        clock.advance(3 * DAY)
        session_id = await log_in(manager)
    assert await size(store, marker_key(manager, session_id)) <= before


@pytest.mark.gen_test
async def test_a_renewal_that_could_not_be_noted_ends_nothing(
    manager: SessionManager, store: ScriptedStore, clock: ManualClock
) -> None:
    """The session outlives what the list says of it."""
    session_id = await log_in(manager)
    clock.advance(1 * DAY)
    request = await visit(manager, session_id)
    assert request.session.principal
    store.script("cas", done, down)  # the record, then the marker
    await request.leave()
    clock.advance(0.9 * DAY)
    await log_in(manager, "another device")
    assert await is_alive(manager, session_id)


@pytest.mark.parametrize("lifetime", [None, 30 * DAY])
@pytest.mark.gen_test
async def test_a_session_that_a_job_keeps_alive_stays_listed(
    make: Make, store: ScriptedStore, clock: ManualClock, lifetime: float | None
) -> None:
    """`SessionManager.set` renews it, and so notes its use."""
    manager = make(store, track_sessions=True, idle_timeout=3600, lifetime=lifetime)
    session_id = await log_in(manager, "mine")
    for number in range(4):
        clock.advance(3000)
        await manager.set(session_id, {"n": number})
        (listed,) = await manager.sessions("ann")
        assert listed.last_used == utc(clock())
    await log_in(manager, "another device")
    assert await is_alive(manager, session_id)
    assert sorted(await labels(manager)) == ["another device", "mine"]


class SharedCodec(Codec):
    """Of sessions that other programs renew, too."""

    renewed_by_others = True


@pytest.mark.parametrize("lifetime", [None, 2 * DAY])
@pytest.mark.gen_test
async def test_a_session_that_another_program_renews_is_not_dropped(
    make: Make, store: ScriptedStore, clock: ManualClock, lifetime: float | None
) -> None:
    """The list is not told of it: only the lifetime says that a session is over."""

    def codec(clock: Any, lifetime: Any) -> Codec:
        return SharedCodec(JSONSerializer(), "session:")

    manager, node = (
        make(
            store, track_sessions=tracks, codec=codec, idle_timeout=3600,
            lifetime=lifetime,
        )
        for tracks in (True, False)
    )  # fmt: skip
    session_id = await log_in(manager, "mine")
    key = marker_key(manager, session_id)
    entry = await store.inner.get(key)
    assert entry is not None
    for _ in range(4):
        clock.advance(3000)
        await node.set(session_id, {})
        await store.rewrite(key, lambda _: entry.data)  # the program notes nothing
    assert await is_alive(manager, session_id)
    assert await labels(manager) == ["mine"]
    other = await log_in(manager, "another device")
    assert await is_alive(manager, session_id)
    await manager.destroy(other)
    assert await labels(manager) == ["mine"]
    handle = await handle_of(manager, session_id)
    clock.advance(2 * DAY)
    assert await labels(manager) == ([] if lifetime else ["mine"])
    assert await manager.end("ann", handle)


def test_senseless_settings_are_refused() -> None:
    """With a message that says what to do."""
    for options, says in [
        ({"max_sessions": 2}, "track_sessions=True"),
        ({"track_sessions": True, "max_sessions": 0}, "greater than 0"),
        ({"track_sessions": True, "max_sessions": 101}, "at most 100"),
    ]:
        with pytest.raises(ValueError, match=says):
            SessionManager(store="memory://", **options)
    with pytest.raises(TypeError, match="track_sessions"):
        SessionManager(store="memory://", track_sessions=1)


# On and off.


@pytest.mark.gen_test
async def test_turning_it_on_and_off_logs_nobody_out(
    make: Make, store: ScriptedStore, clock: ManualClock
) -> None:
    """However long it is off; a session of before is not listed."""
    off, on = make(store), make(store, track_sessions=True, max_sessions=1)
    before = await log_in(off)
    assert await labels(on) == []
    listed = await log_in(on, "listed")
    assert await labels(on) == ["listed"]
    for _ in range(6):
        clock.advance(0.5 * DAY)
        for session_id in (before, listed):
            request = await visit(off, session_id)
            assert request.session.principal == "ann"
            await request.leave()
    meanwhile = await log_in(off)
    assert await labels(on) == ["listed"]
    for session_id in (before, listed, meanwhile):
        assert await is_alive(on, session_id)
    await on.end("ann", await handle_of(on, listed))
    assert not await is_alive(off, listed), "it is alive again where it is off"
    await off.revoke("ann")
    for session_id in (before, meanwhile):
        assert not await is_alive(on, session_id)


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.gen_test
async def test_an_untracked_session_ends_all_others(
    make: Make, store: ScriptedStore, tracked: bool
) -> None:
    """`revoke_others` of a session that the list does not know."""
    off, on = make(store), make(store, track_sessions=True)
    before = await log_in(off)
    listed = await log_in(on)
    request = await visit(make(store, track_sessions=tracked), before)
    await request.session.revoke_others()
    assert await is_alive(on, await request.leave())
    assert not await is_alive(on, listed)
    assert await labels(on) == []


@pytest.mark.gen_test
async def test_without_the_setting_it_says_what_to_do(
    make: Make, store: ScriptedStore
) -> None:
    """As it does without the secret."""
    off = make(store)
    for verb in (off.sessions("ann"), off.end("ann", "x")):
        with pytest.raises(RuntimeError, match="track_sessions=True"):
            await verb
    job = SessionManager(store=MemoryStore(), track_sessions=True)
    for verb in (job.sessions("ann"), job.end("ann", "x")):
        with pytest.raises(RuntimeError, match="needs the secret"):
            await verb


@pytest.mark.gen_test
async def test_a_login_by_an_older_release_is_not_bound_to_the_list(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """It leaves the fields that it does not know as they were."""
    session_id = await log_in(manager)
    handle = await handle_of(manager, session_id)

    def log_in_again(data: bytes) -> bytes:
        fields = msgspec.msgpack.decode(data[1:])
        assert fields[7] is not None
        fields[7] += 1.0  # authenticated_at
        return data[:1] + msgspec.msgpack.encode(fields)

    await store.rewrite(key_of(manager, session_id), log_in_again)
    await manager.end("ann", handle)
    assert await is_alive(manager, session_id)


async def cut(store: ScriptedStore, key: str, length: int) -> None:
    """Write a value anew as a release does that knows fewer fields."""

    def shorter(data: bytes) -> bytes:
        fields = msgspec.msgpack.decode(data[1:])
        assert len(fields) > length
        return data[:1] + msgspec.msgpack.encode(fields[:length])

    await store.rewrite(key, shorter)


@pytest.mark.gen_test
async def test_what_an_older_release_has_written_goes_on(
    make: Make, manager: SessionManager, store: ScriptedStore
) -> None:
    """A marker has no list then, and a record no handle."""
    session_id = await log_in(make(store))
    await cut(store, marker_key(manager, session_id), 4)
    await cut(store, key_of(manager, session_id), 17)
    assert await is_alive(manager, session_id)
    assert await labels(manager) == []
    device = await log_in(manager, "listed")
    assert await labels(manager) == ["listed"]
    for each in (session_id, device):
        assert await is_alive(manager, each)


@pytest.mark.gen_test
async def test_a_revocation_by_an_older_release_holds(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """It leaves the list as it was, which brings nothing back."""
    before = await log_in(manager, "revoked")

    def revoke(data: bytes) -> bytes:
        fields = msgspec.msgpack.decode(data[1:])
        fields[0], fields[3] = b"another value".ljust(16), False
        return data[:1] + msgspec.msgpack.encode(fields)

    await store.rewrite(marker_key(manager, before), revoke)
    after_ = await log_in(manager, "new")
    assert not await is_alive(manager, before)
    assert await is_alive(manager, after_)
    request = await visit(manager, after_)
    await request.session.revoke_others()
    assert await labels(manager) == ["new"]


# What it costs.


@pytest.mark.gen_test
async def test_a_request_costs_no_operation_more(
    manager: SessionManager, store: ScriptedStore, clock: ManualClock
) -> None:
    """It reads the marker anyway."""
    session_id = await log_in(manager)
    for _ in range(10):
        await log_in(manager)
    store.calls.clear()
    request = await visit(manager, session_id)
    request.session["a"] = 1
    await request.leave()
    assert store.calls == ["get", "cas"]


@pytest.mark.parametrize("sessions", [1, 20])
@pytest.mark.gen_test
async def test_the_list_costs_the_same_however_long_it_is(
    make: Make, store: ScriptedStore, sessions: int
) -> None:
    """One look, and one write for an end or a login."""
    manager = make(store, track_sessions=True, max_sessions=sessions, cookie_secret="")
    for _ in range(sessions):
        session_id = await log_in(manager)
    handle = await handle_of(manager, session_id)
    store.calls.clear()
    await manager.sessions("ann")
    assert store.calls == ["get"]
    store.calls.clear()
    await manager.end("ann", handle)
    assert store.calls == ["get", "cas"]
    await log_in(manager)
    store.calls.clear()
    await log_in(manager)
    assert store.calls == ["get", "cas", "add"]


@pytest.mark.gen_test
async def test_what_is_off_costs_nothing(make: Make, store: ScriptedStore) -> None:
    """A login and a logout do what they did before."""
    manager = make(store)
    await log_in(manager)
    store.calls.clear()
    session_id = await log_in(manager)
    assert store.calls == ["get", "add"]
    store.calls.clear()
    await manager.destroy(session_id)
    assert store.calls == ["get", "cas"]


# Requests that meet, and answers that are lost.


@pytest.mark.gen_test
async def test_parallel_logins_are_all_listed(
    manager: SessionManager, other: SessionManager
) -> None:
    """None of them writes over another's."""
    ids = await asyncio.gather(
        *(log_in((manager, other)[n % 2], str(n)) for n in range(8))
    )
    assert sorted(await labels(manager)) == [str(n) for n in range(8)]
    for session_id in ids:
        assert await is_alive(manager, session_id)


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.gen_test
async def test_parallel_logins_keep_to_the_limit(
    make: Make, store: ScriptedStore, most: int
) -> None:
    """The other login comes before each operation of the first one, in turn."""
    manager, other = (
        make(store, track_sessions=True, max_sessions=most) for _ in range(2)
    )
    for _ in range(most):
        await log_in(manager)
    for number in range(MOST):
        came = []

        async def meanwhile(came: list[str] = came) -> None:
            came.append(await log_in(other, "other"))

        store.script("any", *[done] * number, after(meanwhile))
        mine = await log_in(manager, "mine")
        store.forget_scripts()
        if not came:
            break
        assert len(await labels(manager)) == most
        alive = [await is_alive(manager, each) for each in (mine, *came)]
        assert any(alive) if most == 1 else all(alive)
    assert number > 2


@pytest.mark.gen_test
async def test_a_login_beside_an_end(
    manager: SessionManager, other: SessionManager, store: ScriptedStore
) -> None:
    """The end comes before each operation of the login, in turn."""
    for number in range(MOST):
        device = await log_in(manager, "device")
        handle = await handle_of(manager, device)
        told = []

        async def end(handle: str = handle, told: list[bool] = told) -> None:
            told.append(await other.end("ann", handle))

        store.script("any", *[done] * number, after(end))
        request = await visit(manager, device)
        await request.session.login("ann", label="new")
        store.forget_scripts()
        new = await request.leave()
        assert await is_alive(manager, new)
        assert not await is_alive(manager, device)
        assert await labels(manager) == ["new"]
        assert new is not None
        await manager.destroy(new)
        if not told:
            break
    assert number > 3


ANSWERS = pytest.mark.parametrize(
    "fault", [lost, dropped, None], ids=["lost", "dropped", "late"]
)


@ANSWERS
@pytest.mark.gen_test
async def test_an_end_whose_response_was_lost(
    manager: SessionManager, store: ScriptedStore, fault: Any
) -> None:
    """It is looked up again, and told as it is."""
    session_id = await log_in(manager)
    device = await log_in(manager)
    handle = await handle_of(manager, session_id)
    store.script("cas", fault or store.delayed)
    assert await manager.end("ann", handle) is True
    await store.arrive()
    assert not await is_alive(manager, session_id)
    assert await is_alive(manager, device)


@ANSWERS
@pytest.mark.gen_test
async def test_a_login_whose_response_was_lost_is_listed_once(
    manager: SessionManager, store: ScriptedStore, fault: Any
) -> None:
    """Each write loses its response in turn."""
    for number in range(4):
        store.script("write", *[done] * number, fault or store.delayed)
        try:
            session_id = await log_in(manager, "mine")
        except StoreUnavailable:
            store.forget_scripts()
            await store.arrive()
            continue
        store.forget_scripts()
        await store.arrive()
        assert await is_alive(manager, session_id)
        assert await labels(manager) == ["mine"]
        await manager.revoke("ann")


@pytest.mark.gen_test
async def test_revoke_others_is_not_done_twice(
    manager: SessionManager, other: SessionManager, store: ScriptedStore
) -> None:
    """Its response is lost, and another device logs in before the second look."""
    request = await visit(manager, await log_in(manager, "mine"))
    ids = []

    async def meanwhile() -> None:
        ids.append(await log_in(other, "later"))

    store.script("cas", done, before(meanwhile, lost))
    await request.session.revoke_others()
    assert len(ids) == 1
    assert await is_alive(manager, ids[0])
    assert await is_alive(manager, await request.leave())
    assert sorted(await labels(manager)) == ["later", "mine"]


@pytest.mark.gen_test
async def test_an_end_that_cannot_be_confirmed_is_an_error(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """Its outcome is unknown where a write may still arrive."""
    session_id = await log_in(manager)
    handle = await handle_of(manager, session_id)
    store.always("get", down)
    with pytest.raises(StoreUnavailable):
        await manager.end("ann", handle)
    with pytest.raises(StoreUnavailable):
        await manager.sessions("ann")
    store.forget_scripts()
    assert await is_alive(manager, session_id)
    store.always("cas", dropped)
    with pytest.raises(StoreUnavailable) as raised:
        await manager.end("ann", handle)
    assert raised.value.outcome_unknown


@pytest.mark.gen_test
async def test_an_outage_ends_no_listed_session(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """A login that fails leaves the others as they were, and itself not listed."""
    session_id = await log_in(manager, "before")
    store.script("add", down)  # the record; its marker is there
    with pytest.raises(StoreUnavailable):
        await log_in(manager, "failed")
    assert await labels(manager) == ["before"]
    assert await is_alive(manager, session_id)
    store.always("any", down)
    with pytest.raises(StoreUnavailable):
        await log_in(manager, "failed")
    store.forget_scripts()
    assert await is_alive(manager, session_id)


@pytest.mark.gen_test
async def test_a_new_id_that_is_given_up_takes_nothing_off_the_list(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """It has the handle of the session, which goes on under the old id."""
    session_id = await log_in(manager, "mine")
    request = await visit(manager, session_id)
    store.script("cas", down)
    with pytest.raises(StoreUnavailable):
        await request.session.regenerate()
    assert await is_alive(manager, session_id)
    assert await labels(manager) == ["mine"]


@pytest.mark.parametrize("who", ["ann", "bob"])
@pytest.mark.gen_test
async def test_a_login_that_cannot_tell_of_the_old_id_ends_it_in_the_list(
    manager: SessionManager, store: ScriptedStore, who: str
) -> None:
    """The new id is sent, since it may be all that is left; it must be alive."""
    old = await log_in(manager, "old")
    request = await visit(manager, old)
    store.script("cas", *[done] * (who == "ann"), dropped)
    store.script("get", done, down)
    with pytest.raises(StoreUnavailable):
        await request.session.login(who, label="new")
    assert not await is_alive(manager, old)
    assert await is_alive(manager, request.session.id)
    assert await labels(manager, who) == ["new"]
    await pending_done(manager, store)
    assert await is_alive(manager, request.session.id)


@pytest.mark.gen_test
async def test_an_end_is_reported(make: Make, store: ScriptedStore) -> None:
    """By its handle, and by a login that is one too many; each once."""
    manager = make(store, track_sessions=True, max_sessions=2)
    handle = await handle_of(manager, await log_in(manager))
    told: list[tuple[str, str | None]] = []
    manager.on_end(lambda reason, principal, handler: told.append((reason, principal)))
    assert await manager.end("ann", handle)
    assert not await manager.end("ann", handle)
    assert told == [("revoked", "ann")]
    for _ in range(2):
        await log_in(manager)
    assert told == [("revoked", "ann")]
    store.script("cas", lost)
    await log_in(manager)
    assert told == [("revoked", "ann")] * 2


@pytest.mark.gen_test
async def test_a_refused_login_is_not_listed(make: Make, store: ScriptedStore) -> None:
    """The ``allow_new`` hook refuses after the marker was written."""
    manager = make(store, track_sessions=True, allow_new=lambda handler: False)
    with pytest.raises(SessionRefused):
        await log_in(manager)
    assert await labels(manager) == []


@pytest.mark.gen_test
async def test_a_logout_in_an_outage_leaves_the_list_when_it_is_over(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """The manager ends it when the store answers, and takes it off."""
    session_id = await log_in(manager)
    store.always("any", down)
    with pytest.raises(StoreUnavailable):
        await manager.destroy(session_id)
    store.forget_scripts()
    assert len(await manager.sessions("ann")) == 1
    await pending_done(manager, store)
    assert await manager.sessions("ann") == []


@pytest.mark.gen_test
async def test_a_logout_whose_list_cannot_be_written_is_a_logout(
    manager: SessionManager, store: ScriptedStore, clock: ManualClock
) -> None:
    """The list shows the session until it would have expired."""
    session_id = await log_in(manager, "gone", a=1)
    store.script("cas", done, down)
    assert await manager.destroy(session_id)
    assert await data_of(manager, session_id) is None
    assert await labels(manager) == ["gone"]
    clock.advance(1.2 * DAY)
    assert await labels(manager) == []
