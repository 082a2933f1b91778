"""Large sessions: their values are decoded when they are asked for, and not before.

Nobody may notice, but by the time that it takes.
"""

from __future__ import annotations

import asyncio
import copy
import json
import operator
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_mcsession import (
    EncodeError,
    JSONSerializer,
    MsgpackSerializer,
    SessionError,
    SessionManager,
)
from tornado_mcsession.sessions import record
from tornado_mcsession.sessions.record import LARGE, Record

from ..support.requests import Visit, begin, data_of, key_of, visit
from ..support.scripted import ScriptedStore

Make = Callable[..., SessionManager]
FIELDS = Record.__struct_fields__
DATA: dict[str, Any] = {
    "n": 1,
    "text": "x" * LARGE,
    "list": [1, [2]],
    "nested": {"a": {"b": [1]}, "c": 2},
    "none": None,
}


class Counting(MsgpackSerializer):
    """Not the package's own, so it decodes all at once."""


@pytest.fixture(params=["msgpack", "json", Counting()])
def manager(request: Any, make: Make, store: ScriptedStore) -> SessionManager:
    """With each serializer, and one of which the package knows nothing."""
    return make(store, serializer=request.param)


READS: dict[str, Callable[[Any], Any]] = {
    "items": lambda s: dict(s.items()),
    "values": lambda s: list(s.values()),
    "keys": list,
    "copy": lambda s: s.copy(),
    "get": lambda s: [s.get("list"), s.get("none", 1), s.get("other", 2)],
    "a value": lambda s: s["nested"],
    "==": lambda s: s == DATA,
    "== turned": lambda s: DATA == s,
    "|": lambda s: s | {"n": 2},
    "| turned": lambda s: {"n": 2} | s,
    "in": lambda s: ("n" in s, "other" in s, len(s), bool(s)),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("read", READS.values(), ids=list(READS))
async def test_each_way_to_read_shows_plain_values(
    manager: SessionManager, read: Callable[[Any], Any]
) -> None:
    """As of a dict, and reading changes nothing."""
    session_id = await begin(manager, **DATA)
    session = (await visit(manager, session_id)).session
    assert read(session) == read(DATA)
    assert not session.modified
    assert await data_of(manager, session_id) == DATA


CHANGES: dict[str, Callable[[Any], Any]] = {
    "pop": lambda s: s.pop("list"),
    "pop a default": lambda s: s.pop("other", 3),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: s.setdefault("list", []).append(3),
    "set": lambda s: operator.setitem(s, "n", 2),
    "del": lambda s: operator.delitem(s, "nested"),
    "nested": lambda s: s["nested"]["a"]["b"].append(2),
    "update": lambda s: s.update(n=5, new={"k": [1]}),
    "|=": lambda s: operator.ior(s, {"list": 0}) and None,
    "clear": lambda s: s.clear(),
    "equal": lambda s: operator.setitem(s, "list", [1, [2]]),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
async def test_each_way_to_change_does_what_it_does_to_a_dict(
    manager: SessionManager, change: Callable[[Any], Any]
) -> None:
    """It returns the same, and stores the same."""
    expected = msgspec.msgpack.decode(msgspec.msgpack.encode(DATA))
    request = await visit(manager, await begin(manager, **DATA))
    assert change(request.session) == change(expected)
    assert request.session.modified == (expected != DATA)
    assert await data_of(manager, await request.leave()) == expected


@pytest.mark.gen_test
async def test_a_value_is_one_object_for_the_whole_request(
    manager: SessionManager,
) -> None:
    """Also when two threads ask for it first."""
    session = (await visit(manager, await begin(manager, **DATA))).session
    seen: list[Any] = []
    start = threading.Barrier(2)

    def look() -> None:
        start.wait(10)
        seen.append(session["nested"])

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen[0] is seen[1] is session["nested"]


@pytest.mark.gen_test
async def test_parallel_changes_are_merged(
    manager: SessionManager, other: SessionManager
) -> None:
    """Where one request has looked at few values, and the other at all."""
    session_id = await begin(manager, **DATA)
    one, two = [await visit(manager, session_id) for _ in range(2)]
    one.session["nested"]["a"]["x"] = 1
    two.session["nested"]["c"] = 3
    assert dict(two.session)
    await one.leave()
    await two.leave()
    nested = {"a": {"b": [1], "x": 1}, "c": 3}
    assert await data_of(manager, session_id) == {**DATA, "nested": nested}


def field(data: bytes, name: str, value: Any) -> bytes:
    """Return a record with another value in one field."""
    fields = msgspec.msgpack.decode(data[1:])
    fields[FIELDS.index(name)] = value
    return data[:1] + msgspec.msgpack.encode(fields)


NOT_UTF8 = b"\x81\xa1k\xa2\xff\xff"
DEEP = b"\x81\xa1k" + b"\x91" * 300 + b"\xc0"
LONG = b"\x82\xa1t\xda\x08\x00" + b"x" * 2048


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "data",
    [LONG + NOT_UTF8[1:], LONG + DEEP[1:], LONG + b"\xa1k\xc1", LONG, b"\xc0" * 2000],
    ids=["text", "depth", "value", "end", "no mapping"],
)
async def test_damaged_data_is_an_empty_session(
    make: Make, store: ScriptedStore, data: bytes
) -> None:
    """The whole record is refused when it is loaded, not a value when it is used."""
    manager = make(store)
    session_id = await begin(manager, **DATA)
    await store.rewrite(key_of(manager, session_id), lambda d: field(d, "data", data))
    session = (await visit(manager, session_id)).session
    assert (dict(session), session.presented) == ({}, "unknown")
    assert manager.stats()["corrupt_records"] == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("checksum", [None, 7])
async def test_a_record_of_an_older_release_is_read(
    make: Make, store: ScriptedStore, checksum: int | None
) -> None:
    """One that has no checksum, or a checksum of what was there before."""
    manager = make(store)
    session_id = await begin(manager, **DATA)
    key = key_of(manager, session_id)
    await store.rewrite(key, lambda data: field(data, "checksum", checksum))
    request = await visit(manager, session_id)
    assert dict(request.session) == DATA
    request.session["n"] += 1
    await request.leave()
    assert await data_of(manager, session_id) == {**DATA, "n": 2}


@pytest.mark.parametrize("serializer", [MsgpackSerializer(), JSONSerializer()])
@pytest.mark.gen_test
async def test_what_nobody_asks_for_is_not_decoded(
    make: Make, store: ScriptedStore, serializer: Any
) -> None:
    """Of a large session only the values that the request looks at are."""
    manager = make(store, serializer=serializer)
    session_id = await begin(manager, **DATA)
    decoded: list[bytes] = []
    loads = serializer.loads
    serializer.loads = lambda data: decoded.append(bytes(data)) or loads(data)
    request = await visit(manager, session_id)
    assert request.session["n"] == 1
    request.session["n"] = 2
    assert request.session.modified
    assert max(map(len, decoded)) < 10
    serializer.loads = loads  # what is logged is searched for all that is stored
    await request.leave()
    assert await data_of(manager, session_id) == {**DATA, "n": 2}


@pytest.mark.gen_test
async def test_a_small_session_has_no_checksum(
    make: Make, store: ScriptedStore
) -> None:
    """It would only cost."""
    manager = make(store)
    key = key_of(manager, await begin(manager, n=1))
    entry = await store.get(key)
    assert entry is not None
    fields = msgspec.msgpack.decode(entry.data[1:])
    assert fields[FIELDS.index("checksum")] is None


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "put",
    [
        lambda s, value: operator.setitem(s, "raw", value),
        lambda s, value: s.update(raw=value),
        lambda s, value: s.setdefault("raw", value),
        lambda s, value: s.replace({"raw": value}),
    ],
    ids=["set", "update", "setdefault", "replace"],
)
@pytest.mark.parametrize("encoded", [b"1", b'1,"admin":true', b"\xc1", b""])
async def test_a_value_that_is_encoded_already_is_refused(
    manager: SessionManager, put: Callable[[Any, Any], Any], encoded: bytes
) -> None:
    """It would be taken for a value of the session that nobody has decoded yet."""
    for session_id in (None, await begin(manager, **DATA)):
        request = await visit(manager, session_id)
        with pytest.raises(EncodeError) as refused:
            put(request.session, msgspec.Raw(encoded))
        assert refused.value.path == "session['raw']"
        assert "raw" not in request.session


class WithFractions(MsgpackSerializer):
    """The application's own: knows a type that the package's serializer refuses."""

    def __init__(self) -> None:
        self.dumps = msgspec.msgpack.Encoder(
            enc_hook=lambda value: msgspec.msgpack.Ext(1, str(value).encode())
        ).encode
        self.loads = msgspec.msgpack.Decoder(
            ext_hook=lambda code, data: Fraction(bytes(data).decode())
        ).decode


class Escaping(JSONSerializer):
    """The application's own: escapes text that is no Unicode."""

    def __init__(self) -> None:
        self.dumps = lambda value: json.dumps(value).encode()
        self.loads = json.loads


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("own", "value"),
    [(WithFractions(), Fraction(1, 3)), (Escaping(), "\ud800")],
    ids=["msgpack", "json"],
)
async def test_what_another_serializer_wrote_is_read_at_once(
    make: Make, store: ScriptedStore, own: Any, value: Any
) -> None:
    """A process that cannot read it all finds no session, and raises nothing later."""
    before = make(store, serializer=own)
    after = make(store, serializer=type(own).__mro__[1]())
    session_id = await begin(before, **DATA, value=value)
    assert (await data_of(before, session_id))["value"] == value
    session = (await visit(after, session_id)).session
    assert (dict(session), session.presented) == ({}, "unknown")


NAMES = st.sampled_from("abcd")
VALUES = st.recursive(
    st.integers(0, 3) | st.just("é") | st.lists(st.integers(0, 1), max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
PATHS = st.lists(NAMES, min_size=1, max_size=3)
STEPS = st.one_of(
    st.tuples(st.just("put"), PATHS, VALUES),
    st.tuples(st.just("remove"), PATHS),
    st.tuples(st.just("again"), NAMES),
    st.tuples(st.sampled_from(["read", "pop"]), NAMES),
    st.tuples(st.sampled_from(["popitem", "clear", "flash", "flashes", "next"])),
    st.tuples(st.sampled_from(["whole", "items", "save", "reload", "touch"])),
    st.tuples(st.just("transact"), PATHS, VALUES),
    st.tuples(st.sampled_from(["regenerate", "revoke", "impersonate", "stop"])),
    st.tuples(st.just("empty"), st.booleans()),
    st.tuples(st.just("login"), st.sampled_from("xy")),
)


def put(data: Any, path: list[str], value: Any) -> None:
    """Set what is at ``path``; make the mappings that lead there."""
    for name in path[:-1]:
        if not isinstance(data.get(name), dict):
            data[name] = {}
        data = data[name]
    data[path[-1]] = copy.deepcopy(value)


def remove(data: Any, path: list[str]) -> None:
    """Remove what is at ``path``."""
    for name in path[:-1]:
        data = data.get(name)
        if not isinstance(data, dict):
            return
    data.pop(path[-1], None)


async def do(request: Visit, step: tuple[Any, ...]) -> Any:
    """Do one step of a request, and return what it shows."""
    session = request.session
    match step:
        case "put", path, value:
            put(session, path, value)
        case "remove", path:
            remove(session, path)
        case "again", key:
            session[key] = copy.deepcopy(session[key])
        case "transact", path, value:
            await session.transact(lambda data: put(data, path, value))
        case "read", key:
            return repr(session.get(key))
        case "pop", key:
            return repr(session.pop(key))
        case ("popitem",):
            return repr(session.popitem())
        case ("whole",):
            return repr(session.copy())
        case ("items",):
            return repr(list(session.items()))
        case ("flash",):
            session.flash({"n": [1]})
        case ("flashes",):
            return repr(session.flashes())
        case ("regenerate",):
            await session.regenerate(grace=30)
        case "empty", keep:
            await session.regenerate(keep)
        case ("revoke",):
            await session.revoke_others()
        case ("stop",):
            await session.stop_impersonating()
        case "login" | "impersonate" as act, *name:
            await getattr(session, act)(*(name or "z"))
        case (act,):
            await getattr(session, act)() if act != "clear" else session.clear()
    return None


def written_elsewhere(values: dict[str, Any], *, as_json: bool) -> bytes:
    """Return a mapping as another program encodes it: it is longer than it must be."""
    if as_json:
        return json.dumps(values, indent=1).encode()

    def packed(value: Any) -> bytes:
        if isinstance(value, dict):
            items = b"".join(packed(part) for pair in value.items() for part in pair)
            return b"\xdf" + len(value).to_bytes(4, "big") + items
        if isinstance(value, list):
            items = b"".join(map(packed, value))
            return b"\xdd" + len(value).to_bytes(4, "big") + items
        if isinstance(value, int):
            return b"\xd3" + value.to_bytes(8, "big")
        text = value.encode()
        return b"\xdb" + len(text).to_bytes(4, "big") + text

    return packed(values)


async def history(
    data: dict[str, Any],
    steps: list[tuple[int, tuple[Any, ...]]],
    *,
    as_json: bool,
    is_foreign: bool,
) -> list[Any]:
    """Return all that two parallel requests of one session show, and leave behind."""
    store, shown = ScriptedStore(), []
    manager = SessionManager(
        store=store,
        cookie_secret="of the tests",
        serializer="json" if as_json else "msgpack",
        track_sessions=True,
    )
    session_id = await begin(manager, "x", **copy.deepcopy(data))
    if is_foreign:
        encoded = written_elsewhere(data, as_json=as_json)
        checksum = crc32(encoded) if record.LARGE == 0 else None
        key = key_of(manager, session_id)
        await store.rewrite(key, lambda old: field(old, "data", encoded))
        await store.rewrite(key, lambda old: field(old, "checksum", checksum))
    requests = [await visit(manager, session_id) for _ in range(2)]
    for who, step in [*steps, (0, ("next",)), (1, ("next",))]:
        request = requests[who]
        try:
            if step == ("next",):
                session = request.session
                request.session.get("a")
                was_modified = session.modified
                left = await request.leave()
                shown.append((was_modified, session.modified, list(session)))
                shown.append(await data_of(manager, left))
                requests[who] = await visit(manager, left)
            else:
                shown.append(await do(request, step))
        except (KeyError, RuntimeError, SessionError) as error:
            shown.append(type(error))
    shown += [request.session.copy() for request in requests]
    await manager.close()
    return shown


@settings(max_examples=150, deadline=None)
@given(
    data=st.dictionaries(NAMES, VALUES, min_size=1, max_size=4),
    steps=st.lists(st.tuples(st.integers(0, 1), STEPS), max_size=12),
    as_json=st.booleans(),
    is_foreign=st.booleans(),
)
def test_nobody_notices_when_a_value_is_decoded(
    data: Any, steps: Any, as_json: bool, is_foreign: bool
) -> None:
    """Two parallel requests do and leave the same, with late decoding and without."""
    histories = []
    with pytest.MonkeyPatch.context() as patch:
        for large in (0, 1 << 30):
            patch.setattr(record, "LARGE", large)
            told = history(data, steps, as_json=as_json, is_foreign=is_foreign)
            histories.append(asyncio.run(told))
    assert histories[0] == histories[1]
