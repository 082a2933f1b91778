"""Who is logged in, and under which id."""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession import SessionManager, StoreUnavailable

from ..support.requests import begin, data_of, key_of, visit
from ..support.scripted import after, down


async def logged_in(manager, principal="alice", **data):
    """Log in on a new session; return its id."""
    late = await visit(manager)
    late.session.update(data)
    await late.session.login(principal)
    return await late.leave_with_cookie()


@pytest.mark.gen_test
async def test_a_login_is_stored_at_once(manager, clock):
    """Under a new id; an empty session counts, and the data of nobody is kept."""
    session_id = await begin(manager, cart=["book"])
    late = await visit(manager, session_id)
    late.session["lang"] = "en"
    clock.advance(100)
    await late.session.login("alice")
    assert late.session.principal == "alice"
    assert late.session.created == late.session.authenticated_at
    assert late.session.created.timestamp() == clock.now
    assert late.session.id != session_id
    assert await manager.get(session_id) is None
    stored = await manager.get(late.session.id)
    assert (stored.principal, dict(stored)) == (
        "alice",
        {"cart": ["book"], "lang": "en"},
    )
    assert await late.leave_with_cookie() == late.session.id


@pytest.mark.gen_test
async def test_a_login_makes_a_session_of_nothing(manager):
    """It counts as data."""
    session_id = await logged_in(manager)
    late = await visit(manager, session_id)
    assert (late.session.principal, dict(late.session)) == ("alice", {})


@pytest.mark.parametrize(
    ("principal", "kept"), [("alice", True), ("bob", False), (7, False)]
)
@pytest.mark.gen_test
async def test_only_the_same_principal_keeps_the_data(manager, principal, kept):
    """Somebody else starts empty: messages, changes and the old end are gone."""
    session_id = await logged_in(manager, a=1)
    late = await visit(manager, session_id)
    late.session["b"] = 2
    late.session.flash("for alice")
    await late.session.login(principal)
    assert late.session.principal == str(principal)
    assert late.session == ({"a": 1, "b": 2} if kept else {})
    assert late.session.flashes() == ([("info", "for alice")] if kept else [])
    await late.leave()
    assert await data_of(manager, late.session.id) == late.session
    assert await manager.get(session_id) is None


@pytest.mark.parametrize("principal", ["alice", "bob"])
@pytest.mark.gen_test
async def test_what_this_request_chose_holds(manager, clock, principal):
    """``remember`` before ``login`` is meant for the new session."""
    session_id = await logged_in(manager, a=1)
    late = await visit(manager, session_id)
    late.session.remember(False)
    late.session.set_idle_timeout(60)
    await late.session.login(principal)
    again = (await visit(manager, late.session.id)).session
    assert (again.persistent, again.idle_timeout) == (False, 60.0)


@pytest.mark.gen_test
async def test_the_lifetime_begins_anew(manager, clock):
    """An end that was set before does not bind the session of the login."""
    late = await visit(manager)
    late.session["a"] = 1
    late.session.set_expiry(late.session.created.replace(year=2030))
    session_id = await late.leave_with_cookie()
    clock.advance(20 * 86_400)
    late = await visit(manager, session_id)
    await late.session.login("alice")
    left = late.session.expires_at.timestamp() - clock.now
    assert left == pytest.approx(1.1 * 86_400)


@pytest.mark.parametrize(
    ("principal", "error"),
    [
        ("", ValueError),
        ("\ud800", ValueError),
        (None, TypeError),
        (True, TypeError),
        (1.5, TypeError),
        (b"alice", TypeError),
    ],
)
@pytest.mark.gen_test
async def test_a_principal_is_text_or_a_number(manager, store, principal, error):
    """Anything else is refused before the store is asked."""
    late = await visit(manager)
    with pytest.raises(error, match="principal"):
        await late.session.login(principal)
    assert store.calls == []


@pytest.mark.gen_test
async def test_two_logins_at_once_both_succeed(store, make):
    """With two ids; the anonymous session is gone."""
    managers = [make(store), make(store)]
    session_id = await begin(managers[0], a=1)
    visits = [await visit(manager, session_id) for manager in managers]
    for late, principal in zip(visits, ("alice", "bob"), strict=True):
        late.session[principal] = 1
    await asyncio.gather(
        visits[0].session.login("alice"), visits[1].session.login("bob")
    )
    ids = {late.session.id for late in visits}
    assert len(ids) == 2
    for late, principal in zip(visits, ("alice", "bob"), strict=True):
        stored = await managers[0].get(late.session.id)
        assert stored.principal == principal
        assert stored[principal] == 1
        assert await late.leave_with_cookie() == late.session.id
    assert await managers[0].get(session_id) is None


@pytest.mark.gen_test
async def test_a_login_after_a_logout_goes_on(manager, store):
    """With this request's own changes, and nothing of the ended session."""
    session_id = await begin(manager, secret=1)
    late = await visit(manager, session_id)
    late.session["mine"] = [1]
    mine = late.session["mine"]
    late.session.flash("welcome")
    late.session.remember(False)

    async def logout():
        await manager.destroy(session_id)

    store.script("cas", after(logout))
    await late.session.login("alice")
    assert late.session == {"mine": [1]}
    assert late.session["mine"] is mine
    stored = (await visit(manager, late.session.id)).session
    assert (dict(stored), stored.principal) == ({"mine": [1]}, "alice")
    assert (stored.flashes(), stored.persistent) == ([("info", "welcome")], False)
    assert await manager.get(session_id) is None


@pytest.mark.gen_test
async def test_a_login_with_a_retired_id_goes_on(manager):
    """A second login form of the same page works, under an id of its own."""
    session_id = await begin(manager, a=1)
    first = await visit(manager, session_id)
    await first.session.login("alice")
    second = await visit(manager, session_id)
    await second.session.login("alice")
    assert len({session_id, first.session.id, second.session.id}) == 3
    second.session["b"] = 1
    await second.session.save()
    second.session["b"] = 2
    assert await second.leave_with_cookie() == second.session.id
    assert await data_of(manager, second.session.id) == {"b": 2}


@pytest.mark.gen_test
async def test_a_login_that_is_not_stored_is_none(manager, store):
    """The old session is as it was, and no cookie is sent."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    store.script("add", down)
    with pytest.raises(StoreUnavailable):
        await late.session.login("alice")
    assert (late.session.id, late.session.principal) == (session_id, None)
    assert await late.leave_with_cookie() is None


@pytest.mark.gen_test
async def test_an_anonymous_timeout_ends_with_the_login(make, store, clock):
    """Who is logged in has the longer one."""
    manager = make(store, anonymous_timeout=60)
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    assert late.session.idle_timeout == 60
    await late.session.login("alice")
    assert late.session.idle_timeout == 86_400
    clock.advance(3600)
    assert await manager.get(late.session.id) is not None


@pytest.mark.gen_test
async def test_ids_of_a_principal_are_placed_together(manager):
    """Their store keys share a part in braces, that of others is another one."""

    def braces(session_id):
        key = key_of(manager, session_id)
        return key[key.index("{") : key.index("}")]

    first, second = await logged_in(manager), await logged_in(manager)
    other = await logged_in(manager, "bob")
    assert braces(first) == braces(second) != braces(other)
    assert len(first) == 65
    assert "{" not in key_of(manager, await begin(manager, a=1))
    assert "alice" not in first + key_of(manager, first)


@pytest.mark.gen_test
async def test_the_link_between_ids_needs_the_key(store, clock):
    """With another encryption key the same principal looks different."""
    ends = set()
    for number in range(2):
        keys = [bytes([number]) * 32]
        manager = SessionManager(store=store, clock=clock, encryption_keys=keys)
        ends.add((await logged_in(manager))[-22:])
    assert len(ends) == 2


# One user's data is not another's.


def summed(handler, session):
    session["total"] = sum(session.get("cart", ()))


@pytest.mark.parametrize("verb", ["login", "impersonate"])
@pytest.mark.gen_test
async def test_what_a_hook_wrote_for_one_user_is_not_kept_for_another(
    make, store, verb
):
    """It is of the data that does not go along."""
    manager = make(store, before_save=summed)
    ann = await logged_in(manager, "ann", cart=[7])
    late = await visit(manager, ann)
    late.session["cart"] = [8]
    await getattr(late.session, verb)("eve")
    assert late.session.principal == "eve"
    assert late.session == {}
    await late.leave()
    assert await data_of(manager, late.session.id) == {}


@pytest.mark.gen_test
async def test_what_is_written_beside_a_login_stays_in_spite_of_a_hook(make, store):
    """It was written after the call."""
    manager = make(store, before_save=summed)
    late = await visit(manager, await logged_in(manager, "ann", cart=[7]))
    login = asyncio.ensure_future(late.session.login("eve"))
    await asyncio.sleep(0)
    late.session["seen"] = True
    await login
    assert late.session.get("seen") is True
    assert "cart" not in late.session


@pytest.mark.gen_test
async def test_a_logout_in_between_leaves_nothing_to_another_user(manager):
    """The session that the login begins is empty, its messages too."""
    ann = await logged_in(manager, "ann")
    late = await visit(manager, ann)
    late.session["anns"] = 1
    late.session.flash("to ann")
    await manager.destroy(ann)
    await late.session.login("bob")
    assert late.session == {}
    assert late.session.flashes() == []
    await late.leave()
    stored = await manager.get(late.session.id)
    assert (stored.principal, dict(stored), stored.flashes()) == ("bob", {}, [])
