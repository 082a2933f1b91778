"""Ids are 256 bits of secrets, looked at before the store, and never in it.

What passes for an id is what the package takes for one, whatever its form is.
"""

from __future__ import annotations

import re
import secrets

import pytest

from tornado_mcsession import MemcachedStore
from tornado_mcsession.sessions import ids as session_ids
from tornado_mcsession.sessions.ids import LONGEST_ID

from .target import HEADER, WAYS, Shop, new_id

ways = pytest.mark.parametrize("way", WAYS)


class Door(Shop):
    async def use(self):
        act = self.request.path[1:]
        if act == "login":
            await self.session.login("ann")
        elif act:
            await self.session.regenerate(grace=60 if act == "rotate" else 0)
        else:
            await super().use()


@pytest.fixture
def asked(monkeypatch):
    """The numbers of bytes that were asked of ``secrets``, and what came of it."""
    made = []
    urlsafe = secrets.token_urlsafe

    def token_urlsafe(count=None):
        made.append((count, urlsafe(count)))
        return made[-1][1]

    monkeypatch.setattr(secrets, "token_urlsafe", token_urlsafe)
    return made


@ways
@pytest.mark.gen_test
async def test_each_id_is_256_bits_from_secrets(attack, asked, way):
    """A first save, a login and a regenerate each ask for 32 bytes, and use them."""
    target = attack(Door, way)
    session_id = target.told(await target.ask("/"))
    for path in ("/login", "/again", "/rotate"):
        assert [count for count, _ in asked] == [32]
        assert session_id.startswith(asked[0][1])
        asked.clear()
        session_id = target.told(await target.ask(path, target.carrying(session_id)))
    assert [count for count, _ in asked] == [32]
    assert session_id.startswith(asked[0][1])
    assert len(asked[0][1]) == 43


MALFORMED = {
    "empty": "",
    "short": "a" * 21,
    "long": "a" * 201,
    "much too long": "a" * 5000,
    "dots": "a" * 22 + "." + "d" * 21,
    "two digests": "a" * 22 + ("." + "d" * 22) * 2,
    "path": "../../etc/passwd" + "a" * 43,
    "command": "a" * 43 + "%0d%0adelete%20x",
    "space": "a" * 22 + " " + "a" * 22,
    "umlaut": "ä" * 43,
    "equals": "a" * 42 + "=",
    "quote": "a" * 42 + "'",
    "brace": "{" + "d" * 22 + "}" + "a" * 64,
    "star": "*" * 43,
}


@ways
@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.gen_test
async def test_what_has_not_the_form_of_an_id_costs_no_store_call(
    attack, way, malformed
):
    """Even where it is signed; the request then begins a session of its own."""
    target = attack(Shop, way)
    if way == "header":
        headers = {HEADER: malformed}
    else:
        value = target.sign(malformed) if way == "signed" else malformed
        headers = {"Cookie": f"session={value}"}
    response = await target.ask("/", headers)
    assert target.told(response) is not None
    assert target.store.calls == ["add"]


@pytest.mark.parametrize("verb", ["get", "set", "destroy"])
@pytest.mark.gen_test
async def test_code_cannot_ask_for_what_is_no_id(attack, verb):
    """The manager's own verbs raise ValueError before any store call."""
    target = attack(Shop)
    arguments = [{}] if verb == "set" else []
    for malformed in MALFORMED.values():
        with pytest.raises(ValueError, match="a session id must be"):
            await getattr(target.manager, verb)(malformed, *arguments)
    assert target.store.calls == []


def test_the_longest_id_is_known_to_the_cookie():
    """No id can be longer than what the size of the cookie is checked with."""
    longest = "a" * 200 + "." + "d" * 22
    assert len(longest) == LONGEST_ID
    assert session_ids.is_valid(longest)
    for more in (longest + "d", "a" + longest, "a" * LONGEST_ID):
        assert not session_ids.is_valid(more)


def cachedump(memcached):
    """The keys that ``stats cachedump`` shows, of all slab classes."""
    items = memcached.command(b"stats items").decode()
    slabs = set(re.findall(r"STAT items:(\d+):", items))
    dumps = [memcached.command(b"stats cachedump %s 0" % s.encode()) for s in slabs]
    return re.findall(r"^ITEM (\S+) ", b"\n".join(dumps).decode(), re.M)


@pytest.fixture
def plain_memcached(memcached_factory):
    """One that keeps its items in one list, all of which cachedump then shows."""
    return memcached_factory("-o", "no_modern,lru_crawler")


@pytest.fixture
def plain_store(io_loop, plain_memcached):
    store = MemcachedStore(f"127.0.0.1:{plain_memcached.port}", timeout=10)
    yield store
    io_loop.run_sync(store.close)


async def some_sessions(target):
    """Sessions of all kinds, their old ids as well; returns all ids."""
    ids = [target.told(await target.ask("/")) for _ in range(3)]
    for path, old in (("/login", ids[0]), ("/again", ids[1]), ("/rotate", ids[2])):
        ids.append(target.told(await target.ask(path, target.carrying(old))))
    ids.append(target.told(await target.ask("/login", target.carrying(ids[3]))))
    return ids


def parts_of(key):
    """All that might be taken for an id in a key: itself, its parts, and windows."""
    parts = {key, *re.split(r"[:{}]", key)}
    parts |= {part + "." + "d" * 22 for part in set(parts)}
    for length in (22, 32, 43, 64, 65):
        parts |= {key[at : at + length] for at in range(len(key) - length + 1)}
    return {part for part in parts if session_ids.is_valid(part)}


@pytest.mark.integration
@pytest.mark.parametrize("way", ["unsigned", "signed", "header"])
@pytest.mark.gen_test
async def test_memcacheds_keys_are_no_ids(attack, plain_memcached, plain_store, way):
    """Nobody who can list them has a session: neither the ids, nor what passes."""
    target = attack(Door, way, plain_store)
    ids = await some_sessions(target)
    dumped = set(plain_memcached.keys())
    assert len(dumped) >= len(set(ids))
    assert set(cachedump(plain_memcached)) == dumped
    everything = " ".join(dumped)
    for session_id in ids:
        assert session_id not in everything
        assert session_id[:43] not in everything
    tried = set().union(*map(parts_of, dumped))
    assert len(tried) > 100
    for part in tried:
        assert await target.manager.get(part) is None
    for part in sorted(tried)[::20]:
        answer = await target.ask("/", target.carrying(part))
        assert answer.json() == {"n": None, "principal": None}


@pytest.mark.integration
@pytest.mark.parametrize("keys", [(), (b"k" * 32,)], ids=["plain", "sealed"])
@pytest.mark.gen_test
async def test_memcacheds_values_hold_no_ids(attack, memcached, memcached_store, keys):
    """Not even where an old id leads to the new one."""
    target = attack(Door, store=memcached_store, session={"encryption_keys": keys})
    ids = await some_sessions(target)
    values = b"\n".join(memcached.get(key) for key in memcached.keys())
    assert len(values) > 100
    for session_id in ids:
        assert session_id.encode() not in values
        assert session_id[:43].encode() not in values
    # The one that leads there does so only for a holder of the old id.
    answer = await target.ask("/", target.carrying(ids[2]))
    assert answer.json()["n"] == 1


@pytest.mark.gen_test
async def test_a_digest_of_an_id_is_no_id(attack):
    """What the store's key holds is not read as the id of the same record."""
    target = attack(Shop)
    session_id = await target.begin()
    digest = target.key_of(session_id).partition(":")[2]
    assert session_ids.is_valid(digest)
    assert await target.data(digest) is None
    assert await target.data(new_id()) is None
    assert await target.data(session_id) == {"n": 7}
