"""No id that a client chose is ever adopted: sessions begin under ids of our own."""

from __future__ import annotations

import pytest
from tornado.web import create_signed_value
from tornado.websocket import WebSocketHandler

from tornado_mcsession import SessionGone, SessionMixin

from ..lifecycle.test_websocket import UPGRADE
from ..support.scripted import down
from .target import HEADER, SECRET, WAYS, LazyShop, Shop, new_id

IDLE = 100


async def unknown(target):
    return new_id()


async def login_shaped(target):
    return new_id() + "d" * 22


async def hook_shaped(target):
    return "h" * 22 + "." + "d" * 22


async def destroyed(target):
    session_id = await target.begin()
    await target.manager.destroy(session_id)
    return session_id


async def expired(target):
    session_id = await target.begin()
    target.clock.advance(IDLE * 1.1)
    assert await target.bytes_of(session_id)
    return session_id


async def evicted(target):
    session_id = await target.begin()
    await target.store.inner.delete(target.key_of(session_id))
    return session_id


async def corrupt(target):
    session_id = await target.begin()
    await target.overwrite(session_id, b"no record")
    return session_id


async def retired(target):
    session_id = await target.begin()
    session = await target.manager.get(session_id)
    await session.login("ann")
    return session_id


DEAD = [unknown, login_shaped, hook_shaped, expired, evicted, corrupt]
ways = pytest.mark.parametrize("way", WAYS)
loads = pytest.mark.parametrize("handler", [Shop, LazyShop], ids=["eager", "lazy"])
persists = pytest.mark.parametrize("persist", ["before_response", "on_finish"])


@ways
@loads
@persists
@pytest.mark.parametrize("presented", DEAD, ids=lambda make: make.__name__)
@pytest.mark.gen_test
async def test_a_dead_id_is_not_adopted(
    attack, any_store, way, handler, persist, presented
):
    """The next save mints a new id, and nothing is written under the old one."""
    target = attack(handler, way, any_store, {"persist": persist, "idle_timeout": IDLE})
    planted = await presented(target)
    before = await target.bytes_of(planted)
    target.store.keys.clear()
    response = await target.ask("/", target.carrying(planted))
    assert response.json() == {"n": None, "principal": None}
    session_id = target.told(response)
    assert session_id not in (None, "", planted)
    assert target.store.keys == {target.key_of(session_id)}
    assert await target.bytes_of(planted) == before
    assert await target.data(planted) is None
    # The new one is the client's from now on.
    again = await target.ask("/", target.carrying(session_id))
    assert again.json()["n"] == 1
    assert target.told(again) is None


@ways
@loads
@persists
@pytest.mark.parametrize("presented", [retired, destroyed], ids=lambda f: f.__name__)
@pytest.mark.gen_test
async def test_a_retired_id_begins_nothing(
    attack, any_store, way, handler, persist, presented
):
    """After a login or a logout it reads as empty, and what is written is dropped."""
    target = attack(handler, way, any_store, {"persist": persist})
    planted = await presented(target)
    before = await target.bytes_of(planted)
    target.store.keys.clear()
    response = await target.ask("/", target.carrying(planted))
    assert response.json() == {"n": None, "principal": None}
    assert target.told(response) is None
    assert target.store.keys == set()
    assert await target.bytes_of(planted) == before
    assert target.manager.stats()["dropped_saves"] == 1


def foreign_values(target, session_id):
    """Cookies with an id that exists, which this application did not sign."""
    clock = target.clock
    return {
        "bare": session_id,
        "forged": create_signed_value("guess", "session", session_id, clock=clock),
        "other": create_signed_value(SECRET, "_xsrf", session_id, clock=clock),
        "old": create_signed_value(
            SECRET, "session", session_id, version=1, clock=clock
        ),
        "cut": target.sign(session_id)[:-1],
    }


@loads
@pytest.mark.parametrize("kind", ["bare", "forged", "other", "old", "cut"])
@pytest.mark.gen_test
async def test_an_id_without_our_signature_is_not_looked_for(
    attack, any_store, handler, kind
):
    """Where ids are signed, that of a live session alone opens nothing."""
    target = attack(handler, "signed", any_store)
    planted = await target.begin()
    value = foreign_values(target, planted)[kind]
    value = value.decode() if isinstance(value, bytes) else value
    target.store.calls.clear()
    response = await target.ask("/", {"Cookie": f"session={value}"})
    assert response.json()["n"] is None
    assert target.told(response) not in (None, planted)
    assert target.store.calls == ["add"]


@pytest.mark.parametrize("way", ["unsigned", "signed"])
@loads
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.gen_test
async def test_of_two_ids_neither_is_used(attack, any_store, way, handler, first):
    """A planted cookie beside the user's own gives the user neither session.

    Both are ended when the request begins one, so that the next request has it.
    """
    target = attack(handler, way, any_store)
    ids = [await target.begin(), await target.begin()]
    target.store.calls.clear()
    carried = target.carrying(ids[first], ids[1 - first])
    response = await target.ask("/", carried)
    assert response.json()["n"] is None
    assert target.told(response) not in (None, *ids)
    assert target.store.calls[:3] == ["get", "get", "add"]
    assert [await target.data(one) for one in ids] == [None, None]


class Off(Shop):
    session_load = "off"

    async def get(self):
        self.write("body")


@ways
@pytest.mark.gen_test
async def test_where_sessions_are_off_no_id_is_read(attack, way):
    """A handler without sessions looks for none, and tells of none."""
    target = attack(Off, way)
    response = await target.ask("/", target.carrying(await unknown(target)))
    assert target.told(response) is None
    assert target.store.calls == []


@ways
@loads
@pytest.mark.gen_test
async def test_an_outage_adopts_nothing(attack, any_store, way, handler):
    """In degrade mode an id that nobody can look up is neither used nor replaced."""
    target = attack(handler, way, any_store, {"on_error": "degrade"})
    planted = await unknown(target)
    target.store.script("get", down)
    response = await target.ask("/", target.carrying(planted))
    assert (response.status, response.json()["n"]) == (200, None)
    assert target.told(response) is None
    assert target.store.calls == ["get"]
    response = await target.ask("/", target.carrying(planted))
    assert target.told(response) not in (None, planted)
    assert await target.bytes_of(planted) is None


class Socket(SessionMixin, WebSocketHandler):
    async def prepare(self):
        await super().prepare()
        self.session["n"] = self.session.get("n", 0) + 1


@ways
@pytest.mark.parametrize("presented", DEAD, ids=lambda make: make.__name__)
@pytest.mark.gen_test
async def test_a_handshake_adopts_nothing(attack, any_store, way, presented):
    """A WebSocket that begins a session gets a new id with its 101."""
    target = attack(Socket, way, any_store, {"idle_timeout": IDLE})
    planted = await presented(target)
    before = await target.bytes_of(planted)
    async with await target.open() as wire:
        await wire.ask("GET", "/", headers={**UPGRADE, **target.carrying(planted)})
        response = await wire.receive()
    assert response.status == 101
    session_id = target.told(response)
    assert session_id not in (None, planted)
    assert await target.data(session_id) == {"n": 1}
    assert await target.bytes_of(planted) == before


@pytest.mark.parametrize("name", ["session", "sid", HEADER, "jsessionid"])
@pytest.mark.parametrize("where", ["query", "path", "body"])
@pytest.mark.gen_test
async def test_an_id_elsewhere_is_not_seen(attack, name, where):
    """Neither a URL nor a form can carry a session, as in a link that is planted."""
    # What clients put into a URL is in Tornado's access log.
    target = attack(Shop, log_function=lambda handler: None)
    planted = await target.begin()
    path = {"query": f"/?{name}={planted}", "path": f"/;{name}={planted}"}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    target.store.calls.clear()
    response = await target.ask(
        path.get(where, "/"),
        {"Cookie": "theme=dark", **(form if where == "body" else {})},
        method="POST",
        body=f"{name}={planted}".encode() if where == "body" else b"",
    )
    assert response.json()["n"] is None
    assert target.told(response) not in (None, planted)
    assert target.store.calls == ["add"]


@pytest.mark.gen_test
async def test_code_may_begin_a_session_under_an_id(attack, any_store):
    """``manager.set`` takes the id it is given, unless that was replaced by a login.

    It is for code that makes its ids itself; no request can reach it.
    """
    target = attack(Shop, store=any_store)
    chosen = await unknown(target)
    assert await target.manager.get(chosen) is None
    assert await target.bytes_of(chosen) is None
    await target.manager.set(chosen, {"n": 1})
    assert await target.data(chosen) == {"n": 1}
    replaced = await retired(target)
    with pytest.raises(SessionGone):
        await target.manager.set(replaced, {"n": 1})
    assert await target.data(replaced) is None
