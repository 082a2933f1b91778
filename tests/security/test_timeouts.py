"""The record and the server's clock end a session: no store need, no client can."""

from __future__ import annotations

import pytest

from tornado_mcsession import MemoryStore, SessionGone

from ..support.browser import Cookie
from .target import WAYS, LazyShop, Shop

IDLE, LIFE = 100, 250
ways = pytest.mark.parametrize("way", WAYS)


class EternalStore(MemoryStore):
    """Keeps what it is given for good, whatever TTL comes with it."""

    async def add(self, key, data, ttl):
        return await super().add(key, data, 1e9)

    async def cas(self, key, data, ttl, token):
        return await super().cas(key, data, 1e9, token)

    async def touch(self, key, ttl):
        return await super().touch(key, 1e9)


class Door(Shop):
    """Logs in, logs out or reads, as the path says."""

    async def use(self):
        if self.request.path == "/login":
            await self.session.login("ann")
        elif self.request.path == "/write":
            await super().use()


@pytest.fixture
def eternal(clock):
    return EternalStore(clock=clock)


def max_age(response):
    (line,) = response.all_headers("Set-Cookie")
    return int(Cookie.parse(line).attributes["max-age"])


async def is_alive(target, session_id):
    """Whether a request that carries the id finds a session."""
    response = await target.ask("/", target.carrying(session_id))
    return response.json()["n"] is not None


@ways
@pytest.mark.parametrize("handler", [Shop, LazyShop])
@pytest.mark.gen_test
async def test_the_idle_timeout_needs_no_store(attack, eternal, way, handler):
    """Its record is still there, but a session that was left alone is over."""
    target = attack(handler, way, eternal, {"idle_timeout": IDLE})
    left, early = await target.begin(), await target.begin()
    target.clock.advance(IDLE)
    assert await is_alive(target, early)
    target.clock.advance(IDLE / 10)
    assert await target.bytes_of(left) is not None
    assert not await is_alive(target, left)
    assert await target.manager.get(left) is None


@ways
@pytest.mark.gen_test
async def test_the_lifetime_needs_no_store(attack, eternal, way):
    """However busily it is used, it ends then; no save puts it off."""
    session = {"idle_timeout": IDLE, "lifetime": LIFE, "renew_after": 0}
    target = attack(Shop, way, eternal, session)
    session_id = target.told(await target.ask("/"))
    for _ in range(LIFE // 10 - 1):
        target.clock.advance(10)
        assert await is_alive(target, session_id)
    target.clock.advance(10)
    assert await target.bytes_of(session_id) is not None
    assert not await is_alive(target, session_id)
    assert await target.manager.get(session_id) is None


VERBS = {
    "save": lambda session: session.save(),
    "reload": lambda session: session.reload(),
    "regenerate": lambda session: session.regenerate(),
    "transact": lambda session: session.transact(dict.clear),
}


@pytest.mark.parametrize("act", VERBS.values(), ids=VERBS)
@pytest.mark.gen_test
async def test_what_has_ended_is_not_prolonged(attack, eternal, act):
    """A slow request that began in time cannot save it, nor give it a new id."""
    target = attack(Shop, store=eternal, session={"idle_timeout": IDLE})
    session_id = await target.begin()
    session = await target.manager.get(session_id)
    target.clock.advance(IDLE * 1.1)
    session["n"] = 8
    before = await target.bytes_of(session_id)
    with pytest.raises(SessionGone):
        await act(session)
    assert await target.bytes_of(session_id) == before
    assert target.store.keys == {target.key_of(session_id)}


@ways
@pytest.mark.gen_test
async def test_a_login_has_the_longer_timeout(attack, eternal, way):
    """Until then the anonymous one holds; record and cookie change together."""
    session = {"idle_timeout": 1000, "anonymous_timeout": IDLE}
    target = attack(Door, way, eternal, session)
    response = await target.ask("/write")
    visitor = target.told(response)
    login = await target.ask("/login", target.carrying(visitor))
    user = target.told(login)
    if way != "header":
        assert (max_age(response), max_age(login)) == (110, 1100)
    other = target.told(await target.ask("/write"))
    target.clock.advance(110)
    assert not await is_alive(target, other)
    assert await is_alive(target, user)
    target.clock.advance(1099)
    assert await is_alive(target, user)
    target.clock.advance(1100)
    assert not await is_alive(target, user)


@pytest.mark.gen_test
async def test_a_login_has_the_shorter_timeout(attack, eternal):
    """Where visitors may keep their carts for longer, users may not."""
    session = {"idle_timeout": IDLE, "anonymous_timeout": 1000}
    target = attack(Door, store=eternal, session=session)
    visitor = target.told(await target.ask("/write"))
    target.clock.advance(1000)
    assert await is_alive(target, visitor)
    login = await target.ask("/login", target.carrying(visitor))
    assert max_age(login) == 110
    target.clock.advance(110)
    assert not await is_alive(target, target.told(login))


@pytest.mark.parametrize("way", ["unsigned", "signed"])
@pytest.mark.gen_test
async def test_an_old_cookie_prolongs_nothing(attack, eternal, way):
    """Each Set-Cookie that ever was may be sent again: the record's end holds."""
    session = {"idle_timeout": IDLE, "lifetime": LIFE, "renew_after": 0}
    target = attack(Shop, way, eternal, session)
    cookies = []
    headers = {}
    for _ in range(4):
        response = await target.ask("/", headers)
        (line,) = response.all_headers("Set-Cookie")
        # A client may ignore Max-Age, and write down what it likes.
        cookies.append(line.partition(";")[0])
        headers = {"Cookie": f"{cookies[-1]}; Max-Age=999999; Expires=Never"}
        target.clock.advance(40)
    target.clock.advance(LIFE - 160)
    for cookie in cookies:
        response = await target.ask("/", {"Cookie": cookie})
        assert response.json()["n"] is None


@pytest.mark.gen_test
async def test_an_old_signature_ends_by_itself(attack, eternal):
    """A signed cookie that is older than the lifetime is not even looked for."""
    target = attack(Shop, "signed", eternal, {"lifetime": LIFE})
    session_id = target.told(await target.ask("/"))
    carried = target.carrying(session_id)
    target.clock.advance(LIFE + 2)
    target.store.calls.clear()
    assert (await target.ask("/", carried)).json()["n"] is None
    assert target.store.calls == ["add"]


@pytest.mark.gen_test
async def test_the_old_id_of_a_login_ends_with_the_login(attack, eternal):
    """A cookie from before it neither lives on nor prolongs the new session."""
    target = attack(Door, store=eternal, session={"idle_timeout": IDLE})
    old = target.told(await target.ask("/write"))
    new = target.told(await target.ask("/login", target.carrying(old)))
    end = (await target.manager.get(new)).expires_at
    for _ in range(5):
        target.clock.advance(20)
        assert not await is_alive(target, old)
    assert (await target.manager.get(new)).expires_at == end
    target.clock.advance(10)
    assert not await is_alive(target, new)
