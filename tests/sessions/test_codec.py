"""Records as bytes: the round trip, the encryption, and everybody else's bytes.

The codec is tried by itself: a store holds only what it has written.
"""

from __future__ import annotations

import hmac
import logging
import math
import sys

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given
from hypothesis import strategies as st

from tornado_mcsession import DecodeError, MsgpackSerializer, SessionManager
from tornado_mcsession.sessions.codec import Codec
from tornado_mcsession.sessions.record import Flash, Record

from ..support.requests import begin, key_of, visit

KEY, OTHER = b"k" * 32, b"o" * 32
NAME = "mcsession:abc"
SERIALIZER = MsgpackSerializer()
PLAIN = Codec(SERIALIZER, "mcsession:")
SEALED = Codec(SERIALIZER, "mcsession:", [KEY])
RECORD = Record(
    created=1.0,
    renewed_at=2.5,
    expires_at=1e9,
    data=SERIALIZER.dumps({"a": [1, {"b": None}], "word": "planted"}),
    writes=b"12345678",
    flashes=(Flash(b"id", "info", "hello"),),
    principal="alice",
    authenticated_at=2.0,
    marker=b"m" * 16,
    idle_timeout=60.0,
    end=3e9,
    persistent=False,
    retired=True,
)
both = pytest.mark.parametrize("codec", [PLAIN, SEALED], ids=["plain", "sealed"])


@both
def test_a_record_makes_the_round_trip(codec):
    """Every field comes back as it was."""
    assert codec.decode(codec.encode(RECORD, NAME), 0, NAME) == RECORD
    assert codec.values(RECORD) == {"a": [1, {"b": None}], "word": "planted"}


def test_a_later_release_may_add_fields():
    """A field that this release does not know is kept; optional ones may be missing."""
    fields = msgspec.msgpack.decode(PLAIN.encode(RECORD, NAME)[1:])
    longer = b"\x01" + msgspec.msgpack.encode([*fields, "new"])
    newer = PLAIN.decode(longer, 0, NAME)
    assert newer.principal == RECORD.principal
    again = msgspec.structs.replace(newer, data=b"\x80")
    rewritten = msgspec.msgpack.decode(PLAIN.encode(again, NAME)[1:])
    assert rewritten == [*fields[:3], b"\x80", *fields[4:], "new"]
    shorter = b"\x01" + msgspec.msgpack.encode(fields[:4])
    assert PLAIN.decode(shorter, 0, NAME).principal is None


def test_a_sealed_record_shows_nothing():
    """What is in it, and that two are the same, cannot be seen."""
    first, second = SEALED.encode(RECORD, NAME), SEALED.encode(RECORD, NAME)
    assert first != second
    assert b"planted" in PLAIN.encode(RECORD, NAME)
    assert b"planted" not in first
    assert b"alice" not in first


def test_each_record_is_sealed_by_a_key_of_its_own():
    """AES-256-GCM under HMAC-SHA256 of the store key: no count of nonces is kept."""
    data = SEALED.encode(RECORD, NAME)
    derived = hmac.digest(KEY, NAME.encode(), "sha256")
    opened = AESGCM(derived).decrypt(data[1:13], data[13:], NAME.encode())
    assert opened == PLAIN.encode(RECORD, NAME)


def test_the_first_key_seals_and_all_open():
    """Keys are rotated by putting a new one first."""
    old = SEALED.encode(RECORD, NAME)
    rotated = Codec(SERIALIZER, "mcsession:", [OTHER, KEY])
    assert rotated.decode(old, 0, NAME) == RECORD
    new = rotated.encode(RECORD, NAME)
    assert Codec(SERIALIZER, "mcsession:", [OTHER]).decode(new, 0, NAME) == RECORD
    with pytest.raises(DecodeError, match="another key"):
        SEALED.decode(new, 0, NAME)


def test_a_sealed_record_belongs_to_its_key():
    """Copied under another store key it is foreign."""
    with pytest.raises(DecodeError, match="copied or altered"):
        SEALED.decode(SEALED.encode(RECORD, NAME), 0, "mcsession:abd")


def test_an_altered_or_cut_record_is_foreign():
    """Each byte is protected, and none may be missing or too many."""
    data = SEALED.encode(RECORD, NAME)
    for at in range(len(data)):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        for foreign in (altered, data[:at]):
            with pytest.raises(DecodeError):
                SEALED.decode(foreign, 0, NAME)
    with pytest.raises(DecodeError):
        SEALED.decode(data + b"\x00", 0, NAME)


def test_a_plain_record_is_foreign_where_keys_are_set():
    """Who can write to memcached cannot slip in an unencrypted session."""
    with pytest.raises(DecodeError, match="not encrypted"):
        SEALED.decode(PLAIN.encode(RECORD, NAME), 0, NAME)
    with pytest.raises(DecodeError, match="no encryption_keys are set"):
        PLAIN.decode(SEALED.encode(RECORD, NAME), 0, NAME)


def test_encryption_needs_its_package(monkeypatch):
    """Without it the error says what to install, when the manager is built."""
    missing = "cryptography.hazmat.primitives.ciphers.aead"
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match="pip install cryptography"):
        SessionManager(encryption_keys=[KEY])


TIMES = [f.name for f in msgspec.structs.fields(Record) if "float" in str(f.type)]


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_record_with_a_time_that_is_none_is_foreign(name, value):
    """NaN and infinity, which MessagePack can carry, are no times."""
    odd = msgspec.structs.replace(RECORD, **{name: value})
    with pytest.raises(DecodeError, match="not a record"):
        PLAIN.decode(PLAIN.encode(odd, NAME), 0, NAME)


@pytest.mark.parametrize(
    "field",
    [
        {"created": -1.0},
        {"renewed_at": -1.0},
        {"authenticated_at": -1.0},
        {"idle_timeout": 0.0},
        {"idle_timeout": -1.0},
    ],
)
def test_a_record_from_before_time_is_foreign(field):
    """Times before 1970 would be errors where they are shown."""
    odd = msgspec.structs.replace(RECORD, **field)
    with pytest.raises(DecodeError, match="not a record"):
        PLAIN.decode(PLAIN.encode(odd, NAME), 0, NAME)


PICKLE = b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}\x94."


@both
@given(data=st.binary() | st.binary().map(lambda data: b"\x01" + data))
@example(b"")
@example(PICKLE)
@example(b"<html></html>")
@example(b"\x01" + PICKLE)
@example(b"\x01" + b"\x91" * 100_000)
@example(b"\x01\xdd\xff\xff\xff\xff")
@example(b"\x01\xdf\xff\xff\xff\xff")
@example(b"\x01\xc6\xff\xff\xff\xff")
@example(b"\x02" + b"\x00" * 28)
@example(b"\x02" + b"\x00" * 27)
def test_foreign_bytes_are_a_decode_error(codec, data):
    """Whatever is found under a key is a record or a DecodeError, nothing else."""
    with pytest.raises(DecodeError):
        codec.decode(data, 0, NAME)


@given(st.binary())
@example(b"\x91" * 100_000)
@example(SERIALIZER.dumps([1]))
@example(SERIALIZER.dumps({1: 2}))
def test_foreign_data_is_a_decode_error(data):
    """The data within a record is a mapping of text, or a DecodeError."""
    record = msgspec.structs.replace(RECORD, data=data)
    try:
        values = PLAIN.values(record)
    except DecodeError:
        return
    assert all(type(key) is str for key in values)


class Rude:
    dumps = staticmethod(SERIALIZER.dumps)

    def loads(self, data):
        raise KeyError("planted")


def test_a_serializers_error_is_not_quoted():
    """Whatever it raises may hold what it read; only its type is told."""
    with pytest.raises(DecodeError) as caught:
        Codec(Rude(), "mcsession:").values(RECORD)
    assert "planted" not in str(caught.value)
    assert "KeyError" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# What the manager makes of it.


def corrupt(kind, codec, key, data):
    record = codec.decode(data, 0, key)
    foreign = {
        "bytes": b"planted",
        "empty": b"",
        "cut": data[:-3],
        "data": codec.encode(msgspec.structs.replace(record, data=b"\xc1planted"), key),
    }
    return foreign[kind]


@pytest.mark.parametrize("kind", ["bytes", "empty", "cut", "data"])
@pytest.mark.parametrize("keys", [(), (KEY,)])
@pytest.mark.gen_test
async def test_a_corrupt_record_is_an_empty_session(make, store, caplog, kind, keys):
    """It is logged without its contents, counted, and its id is never used again."""
    manager = make(store, encryption_keys=keys)
    session_id = await begin(manager, a="planted")
    key = key_of(manager, session_id)
    entry = await store.get(key)
    foreign = corrupt(kind, Codec(SERIALIZER, "mcsession:", keys), key, entry.data)
    await store.cas(key, foreign, 60, entry.token)

    caplog.clear()
    late = await visit(manager, session_id)
    assert (dict(late.session), late.session.is_new) == ({}, True)
    assert [(r.name, r.levelno) for r in caplog.records] == [
        ("tornado_mcsession", logging.WARNING)
    ]
    for secret in ("planted", session_id, key):
        assert secret not in caplog.text
    assert manager.stats()["corrupt_records"] == 1

    late.session["b"] = 2
    new_id = await late.leave_with_cookie()
    assert new_id not in (None, session_id)
    assert (await store.get(key)).data == foreign


@pytest.mark.parametrize("kind", ["bytes", "data"])
@pytest.mark.gen_test
async def test_a_record_that_is_corrupted_meanwhile_is_gone(make, store, kind):
    """A request that loaded it before finds it ended, and is no error."""
    manager = make(store)
    session_id = await begin(manager, a=1)
    key = key_of(manager, session_id)
    late = await visit(manager, session_id)
    entry = await store.get(key)
    foreign = corrupt(kind, PLAIN, key, entry.data)
    await store.cas(key, foreign, 60, entry.token)
    late.session["a"] = 2
    assert await late.leave_with_cookie() is None
    assert manager.stats()["dropped_saves"] == 1
    assert (await store.get(key)).data == foreign
    assert await manager.get(session_id) is None
