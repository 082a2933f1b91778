"""What can still be done after the headers, or the answer, have left."""

from __future__ import annotations

import datetime as dt

import pytest

from ..support.requests import begin, data_of, finish, seal, visit

WRITES = {
    "set": lambda s: s.__setitem__("b", 1),
    "del": lambda s: s.__delitem__("a"),
    "pop": lambda s: s.pop("a"),
    "popitem": lambda s: s.popitem(),
    "clear": lambda s: s.clear(),
    "update": lambda s: s.update(b=1),
    "replace": lambda s: s.replace({}),
    "flash": lambda s: s.flash("x"),
    "flashes": lambda s: s.flashes(),
    "remember": lambda s: s.remember(True),
    "set_idle_timeout": lambda s: s.set_idle_timeout(5),
    "set_expiry": lambda s: s.set_expiry(dt.datetime.now(dt.UTC)),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.gen_test
async def test_after_the_answer_nothing_can_be_changed(manager, write):
    """It would not be saved: a RuntimeError says so; reading goes on."""
    session = (await visit(manager, await begin(manager, a=1))).session
    finish(session)
    with pytest.raises(RuntimeError, match="the response is finished"):
        WRITES[write](session)
    with pytest.raises(RuntimeError, match="the response is finished"):
        session._doom()
    assert session == {"a": 1}


@pytest.mark.parametrize(
    "verb", ["save", "reload", "regenerate", "destroy", "logout", "login", "transact"]
)
@pytest.mark.gen_test
async def test_after_the_answer_no_verb_runs(manager, store, verb):
    """None of them reaches the store."""
    session = (await visit(manager, await begin(manager, a=1))).session
    finish(session)
    store.calls.clear()
    arguments = {"login": ("x",), "transact": (dict.clear,)}.get(verb, ())
    with pytest.raises(RuntimeError, match="the response is finished: too late to"):
        await getattr(session, verb)(*arguments)
    assert store.calls == []


@pytest.mark.parametrize("write", ["set", "flash", "remember", "set_idle_timeout"])
@pytest.mark.gen_test
async def test_a_session_cannot_begin_after_the_headers(manager, write):
    """Its cookie could not be sent any more."""
    session = (await visit(manager)).session
    seal(session)
    with pytest.raises(RuntimeError, match="too late to begin a session"):
        WRITES[write](session)


@pytest.mark.gen_test
async def test_a_stored_session_can_change_after_the_headers(manager):
    """Its cookie is there already."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    seal(late.session)
    late.session["a"] = 2
    await late.leave()
    assert await data_of(manager, session_id) == {"a": 2}
