"""Who has no session cannot fill the store: not by requests, nor by invented ids."""

from __future__ import annotations

import pytest

from ..support.site import Wire
from .target import HEADER, Shop, new_id

REQUESTS = 200
# Adds are counted as sets, and so are the writes of cas.
WRITES = (
    "cmd_set cmd_touch cmd_flush total_items delete_hits delete_misses "
    "incr_hits incr_misses cas_hits cas_misses cas_badval"
).split()


class Reads(Shop):
    """Looks at all that a page may show of its visitor."""

    async def use(self):
        session = self.session
        assert not session
        assert "cart" not in session
        assert list(session.items()) == []
        assert session.flashes() == []
        assert session.expires_at > session.created
        assert self.current_user is None

    def get_current_user(self):
        return self.session.principal


class Forced(Reads):
    session_save = True


class Idle(Shop):
    """Asks for everything that has nothing to store."""

    async def use(self):
        session = self.session
        session.clear()
        session.update({})
        session.pop("cart", None)
        session["cart"] = 1
        del session["cart"]
        session.remember(True)
        session.set_idle_timeout(60)
        await session.save()
        await session.regenerate()
        await session.transact(lambda data: None)


class Leaves(Shop):
    """A logout that anybody may ask for."""

    async def use(self):
        self.session = None


CARRIED = {
    "nothing": ("unsigned", lambda target: {}),
    "no session": ("unsigned", lambda target: {"Cookie": "theme=dark; lang=en"}),
    "an id": ("unsigned", lambda target: target.carrying(new_id())),
    "the id of a user": (
        "unsigned",
        lambda target: target.carrying(new_id() + "d" * 22),
    ),
    "an id in the header": ("header", lambda target: {HEADER: new_id()}),
    "no signature": ("signed", lambda target: {"Cookie": f"session={new_id()}"}),
    "a forged signature": (
        "signed",
        lambda target: {"Cookie": f"session={forged(target.sign(new_id()))}"},
    ),
    "no id": ("unsigned", lambda target: {"Cookie": f"session={new_id()}.{new_id()}"}),
}
LOOKED_FOR = {"an id", "the id of a user", "an id in the header"}


FLOODS = [(Reads, carried) for carried in CARRIED]
FLOODS += [(h, c) for h in (Forced, Idle, Leaves) for c in ("nothing", "an id")]


def forged(value):
    return value[:-64] + "0" * 64


async def flood(target, carry):
    """Hundreds of requests, each with an id of its own."""
    async with await Wire.open(target.port) as wire:
        for _ in range(REQUESTS):
            response = await wire.request("GET", "/", carry(target))
            assert response.status == 200
            assert not target.told(response)


@pytest.mark.integration
@pytest.mark.parametrize(("handler", "carried"), FLOODS)
@pytest.mark.gen_test(timeout=120)
async def test_a_flood_writes_nothing(
    attack, memcached, memcached_store, handler, carried
):
    """Memcached counts no write of any kind, and no read where none can help."""
    way, carry = CARRIED[carried]
    target = attack(handler, way, memcached_store)
    await memcached_store.get("warm:up")
    before = memcached.stats()
    await flood(target, carry)
    after = memcached.stats()
    counted = {
        name: int(after[name]) - int(before[name])
        for name in after
        if name in {*WRITES, "cmd_get"}
    }
    reads = counted.pop("cmd_get")
    assert counted == dict.fromkeys(counted, 0)
    assert set(WRITES) == set(counted)
    assert memcached.keys() == []
    if carried in LOOKED_FOR:
        assert REQUESTS <= reads <= 2 * REQUESTS
    else:
        assert reads == 0


@pytest.mark.gen_test
async def test_a_flood_leaves_nothing_in_the_process(attack):
    """Neither its store nor what it remembers of signatures grows by it."""
    target = attack(Reads, "signed")
    for carry in (CARRIED["no signature"][1], CARRIED["a forged signature"][1]):
        await flood(target, carry)
    assert target.store.keys == set()
    assert target.store.calls == []
    assert target.store.inner.stats()["entries"] == 0
    assert target.manager.transport._known == {}
