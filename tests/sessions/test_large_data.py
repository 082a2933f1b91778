"""Large sessions: their values are decoded when they are asked for, and not before.

Nobody may notice, but by the time that it takes.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tornado_mcsession import JSONSerializer, MsgpackSerializer, SessionManager
from tornado_mcsession.sessions.record import LARGE, Record

from ..support.requests import begin, data_of, key_of, visit
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
