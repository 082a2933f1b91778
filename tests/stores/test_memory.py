"""MemoryStore: what it keeps, for how long, and how much of it."""

from __future__ import annotations

import pytest

from tornado_mcsession import CasResult, MemoryStore, StoreRejected, StoreUnavailable

pytestmark = pytest.mark.gen_test

TTL = 100.0
# What one entry of KEY and DATA counts, by the store's own measure.
KEY, DATA = "key{:03}", b"d" * 700


@pytest.fixture
def store(clock):
    return MemoryStore(clock=clock)


async def cost_of_one() -> int:
    store = MemoryStore()
    await store.add(KEY.format(0), DATA, TTL)
    return store.stats()["bytes"]


async def test_an_entry_ends_at_its_ttl(store, clock):
    """An entry is there until its time is over, to the tick, and then is not."""
    await store.add("key", b"1", 0.5)
    clock.advance(0.499)
    assert await store.get("key")
    clock.advance(0.001)
    assert await store.get("key") is None


@pytest.mark.parametrize("operation", ["get", "add", "cas", "touch", "delete"])
async def test_what_has_ended_is_not_there(store, clock, operation):
    """No operation takes an entry that has ended for one that is there."""
    await store.add("key", b"1", 1)
    token = (await store.get("key")).token
    clock.advance(1)
    answers = {
        "get": lambda: store.get("key"),
        "add": lambda: store.add("key", b"2", TTL),
        "cas": lambda: store.cas("key", b"2", TTL, token),
        "touch": lambda: store.touch("key", TTL),
        "delete": lambda: store.delete("key"),
    }
    expected = {"get": None, "add": True, "cas": CasResult.MISSING}
    assert await answers[operation]() == expected.get(operation, False)


async def test_touch_and_cas_set_a_new_end(store, clock):
    """The last time that was set decides, be it longer or shorter."""
    await store.add("longer", b"1", 1)
    await store.add("shorter", b"1", TTL)
    await store.add("changed", b"1", 1)
    await store.touch("longer", 2)
    await store.touch("shorter", 1)
    await store.cas("changed", b"1", 2, (await store.get("changed")).token)
    clock.advance(1)
    assert set(await store.get_many(["longer", "shorter", "changed"])) == {
        "longer",
        "changed",
    }
    clock.advance(1)
    assert await store.get_many(["longer", "changed"]) == {}


async def test_what_has_ended_is_freed(store, clock):
    """The next write frees what has ended, and nothing else."""
    for number in range(100):
        await store.add(f"brief{number}", DATA, 1)
        await store.add(f"touched{number}", DATA, 1)
        await store.touch(f"touched{number}", TTL)
    clock.advance(1)
    await store.add("last", b"", TTL)
    assert store.stats()["entries"] == 101
    assert len(await store.get_many([f"touched{n}" for n in range(100)])) == 100


async def test_all_is_given_back(store):
    """Deleted entries leave no bytes behind, nor do replaced ones."""
    await store.add("key", b"1", TTL)
    before = store.stats()["bytes"]
    await store.cas("key", DATA, TTL, (await store.get("key")).token)
    assert store.stats()["bytes"] == before + len(DATA) - 1
    await store.delete("key")
    assert store.stats()["bytes"] == 0


async def test_the_least_recently_used_makes_room():
    """Over the bound the entry goes that was used longest ago; each is counted."""
    store = MemoryStore(max_bytes=3 * await cost_of_one())
    keys = [KEY.format(number) for number in range(5)]
    for key in keys[:3]:
        await store.add(key, DATA, TTL)
    await store.get(keys[0])
    await store.touch(keys[1], TTL)
    await store.add(keys[3], DATA, TTL)
    assert set(await store.get_many(keys)) == {keys[0], keys[1], keys[3]}
    await store.add(keys[4], DATA, TTL)
    assert set(await store.get_many(keys)) == {keys[1], keys[3], keys[4]}
    assert store.stats()["evictions"] == 2


async def test_what_has_ended_makes_room_first(clock):
    """Nothing that lives is evicted while something ended can be freed."""
    store = MemoryStore(max_bytes=3 * await cost_of_one(), clock=clock)
    await store.add(KEY.format(0), DATA, TTL)
    await store.add(KEY.format(1), DATA, 1)
    await store.add(KEY.format(2), DATA, 1)
    clock.advance(1)
    await store.add(KEY.format(3), DATA, TTL)
    assert await store.get(KEY.format(0))
    assert store.stats()["evictions"] == 0


async def test_it_never_holds_more_than_its_bound():
    """Of a thousand entries as many are kept as fit, and no more."""
    one = await cost_of_one()
    store = MemoryStore(max_bytes=10 * one)
    for number in range(1000):
        await store.add(KEY.format(number), DATA, TTL)
        assert store.stats()["bytes"] <= 10 * one
    assert store.stats()["entries"] == 10
    assert store.stats()["evictions"] == 990


async def test_what_fits_nowhere_is_rejected():
    """Data above the bound is refused, and what was there stays, all of it."""
    store = MemoryStore(max_bytes=3 * await cost_of_one())
    await store.add("key", b"1", TTL)
    await store.add("other", b"1", TTL)
    token = (await store.get("key")).token
    for refused in (
        store.add("large", DATA * 4, TTL),
        store.cas("key", DATA * 4, TTL, token),
    ):
        with pytest.raises(StoreRejected) as raised:
            await refused
        assert raised.value.too_large
    assert len(await store.get_many(["key", "other"])) == 2
    assert store.stats()["evictions"] == 0


async def test_renewals_leave_nothing_behind(store):
    """Ten thousand renewals of an entry need no more memory than one."""
    await store.add("key", b"1", TTL)
    for number in range(10_000):
        await store.touch("key", TTL + number)
    assert len(store._expiries) < 200


async def test_what_was_renewed_ends_at_its_new_end(store, clock):
    """Tidying up after many renewals mixes up no ends."""
    for number in range(50):
        await store.add(f"a{number}", b"1", 1)
        await store.add(f"b{number}", b"1", 1)
    for _ in range(20):
        for number in range(50):
            await store.touch(f"a{number}", 2)
    clock.advance(1)
    await store.add("last", b"", TTL)
    assert store.stats()["entries"] == 51
    clock.advance(1)
    await store.delete("last")
    await store.add("last", b"", TTL)
    assert store.stats()["entries"] == 1


async def test_data_is_kept_as_plain_bytes(store):
    """An object that only looks like bytes is copied, not kept."""

    class Labelled(bytes):
        label = "x"

    await store.add("key", Labelled(b"1"), TTL)
    assert type((await store.get("key")).data) is bytes


async def test_a_closed_store_holds_nothing(store):
    """Close frees the memory, whoever still has the store."""
    await store.add("key", DATA, TTL)
    await store.close()
    assert store.stats()["entries"] == store.stats()["bytes"] == 0
    with pytest.raises(StoreUnavailable):
        await store.get("key")


@pytest.mark.parametrize("value", [0, -1])
def test_a_bound_is_positive(value):
    """A store for no bytes is an error that names the argument."""
    with pytest.raises(ValueError, match="max_bytes"):
        MemoryStore(value)


@pytest.mark.parametrize("value", [True, 1.5, "1", None])
def test_a_bound_is_a_whole_number(value):
    """A bound of another type is an error that names the argument."""
    with pytest.raises(TypeError, match="max_bytes"):
        MemoryStore(value)


async def test_the_repr_shows_sizes_alone(store):
    """Neither keys nor data are in the repr."""
    await store.add("secret-key", b"secret-data", TTL)
    assert repr(store).startswith("<MemoryStore entries=1 bytes=")
    assert "secret" not in repr(store)
