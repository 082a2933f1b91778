"""Operations that a store does twice, since the first one's answer got lost.

`.MemcachedStore` does so where a connection breaks after a write was sent.
"""

from __future__ import annotations

import pytest

from tornado_mcsession import StoreRejected, StoreUnavailable

from ..support.requests import begin, data_of, visit
from ..support.scripted import down, twice, unavailable

DAY = 86_400


async def save(late):
    late.session["a"] = 2
    await late.session.save()


async def transact(late):
    await late.session.transact(lambda data: data.update(a=data["a"] + 1))


async def renew(late):
    late.manager.settings.clock.advance(DAY / 2)
    assert late.session["a"] == 1


VERBS = {
    "save": (save, {"a": 2}),
    "transact": (transact, {"a": 2}),
    "renew": (renew, {"a": 1}),
    "login": (lambda late: late.session.login("ann"), {"a": 1}),
    "regenerate": (lambda late: late.session.regenerate(), {"a": 1}),
    "grace": (lambda late: late.session.regenerate(grace=30), {"a": 1}),
    "logout": (lambda late: late.session.logout(), None),
    "destroy": (lambda late: late.session.destroy(), None),
}
OPERATIONS = ["add", "cas"]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.gen_test
async def test_nothing_comes_of_it(manager, verb, operation):
    """The session is as if it had been done once, and so is the cookie."""
    act, left = VERBS[verb]
    old_id = await begin(manager, a=1)
    late = await visit(manager, old_id)
    manager.store.script(operation, *[twice] * 20)
    await act(late)
    cookie = await late.leave_with_cookie()
    manager.store.scripts.clear()
    if left is None:
        assert cookie == ""
        assert await manager.get(old_id) is None
        assert (await visit(manager, old_id)).session.presented == "ended"
    else:
        session_id = late.session.id
        assert await data_of(manager, session_id) == left
        if session_id != old_id:
            assert cookie == session_id
            if verb != "grace":
                assert await manager.get(old_id) is None
    assert manager.stats()["dropped_saves"] == 0


async def late(store, operate):
    """The operation is done only when all is over; the next one is not asked."""
    store.script("cas", down)
    store.late = operate
    raise unavailable(outcome_unknown=True)


async def not_taken(operate):
    """The node is there, and has no room."""
    raise StoreRejected("cas", "node", "out of memory")


async def refused(store, operate):
    """The operation is done at the end, and the next one is refused."""
    store.script("cas", not_taken)
    store.late = operate
    raise unavailable(outcome_unknown=True)


@pytest.mark.parametrize("fate", [late, refused])
@pytest.mark.parametrize("verb", ["login", "regenerate"])
@pytest.mark.gen_test
async def test_a_session_under_way_to_a_new_id_is_never_lost(manager, fate, verb):
    """The old record may be closed: then the new one is all there is, and is told."""
    act, _ = VERBS[verb]
    store = manager.store
    old_id = await begin(manager, a=1)
    late_one = await visit(manager, old_id)
    store.script("cas", lambda operate: fate(store, operate))
    with pytest.raises(StoreUnavailable) as raised:
        await act(late_one)
    assert raised.value.outcome_unknown
    if hasattr(store, "late"):
        await store.late()
    cookie = await late_one.leave_with_cookie()
    assert cookie not in (None, "", old_id)
    assert await data_of(manager, cookie) == {"a": 1}


@pytest.mark.gen_test
async def test_a_first_save_begins_one_session(manager):
    """Its id is not taken for taken."""
    manager.store.script("add", twice)
    first = await visit(manager)
    first.session["a"] = 1
    cookie = await first.leave_with_cookie()
    assert await data_of(manager, cookie) == {"a": 1}
    assert manager.store.calls.count("add") == 1
