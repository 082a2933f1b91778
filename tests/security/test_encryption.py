"""With encryption_keys, what somebody else put into the store is no session."""

from __future__ import annotations

import base64
import re

import pytest

from tornado_mcsession import MemoryStore, SessionManager

from .target import Shop, new_id

KEY, OTHER, NEXT = b"k" * 32, b"o" * 32, b"n" * 32
SEALED = {"encryption_keys": [KEY]}


@pytest.fixture
def store(any_store):
    return any_store


async def assert_foreign(target, session_id):
    """What is under the id's key reads as empty, is counted, and stays there."""
    data = await target.bytes_of(session_id)
    before = target.manager.stats()["corrupt_records"]
    response = await target.ask("/", target.carrying(session_id))
    assert response.json() == {"n": None, "principal": None}
    assert target.told(response) not in (None, session_id)
    assert target.manager.stats()["corrupt_records"] == before + 1
    assert await target.bytes_of(session_id) == data


async def logged_in(target, who="admin"):
    session = await target.manager.get(await target.begin())
    await session.login(who)
    return session.id


async def copied(target, admin):
    """An id of one's own with the admin's record under its key.

    The digest in the keys, which places them, is part of it: who sees the keys can
    make an id for a key beside the admin's.
    """
    (digest,) = re.findall(r"{(.*)}", target.key_of(admin))
    own = new_id() + digest
    data = await target.bytes_of(admin)
    assert await target.store.inner.add(target.key_of(own), data, 60)
    return own


@pytest.mark.gen_test
async def test_a_record_under_another_key_is_foreign(attack, store):
    """Who can write to memcached cannot put the admin's record under its own id."""
    target = attack(Shop, store=store, session=SEALED)
    admin = await logged_in(target)
    await assert_foreign(target, await copied(target, admin))
    assert (await target.manager.get(admin)).principal == "admin"


@pytest.mark.gen_test
async def test_another_visitors_record_is_foreign(attack, store):
    """So is one of a session where nobody is logged in."""
    target = attack(Shop, store=store, session=SEALED)
    own, other = await target.begin(), await target.begin(n=100)
    await target.overwrite(own, await target.bytes_of(other))
    await assert_foreign(target, own)


@pytest.mark.gen_test
async def test_without_encryption_it_would_not_be(attack, store):
    """That is what the keys are for: a plain record may be copied by who can write."""
    target = attack(Shop, store=store)
    own = await copied(target, await logged_in(target))
    response = await target.ask("/", target.carrying(own))
    assert response.json()["principal"] == "admin"


@pytest.mark.gen_test
async def test_a_record_of_another_prefix_is_foreign(attack, store):
    """Two applications with the same keys do not read each other's records."""
    target = attack(Shop, store=store, session=SEALED)
    twin = attack(Shop, store=store, session={**SEALED, "key_prefix": "twin:"})
    session_id = await target.begin()
    await twin.manager.set(session_id, {"n": 100})
    await target.overwrite(session_id, await twin.bytes_of(session_id))
    await assert_foreign(target, session_id)


@pytest.mark.gen_test
async def test_a_cut_record_is_foreign(attack):
    """At each length."""
    target = attack(Shop, session=SEALED)
    session_id = await target.begin(word="x" * 20)
    whole = await target.bytes_of(session_id)
    for length in range(len(whole)):
        await target.overwrite(session_id, whole[:length])
        await assert_foreign(target, session_id)
    await target.overwrite(session_id, whole + b"\x00")
    await assert_foreign(target, session_id)
    await target.overwrite(session_id, whole)
    assert await target.data(session_id) == {"word": "x" * 20}


@pytest.mark.gen_test
async def test_an_altered_record_is_foreign(attack):
    """Whichever of its bits: of each byte one, and all of the first and the last."""
    target = attack(Shop, session=SEALED)
    session_id = await target.begin(word="x" * 20)
    whole = await target.bytes_of(session_id)
    bits = [(at, at % 8) for at in range(len(whole))]
    bits += [(at, bit) for at in (0, 1, len(whole) - 1) for bit in range(8)]
    for at, bit in bits:
        altered = bytearray(whole)
        altered[at] ^= 1 << bit
        await target.overwrite(session_id, bytes(altered))
        await assert_foreign(target, session_id)


@pytest.mark.gen_test
async def test_a_plain_record_is_foreign(attack, store):
    """Also one that this application wrote before it had keys, and the other way."""
    plain = attack(Shop, store=store)
    sealed = attack(Shop, store=store, session=SEALED)
    before, after = await plain.begin(), await sealed.begin()
    assert b"\x07" in await plain.bytes_of(before)
    await assert_foreign(sealed, before)
    await assert_foreign(plain, after)


@pytest.mark.gen_test
async def test_a_record_is_sealed_anew_each_time(attack):
    """No two of the same session are alike, nor do they begin alike."""
    target = attack(Shop, session=SEALED)
    session_id = await target.begin()
    seen = set()
    for _ in range(20):
        await target.manager.set(session_id, {"n": 7})
        data = await target.bytes_of(session_id)
        seen.add(data[1:13])
        assert len(seen) <= len(data)
    assert len(seen) == 20


@pytest.mark.gen_test
async def test_keys_are_rotated_without_an_end(attack, store):
    """A new key is read everywhere, then writes, then is the only one.

    What is written in between is sealed with it; what is not ends with the old.
    """
    stages = [[KEY], [KEY, NEXT], [NEXT, KEY], [NEXT]]
    sites = [
        attack(Shop, store=store, session={"encryption_keys": keys}) for keys in stages
    ]
    used, unused = await sites[0].begin(n=0), await sites[0].begin(n=0)
    for number, site in enumerate(sites):
        response = await site.ask("/", site.carrying(used))
        assert response.json()["n"] == number
        assert site.told(response) is None
    assert await sites[2].data(unused) == {"n": 0}
    await assert_foreign(sites[3], unused)
    await assert_foreign(sites[0], used)


@pytest.mark.gen_test
async def test_a_record_of_an_unknown_key_is_foreign(attack, store):
    """As after a leak, when the old keys are taken out."""
    target = attack(Shop, store=store, session=SEALED)
    session_id = await logged_in(target)
    after = attack(Shop, store=store, session={"encryption_keys": [OTHER]})
    await assert_foreign(after, session_id)


TEXT = base64.urlsafe_b64encode(b"\xfb\xff" * 16).decode()
WRONG = {
    "no list": (b"k" * 32, TypeError, "encryption_keys must be a list"),
    "text": ("k" * 43, TypeError, "encryption_keys must be a list"),
    "set": ({KEY}, TypeError, "encryption_keys must be a list"),
    "none": (None, TypeError, "encryption_keys must be a list"),
    "no key": ([KEY, None], TypeError, r"encryption_keys\[1\] must be 32 bytes"),
    "mutable": ([bytearray(32)], TypeError, r"encryption_keys\[0\] must be 32 bytes"),
    "empty": ([b""], ValueError, r"encryption_keys\[0\] must be 32 bytes long, not 0"),
    "empty text": ([""], ValueError, r"encryption_keys\[0\] must be 32 bytes long"),
    "short": ([KEY[1:]], ValueError, r"encryption_keys\[0\] must be 32 .* not 31"),
    "long": ([KEY, KEY * 2], ValueError, r"encryption_keys\[1\] must be 32 .* not 64"),
    "text as bytes": ([TEXT.encode()], ValueError, r"encryption_keys\[0\] .* not 44"),
    "password": (["correct horse"], ValueError, r"encryption_keys\[0\] must be .*64"),
    "line": ([TEXT + "\n"], ValueError, r"encryption_keys\[0\] must be .*64"),
    "twice": ([KEY, OTHER, KEY], ValueError, "encryption_keys must differ"),
    "twice spelt": ([b"\xfb\xff" * 16, TEXT], ValueError, "encryption_keys must diff"),
}


@pytest.mark.parametrize(("keys", "error", "message"), WRONG.values(), ids=WRONG)
def test_keys_are_checked_at_start(keys, error, message):
    """By length, form and difference; the error names the setting, and no key."""
    with pytest.raises(error, match=message) as caught:
        SessionManager(store=MemoryStore(), encryption_keys=keys)
    for secret in ("kkkk", "correct", TEXT[:8], "\\xfb"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("spelt", [TEXT, TEXT.rstrip("="), b"\xfb\xff" * 16])
@pytest.mark.gen_test
async def test_a_key_is_bytes_or_their_text(attack, store, spelt):
    """Both spell the same key, with or without the padding."""
    written = attack(Shop, store=store, session={"encryption_keys": [spelt]})
    read = attack(Shop, store=store, session={"encryption_keys": [b"\xfb\xff" * 16]})
    session_id = await written.begin()
    assert await read.data(session_id) == {"n": 7}
