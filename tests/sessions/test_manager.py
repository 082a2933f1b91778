"""The manager: attached, counted, drained and closed."""

from __future__ import annotations

import asyncio
import threading
from unittest.mock import Mock

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import Application, RequestHandler

from tornado_mcsession import (
    MemcachedStore,
    MemoryStore,
    SessionManager,
    SessionMixin,
)

from ..support.requests import begin, key_of, visit
from ..support.scripted import ScriptedStore, down

ID = "a-session-id-of-forty-three-characters-0123"


# Attached.


def test_it_attaches_itself():
    """In the slot of its name."""
    app = Application()
    manager = SessionManager(app, store=MemoryStore())
    other = SessionManager(app, name="admin", store=MemoryStore())
    assert app.settings["session_manager"] is manager
    assert app.settings["session_manager:admin"] is other
    assert SessionManager.of(app) is manager
    assert SessionManager.of(app, "admin") is other


def test_a_name_is_attached_once():
    """A second manager of the same name would share cookie and keys."""
    app = Application()
    SessionManager(app, store=MemoryStore())
    with pytest.raises(RuntimeError, match="named 'session' is attached already"):
        SessionManager(app, store=MemoryStore())


def test_a_manager_with_wrong_settings_is_not_attached():
    """The next try finds the slot free."""
    app = Application()
    with pytest.raises(ValueError, match="max_size"):
        SessionManager(app, store=MemoryStore(), max_size=0)
    assert SessionManager(app, store=MemoryStore()).name == "session"


@pytest.mark.parametrize(("name", "error"), [(5, TypeError), ("", ValueError)])
def test_a_name_is_text(name, error):
    """It is a part of the slot, the cookie's name and the keys."""
    with pytest.raises(error, match="name"):
        SessionManager(name=name, store=MemoryStore())


def test_one_is_attached_where_none_is():
    """Built from the application's settings, once."""
    app = Application(session={"store": "memory://", "idle_timeout": 60})
    manager = SessionManager.of(app)
    assert manager.settings.idle_timeout == 60
    assert SessionManager.of(app) is manager
    with pytest.raises(RuntimeError, match="no SessionManager named 'admin'"):
        SessionManager.of(app, "admin")


class Page(SessionMixin, RequestHandler):
    pass


class AdminPage(Page):
    session_manager_name = "admin"


def test_a_handler_leads_to_its_manager():
    """By its `session_manager_name`, or by the name that is given."""
    app = Application()
    main = SessionManager(app, store=MemoryStore())
    admin = SessionManager(app, name="admin", store=MemoryStore())
    request = HTTPServerRequest(
        headers=HTTPHeaders({"Host": "127.0.0.1"}),
        connection=Mock(),
        start_line=RequestStartLine("GET", "/", "HTTP/1.1"),
    )
    assert SessionManager.of(Page(app, request)) is main
    assert SessionManager.of(AdminPage(app, request)) is admin
    assert SessionManager.of(AdminPage(app, request), "session") is main
    assert SessionManager.of(RequestHandler(app, request)) is main


@pytest.mark.parametrize("owner", [None, "admin", {}])
def test_what_has_no_manager_is_named(owner):
    """With what is allowed."""
    with pytest.raises(TypeError, match="an Application or a RequestHandler"):
        SessionManager.of(owner)


def test_something_else_in_the_slot_is_named():
    """A setting of the same name is an error that says so."""
    app = Application(session_manager="mine")
    with pytest.raises(TypeError, match="'session_manager' must hold a SessionManager"):
        SessionManager.of(app)


def test_keywords_override_settings():
    """What is said to the manager itself comes first."""
    app = Application(session={"idle_timeout": 60, "max_size": 5}, debug=True)
    config = SessionManager(app, idle_timeout=90).settings
    assert (config.idle_timeout, config.max_size) == (90, 5)


@pytest.mark.parametrize(
    ("settings", "options", "warned"),
    [
        ({}, {}, True),
        ({"debug": True}, {}, False),
        ({}, {"store": "memory://"}, False),
        ({"session": {"store": "memory://"}}, {}, False),
    ],
)
def test_a_memory_store_by_default_is_warned_of(caplog, settings, options, warned):
    """Where nobody chose it, and nobody is developing."""
    SessionManager(Application(**settings), **options)
    assert ("kept in this process alone" in caplog.text) is warned


def test_building_starts_nothing():
    """No thread, and no event loop is needed."""
    before = threading.active_count()
    app = Application(session={"store": "memcached://127.0.0.1:1"})
    manager = SessionManager(app)
    assert threading.active_count() == before
    assert isinstance(manager.store, MemcachedStore)
    assert repr(manager) == "<SessionManager 'session' store=<MemcachedStore nodes=1>>"


# Counted.


KEYS = {
    "loads",
    "hits",
    "misses",
    "saves",
    "renewals",
    "conflicts",
    "dropped_saves",
    "corrupt_records",
    "refused_sessions",
    "held_answers",
    "withheld_sessions",
    "ambiguous_cookies",
    "refused_ends",
    "dropped_ends",
    "unsaved_changes",
    "begun",
    "ended_logout",
    "ended_revoked",
    "ended_rotated",
    "ended_expired",
    "ended_refused",
    "errors_load",
    "errors_save",
    "errors_renew",
    "errors_destroy",
    "running_saves",
    "pending_destroys",
    "store",
}


@pytest.mark.gen_test
async def test_stats_count(manager, store, clock):
    """All counters are there from the start, and each counts its own."""
    stats = manager.stats()
    assert set(stats) == KEYS
    assert {value for key, value in stats.items() if key != "store"} == {0}
    session_id = await begin(manager, a=1)
    await visit(manager, ID)
    clock.advance(50_000)
    late = await visit(manager, session_id)
    assert late.session["a"] == 1
    await late.leave()
    late = await visit(manager, session_id)
    late.session["a"] = 2
    store.script("cas", down)
    with pytest.raises(Exception, match="down"):
        await late.leave()
    changed = {key: value for key, value in manager.stats().items() if value}
    changed.pop("store", None)
    assert changed == {
        "loads": 3,
        "hits": 2,
        "misses": 1,
        "saves": 1,
        "renewals": 1,
        "begun": 1,
        "errors_save": 1,
    }


def test_stats_have_those_of_the_store(manager):
    """What the store tells of itself is under its own key."""
    plain = SessionManager(store=MemoryStore())
    assert plain.stats()["store"]["entries"] == 0


# Drained and closed.


@pytest.mark.gen_test
async def test_drain_waits_for_saves_under_way(manager):
    """Those that are begun meanwhile, too; a timeout is no error."""
    done, go_on = [], asyncio.Event()

    async def second():
        await asyncio.sleep(0)
        done.append("second")

    async def first():
        await go_on.wait()
        done.append("first")
        manager.tasks.start(second())

    manager.tasks.start(first(), key_of(manager, ID))
    assert await manager.drain(0.01) is False
    assert manager.stats()["running_saves"] == 1
    go_on.set()
    assert await manager.drain(10) is True
    assert done == ["first", "second"]
    assert await manager.drain() is True


@pytest.mark.gen_test
async def test_the_next_request_waits_for_a_save_under_way(manager):
    """Whoever comes after an answer sees what it left, in this process."""
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2
    go_on = asyncio.Event()

    async def save_later():
        await go_on.wait()
        await manager.commit(late.session)

    manager.tasks.start(save_later(), key_of(manager, session_id))
    coming = asyncio.ensure_future(visit(manager, session_id))
    for _ in range(10):
        await asyncio.sleep(0)
    other = await visit(manager, ID)
    assert other.session == {}
    assert not coming.done()
    go_on.set()
    assert (await coming).session["a"] == 2


@pytest.mark.gen_test
async def test_a_save_that_fails_does_not_keep_the_next_request(manager):
    """It is waited for, however it ends."""
    session_id = await begin(manager, a=1)

    async def fail():
        await asyncio.sleep(0)

    manager.tasks.start(fail(), key_of(manager, session_id))
    assert (await visit(manager, session_id)).session["a"] == 1


class ClosingStore(ScriptedStore):
    closed = 0

    async def close(self):
        self.closed += 1


@pytest.mark.gen_test
async def test_close_drains_and_closes_the_store(clock):
    """``async with`` does; what was under way is stored."""
    store = ClosingStore(MemoryStore(clock=clock))
    async with SessionManager(store=store, clock=clock) as manager:
        late = await visit(manager)
        late.session["a"] = 1
        manager.tasks.start(manager.commit(late.session))
    assert store.closed == 1
    assert store.calls == ["add"]
