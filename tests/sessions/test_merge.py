"""Parallel changes of one session, merged key by key at any depth."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_mcsession import MemoryStore, Session, SessionManager

from ..support.requests import begin, data_of, visit

Change = Callable[[Session], object]


async def after_both(
    manager: SessionManager, data: dict[str, Any], mine: Change, theirs: Change
) -> Any:
    """What is stored after two requests that loaded the same state."""
    session_id = await begin(manager, **data)
    first, second = await visit(manager, session_id), await visit(manager, session_id)
    theirs(first.session)
    await first.leave()
    mine(second.session)
    saves = second.session.modified
    await second.leave()
    found = await data_of(manager, session_id)
    if saves:
        assert second.session == found, "the later request sees something else"
    return found


@pytest.mark.gen_test
async def test_six_requests_each_keep_their_key_of_one_mapping(
    manager: SessionManager, other: SessionManager
) -> None:
    """A page loads six parts at once, and each counts itself."""
    session_id = await begin(manager, parts={})

    async def part(which: SessionManager, name: str) -> None:
        request = await visit(which, session_id)
        await asyncio.sleep(0)
        request.session["parts"][name] = 1
        await request.leave()

    names = "abcdef"
    await asyncio.gather(
        *(part(which, n) for n, which in zip(names, (manager, other) * 3, strict=True))
    )
    assert await data_of(manager, session_id) == {"parts": dict.fromkeys(names, 1)}


CASES: dict[str, tuple[Any, Change, Change, Any]] = {
    "different keys, three levels down": (
        {"a": {"b": {"c": 1, "d": 1}}},
        lambda s: s["a"]["b"].update(c=2),
        lambda s: s["a"]["b"].update(d=2),
        {"a": {"b": {"c": 2, "d": 2}}},
    ),
    "the same key: the later save wins": (
        {"a": {"b": 1}},
        lambda s: s["a"].update(b="mine"),
        lambda s: s["a"].update(b="theirs"),
        {"a": {"b": "mine"}},
    ),
    "a key that both add": (
        {"z": 0},
        lambda s: s.update(a={"mine": 1}),
        lambda s: s.update(a={"theirs": 1}),
        {"z": 0, "a": {"mine": 1, "theirs": 1}},
    ),
    "one deletes, the other adds": (
        {"a": {"b": 1}},
        lambda s: s["a"].pop("b"),
        lambda s: s["a"].update(c=1),
        {"a": {"c": 1}},
    ),
    "one empties what the other adds to": (
        {"a": {"b": 1}},
        lambda s: s["a"].clear(),
        lambda s: s["a"].update(c=1),
        {"a": {"c": 1}},
    ),
    "a deletion of what they changed": (
        {"a": {"b": 1}, "z": 0},
        lambda s: s["a"].pop("b"),
        lambda s: s["a"].update(b=2),
        {"a": {}, "z": 0},
    ),
    "lists are values": (
        {"a": {"l": [1]}},
        lambda s: s["a"]["l"].append(2),
        lambda s: s["a"]["l"].append(3),
        {"a": {"l": [1, 2]}},
    ),
    "mappings within lists are values": (
        {"l": [{"x": 1, "y": 1}]},
        lambda s: s["l"][0].update(x=2),
        lambda s: s["l"][0].update(y=2),
        {"l": [{"x": 2, "y": 1}]},
    ),
    "a mapping becomes a number": (
        {"a": {"b": 1}},
        lambda s: s.update(a=5),
        lambda s: s["a"].update(c=1),
        {"a": 5},
    ),
    "a number becomes a mapping": (
        {"a": 5},
        lambda s: s.update(a={"b": 1}),
        lambda s: s.update(z=1),
        {"a": {"b": 1}, "z": 1},
    ),
    "an equal value is no change": (
        {"a": {"b": 1, "c": 1}},
        lambda s: s.update(a={"b": 1, "c": 2}),
        lambda s: s["a"].update(b=3),
        {"a": {"b": 3, "c": 2}},
    ),
    "clear removes what was seen": (
        {"a": {"b": 1}, "c": 1},
        lambda s: s.clear(),
        lambda s: s.update(d=1),
        {"d": 1},
    ),
    "keys in another order": (
        {"a": {"b": 1, "c": 1}},
        lambda s: s.update(a=dict(reversed(s["a"].items()))),
        lambda s: s["a"].update(b=2),
        {"a": {"b": 2, "c": 1}},
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.gen_test
async def test_two_requests_are_merged(manager: SessionManager, case: str) -> None:
    """``mine`` saves last, and loaded the same state as ``theirs``."""
    data, mine, theirs, expected = CASES[case]
    assert await after_both(manager, copy.deepcopy(data), mine, theirs) == expected


VERBS: dict[str, Callable[[Session], Any]] = {
    "save": lambda session: session.save(),
    "transact": lambda session: session.transact(lambda data: None),
    "regenerate": lambda session: session.regenerate(),
    "login": lambda session: session.login("ann"),
    "login again": lambda session: session.login("ann"),
    "revoke_others": lambda session: session.revoke_others(),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.gen_test
async def test_every_verb_merges_alike(manager: SessionManager, verb: str) -> None:
    """Nested keys of another request survive whatever saves."""
    principal = None if verb in ("login", "save") else "ann"
    session_id = await begin(manager, principal, box={"a": 1, "deep": {"x": 1}})
    mine, theirs = await visit(manager, session_id), await visit(manager, session_id)
    theirs.session["box"]["theirs"] = 1
    theirs.session["box"]["deep"]["theirs"] = 1
    await theirs.leave()
    mine.session["box"]["mine"] = 1
    mine.session["box"]["deep"]["mine"] = 1
    await VERBS[verb](mine.session)
    expected = {
        "a": 1,
        "theirs": 1,
        "mine": 1,
        "deep": {"x": 1, "theirs": 1, "mine": 1},
    }
    assert mine.session["box"] == expected
    assert await data_of(manager, await mine.leave()) == {"box": expected}


@pytest.mark.gen_test
async def test_a_handler_keeps_its_objects(manager: SessionManager) -> None:
    """A nested mapping that it holds gets the other request's keys, in place."""
    session_id = await begin(manager, box={"deep": {"x": 1}}, other={"y": 1})
    mine, theirs = await visit(manager, session_id), await visit(manager, session_id)
    theirs.session["box"]["deep"]["theirs"] = 1
    await theirs.leave()
    deep, other = mine.session["box"]["deep"], mine.session["other"]
    deep["mine"] = 1
    await mine.session.save()
    assert deep == {"x": 1, "theirs": 1, "mine": 1}
    assert mine.session["box"]["deep"] is deep
    assert mine.session["other"] is other
    deep["later"] = 1
    found = await data_of(manager, await mine.leave())
    assert found["box"]["deep"]["later"] == 1


# Any two sets of changes that do not touch each other are both there afterwards.

NAMES = st.sampled_from("abc")
TREES = st.recursive(
    st.integers(0, 3) | st.lists(st.integers(0, 1), max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
DATA = st.dictionaries(NAMES, TREES, max_size=3)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
EDITS = st.lists(st.tuples(PATHS, st.integers(10, 13) | st.none()), max_size=4)


def edit(data: Any, path: tuple[str, ...], value: int | None) -> None:
    """Set or delete what is at ``path``; make the mappings that lead there."""
    for name in path[:-1]:
        if name not in data and value is None:
            return
        data = data.setdefault(name, {})
        if not isinstance(data, dict):
            return
    if value is None:
        data.pop(path[-1], None)
    else:
        data[path[-1]] = value


def touches(one: tuple[str, ...], another: tuple[str, ...]) -> bool:
    """Whether one path leads through the other."""
    length = min(len(one), len(another))
    return one[:length] == another[:length]


@settings(max_examples=150)
@given(data=DATA, mine=EDITS, theirs=EDITS)
def test_independent_changes_are_both_kept(data: Any, mine: Any, theirs: Any) -> None:
    """Whatever was there before."""
    theirs = [
        (path, value)
        for path, value in theirs
        if not any(touches(path, other) for other, _ in mine)
    ]
    data = {"kept": 0, **data}

    def apply(edits: Any) -> Change:
        return lambda target: [edit(target, *each) for each in edits]

    async def main() -> Any:
        manager = SessionManager(store=MemoryStore())
        return await after_both(
            manager, copy.deepcopy(data), apply(mine), apply(theirs)
        )

    expected = copy.deepcopy(data)
    apply(theirs)(expected)  # type: ignore[arg-type]
    apply(mine)(expected)  # type: ignore[arg-type]
    assert asyncio.run(main()) == expected
