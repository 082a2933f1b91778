"""Messages for the next page."""

from __future__ import annotations

import pytest

from tornado_mcsession import StoreUnavailable

from ..support.requests import begin, data_of, visit
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
        ((5,), TypeError),
        ((None,), TypeError),
        (("x", 5), TypeError),
        (("\ud800",), ValueError),
        (("x", "\udfff"), ValueError),
    ],
)
@pytest.mark.gen_test
async def test_messages_are_text(manager, arguments, error):
    """What could not be stored is refused where it is said."""
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
