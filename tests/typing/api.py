"""What type checkers see of the public names; never run, checked by mypy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict, assert_type

import msgspec
from prometheus_client import CollectorRegistry
from tornado.httpclient import HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from tornado_mcsession import (
    CasResult,
    CookieSettings,
    EncodeError,
    Entry,
    JSONSerializer,
    MemcachedStore,
    MemoryStore,
    MsgpackSerializer,
    Session,
    SessionConflict,
    SessionManager,
    SessionMixin,
    SessionSettings,
    SessionStatusHandler,
    SessionTooLarge,
    Store,
    StoreUnavailable,
    UserSession,
    access_log,
)
from tornado_mcsession.interop.express import express_session
from tornado_mcsession.interop.koa import koa_session
from tornado_mcsession.interop.node import NodeRouter
from tornado_mcsession.metrics import SessionMetrics
from tornado_mcsession.telemetry import SessionTelemetry
from tornado_mcsession.testing import (
    FaultyStore,
    Held,
    ManualClock,
    Memcached,
    SessionClient,
    StoreContract,
)


class Page(SessionMixin, RequestHandler):
    session_load = "lazy"
    session_renew = False
    session_save = True

    async def get(self) -> None:
        assert_type(await self.load_session(), Session)
        assert_type(self.session, Session)
        assert_type(self.session_id, str | None)
        self.session["visits"] = self.session.get("visits", 0) + 1
        self.session = {"replaced": True}
        self.session = None

    def session_error(self, error: Exception) -> str | bytes | dict[str, Any]:
        return {"error": type(error).__name__}


class Socket(SessionMixin, WebSocketHandler):
    async def on_message(self, message: str | bytes) -> None:
        await self.session.save()


async def use(session: Session) -> None:
    mapping: MutableMapping[str, Any] = session
    assert_type(mapping.pop("a", None), Any)
    assert_type(session | {"a": 1}, dict[str, Any])
    assert_type(session.copy(), dict[str, Any])
    session |= {"a": 1}
    assert_type(session.id, str | None)
    assert_type(session.is_new, bool)
    assert_type(session.modified, bool)
    assert_type(session.accessed, bool)
    assert_type(session.available, bool)
    assert_type(session.created, datetime)
    assert_type(session.expires_at, datetime)
    assert_type(session.last_used, datetime)
    assert_type(session.idle_timeout, float | None)
    assert_type(session.principal, str | None)
    session.flash("saved")
    session.flash("not saved", category="error")
    session.flash({"text": "removed", "undo": "/undo/7"}, "undo")
    assert_type(session.flashes("error"), list[tuple[str, Any]])
    session.set_idle_timeout(60)
    session.set_idle_timeout(timedelta(minutes=1))
    session.set_idle_timeout(None)
    session.set_expiry(datetime.now(UTC))
    session.remember(False)
    session.set_expiry(None)
    await session.touch()
    await session.save()
    await session.reload()
    await session.regenerate(keep=False)
    await session.login("alice")
    await session.login(7)
    await session.login("alice", label="Firefox on Linux")
    await session.impersonate("bob")
    assert_type(session.impersonator, str | None)
    await session.stop_impersonating()
    await session.logout()
    await session.destroy()

    def count(data: dict[str, Any]) -> int:
        data["n"] = data.get("n", 0) + 1
        return len(data)

    async def count_slowly(data: dict[str, Any]) -> str:
        return str(count(data))

    assert_type(await session.transact(count), int)
    text: str = await session.transact(count_slowly)  # mypy: Any, others: str
    assert text


class Status(SessionStatusHandler):
    session_manager_name = "admin"


def idle_timeout(session: Session) -> float | timedelta | None:
    return 60 if session.principal else None


def began(principal: str | None, handler: RequestHandler | None) -> None:
    assert_type(principal, str | None)


def ended(reason: str, principal: str | None, handler: RequestHandler | None) -> None:
    assert_type(reason, str)


async def use_another(manager: SessionManager, handler: RequestHandler) -> None:
    session = await manager.open(handler)
    assert_type(session, Session)
    await manager.commit(session)
    await manager.commit(session, handler)
    manager.deliver(handler, HTTPHeaders(), session)


class OwnStore(Store):
    async def get(self, key: str) -> Entry | None:
        return Entry(b"", token=1)

    async def add(self, key: str, data: bytes, ttl: float, flags: int = 0) -> bool:
        return True

    async def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> CasResult:
        return CasResult.STORED

    async def touch(self, key: str, ttl: float) -> bool:
        return True

    async def delete(self, key: str) -> bool:
        return True

    async def close(self) -> None:
        return None


class OwnTransport:
    vary: str | None = None

    def read(self, handler: RequestHandler) -> str | None:
        return handler.get_argument("session", None)

    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session
    ) -> None:
        headers["X-Session"] = session.id or ""

    def clear(self, handler: RequestHandler, headers: HTTPHeaders) -> None:
        headers["X-Session"] = ""


async def manage(app: Application) -> None:
    SessionManager(app, name="admin", store="memory://", idle_timeout=60)
    SessionManager(store=MemoryStore(1024), serializer=JSONSerializer())
    SessionManager(idle_timeout=idle_timeout, cookie={"priority": "High"})
    SessionManager(store=OwnStore(), serializer=MsgpackSerializer())
    SessionManager(transport=OwnTransport())
    store = MemcachedStore(["a:1", ("b", 2)], timeout=0.5, tls=True)
    async with SessionManager(app, store=store) as manager:
        assert_type(manager, SessionManager)
        session = await manager.get("a" * 43)
        for one in await manager.sessions("alice", current=session):
            assert_type(one, UserSession)
            assert_type(one.last_used, datetime)
            assert_type(await manager.end("alice", one.handle), bool)
        assert_type(await manager.get("an id"), Session | None)
        await manager.set("an id", {"a": 1}, ttl=timedelta(days=1))
        assert_type(await manager.destroy("an id"), bool)
        assert_type(manager.stats(), dict[str, Any])
        assert_type(await manager.drain(5), bool)
        manager.on_connect(print)
        manager.on_begin(began)
        manager.on_end(ended)
        manager.on_disconnect(lambda node: None)


class Cart(msgspec.Struct):
    items: list[str] = []


@dataclasses.dataclass
class Profile:
    color: str = ""


class Plain(TypedDict, total=False):
    count: int


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    return data


class Shop(SessionMixin, RequestHandler):
    @property
    def cart(self) -> Cart:
        return self.session.typed(Cart)

    def get(self) -> None:
        assert_type(self.cart.items, list[str])
        assert_type(self.session.typed(Profile), Profile)
        assert_type(self.session.typed(Plain).get("count"), int | None)


SHOP: SessionSettings = {"schema": Cart, "upgrade": upgrade}
SessionManager(schema=Profile)
SessionManager(schema=Plain)
SETTINGS: SessionSettings = {
    "store": "memcached://127.0.0.1",
    "idle_timeout": timedelta(hours=1),
    "transport": ["header:X-Session", "cookie"],
    "cookie": {"name": "__Host-session", "samesite": "Strict"},
    "persist": "on_finish",
}


def cookie(handler: Page, session: Session | None) -> CookieSettings:
    return {"samesite": "Strict" if session and session.principal else "Lax"}


async def accept(handler: Page | None, session: Session) -> bool:
    return session.principal is not None


def decide(
    phase: str, error: Exception, handler: Page | None
) -> Literal["raise", "degrade"]:
    return "degrade" if phase == "load" else "raise"


def configure(app: Application, read_from_a_file: dict[str, Any]) -> None:
    Application(session=SETTINGS)
    assert_type(SessionManager(app, **SETTINGS), SessionManager)
    SessionManager(app, **read_from_a_file)
    SessionManager(cookie=cookie, validate=accept, on_error=decide, clock=lambda: 0.0)
    SessionManager(cookie=lambda handler: {"path": "/app"}, encryption_keys=[b"", ""])
    assert_type(SessionManager.of(app), SessionManager)
    assert_type(SessionManager.of(app, "admin"), SessionManager)


class Admin(SessionMixin, RequestHandler):
    session_manager_name = "admin"

    async def post(self) -> None:
        assert_type(SessionManager.of(self), SessionManager)
        await SessionManager.of(self).revoke("ann")


def explain(error: Exception) -> None:
    if isinstance(error, EncodeError):
        assert_type(error.path, str)
        assert_type(error.type_name, str)
    elif isinstance(error, SessionConflict):
        assert_type(error.attempts, int)
    elif isinstance(error, SessionTooLarge):
        assert_type(error.limit, int | None)
        assert_type(error.largest_keys, tuple[tuple[str, int], ...])
    elif isinstance(error, StoreUnavailable):
        assert_type(error.operation, str)
        assert_type(error.node, str)
        assert_type(error.outcome_unknown, bool)


def share() -> None:
    store = MemcachedStore(["a:1", "b:2"], router=NodeRouter)
    settings = koa_session(store=store, keys=["a", b"b"], cookie={"path": "/"})
    assert_type(settings, dict[str, Any])
    SessionManager(**express_session(store="memory://", secret="a", idle_timeout=60))


async def test_an_application(app: Application) -> None:
    async with SessionClient(app, headers={"Host": "a.example"}) as client:
        await client.begin({"cart": []}, principal="ann")
        assert_type(client, SessionClient)
        assert_type(await client.session(), Session | None)
        assert_type(await client.fetch("/", method="POST", body="a=1"), HTTPResponse)
        assert_type(client.request_headers(), HTTPHeaders)
        client.cookies["a"] = "b"


async def test_with_faults() -> None:
    clock = ManualClock()
    clock.advance(timedelta(hours=1))
    store = FaultyStore(MemoryStore(clock=clock), timeout=5)
    store.fail("get", "add", skip=1, times=None, error=StoreUnavailable("get", "", ""))
    store.lose("cas")
    store.fail("gets")  # type: ignore[arg-type]
    held = store.hold()
    assert_type(held, Held)
    await held.reached()
    SessionManager(store=store, clock=clock)


class TestOwnStore(StoreContract):
    def make_store(self) -> Store:
        with Memcached("-m", "64") as server:
            return MemcachedStore.from_url(server.url)


def monitoring(app: Application, manager: SessionManager) -> None:
    SessionMetrics(manager, manager, registry=CollectorRegistry())
    SessionMetrics("session")  # type: ignore[arg-type]
    SessionTelemetry(manager)

    def write(handler: RequestHandler, status: int) -> None:
        assert_type(handler.get_status(), int)

    log_function: Callable[[RequestHandler], None] = access_log(write)
    Application([], log_function=log_function)
    access_log(print)
    access_log(str.upper)  # type: ignore[arg-type]
