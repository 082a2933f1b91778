"""The application's own say: ids, acceptance, saves and failures."""

from __future__ import annotations

import asyncio

import pytest

from ..support.requests import FakeHandler, begin, data_of, key_of, visit

ID = "a-session-id-of-forty-three-characters-0123"


def as_async(hook):
    async def slow(*args):
        await asyncio.sleep(0)
        return hook(*args)

    return slow


both = pytest.mark.parametrize("kind", [lambda hook: hook, as_async], ids=["", "async"])


class Broken(Exception):
    pass


def broken(*args):
    raise Broken


# generate_id


@both
@pytest.mark.gen_test
async def test_ids_may_be_the_applications_own(make, store, kind):
    """They are asked for with the handler, once for each new id."""
    handlers = []
    names = iter(f"own-id-number-{n:022}" for n in range(9))

    def generate(handler):
        handlers.append(handler)
        return next(names)

    manager = make(store, generate_id=kind(generate))
    late = await visit(manager)
    late.session["a"] = 1
    assert await late.leave_with_cookie() == "own-id-number-" + "0" * 22
    again = await visit(manager, late.session.id)
    assert again.session["a"] == 1
    await again.session.regenerate()
    assert again.session.id.endswith("1")
    assert handlers == [late.handler, again.handler]


@pytest.mark.gen_test
async def test_an_own_id_carries_a_principals_digest(make, store):
    """Behind a point, so that ids of any length can be told apart."""
    manager = make(store, generate_id=lambda handler: "x" * 43)
    late = await visit(manager)
    await late.session.login("alice")
    base, _, digest = late.session.id.partition(".")
    assert (base, len(digest)) == ("x" * 43, 22)
    assert f"{{{digest}}}" in key_of(manager, late.session.id)
    again = await visit(manager, await late.leave_with_cookie())
    assert again.session.principal == "alice"


@both
@pytest.mark.parametrize(
    "bad",
    [
        "",
        "short",
        "x" * 21,
        "x" * 201,
        "a b" * 10,
        "x" * 30 + ".",
        "x" * 30 + "." + "y" * 22,
        None,
        5,
        b"x" * 30,
    ],
)
@pytest.mark.gen_test
async def test_a_bad_own_id_is_an_error(make, store, kind, bad):
    """It is neither stored nor shown."""
    manager = make(store, generate_id=kind(lambda handler: bad))
    late = await visit(manager)
    late.session["a"] = 1
    with pytest.raises(ValueError, match="generate_id must return 22 to 200") as caught:
        await late.leave()
    assert not bad or str(bad) not in str(caught.value)
    assert store.calls == []


# validate


@both
@pytest.mark.gen_test
async def test_a_session_that_is_not_accepted_is_ignored(make, store, kind):
    """For this request alone: record and cookie stay as they are."""
    session_id = await begin(make(store), a=1)
    seen = []

    def validate(handler, session):
        seen.append((handler, session["a"]))
        return False

    manager = make(store, validate=kind(validate))
    late = await visit(manager, session_id)
    assert seen == [(late.handler, 1)]
    assert (dict(late.session), late.session.id, late.session.is_new) == (
        {},
        None,
        True,
    )
    assert await late.leave_with_cookie() is None
    assert await data_of(manager, session_id) == {"a": 1}
    await late.session.destroy()
    assert await late.leave_with_cookie() == ""
    assert await data_of(manager, session_id) is None


@both
@pytest.mark.gen_test
async def test_a_session_that_is_accepted_is_as_it_was(make, store, kind):
    """Looking at it is no access by the handler."""
    session_id = await begin(make(store), a=1)
    manager = make(store, validate=kind(lambda handler, session: session["a"] == 1))
    late = await visit(manager, session_id)
    assert not late.session.accessed
    assert late.session["a"] == 1


@pytest.mark.gen_test
async def test_only_a_session_that_was_found_is_validated(make, store):
    """A new one needs no leave."""
    manager = make(store, validate=broken)
    await visit(manager)
    await visit(manager, ID)
    session_id = await begin(manager, a=1)
    with pytest.raises(Broken):
        await visit(manager, session_id)


# before_save


@both
@pytest.mark.gen_test
async def test_a_hook_may_change_what_is_saved(make, store, kind):
    """It gets handler and session, right before the save."""
    handlers = []

    def stamp(handler, session):
        handlers.append(handler)
        session["saves"] = session.get("saves", 0) + 1

    manager = make(store, before_save=kind(stamp))
    late = await visit(manager)
    late.session["a"] = 1
    session_id = await late.leave_with_cookie()
    assert await data_of(manager, session_id) == {"a": 1, "saves": 1}
    again = await visit(manager, session_id)
    again.session["a"] = 2
    await again.session.save()
    assert await data_of(manager, session_id) == {"a": 2, "saves": 2}
    assert handlers == [late.handler, again.handler]


@pytest.mark.parametrize("verb", ["regenerate", "login", "transact"])
@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.gen_test
async def test_each_verb_that_saves_asks_the_hook(make, store, verb, is_new):
    """Nothing is stored that it has not seen."""
    saved = []
    manager = make(store, before_save=lambda handler, s: saved.append(dict(s)))
    session_id = None if is_new else await begin(manager, a=1)
    saved.clear()
    late = await visit(manager, session_id)
    late.session["b"] = 2
    arguments = {"login": ("x",), "transact": (lambda data: None,)}.get(verb, ())
    await getattr(late.session, verb)(*arguments)
    assert saved == [{"b": 2} if is_new else {"a": 1, "b": 2}]


@pytest.mark.gen_test
async def test_no_save_no_hook(make, store, clock):
    """Neither reading nor renewing asks it."""
    session_id = await begin(make(store), a=1)
    manager = make(store, before_save=broken)
    clock.advance(50_000)
    late = await visit(manager, session_id)
    assert late.session["a"] == 1
    assert await late.leave_with_cookie() == session_id
    await late.session.save()
    fresh = await visit(manager)
    await fresh.leave()


@pytest.mark.gen_test
async def test_a_hook_that_raises_stops_the_save(make, store):
    """Its exception passes as it is; nothing is stored."""
    session_id = await begin(make(store), a=1)
    for options in ({"before_save": broken}, {"generate_id": broken}):
        manager = make(store, **options)
        late = await visit(manager)
        late.session["a"] = 2
        store.calls.clear()
        with pytest.raises(Broken):
            await late.leave()
        assert store.calls == []
    manager = make(store, before_save=broken)
    late = await visit(manager, session_id)
    late.session["a"] = 2
    with pytest.raises(Broken):
        await late.leave()
    assert await data_of(manager, session_id) == {"a": 1}


@pytest.mark.gen_test
async def test_a_hook_outside_a_request_gets_no_handler(make, store):
    """And a handler that is gone is not kept alive for it."""
    seen = []
    manager = make(store, before_save=lambda handler, session: seen.append(handler))
    session_id = await begin(manager, a=1)
    session = await manager.get(session_id)
    session["a"] = 2
    await session.save()
    late = await manager.open(FakeHandler(f"session={session_id}"))
    late["a"] = 3
    await late.save()
    assert seen[1:] == [None, None]
