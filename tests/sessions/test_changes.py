"""What counts as a change, and costs a write."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from ..support.requests import FakeHandler, begin, data_of, visit

NOW = dt.datetime.fromtimestamp(1_800_000_000, dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture
def session(io_loop, manager):
    """The session of a request that carries no cookie."""
    return io_loop.run_sync(lambda: manager.open(FakeHandler()))


def pop_all(session):
    while session:
        session.popitem()


CHANGES = {
    "new key": lambda s: s.__setitem__("new", 1),
    "other value": lambda s: s.__setitem__("n", 2),
    "other type": lambda s: s.__setitem__("n", True),
    "float for int": lambda s: s.__setitem__("n", 1.0),
    "key removed": lambda s: s.__delitem__("n"),
    "nested list": lambda s: s["list"].append(3),
    "nested deep": lambda s: s["deep"]["a"][0].update(b=2),
    "nested order": lambda s: s["deep"].update(a=s["deep"].pop("a")),
    "cleared": lambda s: s.clear(),
    "emptied": pop_all,
    "flash": lambda s: s.flash("x"),
    "remember": lambda s: s.remember(True),
    "own timeout": lambda s: s.set_idle_timeout(5),
    "timeout of the setting": lambda s: s.set_idle_timeout(None),
    "own end": lambda s: s.set_expiry(NOW + DAY),
}
NO_CHANGES = {
    "nothing": lambda s: None,
    "read": lambda s: s["n"],
    "equal value": lambda s: s.__setitem__("n", 1),
    "equal list": lambda s: s.__setitem__("list", [1, 2]),
    "there and back": lambda s: (s["list"].append(3), s["list"].pop()),
    "removed and set": lambda s: s.__setitem__("n", s.pop("n")),
    "replaced by equal": lambda s: s.replace(dict(reversed(s.copy().items()))),
    "no flashes": lambda s: s.flashes(),
    "setdefault": lambda s: s.setdefault("n", 5),
    "set and removed": lambda s: (s.__setitem__("x", 1), s.pop("x")),
}
DATA = {"n": 1, "list": [1, 2], "deep": {"a": [{"b": 1}], "z": 0}}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.gen_test
async def test_a_change_is_noticed_and_saved(manager, store, change):
    """Nested ones too, by one write and no further read."""
    late = await visit(manager, await begin(manager, **DATA))
    store.calls.clear()
    CHANGES[change](late.session)
    assert late.session.modified
    expected = late.session.copy()
    await late.leave()
    assert store.calls == ["cas"]
    assert not late.session.modified
    assert await data_of(manager, late.session.id) == expected


@pytest.mark.parametrize("change", NO_CHANGES)
@pytest.mark.gen_test
async def test_what_is_no_change_costs_no_write(manager, store, change):
    """Equal values, and the order of keys, are nothing to save."""
    late = await visit(manager, await begin(manager, **DATA))
    store.calls.clear()
    NO_CHANGES[change](late.session)
    assert not late.session.modified
    assert await late.leave_with_cookie() is None
    assert store.calls == []


class Spaced:
    loads = staticmethod(json.loads)

    def dumps(self, value):
        return json.dumps(value).encode()


@pytest.mark.gen_test
async def test_data_of_another_serializer_version_is_not_rewritten(make, store):
    """Bytes that differ, but mean the same, are no change."""
    session_id = await begin(make(store, serializer=Spaced()), a=[1, 2])
    late = await visit(make(store, serializer="json"), session_id)
    assert late.session["a"] == [1, 2]
    assert not late.session.modified


def test_nothing_is_modified_by_flags_alone(session):
    """Options of a session that holds nothing are nothing to save."""
    session.remember(True)
    session.set_idle_timeout(60)
    assert not session.modified
    session["a"] = 1
    assert session.modified


def test_a_value_that_cannot_be_saved_counts_as_a_change(session):
    """What will be an error at the end must not pass for unchanged."""
    session["a"] = object()
    assert session.modified
