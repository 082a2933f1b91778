"""Messages for the next page."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from tornado_mcsession import EncodeError, JSONSerializer, StoreUnavailable

from ..support.requests import begin, data_of, key_of, visit
from ..support.scripted import down, lost


@pytest.mark.gen_test
async def test_messages_are_read_once(manager):
    """The next request gets them in their order, the one after it none."""
    first = await visit(manager)
    first.session.flash("one")
    first.session.flash("two", "error")
    session_id = await first.leave_with_cookie()
    second = await visit(manager, session_id)
    assert second.session == {}
    assert second.session.flashes() == [("info", "one"), ("error", "two")]
    assert second.session.flashes() == []
    await second.leave()
    assert (await visit(manager, session_id)).session.flashes() == []


@pytest.mark.gen_test
async def test_messages_are_read_by_category(manager):
    """The others wait."""
    late = await visit(manager)
    for number, category in enumerate(["a", "b", "a"]):
        late.session.flash(str(number), category)
    session_id = await late.leave_with_cookie()
    late = await visit(manager, session_id)
    assert late.session.flashes("a") == [("a", "0"), ("a", "2")]
    assert late.session.flashes("x") == []
    await late.leave()
    late = await visit(manager, session_id)
    assert late.session.flashes() == [("b", "1")]


@pytest.mark.gen_test
async def test_a_message_read_in_its_own_request_is_not_stored(manager, store):
    """Nothing is left to save."""
    late = await visit(manager)
    late.session.flash("one")
    assert late.session.flashes() == [("info", "one")]
    await late.leave()
    assert store.calls == []


@pytest.mark.gen_test
async def test_messages_are_not_in_the_mapping(manager):
    """Clearing or replacing the data leaves them."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session.flash("kept")
    late.session.clear()
    assert len(late.session) == 0
    await late.leave()
    assert (await visit(manager, session_id)).session.flashes() == [("info", "kept")]


@pytest.mark.gen_test
async def test_messages_of_parallel_requests_all_survive(manager):
    """Equal ones too; and what one of them read is not shown again."""
    session_id = await begin(manager, a=1)
    first = await visit(manager, session_id)
    first.session.flash("old")
    await first.leave()
    one, two, reader = [await visit(manager, session_id) for _ in range(3)]
    one.session.flash("same")
    two.session.flash("same")
    assert reader.session.flashes() == [("info", "old")]
    for late in (one, reader, two):
        await late.leave()
    last = (await visit(manager, session_id)).session
    assert last.flashes() == [("info", "same"), ("info", "same")]


@pytest.mark.gen_test
async def test_a_message_of_a_lost_save_is_there_once(manager, store):
    """A save that was done, but failed for its request, does not double it."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session.flash("once")
    store.script("cas", lost)
    store.script("get", down)
    with pytest.raises(StoreUnavailable):
        await late.session.save()
    await late.leave()
    assert (await visit(manager, session_id)).session.flashes() == [("info", "once")]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("x", 5), TypeError),
        (("x", None), TypeError),
        (("\ud800",), ValueError),
        (("x", "\udfff"), ValueError),
        (({1, 2},), EncodeError),
        ((["\ud800"],), EncodeError),
        ((datetime(2026, 1, 1),), EncodeError),
        ((bytearray(b"x"),), EncodeError),
    ],
)
@pytest.mark.gen_test
async def test_what_cannot_be_stored_is_refused_at_once(manager, arguments, error):
    """Where it is said; the error names the message or the category."""
    late = await visit(manager)
    with pytest.raises(error, match=r"message|category"):
        late.session.flash(*arguments)
    assert not late.session.modified


@pytest.mark.gen_test
async def test_a_message_alone_makes_a_session(manager):
    """It counts as data; once it was read, the session is empty and stays."""
    late = await visit(manager)
    late.session.flash("hello")
    assert late.session.modified
    session_id = await late.leave_with_cookie()
    assert await data_of(manager, session_id) == {}


# Messages that are no text.

VALUES = [
    {"text": "Removed", "undo": "/undo/7", "items": [1, 2.5, None, True]},
    ["a", "b"],
    None,
    False,
    0,
    b"bytes",
    datetime(2026, 1, 1, tzinfo=UTC),
]


@pytest.mark.gen_test
async def test_a_message_may_be_any_value(manager):
    """It comes back equal, in its place among the others."""
    request = await visit(manager)
    request.session.flash("text")
    for value in VALUES:
        request.session.flash(value, "value")
    session_id = await request.leave_with_cookie()
    found = (await visit(manager, session_id)).session.flashes()
    assert found == [("info", "text"), *[("value", value) for value in VALUES]]
    assert [type(value) for _, value in found[1:]] == list(map(type, VALUES))


@pytest.mark.gen_test
async def test_a_message_is_what_it_was_when_it_was_said(manager):
    """Later changes to the object are none of the message, stored or not."""
    request = await visit(manager)
    value = {"n": [1]}
    request.session.flash(value, "a")
    request.session.flash(value, "b")
    value["n"].append(2)
    assert request.session.flashes("a") == [("a", {"n": [1]})]
    session_id = await request.leave_with_cookie()
    assert (await visit(manager, session_id)).session.flashes() == [("b", {"n": [1]})]


@pytest.mark.gen_test
async def test_values_of_parallel_requests_all_survive(manager):
    """Equal ones too."""
    session_id = await begin(manager, a=1)
    requests = [await visit(manager, session_id) for _ in range(3)]
    for request in requests:
        request.session.flash({"same": True})
    for request in requests:
        await request.leave()
    last = (await visit(manager, session_id)).session
    assert last.flashes() == [("info", {"same": True})] * 3


@pytest.mark.gen_test
async def test_a_value_is_encoded_by_the_setting(make, store):
    """JSON has no bytes."""
    manager = make(store, serializer=JSONSerializer())
    request = await visit(manager)
    request.session.flash({"n": 1})
    with pytest.raises(EncodeError, match=r"flash message.*bytes"):
        request.session.flash(b"bytes")
    session_id = await request.leave_with_cookie()
    assert (await visit(manager, session_id)).session.flashes() == [("info", {"n": 1})]


@pytest.mark.gen_test
async def test_an_error_says_where_the_value_is(manager):
    """How deep, and what to use instead; no key of it is shown."""
    request = await visit(manager)
    with pytest.raises(EncodeError) as raised:
        request.session.flash({"secret": {"tags": {1, 2}}})
    assert str(raised.value) == (
        "the flash message, 2 levels down, holds a set that would not come back as "
        "it was; use a list"
    )


async def edit_flashes(manager, store, session_id, edit):
    """Rewrite the messages of a stored record, as another release would."""

    def edited(data):
        fields = msgspec.msgpack.decode(data[1:])
        fields[5] = [edit(flash) for flash in fields[5]]
        return data[:1] + msgspec.msgpack.encode(fields)

    await store.rewrite(key_of(manager, session_id), edited)


@pytest.mark.gen_test
async def test_messages_of_an_older_release_are_read(manager, store):
    """They are text alone, without a field for other values."""
    request = await visit(manager)
    request.session.flash("old", "news")
    session_id = await request.leave_with_cookie()
    await edit_flashes(manager, store, session_id, lambda flash: flash[:3])
    assert (await visit(manager, session_id)).session.flashes() == [("news", "old")]


@pytest.mark.gen_test
async def test_an_older_release_reads_an_empty_text(manager, store):
    """In place of a value; texts stand where it looks for them."""
    request = await visit(manager)
    request.session.flash({"n": 1}, "value")
    request.session.flash("text", "news")
    session_id = await request.leave_with_cookie()
    seen = []
    await edit_flashes(
        manager, store, session_id, lambda flash: seen.append(flash) or flash
    )
    assert [flash[1:3] for flash in seen] == [["value", ""], ["news", "text"]]


@pytest.mark.gen_test
async def test_a_value_that_cannot_be_read_is_dropped(manager, store, caplog):
    """The rest of the session stays, and the log says so, without the value."""
    request = await visit(manager)
    request.session["a"] = 1
    for value in ({"n": 1}, {"n": 2}, {"n": 3}):
        request.session.flash(value)
    session_id = await request.leave_with_cookie()
    broken = iter([b"\xc1", msgspec.msgpack.encode("good"), b"\x91" * 200 + b"\xc0"])
    await edit_flashes(
        manager, store, session_id, lambda flash: [*flash[:3], next(broken)]
    )
    request = await visit(manager, session_id)
    assert request.session.flashes() == [("info", "good")]
    lines = [line for line in caplog.messages if "flash message" in line]
    assert lines == [
        "a flash message could not be read (DecodeError)",
        "a flash message could not be read (DecodeError)",
    ]
    assert request.session == {"a": 1}
    await request.leave()
    assert (await visit(manager, session_id)).session.flashes() == []
