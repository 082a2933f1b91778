"""A user who acts as another one, and returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tornado_mcsession import (
    MemoryStore,
    Session,
    SessionGone,
    SessionManager,
    SessionTooLarge,
    StoreUnavailable,
)
from tornado_mcsession.sessions.record import Record

from ..support.clock import ManualClock
from ..support.requests import begin, data_of, is_alive, key_of, seal, visit
from ..support.scripted import ScriptedStore, after, done, down, dropped, lost

DAY = 86_400.0
MOST = 16  # operations of one call
Make = Callable[..., SessionManager]


async def acting(manager: SessionManager, session_id: str) -> str:
    """Let the user of a session act as bob; return the new id."""
    request = await visit(manager, session_id)
    await request.session.impersonate("bob")
    new = await request.leave()
    assert new is not None
    return new


async def names(manager: SessionManager, session_id: str | None) -> Any:
    """Whom the session acts as, and who does."""
    session = (await visit(manager, session_id)).session
    return session.principal, session.impersonator


@pytest.mark.gen_test
async def test_a_user_acts_as_another_one_and_returns(
    manager: SessionManager, other: SessionManager
) -> None:
    """With data of its own meanwhile, and under a new id each time."""
    first = await begin(manager, "ann", a=1)
    second = await acting(manager, first)
    assert await names(other, second) == ("bob", "ann")
    request = await visit(other, second)
    assert request.session == {}
    request.session["as bob"] = True
    await request.leave()
    assert await data_of(manager, second) == {"as bob": True}
    request = await visit(manager, second)
    await request.session.stop_impersonating()
    assert (request.session.principal, request.session.impersonator) == ("ann", None)
    assert request.session == {"a": 1}
    third = await request.leave()
    assert await names(other, third) == ("ann", None)
    assert await data_of(other, third) == {"a": 1}
    assert len({first, second, third}) == 3
    for dead in (first, second):
        assert not await is_alive(other, dead)


@pytest.mark.gen_test
async def test_messages_go_with_the_data(manager: SessionManager) -> None:
    """What is written after the call belongs to the user of then."""
    request = await visit(manager, await begin(manager, "ann", a=1))
    request.session.flash("for ann")
    request.session["b"] = 2
    await request.session.impersonate("bob")
    request.session.flash("you act as bob")
    request.session["c"] = 3
    request = await visit(manager, await request.leave())
    assert request.session == {"c": 3}
    assert request.session.flashes() == [("info", "you act as bob")]
    request.session.flash("for bob")
    await request.session.stop_impersonating()
    request.session.flash("you are back")
    request.session["d"] = 4
    request = await visit(manager, await request.leave())
    assert request.session == {"a": 1, "b": 2, "d": 4}
    assert [text for _, text in request.session.flashes()] == [
        "for ann",
        "you are back",
    ]


@pytest.mark.gen_test
async def test_times_and_the_cookie_stay_as_they_are(
    manager: SessionManager, clock: ManualClock
) -> None:
    """Nobody gets a longer session by it, nor a later login."""
    request = await visit(manager, await begin(manager, "ann"))
    request.session.set_idle_timeout(1800)
    request.session.remember(False)
    session_id = await request.leave()
    begun = clock()
    for step in ("impersonate", "stop_impersonating"):
        clock.advance(600)
        request = await visit(manager, session_id)
        await (
            request.session.impersonate("bob")
            if step == "impersonate"
            else request.session.stop_impersonating()
        )
        session_id = await request.leave()
        session = (await visit(manager, session_id)).session
        assert session.idle_timeout == 1800
        assert session.persistent is False
        assert session.created.timestamp() == begun
        assert session.authenticated_at is not None
        assert session.authenticated_at.timestamp() == begun
        assert session.expires_at.timestamp() == pytest.approx(clock() + 1980)


@pytest.mark.gen_test
async def test_what_is_set_while_acting_stays(manager: SessionManager) -> None:
    """A timeout is the session's, whoever is acted as."""
    request = await visit(manager, await acting(manager, await begin(manager, "ann")))
    request.session.set_idle_timeout(600)
    await request.session.stop_impersonating()
    session = (await visit(manager, await request.leave())).session
    assert session.idle_timeout == 600


# What is refused.


@pytest.mark.gen_test
async def test_nobody_acts_through_another_one(manager: SessionManager) -> None:
    """First the user has to return."""
    request = await visit(manager, await acting(manager, await begin(manager, "ann")))
    with pytest.raises(RuntimeError, match=r"stop_impersonating\(\) first"):
        await request.session.impersonate("carl")
    assert await names(manager, request.session.id) == ("bob", "ann")


@pytest.mark.gen_test
async def test_what_makes_no_sense_is_refused(manager: SessionManager) -> None:
    """And nothing is done."""
    anonymous = await visit(manager, await begin(manager, a=1))
    with pytest.raises(RuntimeError, match="nobody is logged in"):
        await anonymous.session.impersonate("bob")
    request = await visit(manager, await begin(manager, "7"))
    with pytest.raises(ValueError, match="themselves"):
        await request.session.impersonate(7)
    with pytest.raises(ValueError, match="must not be empty"):
        await request.session.impersonate("")
    with pytest.raises(RuntimeError, match="does not act"):
        await request.session.stop_impersonating()
    seal(request.session)
    with pytest.raises(RuntimeError, match="headers have left"):
        await request.session.impersonate("bob")
    assert await names(manager, request.session.id) == ("7", None)


@pytest.mark.gen_test
async def test_both_data_count_for_the_size(make: Make, store: ScriptedStore) -> None:
    """What is set aside is stored, too."""
    manager = make(store, max_size=1000)
    session_id = await acting(manager, await begin(manager, "ann", a="x" * 600))
    request = await visit(manager, session_id)
    request.session["b"] = "x" * 600
    with pytest.raises(SessionTooLarge):
        await request.leave()


# What ends it.


@pytest.mark.parametrize("who", ["ann", "bob"])
@pytest.mark.gen_test
async def test_a_revocation_of_either_ends_it(
    manager: SessionManager, other: SessionManager, who: str
) -> None:
    """And of nobody else; what a late request writes is dropped."""
    session_id = await acting(manager, await begin(manager, "ann", a=1))
    await manager.revoke("carl")
    assert await is_alive(other, session_id)
    assert await manager.revoke(who)
    assert not await is_alive(other, session_id)
    late = await visit(other, session_id)
    assert (late.session.presented, late.session.principal) == ("ended", None)
    late.session["written"] = "late"
    assert await late.leave() is None


@pytest.mark.parametrize("who", ["ann", "bob"])
@pytest.mark.gen_test
async def test_revoke_others_elsewhere_ends_it(
    manager: SessionManager, who: str
) -> None:
    """Of the one who acts, and of the one acted as."""
    session_id = await acting(manager, await begin(manager, "ann"))
    device = await visit(manager, await begin(manager, who))
    await device.session.revoke_others()
    assert not await is_alive(manager, session_id)
    assert await is_alive(manager, await device.leave())


@pytest.mark.gen_test
async def test_a_logout_ends_all(manager: SessionManager, store: ScriptedStore) -> None:
    """What was set aside is not kept in the store."""
    first = await begin(manager, "ann", a="set aside")
    second = await acting(manager, first)
    request = await visit(manager, second)
    await request.session.logout()
    for session_id in (first, second):
        assert not await is_alive(manager, session_id)
        entry = await store.inner.get(key_of(manager, session_id))
        assert entry is not None
        assert b"set aside" not in entry.data
    late = await visit(manager, second)
    late.session["written"] = "late"
    assert await late.leave() is None


@pytest.mark.gen_test
async def test_a_logout_with_the_older_id_ends_it(manager: SessionManager) -> None:
    """Of a request that was under way: it is the same login."""
    first = await begin(manager, "ann")
    tab = await visit(manager, first)
    second = await acting(manager, first)
    await tab.session.logout()
    assert not await is_alive(manager, second)


@pytest.mark.parametrize("who", ["ann", "bob", "carl"])
@pytest.mark.gen_test
async def test_a_login_begins_another_session(
    manager: SessionManager, who: str
) -> None:
    """Nothing of what was set aside, or kept for the other user, goes along."""
    session_id = await acting(manager, await begin(manager, "ann", a=1))
    request = await visit(manager, session_id)
    request.session["as bob"] = True
    await request.session.login(who)
    new = await request.leave()
    assert await names(manager, new) == (who, None)
    assert await data_of(manager, new) == {}
    assert not await is_alive(manager, session_id)
    with pytest.raises(RuntimeError, match="does not act"):
        await (await visit(manager, new)).session.stop_impersonating()


@pytest.mark.gen_test
async def test_an_older_release_that_logs_somebody_in_ends_the_acting(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """It keeps the fields that it does not know: nobody may return by them."""
    session_id = await acting(manager, await begin(manager, "ann", a=1))

    def log_in_again(data: bytes) -> bytes:
        fields = msgspec.msgpack.decode(data[1:])
        fields[7] += 1.0  # authenticated_at
        return data[:1] + msgspec.msgpack.encode(fields)

    await store.rewrite(key_of(manager, session_id), log_in_again)
    request = await visit(manager, session_id)
    assert (request.session.principal, request.session.impersonator) == ("bob", None)
    with pytest.raises(RuntimeError, match="does not act"):
        await request.session.stop_impersonating()


@pytest.mark.gen_test
async def test_new_ids_go_on_acting(manager: SessionManager) -> None:
    """Also those of `revoke_others`, and of an emptied session."""
    session_id: str | None = await acting(manager, await begin(manager, "ann", a=1))
    device = await begin(manager, "bob")
    for verb in ("regenerate", "empty", "revoke_others"):
        request = await visit(manager, session_id)
        if verb == "empty":
            await request.session.regenerate(keep=False)
        else:
            await getattr(request.session, verb)()
        session_id = await request.leave()
        assert await names(manager, session_id) == ("bob", "ann")
    assert not await is_alive(manager, device)
    request = await visit(manager, session_id)
    await request.session.stop_impersonating()
    assert request.session == {"a": 1}


@pytest.mark.gen_test
async def test_it_ends_with_the_lifetime(make: Make, clock: ManualClock) -> None:
    """And renewals keep the markers of both users."""
    manager = make(MemoryStore(clock=clock), lifetime=60 * DAY)
    session_id: str | None = await begin(manager, "ann")
    begun = clock()
    session_id = await acting(manager, session_id)
    while clock() < begun + 59.5 * DAY:
        clock.advance(0.5 * DAY)
        request = await visit(manager, session_id)
        assert request.session.impersonator == "ann"
        await request.leave()
    clock.advance(0.6 * DAY)
    assert await names(manager, session_id) == (None, None)


# Records that somebody else has written.


async def alter(
    manager: SessionManager, store: ScriptedStore, field: int, value: Any
) -> str:
    """Begin to act, and change what the record says of the one who does."""
    session_id = await acting(manager, await begin(manager, "ann", a=1))

    def change(data: bytes) -> bytes:
        fields = msgspec.msgpack.decode(data[1:])
        login = fields[Record.__struct_fields__.index("login")]
        assert login[2][0] == "ann"
        login[2][field] = value
        return data[:1] + msgspec.msgpack.encode(fields)

    await store.rewrite(key_of(manager, session_id), change)
    return session_id


@pytest.mark.parametrize("digest", ["", "x" * 300, "a b" * 7 + "c", "x" * 22 + "\n"])
@pytest.mark.gen_test
async def test_a_digest_that_is_none_makes_an_empty_session(
    manager: SessionManager, store: ScriptedStore, digest: str
) -> None:
    """And no key of it that a store would refuse."""
    session_id = await alter(manager, store, 1, digest)
    request = await visit(manager, session_id)
    assert (request.session.principal, request.session.presented) == (None, "unknown")
    await request.session.logout()


@pytest.mark.parametrize(("field", "value"), [(0, "bob"), (1, "x" * 22), (2, b"x")])
@pytest.mark.gen_test
async def test_another_impersonator_is_none(
    manager: SessionManager, store: ScriptedStore, field: int, value: Any
) -> None:
    """The name, the digest and the marker belong together."""
    session_id = await alter(manager, store, field, value)
    assert await names(manager, session_id) == (None, None)


@pytest.mark.gen_test
async def test_data_that_nobody_can_read_comes_back_empty(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """It is counted, as any record that cannot be read."""
    session_id = await alter(manager, store, 3, b"\xc1")
    request = await visit(manager, session_id)
    await request.session.stop_impersonating()
    assert await names(manager, await request.leave()) == ("ann", None)
    assert await data_of(manager, request.session.id) == {}
    assert manager.stats()["corrupt_records"] == 1


# With the list of the user's sessions.


@pytest.mark.gen_test
async def test_it_is_a_session_of_the_one_who_acts(
    make: Make, store: ScriptedStore
) -> None:
    """It is listed there, ends none of the other user's, and can be ended."""
    manager = make(store, track_sessions=True, max_sessions=1)
    theirs = await begin(manager, "bob")
    session_id = await acting(manager, await begin(manager, "ann"))
    assert await is_alive(manager, theirs)
    session = await manager.get(session_id)
    (listed,) = await manager.sessions("ann", session)
    assert listed.is_current
    assert [one.is_current for one in await manager.sessions("bob", session)] == [False]
    assert not await manager.end("bob", listed.handle)
    assert await manager.end("ann", listed.handle)
    assert not await is_alive(manager, session_id)
    assert await is_alive(manager, theirs)


@pytest.mark.gen_test
async def test_the_list_knows_when_it_is_over(make: Make, store: ScriptedStore) -> None:
    """By a return it goes on; by a logout it ends."""
    manager = make(store, track_sessions=True)
    session_id = await acting(manager, await begin(manager, "ann"))
    request = await visit(manager, session_id)
    await request.session.stop_impersonating()
    session_id = await request.leave()
    (listed,) = await manager.sessions("ann", request.session)
    assert listed.is_current
    await manager.destroy(await acting(manager, session_id))
    assert await manager.sessions("ann") == []


# Other requests, lost answers and outages.


class Play:
    """A session whose user acts as another one, or is about to."""

    def __init__(self, manager: SessionManager, other: SessionManager) -> None:
        self.manager = manager
        self.other = other
        self.told: str | None = None

    async def begin(self, verb: str) -> None:
        self.verb = verb
        self.id = await begin(self.manager, "ann", a=1)
        if verb == "stop_impersonating":
            self.id = await acting(self.manager, self.id)
            request = await visit(self.manager, self.id)
            request.session["as bob"] = 1
            await request.leave()
        self.request = await visit(self.manager, self.id)
        self.tab = await visit(self.other, self.id)

    async def go(self, session: Session | None = None) -> None:
        session = self.request.session if session is None else session
        if self.verb == "impersonate":
            await session.impersonate("bob")
        else:
            await session.stop_impersonating()

    async def meanwhile(self, act: str) -> None:
        """Another tab does something with the same session."""
        session: Session = self.tab.session
        try:
            if act == "save":
                session["theirs"] = 1
                session.flash("theirs")
                await session.save()
            elif act == "the same":
                await self.go(session)
            elif act.startswith("revoke "):
                await self.other.revoke(act.removeprefix("revoke "))
            else:
                await getattr(session, act)()
            self.told = "done"
        except SessionGone:
            self.told = "gone"


VERBS = pytest.mark.parametrize("verb", ["impersonate", "stop_impersonating"])


@pytest.mark.parametrize(
    "act", ["save", "destroy", "regenerate", "the same", "revoke ann", "revoke bob"]
)
@VERBS
@pytest.mark.gen_test
async def test_another_request_comes_before_or_after(
    manager: SessionManager,
    other: SessionManager,
    store: ScriptedStore,
    verb: str,
    act: str,
) -> None:
    """Before each of the operations in turn: one session is left at most."""
    told = set()
    for number in range(MOST):
        play = Play(manager, other)
        await play.begin(verb)
        store.script(
            "any", *[done] * number, after(lambda play=play: play.meanwhile(act))
        )
        try:
            await play.go()
            mine = "done"
        except SessionGone:
            mine = "gone"
        store.forget_scripts()
        if play.told is None:
            break  # it has no operation of this number
        told.add((mine, play.told))
        assert not await is_alive(manager, play.id) or act.startswith("revoke")
        ids = {play.request.session.id, play.tab.session.id} - {play.id, None}
        alive = [each for each in ids if await is_alive(manager, each)]
        assert len(alive) <= 1
        if act == "destroy" and play.told == "done":
            assert not alive, "alive after a logout"
        elif act == "save":
            assert (mine, len(alive)) == ("done", 1)
        elif act in ("regenerate", "the same"):
            assert {mine, play.told} == {"done", "gone"}
            assert alive
        if alive and mine == "done" and verb == "stop_impersonating":
            assert await names(manager, alive[0]) == ("ann", None)
            assert await data_of(manager, alive[0]) == {"a": 1}
        elif alive and mine == "done":
            assert await names(manager, alive[0]) == ("bob", "ann")
            assert await data_of(manager, alive[0]) == {}
            # What was acknowledged meanwhile is the user's own, and comes back.
            back = await visit(manager, alive[0])
            await back.session.stop_impersonating()
            saved = act == "save" and play.told == "done"
            assert back.session == ({"a": 1, "theirs": 1} if saved else {"a": 1})
            assert back.session.flashes() == ([("info", "theirs")] if saved else [])
    assert told, "the other request never came in between"
    if act.startswith("revoke"):
        return
    await manager.revoke("ann")
    assert not await is_alive(manager, play.request.session.id)


@VERBS
@pytest.mark.parametrize(
    "fault", [lost, dropped, None], ids=["lost", "dropped", "late"]
)
@pytest.mark.gen_test
async def test_a_lost_response_is_no_half_success(
    manager: SessionManager,
    other: SessionManager,
    store: ScriptedStore,
    verb: str,
    fault: Any,
) -> None:
    """Each write loses its response in turn; the data is on one side alone."""
    for number in range(MOST):
        play = Play(manager, other)
        await play.begin(verb)
        seen = len(store.calls)
        store.script("write", *[done] * number, fault or store.delayed)
        told = "done"
        try:
            await play.go()
        except StoreUnavailable:
            told = "cannot tell"
        writes = sum(call in ("add", "cas") for call in store.calls[seen:])
        store.forget_scripts()
        await store.arrive()
        ids = {play.id, play.request.session.id} - {None}
        for session_id in ids:
            if await is_alive(manager, session_id):
                shown = await names(manager, session_id)
                data = await data_of(manager, session_id)
                assert (shown, data) in [
                    (("ann", None), {"a": 1}),
                    (("bob", "ann"), {}),
                    (("bob", "ann"), {"as bob": 1}),
                ]
        if told == "done":
            assert not await is_alive(manager, play.id)
            assert await is_alive(manager, play.request.session.id)
        await other.revoke("ann")
        for session_id in ids:
            assert not await is_alive(manager, session_id)
        if number >= writes:
            break
    assert number >= 2


@VERBS
@pytest.mark.gen_test
async def test_an_outage_changes_nothing(
    manager: SessionManager, other: SessionManager, store: ScriptedStore, verb: str
) -> None:
    """Each operation fails in turn; the user is who they were."""
    for number in range(MOST):
        play = Play(manager, other)
        await play.begin(verb)
        before = await names(manager, play.id)
        store.script("any", *[done] * number, down)
        seen = len(store.calls)
        try:
            await play.go()
        except StoreUnavailable:
            store.forget_scripts()
            assert await names(manager, play.id) == before
        calls = len(store.calls) - seen
        store.forget_scripts()
        await manager.revoke("ann")
        if number >= calls:
            break
    assert number >= 2


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.gen_test
async def test_while_a_marker_cannot_be_read_nobody_can_tell(
    manager: SessionManager, store: ScriptedStore, which: int
) -> None:
    """That of either user: a 503, and no empty session."""
    session_id = await acting(manager, await begin(manager, "ann"))
    store.script("get", *[done] * which, down)
    with pytest.raises(StoreUnavailable):
        await visit(manager, session_id)
    assert await names(manager, session_id) == ("bob", "ann")
