"""A login always changes the id, and the one before is dead when it returns."""

from __future__ import annotations

import asyncio

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionGone, SessionMixin

from ..support.scripted import down, dropped
from .target import WAYS

PATIENCE = 20.0
ways = pytest.mark.parametrize("way", WAYS)
persists = pytest.mark.parametrize("persist", ["before_response", "on_finish"])


class Halt:
    """Holds requests between their load and what they do."""

    def __init__(self):
        self.waiting = 0
        self.all_wait = asyncio.Event()
        self.go_on = asyncio.Event()

    async def wait(self, expected):
        self.waiting += 1
        if self.waiting == expected:
            self.all_wait.set()
        async with asyncio.timeout(PATIENCE):
            await self.go_on.wait()


class Door(SessionMixin, RequestHandler):
    """Does what the path names, and tells what became of ids before the answer."""

    async def get(self):
        session = self.session
        self.write({"data": dict(session), "principal": session.principal})

    async def post(self):
        if expected := self.get_argument("halt", None):
            await self.settings["halt"].wait(int(expected))
        try:
            self.write(await getattr(self, self.request.path[1:])() or {})
        except SessionGone:
            self.write({"gone": True})

    async def login(self):
        before = self.session.id
        await self.session.login(self.get_argument("who", "ann"))
        manager = self.settings["session_manager"]
        dead = before is None or await manager.get(before) is None
        return {"before": before, "after": self.session.id, "dead": dead}

    async def twice(self):
        first = await self.login()
        return {**await self.login(), "first": first["before"]}

    async def again(self):
        before = self.session.id
        await self.session.regenerate()
        return {"before": before, "after": self.session.id}

    async def change(self):
        self.session["late"] = True

    async def save(self):
        self.session["late"] = True
        await self.session.save()

    async def transact(self):
        await self.session.transact(lambda data: data.update(late=True))

    async def destroy(self):
        await self.session.destroy()

    async def flash(self):
        self.session.flash("late")


async def post(target, act, headers=None, **query):
    path = f"/{act}?" + "&".join(f"{name}={value}" for name, value in query.items())
    return await target.ask(path, headers, method="POST", body=b"")


async def logged_in(target, who):
    response = await post(target, "login", who=who)
    return target.told(response)


async def is_dead(target, session_id):
    """Whether the id opens nothing, and a request with it gets no other."""
    response = await target.ask("/", target.carrying(session_id))
    found = response.json() == {"data": {}, "principal": None}
    return found and target.told(response) is None


BEFORE = {
    "nothing": None,
    "anonymous": lambda target: target.begin(cart=1),
    "the same": lambda target: logged_in(target, "ann"),
    "another": lambda target: logged_in(target, "bob"),
}


@ways
@pytest.mark.parametrize("act", ["login", "twice"])
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.gen_test
async def test_a_login_changes_the_id(attack, any_store, way, act, before):
    """Whoever was logged in before; the old id is dead when login() returns."""
    target = attack(Door, way, any_store)
    old = None if before is None else await before(target)
    response = await post(target, act, target.carrying(old) if old else None)
    done = response.json()
    new = target.told(response)
    assert done["dead"]
    assert done["after"] == new
    ids = {old, done["before"], done.get("first", old)}
    assert new not in {None, *ids}
    for dead in ids - {None}:
        assert await is_dead(target, dead)
    answer = await target.ask("/", target.carrying(new))
    assert answer.json()["principal"] == "ann"


@ways
@pytest.mark.gen_test
async def test_a_change_of_rights_changes_the_id(attack, any_store, way):
    """regenerate() does the same for a session that stays whose it is."""
    target = attack(Door, way, any_store)
    old = await logged_in(target, "ann")
    response = await post(target, "again", target.carrying(old))
    new = target.told(response)
    assert new not in (None, old)
    assert await is_dead(target, old)
    answer = await target.ask("/", target.carrying(new))
    assert answer.json()["principal"] == "ann"


LATE = ["change", "save", "transact", "again", "destroy", "flash"]


@ways
@persists
@pytest.mark.gen_test
async def test_requests_under_way_cannot_follow_a_login(
    attack, any_store, way, persist
):
    """Those that had loaded the old id save nothing, and are told no id."""
    target = attack(Door, way, any_store, {"persist": persist})
    halt = target.application.settings["halt"] = Halt()
    old = await target.begin(cart=1)
    carried = target.carrying(old)
    late = [
        asyncio.ensure_future(post(target, act, carried, halt=len(LATE)))
        for act in LATE
    ]
    async with asyncio.timeout(PATIENCE):
        await halt.all_wait.wait()
    new = target.told(await post(target, "login", carried))
    halt.go_on.set()
    for response in await asyncio.gather(*late):
        assert response.status == 200
        assert target.told(response) is None
    assert await target.manager.drain(PATIENCE)
    assert await is_dead(target, old)
    assert await target.data(new) == {"cart": 1}
    session = await target.manager.get(new)
    assert (session.principal, session.flashes()) == ("ann", [])


@ways
@pytest.mark.gen_test
async def test_parallel_logins_each_get_an_id(attack, any_store, way):
    """Of one session, at the same time: all ids differ, and the old one is dead."""
    target = attack(Door, way, any_store)
    halt = target.application.settings["halt"] = Halt()
    old = await target.begin(cart=1)
    carried = target.carrying(old)
    logins = [
        asyncio.ensure_future(post(target, "login", carried, halt=5, who=f"u{n}"))
        for n in range(5)
    ]
    async with asyncio.timeout(PATIENCE):
        await halt.all_wait.wait()
    halt.go_on.set()
    ids = [target.told(response) for response in await asyncio.gather(*logins)]
    assert len({old, *ids}) == 6
    assert await is_dead(target, old)
    for number, one in enumerate(ids):
        assert (await target.manager.get(one)).principal == f"u{number}"


@ways
@pytest.mark.parametrize("on_error", ["raise", "degrade"])
@pytest.mark.parametrize(
    ("operation", "fault"),
    [("get", down), ("add", down), ("add", dropped), ("cas", down)],
)
@pytest.mark.gen_test
async def test_a_login_that_cannot_be_stored_is_none(
    attack, any_store, way, on_error, operation, fault
):
    """It is a 503 in both modes; no id is told, and nobody is logged in."""
    target = attack(Door, way, any_store, {"on_error": on_error})
    old = await target.begin(cart=1)
    target.store.script(operation, fault)
    if fault is dropped:
        target.store.script("get", lambda operate: operate(), down)
    response = await post(target, "login", target.carrying(old))
    target.store.scripts.clear()
    assert response.status == 503
    assert target.told(response) is None
    answer = await target.ask("/", target.carrying(old))
    assert answer.json() == {"data": {"cart": 1}, "principal": None}
