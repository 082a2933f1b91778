"""Which values a session carries, and how a wrong one is reported."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import logging
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_mcsession import EncodeError, MemoryStore, Session, SessionManager

from ..support.requests import begin, data_of, visit
from ..support.scripted import ScriptedStore, after

NEW_YORK = ZoneInfo("America/New_York")
# 01:30 happens twice that night: this is the first time.
REPEATED = datetime(2026, 11, 1, 5, 30, tzinfo=UTC).astimezone(NEW_YORK)
REPEATED_AGAIN = datetime(2026, 11, 1, 6, 30, tzinfo=UTC).astimezone(NEW_YORK)


class Markup(str):
    """Text that says of itself that it is safe, as markupsafe's does."""

    __slots__ = ()

    def __html__(self) -> Markup:
        return self


class FakeDatetime(datetime):
    """What a library that freezes time puts in the place of `datetime`."""


INSTANTS = {
    "the repeated hour": REPEATED,
    "the repeated hour, again": REPEATED_AGAIN,
    "an hour that is skipped": datetime(2026, 3, 8, 2, 30, tzinfo=NEW_YORK),
    "another offset": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=14))),
    "an offset with seconds": datetime(
        2026, 1, 1, tzinfo=timezone(timedelta(hours=1, seconds=17))
    ),
    "UTC": datetime(2026, 1, 1, 1, 2, 3, 456789, tzinfo=UTC),
    "before 1970": datetime(1901, 2, 3, 4, 5, 6, 7, tzinfo=UTC),
    "the first year": datetime(1, 1, 1, tzinfo=UTC),
    "the last second": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "a subclass": FakeDatetime(2026, 1, 1, tzinfo=UTC),
    "a subclass in the repeated hour": FakeDatetime(
        2026, 11, 1, 1, 30, fold=1, tzinfo=NEW_YORK
    ),
}


def same_instant(found: Any, given: datetime) -> bool:
    """In UTC, of the plain type, and to the microsecond."""
    return (
        type(found) is datetime
        and found.utcoffset() == timedelta(0)
        and found == given.astimezone(UTC)
    )


each_instant = pytest.mark.parametrize("name", INSTANTS)


@each_instant
@pytest.mark.gen_test
async def test_an_aware_datetime_comes_back_in_utc(
    manager: SessionManager, name: str
) -> None:
    """Wherever it stands, the same instant."""
    when = INSTANTS[name]
    session_id = await begin(manager, at=when, box={"deep": [{"at": when}]})
    found = await data_of(manager, session_id)
    assert same_instant(found["at"], when)
    assert same_instant(found["box"]["deep"][0]["at"], when)


@each_instant
@pytest.mark.gen_test
async def test_it_is_taken_by_updates_merges_and_transact(
    manager: SessionManager, other: SessionManager, store: ScriptedStore, name: str
) -> None:
    """As by a first save."""
    when = INSTANTS[name]
    session_id = await begin(manager, a=1)

    async def faster() -> None:
        session = await other.get(session_id)
        assert session is not None
        session["theirs"] = {"at": when}
        await session.save()

    request = await visit(manager, session_id)
    request.session["mine"] = {"at": when}
    store.script("cas", after(faster))
    await request.session.save()
    await request.session.transact(lambda data: data.update(fn=[when]))
    assert same_instant(request.session["fn"][0], when)
    found = await data_of(manager, await request.leave())
    for value in (found["mine"]["at"], found["theirs"]["at"], found["fn"][0]):
        assert same_instant(value, when)


@each_instant
@pytest.mark.gen_test
async def test_an_equal_instant_is_no_change(
    manager: SessionManager, store: ScriptedStore, name: str
) -> None:
    """Setting it again writes nothing."""
    session_id = await begin(manager, at=INSTANTS[name])
    request = await visit(manager, session_id)
    request.session["at"] = INSTANTS[name]
    assert not request.session.modified
    writes = store.calls.count("cas")
    await request.leave()
    assert store.calls.count("cas") == writes


@settings(max_examples=200)
@given(
    when=st.datetimes(
        min_value=datetime(2, 1, 1),
        max_value=datetime(9998, 12, 31),
        timezones=st.timezones() | st.just(UTC),
        allow_imaginary=True,
    )
)
def test_every_aware_datetime_that_utc_can_express_is_taken(when: datetime) -> None:
    """Whatever its zone."""
    import asyncio

    async def main() -> None:
        manager = SessionManager(store=MemoryStore())
        session_id = await begin(manager, at=when)
        assert same_instant((await data_of(manager, session_id))["at"], when)

    asyncio.run(main())


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
@pytest.mark.gen_test
async def test_subclasses_of_text_count_as_text(
    make: Callable[..., SessionManager], store: ScriptedStore, serializer: str
) -> None:
    """As markupsafe's, which templates return; also nested, and in transact."""
    manager = make(store, serializer=serializer)
    text = Markup("<b>bold</b>")
    session_id = await begin(manager, text=text, box=[{"text": text}])
    request = await visit(manager, session_id)
    await request.session.transact(lambda data: data.update(fn=Markup("x")))
    found = await data_of(manager, session_id)
    assert found == {"text": "<b>bold</b>", "box": [{"text": "<b>bold</b>"}], "fn": "x"}
    assert type(found["text"]) is type(found["box"][0]["text"]) is str
    # An equal one is no change.
    request = await visit(manager, session_id)
    request.session["text"] = text
    assert not request.session.modified


class Color(enum.Enum):
    """An enumeration of an application."""

    RED = "red"


REFUSED: dict[str, Any] = {
    "tuple": (1, 2),
    "set": {1},
    "frozenset": frozenset({1}),
    "UUID": uuid.UUID(int=1),
    "Decimal": decimal.Decimal("1.5"),
    "datetime": datetime(2026, 1, 1),
    "Color": Color.RED,
    "object": object(),
    "complex": 1j,
    "int": 2**70,
}
PLACES: dict[str, Callable[[Session, Any], None]] = {
    "at the top": lambda s, v: s.update(cart=v),
    "in a mapping": lambda s, v: s.update(cart={"inner-secret": v}),
    "deep": lambda s, v: s.update(cart={"inner-secret": [{"more-secret": v}]}),
}
DEPTHS = {"at the top": 0, "in a mapping": 1, "deep": 3}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.gen_test
async def test_what_would_not_come_back_is_an_encode_error(
    manager: SessionManager, kind: str, place: str
) -> None:
    """It names the session's key, the depth below it and the type; no nested key."""
    request = await visit(manager)
    PLACES[place](request.session, REFUSED[kind])
    with pytest.raises(EncodeError) as caught:
        await request.session.save()
    error = caught.value
    for text in (str(error), repr(error), error.path, *map(str, error.args)):
        assert "secret" not in text
    assert error.path == "session['cart']"
    assert "session['cart']" in str(error)
    assert error.type_name == kind
    assert kind in str(error)
    depth = DEPTHS[place]
    if depth:
        assert str(depth) in str(error)
    assert error.__cause__ is None or "secret" not in repr(error.__cause__)


@pytest.mark.parametrize(
    ("kind", "hint"), [("tuple", "list"), ("set", "list"), ("datetime", "aware")]
)
@pytest.mark.gen_test
async def test_it_says_what_to_use_instead(
    manager: SessionManager, kind: str, hint: str
) -> None:
    """For what people put into sessions most often."""
    request = await visit(manager)
    request.session["v"] = REFUSED[kind]
    with pytest.raises(EncodeError, match=hint):
        await request.session.save()


@pytest.mark.parametrize("keys", [{1: "x"}, {None: "x"}, {b"k": 1}, {1.5: 1}])
@pytest.mark.gen_test
async def test_keys_of_nested_mappings_are_text(
    manager: SessionManager, keys: Any
) -> None:
    """Others would come back as text, or not at all."""
    request = await visit(manager)
    request.session["box"] = {"deep": keys}
    with pytest.raises(EncodeError):
        await request.session.save()


@pytest.mark.gen_test
async def test_an_encode_error_leaves_the_rest_as_it_is(
    manager: SessionManager,
) -> None:
    """Nothing is stored; without the wrong value the request goes on."""
    session_id = await begin(manager, a=1)
    request = await visit(manager, session_id)
    request.session["b"] = 2
    request.session["bad"] = {1}
    for verb in (request.session.save, request.session.regenerate):
        with pytest.raises(EncodeError):
            await verb()
    assert await data_of(manager, session_id) == {"a": 1}
    del request.session["bad"]
    assert await data_of(manager, await request.leave()) == {"a": 1, "b": 2}


@pytest.mark.gen_test
async def test_an_old_wrong_value_does_not_stop_a_change_of_another_key(
    manager: SessionManager,
) -> None:
    """Mappings of any class that is a dict, and NaN, are taken."""
    session_id = await begin(
        manager, nan=float("nan"), o=OrderedDict(a=1), d=defaultdict(int, a=1)
    )
    request = await visit(manager, session_id)
    request.session["other"] = 1
    found = await data_of(manager, await request.leave())
    assert found["nan"] != found["nan"]
    assert found["o"] == {"a": 1}
    assert type(found["d"]) is dict


# Records that this package never wrote.


def with_data(raw: bytes, old: dict[str, Any], new: bytes) -> bytes:
    """The record ``raw`` with other bytes in the place of the encoded ``old``."""
    encoded = msgspec.msgpack.encode(old)
    fields = msgspec.msgpack.decode(raw[1:])
    assert fields.count(encoded) == 1
    return raw[:1] + msgspec.msgpack.encode(
        [new if field == encoded else field for field in fields]
    )


Ext = msgspec.msgpack.Ext
FOREIGN: dict[str, bytes] = {
    "an extension": msgspec.msgpack.encode({"a": Ext(5, b"x")}),
    "an extension within": msgspec.msgpack.encode({"a": {"b": [Ext(5, b"x")]}}),
    "an extension in a list": msgspec.msgpack.encode({"a": [[Ext(127, b"")]]}),
    "of the standard's negative types": msgspec.msgpack.encode({"a": Ext(-2, b"x")}),
    "a timestamp that is none": msgspec.msgpack.encode({"a": Ext(-1, b"x")}),
    "no mapping": msgspec.msgpack.encode([1]),
    "keys that are no text": msgspec.msgpack.encode({1: 2}),
    "no msgpack": b"\xc1",
    "cut": msgspec.msgpack.encode({"a": "long text"})[:-2],
    "more behind it": msgspec.msgpack.encode({"a": 1}) + b"\x00",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.gen_test
async def test_a_foreign_record_is_no_session(
    manager: SessionManager,
    store: ScriptedStore,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    """It is an empty one, logged and counted; never adopted."""
    session_id = await begin(manager, a=1)
    (key,) = store.keys
    await store.rewrite(key, lambda data: with_data(data, {"a": 1}, FOREIGN[kind]))
    caplog.clear()
    request = await visit(manager, session_id)
    assert request.session == {}
    assert request.session.presented == "unknown"
    assert not request.session.exists
    assert manager.stats()["corrupt_records"] == 1
    (line,) = [r for r in caplog.records if r.name == "tornado_mcsession"]
    assert line.levelno == logging.WARNING
    assert session_id not in line.getMessage()
    request.session["b"] = 1
    assert await request.leave() != session_id


@pytest.mark.gen_test
async def test_a_timestamp_of_another_writer_is_a_datetime(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """MessagePack's own timestamps are those of this package."""
    session_id = await begin(manager, a=1)
    (key,) = store.keys
    when = datetime(2026, 1, 1, tzinfo=dt.UTC)
    raw = msgspec.msgpack.encode({"a": when})
    await store.rewrite(key, lambda data: with_data(data, {"a": 1}, raw))
    assert (await data_of(manager, session_id))["a"] == when
