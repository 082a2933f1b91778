"""What somebody else has put under a session's key, seen from Python."""

from __future__ import annotations

import json
import logging
import time

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tornado_mcsession import DecodeError, SessionManager
from tornado_mcsession.sessions.record import Aside, Flash, Login, Record

from .conftest import EXPRESS, KOA

pytestmark = pytest.mark.integration

COOKIE = b'"cookie":{"path":"/","maxAge":86400000,"originalMaxAge":null}'
DEEP = b"[" * 200 + b"]" * 200

FOREIGN = {
    "no JSON": (2, b"planted"),
    "cut": (2, b"{" + COOKIE),
    "empty": (2, b""),
    "null": (2, b"null"),
    "a list": (2, b"[1]"),
    "without a cookie": (2, b'{"a":1}'),
    "a cookie that is none": (2, b'{"cookie":7,"a":1}'),
    "an age that is none": (
        2,
        b'{"cookie":{"maxAge":"x","originalMaxAge":"x"},"a":1}',
    ),
    "too deep": (2, b"{" + COOKIE + b',"a":' + DEEP + b"}"),
    "another's mcsession": (2, b"{" + COOKIE + b',"mcsession":"planted"}'),
    "odd times": (2, b"{" + COOKIE + b',"mcsession":{"created":-7}} '),
    "odd messages": (2, b"{" + COOKIE + b',"mcsession":{"flashes":[["a"]]}}'),
    "odd message categories": (
        2,
        b"{" + COOKIE + b',"mcsession":{"flashes":[[1,"b","00"]]}}',
    ),
    "odd categories of Node's messages": (
        2,
        b"{" + COOKIE + b',"mcsession":{"flashes":[[null,"b"]]}}',
    ),
    "odd message ids": (
        2,
        b"{" + COOKIE + b',"mcsession":{"flashes":[["a","b","x"]]}}',
    ),
    "text": (0, b"{" + COOKIE + b"}"),
    "a number": (8, b"17"),
    "no tombstone": (8, b"!!!!"),
    "a record of the package": (0, b"\x01\x94"),
}


def put(memcached, key, flags, value):
    head = b"set %b %d 60 %d\r\n" % (key.encode(), flags, len(value))
    assert memcached.command(head + value) == b"STORED"


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.gen_test
async def test_a_foreign_value_is_an_empty_session(user, memcached, caplog, kind):
    """Logged without its contents, counted, left alone, its id never used again."""
    await user.python("change", a="planted")
    key, cookie = await user.key(), user.cookie
    put(memcached, key, *FOREIGN[kind])
    assert await user.python("read") == {}
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.name for r in warnings] == ["tornado_mcsession"]
    assert "planted" not in caplog.text
    assert user.manager.stats()["corrupt_records"] >= 1
    await user.python("change", b=1)
    assert user.cookie != cookie
    assert memcached.get(key) == FOREIGN[kind][1]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "maxAge", "expires"]), inner)
    ),
    max_leaves=6,
)
OWN = st.fixed_dictionaries(
    {},
    optional={
        name: VALUES | st.text(max_size=8) | st.integers() | st.floats(0)
        for name in (
            *("created", "renewed_at", "expires_at", "max_age", "idle_timeout"),
            *("end", "written", "writes", "marker", "principal", "flashes"),
        )
    },
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "cookie": VALUES | st.fixed_dictionaries({"maxAge": VALUES}),
        "mcsession": OWN | VALUES,
        "user": VALUES,
    },
)


@given(
    data=RECORDS.map(lambda record: json.dumps(record).encode()) | st.binary(),
    mark=st.sampled_from([b"", b" "]),
    flags=st.sampled_from([2, 2, 2, 8, 0]),
)
@example(b'{"cookie":{"maxAge":1' + b"0" * 400 + b"}}", b"", 2)
@example(b'{"cookie":{},"mcsession":{"written":1' + b"0" * 30 + b"}}", b"", 2)
@example(b'{"cookie":{},"a":"\\ud83d\\ud83d\\ude00\\\\ud83d"}', b"", 2)
def test_any_bytes_are_a_session_or_a_decode_error(data, mark, flags):
    """A session can be written again, and ended."""
    manager = SessionManager(**KOA.shared("memory://"))
    codec, key = manager.codec, "koa:sess:" + "a" * 65
    try:
        record = codec.decode(data + mark, flags, key)
        codec.values(record)
    except DecodeError:
        return
    if not record.retired:
        again = codec.encode(manager.lifetime.renewed(record, time.time()), key)
        assert codec.values(codec.decode(again, 2, key)) == codec.values(record)
    ended = msgspec.structs.replace(record, retired=True)
    assert codec.decode(codec.encode(ended, key), 8, key).retired


MESSAGES = st.lists(
    st.lists(VALUES | st.sampled_from(["info", "00", "0a0b"]), max_size=4)
    | st.tuples(st.sampled_from(["info", "error"]), VALUES)
    | VALUES,
    max_size=4,
)


@given(messages=MESSAGES | VALUES, mark=st.sampled_from([b"", b" "]))
@example([[None, "hi"]], b"")
@example([[5, "hi"]], b"")
@example([[{}, "hi"], ["info", {}, []]], b"")
@example([["info", 10**400]], b"")
@example([["info", 10**30]], b"")
@example([["info", float("inf")]], b"")
@example(["ab"], b"")
def test_any_messages_are_a_session_or_a_decode_error(messages, mark):
    """Those that are read can be written, and read again."""
    manager = SessionManager(**KOA.shared("memory://"))
    codec, key = manager.codec, "koa:sess:" + "a" * 65
    record = {"cookie": {"maxAge": 1000}, "mcsession": {"flashes": messages}}
    try:
        found = codec.decode(json.dumps(record).encode() + mark, 2, key)
    except DecodeError:
        return
    again = codec.decode(codec.encode(found, key), 2, key)
    assert again.flashes == found.flashes


@pytest.mark.parametrize("kind", [KOA, EXPRESS], ids=["koa", "express"])
@pytest.mark.parametrize("lifetime", [None, 86_400])
@pytest.mark.parametrize("age", [3.2e14, 2**53 - 1, 1e15, 1e300])
def test_a_session_can_be_written_whatever_its_age(kind, lifetime, age):
    """Also one that Node lets live beyond the year 9999."""
    manager = SessionManager(**kind.shared("memory://", lifetime=lifetime))
    codec, key = manager.codec, "sess:" + "a" * 65
    cookie = {"maxAge": age, "originalMaxAge": age, "expires": None}
    found = codec.decode(json.dumps({"cookie": cookie, "a": 1}).encode(), 2, key)
    again = codec.decode(codec.encode(found, key), 2, key)
    assert codec.values(again) == {"a": 1}


@pytest.mark.gen_test
async def test_whatever_else_node_keeps_is_data(user, memcached):
    """Only two names are taken."""
    await user.python("change", a=1)
    key = await user.key()
    put(memcached, key, 2, b"{" + COOKIE + b',"passport":{"user":7},"expires":1}')
    assert await user.python("read") == {"passport": {"user": 7}, "expires": 1}


@pytest.mark.gen_test
async def test_a_login_belongs_to_its_id(user, memcached):
    """Under another key what says who is logged in counts for nothing."""
    await user.python("login", user="ann")
    record = memcached.get(await user.key())
    await user.another().python("read")
    visitor = user.another()
    await visitor.node("change", a=1)
    put(memcached, await visitor.key(), 2, record)
    about = await visitor.python("about")
    assert (about["presented"], about["principal"]) == ("live", None)


@pytest.mark.gen_test
async def test_what_was_ended_leads_on(user):
    """An old id that was replaced a moment ago ends what came of it."""
    await user.python("login", user="ann")
    old = user.copy()
    await user.python("regenerate")
    await old.python("logout")
    assert await user.python("read") == {}
    assert await user.node("read") == {}


def test_records_survive_a_round_trip_through_javascript(framework):
    """JSON.stringify of JSON.parse keeps every field that counts."""
    manager = SessionManager(**framework.shared("memory://"))
    now = manager.settings.clock()
    digest = "d" * 22
    record = Record(
        created=now - 10,
        renewed_at=now - 5.5,
        expires_at=now + 1000.25,
        data=b'{"a":1}',
        writes=b"0123456789",
        flashes=(
            Flash(b"\x00id\xff", "info", "hello \u2028"),
            Flash(b"other", "info", "", b'{"a":[1,null]}'),
        ),
        principal="ann",
        authenticated_at=now - 10,
        marker=b"\xffm" * 8,
        idle_timeout=60.0,
        end=now + 5000,
        persistent=False,
        written=7,
        login=Login(now - 10, b"handle", Aside("bob", digest, b"m", b"{}")),
    )
    blank = Record(created=0, renewed_at=0, expires_at=0, data=b"")
    of_tombstones = {"retired", "successor", "successor_until", "same_login"}
    for name in set(Record.__struct_fields__) - of_tombstones - {"checksum"}:
        assert getattr(record, name) != getattr(blank, name), f"{name} is not tried"
    codec = manager.codec
    key = codec.key("i" * 43 + digest)
    encoded = codec.encode(record, key)
    for text in (encoded, json.dumps(json.loads(encoded)).encode() + b" "):
        read = codec.decode(text, codec.flags, key)
        for name in Record.__struct_fields__:
            assert getattr(read, name) == getattr(record, name) or name == "data"
        assert codec.values(read) == {"a": 1}
    tombstone = msgspec.structs.replace(read, retired=True, successor=b"\xff\x00")
    kept = codec.encode(tombstone, key)
    back = codec.decode(kept, codec.tombstone_flags, key)
    assert back.retired
    assert back.successor == b"\xff\x00"
