"""Sessions that end, and requests that are late for it."""

from __future__ import annotations

import pytest

from tornado_mcsession import (
    SessionGone,
    StoreUnavailable,
)

from ..support.requests import begin, data_of, visit
from ..support.scripted import down

# destroy


@pytest.mark.parametrize("verb", ["destroy", "logout"])
@pytest.mark.gen_test
async def test_a_destroyed_session_is_gone(manager, verb):
    """From the store when the verb returns, and from the client by the answer."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    await getattr(late.session, verb)()
    assert await manager.get(session_id) is None
    assert (late.session.id, dict(late.session)) == (None, {})
    await late.leave()
    headers = late.headers
    assert "Max-Age=0" in headers["Set-Cookie"]
    assert (await visit(manager, session_id)).session == {}


@pytest.mark.gen_test
async def test_what_is_written_after_destroy_is_a_new_session(manager):
    """With a new id, and nothing of the old one."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    await late.session.destroy()
    late.session["b"] = 2
    new_id = await late.leave_with_cookie()
    assert new_id not in (None, "", session_id)
    assert await data_of(manager, new_id) == {"b": 2}
    assert await manager.get(session_id) is None


@pytest.mark.parametrize("by", ["save", "leave"])
@pytest.mark.gen_test
async def test_what_is_written_after_session_none_is_a_new_session(manager, by):
    """``session = None`` ends the old one with the request, and its cookie is new."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session._doom()
    assert late.session == {}
    late.session["b"] = 2
    if by == "save":
        await late.session.save()
        assert await data_of(manager, session_id) == {"a": 1}
    new_id = await late.leave_with_cookie()
    assert new_id not in (None, "", session_id)
    assert await data_of(manager, new_id) == {"b": 2}
    assert await manager.get(session_id) is None


@pytest.mark.gen_test
async def test_session_none_ends_it_with_the_request(manager):
    """Nothing happens in the store before."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session._doom()
    assert late.session.modified
    assert await data_of(manager, session_id) == {"a": 1}
    assert await late.leave_with_cookie() == ""
    assert await manager.get(session_id) is None


@pytest.mark.gen_test
async def test_each_of_several_ended_sessions_is_deleted(manager, store):
    """One that cannot be confirmed does not keep the others."""
    first = await begin(manager, a=1)
    late = await visit(manager, first)
    late.session._doom()
    late.session["b"] = 2
    await late.session.save()
    second = late.session.id
    late.session._doom()
    store.script("cas", down)
    with pytest.raises(StoreUnavailable):
        await late.leave()
    assert await manager.get(second) is None
    assert manager.stats()["pending_destroys"] == 1


@pytest.mark.gen_test
async def test_destroying_nothing_is_no_error(manager, store):
    """A request without a session may log out; so may one with an unknown id."""
    late = await visit(manager)
    await late.session.destroy()
    assert await late.leave_with_cookie() is None
    assert store.calls == []
    unknown = await visit(manager, "an-id-that-is-well-formed-but-nobody-knows-0")
    await unknown.session.destroy()
    assert await unknown.leave_with_cookie() == ""


@pytest.mark.gen_test
async def test_a_logout_that_is_not_confirmed_is_an_error(manager, store):
    """The cookie is cleared all the same, and the key is kept to be deleted."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    store.script("cas", down)
    with pytest.raises(StoreUnavailable):
        await late.session.destroy()
    assert manager.stats()["pending_destroys"] == 1
    assert await late.leave_with_cookie() == ""


# Gone.


ENDINGS = ["destroy", "regenerate", "expire"]


async def end(manager, session_id, how, clock):
    other = (await visit(manager, session_id)).session
    if how == "destroy":
        await other.destroy()
    elif how == "regenerate":
        await other.regenerate()
    else:
        clock.advance(2 * 86_400)


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("verb", ["save", "reload", "transact", "regenerate"])
@pytest.mark.gen_test
async def test_a_verb_on_an_ended_session_says_so(manager, store, clock, how, verb):
    """Another request ended it: SessionGone, at once the second time."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    await end(manager, session_id, how, clock)
    late.session["a"] = 2
    arguments = {"transact": (lambda data: data.update(a=3),)}.get(verb, ())
    with pytest.raises(SessionGone):
        await getattr(late.session, verb)(*arguments)
    store.calls.clear()
    with pytest.raises(SessionGone):
        await getattr(late.session, verb)(*arguments)
    assert store.calls == []
    assert await manager.get(session_id) is None


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.gen_test
async def test_a_late_change_is_dropped_and_counted(manager, clock, how):
    """At the end of a request it is no error: the answer touches no cookie."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    await end(manager, session_id, how, clock)
    late.session["a"] = 2
    assert await late.leave_with_cookie() is None
    assert manager.stats()["dropped_saves"] == 1
    assert await manager.get(session_id) is None
    assert await late.leave_with_cookie() is None


@pytest.mark.gen_test
async def test_reading_an_ended_session_drops_nothing(manager):
    """A request that changed nothing has nothing to lose."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    await manager.destroy(session_id)
    assert late.session["a"] == 1
    with pytest.raises(SessionGone):
        await late.session.reload()
    assert await late.leave_with_cookie() is None
    assert manager.stats()["dropped_saves"] == 0


@pytest.mark.gen_test
async def test_a_gone_session_can_be_replaced_by_hand(manager, clock):
    """After destroy, what is written starts a new session, as usual."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    await manager.destroy(session_id)
    late.session["a"] = 2
    with pytest.raises(SessionGone):
        await late.session.save()
    late.session._doom()
    late.session["b"] = 1
    await late.session.save()
    assert await data_of(manager, late.session.id) == {"b": 1}
