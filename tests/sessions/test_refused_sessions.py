"""New sessions that the application does not want."""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession import MemoryStore, SessionRefused

from ..support.requests import FakeHandler, begin, visit


@pytest.fixture
def asked():
    return []


@pytest.fixture(params=["plain", "async"])
def manager(make, clock, request, asked):
    """A manager that allows no new sessions; ``asked`` gets the handlers."""

    def refuse(handler):
        asked.append(handler)
        return False

    async def refuse_later(handler):
        await asyncio.sleep(0)
        return refuse(handler)

    hook = refuse if request.param == "plain" else refuse_later
    return make(MemoryStore(clock=clock), allow_new=hook)


@pytest.mark.gen_test
async def test_a_refused_session_is_not_stored(manager, asked):
    """The hook gets the handler; the answer is a 429, without a cookie."""
    late = await visit(manager)
    late.session["a"] = 1
    with pytest.raises(SessionRefused) as caught:
        await late.leave()
    assert caught.value.status == 429
    assert asked == [late.handler]
    assert late.session.id is None
    assert manager.stats()["store"]["entries"] == 0
    assert manager.stats()["refused_sessions"] == 1


@pytest.mark.parametrize("verb", ["save", "login", "transact"])
@pytest.mark.gen_test
async def test_a_verb_tells_that_it_was_refused(manager, verb):
    """At once, to the handler."""
    late = await visit(manager)
    late.session["a"] = 1
    acts = {
        "save": late.session.save,
        "login": lambda: late.session.login("alice"),
        "transact": lambda: late.session.transact(lambda data: data.update(b=2)),
    }
    with pytest.raises(SessionRefused):
        await acts[verb]()
    assert late.session.id is None


@pytest.mark.gen_test
async def test_only_new_sessions_are_asked_about(make, clock):
    """What is there goes on: saves, new ids, logins."""
    answers = [True]
    manager = make(MemoryStore(clock=clock), allow_new=lambda _: answers.pop())
    late = await visit(manager, await begin(manager, a=1))
    late.session["b"] = 2
    await late.session.regenerate()
    await late.session.login("alice")
    late.session["c"] = 3
    await late.leave()
    assert answers == []


@pytest.mark.gen_test
async def test_a_request_that_stores_nothing_is_not_asked_about(manager, asked):
    """Reading begins no session."""
    late = await visit(manager)
    assert late.session.get("a") is None
    await late.leave()
    assert asked == []


@pytest.mark.gen_test
async def test_an_error_of_the_hook_passes(make, clock):
    """It is the application's own."""
    manager = make(MemoryStore(clock=clock), allow_new=lambda handler: 1 / 0)
    session = await manager.open(FakeHandler())
    session["a"] = 1
    with pytest.raises(ZeroDivisionError):
        await manager.commit(session)
