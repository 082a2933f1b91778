"""Two releases side by side: records and markers that a later one has written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from tornado_mcsession import Session, SessionManager

from ..support.clock import ManualClock
from ..support.requests import Visit, begin, data_of, is_alive, visit
from ..support.scripted import ScriptedStore

# What a later release may have added: one field, or several of any kind.
ADDITIONS: dict[str, list[Any]] = {
    "a number": [7],
    "nothing": [None],
    "text": ["field of tomorrow"],
    "several": [b"bytes", {"a": [1, 2.5]}, "text", None, True],
    "many": list(range(40)),
}

each_addition = pytest.mark.parametrize("added", ADDITIONS)


def is_marker(key: str) -> bool:
    """Whether it is the key of a principal's marker."""
    return key.endswith("}")


async def fields_of(store: ScriptedStore, key: str) -> list[Any]:
    """The fields in a value, behind its version byte."""
    entry = await store.inner.get(key)
    assert entry is not None
    fields = msgspec.msgpack.decode(entry.data[1:])
    assert isinstance(fields, list)
    return fields


async def extend(store: ScriptedStore, key: str, added: list[Any]) -> None:
    """Write a value anew, as a release does that knows more fields."""

    def longer(data: bytes) -> bytes:
        fields = [*msgspec.msgpack.decode(data[1:]), *added]
        return data[:1] + msgspec.msgpack.encode(fields)

    await store.rewrite(key, longer)


def record_keys(store: ScriptedStore) -> set[str]:
    return {key for key in store.keys if not is_marker(key)}


def marker_keys(store: ScriptedStore) -> set[str]:
    return {key for key in store.keys if is_marker(key)}


async def leave(request: Visit) -> None:
    request.session["b"] = 2
    await request.leave()


async def save(request: Visit) -> None:
    request.session["b"] = 2
    await request.session.save()


async def transact(request: Visit) -> None:
    await request.session.transact(lambda data: data.update(b=2))


async def flash(request: Visit) -> None:
    request.session["b"] = 2
    request.session.flash("message")
    await request.leave()


async def touch(request: Visit) -> None:
    await request.session.touch()
    await save(request)


async def renew(request: Visit) -> None:
    await save(request)
    clock: ManualClock = request.manager.settings.clock  # type: ignore[assignment]
    clock.advance(0.5 * 86_400)
    again = await visit(request.manager, request.session.id)
    assert again.session
    await again.leave()


async def merge(request: Visit) -> None:
    faster = await visit(request.manager, request.session.id)
    faster.session["theirs"] = 1
    await faster.leave()
    await save(request)
    del request.session["theirs"]
    await request.session.save()


WRITERS: list[Callable[[Visit], Awaitable[None]]] = [
    leave,
    save,
    transact,
    flash,
    touch,
    renew,
    merge,
]


@each_addition
@pytest.mark.parametrize("write", WRITERS, ids=lambda function: function.__name__)
@pytest.mark.gen_test
async def test_fields_of_a_later_release_are_kept(
    manager: SessionManager, store: ScriptedStore, write: Any, added: str
) -> None:
    """When this one rewrites the record, whatever for."""
    session_id = await begin(manager, a=1)
    (key,) = store.keys
    known = len(await fields_of(store, key))
    await extend(store, key, ADDITIONS[added])
    assert await data_of(manager, session_id) == {"a": 1}
    await write(await visit(manager, session_id))
    assert await data_of(manager, session_id) == {"a": 1, "b": 2}
    fields = await fields_of(store, key)
    assert fields[known:] == ADDITIONS[added]


MOVES: dict[str, Callable[[Session], Awaitable[None]]] = {
    "regenerate": lambda session: session.regenerate(),
    "login": lambda session: session.login("ann"),
    "revoke_others": lambda session: session.revoke_others(),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.gen_test
async def test_they_go_along_to_a_new_id(
    manager: SessionManager, store: ScriptedStore, move: str
) -> None:
    """The data does, and so do fields that nobody here knows."""
    session_id = await begin(manager, "ann", a=1)
    known = 0
    for key in record_keys(store):
        entry = await store.inner.get(key)
        if entry is not None:
            known = len(await fields_of(store, key))
            await extend(store, key, ["field of tomorrow"])
    before = record_keys(store)
    request = await visit(manager, session_id)
    await MOVES[move](request.session)
    new_id = await request.leave()
    assert await data_of(manager, new_id) == {"a": 1}
    (new_key,) = record_keys(store) - before
    assert (await fields_of(store, new_key))[known:] == ["field of tomorrow"]


@each_addition
@pytest.mark.gen_test
async def test_markers_of_a_later_release_are_read_and_kept(
    manager: SessionManager, store: ScriptedStore, added: str
) -> None:
    """Logins go on; none of them is silently absent."""
    first = await begin(manager, "ann", a=1)
    (key,) = marker_keys(store)
    known = len(await fields_of(store, key))
    await extend(store, key, ADDITIONS[added])
    assert await is_alive(manager, first)
    for _ in range(40):
        assert await is_alive(manager, await begin(manager, "ann", a=1))
    assert (await fields_of(store, key))[known:] == ADDITIONS[added]
    request = await visit(manager, first)
    await request.session.revoke_others()
    assert await is_alive(manager, await request.leave())
    assert (await fields_of(store, key))[known:] == ADDITIONS[added]
    await manager.revoke("ann")
    assert not await is_alive(manager, request.session.id)
    assert await is_alive(manager, await begin(manager, "ann", a=1))


@pytest.mark.gen_test
async def test_a_marker_that_nobody_can_read_ends_its_sessions_and_no_login(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """Of another version, or foreign: sessions fail closed, later logins work."""
    first = await begin(manager, "ann", a=1)
    (key,) = marker_keys(store)
    for raw in (b"\x63whatever", b"", b"\x00" * 16, b"x" * 17):
        await store.rewrite(key, lambda data, raw=raw: raw)
        assert not await is_alive(manager, first)
        first = await begin(manager, "ann", a=1)
        assert await is_alive(manager, first)


@pytest.mark.gen_test
async def test_a_record_of_another_version_is_no_session(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """The version byte stands before all else."""
    session_id = await begin(manager, a=1)
    (key,) = store.keys
    await store.rewrite(key, lambda data: b"\x63" + data[1:])
    request = await visit(manager, session_id)
    assert request.session.presented == "unknown"
    assert request.session == {}
    assert manager.stats()["corrupt_records"] == 1


@pytest.mark.gen_test
async def test_a_record_with_fewer_fields_is_read(
    manager: SessionManager, store: ScriptedStore
) -> None:
    """As an earlier release wrote it, before the last fields were there."""
    session_id = await begin(manager, a=1)
    (key,) = store.keys

    def shorter(data: bytes) -> bytes:
        return data[:1] + msgspec.msgpack.encode(msgspec.msgpack.decode(data[1:])[:5])

    await store.rewrite(key, shorter)
    assert await data_of(manager, session_id) == {"a": 1}
    request = await visit(manager, session_id)
    request.session["b"] = 2
    await request.leave()
    assert await data_of(manager, session_id) == {"a": 1, "b": 2}
