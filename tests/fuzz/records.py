"""What is found under a session's key."""

from __future__ import annotations

import hmac
from typing import Any

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tornado_mcsession import DecodeError, JSONSerializer, MsgpackSerializer
from tornado_mcsession.sessions.codec import Codec
from tornado_mcsession.sessions.record import Flash, Record

from .material import KEY, NOW, OLD_KEY, PLANTED, assert_silent

NAME = "mcsession:" + "a" * 64
MAX_DEPTH = 100

PLAIN = [
    Codec(MsgpackSerializer(), "mcsession:"),
    Codec(JSONSerializer(), "mcsession:"),
]
SEALED = [Codec(codec.serializer, "mcsession:", [KEY, OLD_KEY]) for codec in PLAIN]


def record(data: bytes = b"\x80", **fields: Any) -> Record:
    """A record in which all optional fields are set."""
    return msgspec.structs.replace(
        Record(
            created=NOW - 10,
            renewed_at=NOW - 10,
            expires_at=NOW + 3600,
            data=data,
            writes=b"1234567890abcdefghij",
            flashes=(Flash(b"flash-id", "info", PLANTED),),
            principal="alice",
            authenticated_at=NOW - 5,
            marker=b"m" * 16,
            idle_timeout=1800.0,
            end=NOW + 7200,
            persistent=False,
        ),
        **fields,
    )


def check(data: bytes) -> None:
    """The first byte chooses a serializer, keys, and what the rest stands for."""
    how, rest = data[:1] or b"\x00", data[1:]
    which = how[0] & 1
    codec = SEALED[which] if how[0] & 2 else PLAIN[which]
    if how[0] & 4:
        rest = PLAIN[which].encode(record(rest), NAME)
    if how[0] & 8:
        rest = sealed(rest[1:]) if how[0] & 2 else b"\x01" + rest
    try:
        found = codec.decode(rest, 0, NAME)
        values = codec.values(found)
    except DecodeError as error:
        assert_silent(error)
        return
    assert type(values) is dict
    assert all(type(key) is str for key in values)
    assert_bounded(values, len(found.data))
    assert len(found.writes) + len(found.flashes) <= len(rest)
    # A record that was read can be written, whatever it was made of.
    again = codec.decode(codec.encode(found, NAME), 0, NAME)
    assert again == found
    codec.serializer.dumps(values)
    assert_silent()


def sealed(plain: bytes) -> bytes:
    """What only those who have the key can make."""
    nonce, name = b"n" * 12, NAME.encode("ascii")
    cipher = AESGCM(hmac.digest(KEY, name, "sha256"))
    return b"\x02" + nonce + cipher.encrypt(nonce, plain, name)


def assert_bounded(values: Any, size: int) -> None:
    """No deeper than may be written, and no more parts than there were bytes."""
    level, parts, depth = [values], 1, 0
    while level:
        depth += 1
        assert depth <= MAX_DEPTH + 1, "nested too deep"
        inside = []
        for box in level:
            items = list(box.values()) if isinstance(box, dict) else box
            parts += len(items)
            inside += [item for item in items if isinstance(item, dict | list)]
        level = inside
    assert parts <= size + 1, "more parts than bytes"


def seeds() -> list[bytes]:
    """Valid records, cut and foreign ones, and lengths that lie."""
    nested: Any = None
    for _ in range(MAX_DEPTH - 1):
        nested = [nested]
    mapping = {"a": [1, {"b": None}], "word": PLANTED, "t": 1.5, "deep": nested}
    made = [b"\x02", b"\x02" + sealed(b"\x80"), b"\x00\x80\x04\x95}\x94."]
    for which, codec in enumerate(PLAIN):
        data = codec.serializer.dumps(mapping)
        whole = codec.encode(record(data), NAME)
        made += [bytes([which]) + whole, bytes([which]) + whole[:-3]]
        made += [bytes([which + 4]) + data, bytes([which + 14]) + data]
        made += [bytes([which + 2]) + SEALED[which].encode(record(data), NAME)]
        made += [bytes([which + 10]) + whole]
        fields = msgspec.msgpack.decode(whole[1:])
        made += [
            bytes([which]) + b"\x01" + msgspec.msgpack.encode(odd)
            for odd in (fields[:4], [*fields, "new"], fields[1:], {"a": fields})
        ]
    for lie in LIES:
        made += [b"\x04" + lie, b"\x04\x81\xa1a" + lie, b"\x00\x01" + lie]
        made += [b"\x00\x01\x9f\xcb" + bytes(8) + lie]
    for depth in (99, 101, 500, 5000, 100_000):
        made += [b"\x04\x81\xa1a" + b"\x91" * depth + b"\xc0"]
        made += [b"\x04" + b"\x81\xa1a" * depth + b"\xc0"]
        made += [b"\x05" + b'{"a":' * depth + b"1" + b"}" * depth]
        made += [b'\x05{"a":' + b"[" * depth]
    return [*made, b"\x05{}", b'\x05{"a":1e999,"b":"\\ud800"}', b"\x04\x81\x01\x02"]


# array32, map32, str32, bin32, ext32: four gigabytes of each are announced.
LIES = [head + b"\xff" * 4 for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")]
WORDS = [*LIES, b"\x91" * 60, b"\x81\xa1a", b"\xc0", b"\xcb" + b"\xff" * 8, b"\xd6\xff"]
