"""The lists under docs/reference/: settings, a session, errors. Their code runs."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from tornado.web import Application

import tornado_mcsession
from tornado_mcsession import (
    CookieSettings,
    MemoryStore,
    Session,
    SessionError,
    SessionManager,
    SessionSettings,
    UserSession,
)

from ..support.pages import blocks, run, run_async, text_of

# docs/reference/settings.md


def first_cells(text: str) -> set[str]:
    """What stands in code in the first cells of all tables."""
    cells = re.findall(r"^\| ([^|]*) \|", text, re.M)
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


def settings_of(schema: type) -> dict[str, Any]:
    """The keys of a TypedDict, and their types."""
    return get_type_hints(schema, localns={"Session": object})


def words_in(hint: Any) -> set[str]:
    """The words that a type allows."""
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return set().union(*map(words_in, get_args(hint)))
    return set()


@pytest.mark.parametrize("schema", [SessionSettings, CookieSettings])
def test_the_tables_have_the_settings_of_the_types(schema: type) -> None:
    """Each in one row, which names every word that it may be."""
    rows = re.findall(r"^\| (`.*) \|$", text_of("settings.md"), re.M)
    for name, hint in settings_of(schema).items():
        (row,) = [row for row in rows if re.search(rf"`{name}[`(]", row.split("|")[0])]
        for word in words_in(hint):
            assert f'`"{word}"`' in row, f"{name}: {word}"


def test_the_tables_have_no_other_settings() -> None:
    """What was renamed or removed is not left there."""
    known = {*settings_of(SessionSettings), *settings_of(CookieSettings)}
    assert first_cells(text_of("settings.md")) == known


DEFAULTS = {"idle_timeout": "1 day", "lifetime": "30 days", "max_size": "900 KiB"}


def test_the_tables_have_the_defaults() -> None:
    """As Python writes them, but for durations and sizes."""
    cells = re.findall(r"^\| (`[^|]*) \| ([^|]*) \|.*\|$", text_of("settings.md"), re.M)
    told = {}
    for names, defaults in cells:
        keys = re.findall(r"`(\w+)`", names)
        values = defaults.split(", ") if len(keys) > 1 else [defaults]
        told.update(zip(keys, values, strict=True))
    manager = SessionManager(Application(debug=True))
    found = manager.settings
    del told["cookie"], told["clock"]
    for name, default in told.items():
        owner = found if hasattr(found, name) else found.cookie
        value = repr(getattr(owner, name)).replace("'", '"')
        assert default.strip("`") == DEFAULTS.get(name, value), name


@pytest.mark.parametrize("schema", [SessionSettings, CookieSettings])
def test_each_setting_has_a_docstring(schema: type) -> None:
    """Which editors show."""
    body = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0].body
    for name, text in itertools.pairwise(body):
        if isinstance(name, ast.AnnAssign):
            assert isinstance(text, ast.Expr), name.target.id
    assert isinstance(body[-1], ast.Expr)


@pytest.mark.gen_test
async def test_the_settings_are_accepted() -> None:
    """As they stand in the page's examples."""
    settings, typed, cookie, several = blocks("settings.md")
    names = run(settings)
    assert names["manager"].settings.idle_timeout == 3600
    assert names["manager"].settings.lifetime == 7 * 86_400
    assert SessionManager.of(run(typed)["app"]).settings.persist == "on_finish"
    app = Application([])
    given = run(several, app=app)["admin"]
    assert given.settings.key_prefix == "mcsession:admin:"
    options = run(cookie)["cookie"]
    assert options(None, None)["samesite"] == "Lax"
    assert options(None, {"admin": True})["samesite"] == "Strict"
    SessionManager(Application(), store="memory://", cookie=options)


# docs/reference/session.md and errors.md


def test_all_that_a_session_can_do_is_in_the_tables() -> None:
    """Each public name of `Session` that a dict does not have."""
    own = {name for name in vars(Session) if not name.startswith("_")}
    own -= set(dir(dict))
    assert own <= set(re.findall(r"`(?:await )?(\w+)", text_of("session.md")))


def test_all_errors_are_in_the_table() -> None:
    """With the status of each."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", text_of("errors.md"), re.M)
    found = {name: int(status) for name, status in rows}
    classes = {
        name: value
        for name, value in vars(tornado_mcsession).items()
        if isinstance(value, type) and issubclass(value, SessionError)
    }
    told = set(classes) - {"SessionError", "StoreError", "DecodeError"}
    assert found == {name: classes[name].status for name in told}


# docs/reference/user-sessions.md


def test_all_of_an_item_is_in_the_table() -> None:
    """Each field of a `UserSession`."""
    text = text_of("user-sessions.md")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.M)) == set(UserSession._fields)


# docs/reference/typed-data.md


def test_older_data_is_brought_into_the_shape() -> None:
    """By the function that the page shows."""

    class Cart(msgspec.Struct):
        items: list[str] = []

    (upgraded,) = blocks("typed-data.md")
    changed = run(upgraded, app=Application(debug=True), Cart=Cart)
    assert changed["upgrade"]({"basket": ["pen"]}) == {"items": ["pen"]}


# docs/reference/metrics.md


def test_all_counters_are_told() -> None:
    """Each key of `SessionManager.stats`."""
    told = set(re.findall(r"`(\w+)`", text_of("metrics.md")))
    assert set(SessionManager(store=MemoryStore()).stats()) <= told


@pytest.mark.gen_test
async def test_the_manager_tells_what_it_does(capsys: Any) -> None:
    """An observer is called for each operation, and for the end of a session."""
    (watch,) = blocks("metrics.md")
    manager = SessionManager(Application(), store=MemoryStore())
    names = await run_async(watch, manager=manager)
    assert names["health"]["status"] == "ok"
    await manager.set("a" * 43, {"n": 1})
    await manager.destroy("a" * 43)
    printed = capsys.readouterr().out
    assert "add on the store: stored" in printed
    assert "end on the store: logout" in printed
