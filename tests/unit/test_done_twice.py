"""Operations that a store does twice, since the first one's answer got lost.

`.MemcachedStore` does so where a connection breaks after a write was sent.
"""

from __future__ import annotations

import pytest

from .scripted import twice
from .visits import key_of, stored_data, stored_id, visit

DAY = 86_400


async def save(late):
    late.session["a"] = 2
    await late.session.save()


async def transact(late):
    await late.session.transact(lambda data: data.update(a=data["a"] + 1))


async def renew(late):
    late.manager.config.clock.advance(DAY / 2)
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
OPERATIONS = ["add", "cas", "delete"]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.gen_test
async def test_nothing_comes_of_it(manager, verb, operation):
    """The session is as if it had been done once, and so is the cookie."""
    act, left = VERBS[verb]
    old_id = await stored_id(manager, a=1)
    late = await visit(manager, old_id)
    manager.store.script(operation, *[twice] * 20)
    await act(late)
    cookie = await late.leave_with_cookie()
    manager.store.scripts.clear()
    if left is None:
        assert cookie == ""
        assert await manager.get(old_id) is None
        assert await manager.store.inner.get(key_of(manager, old_id)) is None
    else:
        session_id = late.session.id
        assert await stored_data(manager, session_id) == left
        if session_id != old_id:
            assert cookie == session_id
            assert await manager.get(old_id) is None
    assert manager.stats()["dropped_saves"] == 0


@pytest.mark.gen_test
async def test_a_first_save_begins_one_session(manager):
    """Its id is not taken for taken."""
    manager.store.script("add", twice)
    first = await visit(manager)
    first.session["a"] = 1
    cookie = await first.leave_with_cookie()
    assert await stored_data(manager, cookie) == {"a": 1}
    assert manager.store.calls.count("add") == 1
