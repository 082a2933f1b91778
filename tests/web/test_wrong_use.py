"""Mistakes in handlers and settings are errors that say what to do."""

from __future__ import annotations

import asyncio
import inspect
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from tornado.web import (
    Application,
    HTTPError,
    RequestHandler,
    create_signed_value,
)
from tornado.websocket import WebSocketHandler

from tornado_mcsession import (
    EncodeError,
    MemcachedStore,
    Session,
    SessionManager,
    SessionMixin,
)

from ..support.site import is_cleared, session_cookie

# The order of the classes.


@pytest.mark.parametrize("base", [RequestHandler, WebSocketHandler])
def test_the_mixin_stands_first(base):
    """The message shows the right order."""
    with pytest.raises(TypeError, match="SessionMixin"):
        type("Wrong", (base, SessionMixin), {})


def test_the_mixin_stands_before_a_class_of_handlers():
    """Also where a handler class of the application stands in the way."""

    class Page(RequestHandler):
        pass

    with pytest.raises(TypeError, match="Wrong"):
        type("Wrong", (Page, SessionMixin), {})


def test_other_orders_are_right():
    """Bases, further mixins and subclasses of the application's own."""

    class Own(SessionMixin):
        pass

    class Base(SessionMixin, RequestHandler):
        pass

    class Other:
        pass

    class Page(RequestHandler):
        pass

    type("First", (Own, RequestHandler), {})
    type("Second", (Other, Own, Page), {})
    type("Third", (Base,), {})
    type("Fourth", (Other, Base), {})
    type("Fifth", (Base, Page), {})
    type("Sixth", (SessionMixin, WebSocketHandler), {})


# prepare() that is not awaited.


class Forgets(SessionMixin, RequestHandler):
    """Forgets the await."""

    async def prepare(self):
        super().prepare()
        await asyncio.sleep(0)

    def get(self):
        self.write("body")


class ForgetsAndUses(Forgets):
    def get(self):
        self.session["a"] = 1


class ForgetsInPlain(SessionMixin, RequestHandler):
    def prepare(self):
        super().prepare()

    def get(self):
        self.write("body")


class ForgetsInLazy(Forgets):
    session_load = "lazy"

    async def get(self):
        await self.load_session()


class ForgetsInSocket(SessionMixin, WebSocketHandler):
    async def prepare(self):
        super().prepare()


UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@pytest.mark.gen_test
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "handler", [Forgets, ForgetsAndUses, ForgetsInPlain, ForgetsInLazy, ForgetsInSocket]
)
async def test_a_forgotten_await_is_noticed(serve, handler, known, caplog, uncaught):
    """On every request, with a cookie or without one."""
    site = serve(handler)
    client = await site.client(a=1) if known else {}
    if handler is ForgetsInSocket:
        client.update(UPGRADE)
    async with await site.open() as wire:
        response = await wire.request("GET", "/", client)
    assert response.status == 500
    assert "await super().prepare()" in caplog.text
    assert session_cookie(response) is None


class RefusesBefore(SessionMixin, RequestHandler):
    """Refuses before its session is loaded."""

    async def prepare(self):
        if self.request.path == "/refused":
            raise HTTPError(403)
        await super().prepare()

    def get(self):
        self.write(str(len(self.session)))


class NeverAsks(SessionMixin, RequestHandler):
    """Has no use for its session."""

    def prepare(self):
        pass

    def get(self):
        self.write("body")


@pytest.mark.gen_test
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("handler", "path", "status"),
    [
        (RefusesBefore, "/refused", 403),
        (RefusesBefore, "/", 200),
        (NeverAsks, "/", 200),
    ],
)
async def test_what_is_no_forgotten_await_is_not_taken_for_one(
    serve, handler, path, status, known, caplog
):
    """A handler may refuse before its session is loaded, or do without it."""
    site = serve(handler)
    client = await site.client(a=1) if known else {}
    assert (await site.get(path, headers=client)).status == status
    assert "await" not in caplog.text


@pytest.mark.gen_test
async def test_a_load_that_fails_is_not_taken_for_one(serve, store, caplog):
    """The log tells of the store alone."""
    site = serve(RefusesBefore)
    client = await site.client(a=1)
    store.fail("get")
    assert (await site.get(headers=client)).status == 503
    assert "await" not in caplog.text


class Returns(SessionMixin, RequestHandler):
    """Need not be a coroutine itself."""

    def prepare(self):
        return super().prepare()

    def get(self):
        self.write(str(self.session.get("a")))


class ReturnsLazy(Returns):
    session_load = "lazy"

    async def get(self):
        self.write(str((await self.load_session()).get("a")))


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Returns, ReturnsLazy])
async def test_prepare_may_return_it(serve, handler):
    """Tornado awaits what prepare() returns."""
    site = serve(handler)
    assert (await site.get(headers=await site.client(a=1))).body == b"1"
    assert (await site.get()).body == b"None"


# What users' own objects return.


class Transport:
    """An own transport whose `read` returns what a test says."""

    vary = "X-Own"

    def __init__(self, read):
        self._read = read

    def read(self, handler):
        return self._read(handler.request.headers.get("X-Own"))

    def write(self, handler, headers, session):
        headers["X-Own"] = session.id

    def clear(self, handler, headers):
        headers["X-Own"] = ""


class Tells(SessionMixin, RequestHandler):
    def get(self):
        self.write(str(self.session.get("a")))


@pytest.mark.gen_test
async def test_a_transport_may_return_ascii_bytes(serve):
    """As get_signed_cookie() does."""
    transport = Transport(lambda value: value.encode() if value else None)
    site = serve(Tells, session={"transport": transport})
    session_id = await site.new(a=1)
    for _ in range(2):
        assert (await site.get(headers={"X-Own": session_id})).body == b"1"
    assert (await site.get()).body == b"None"


@pytest.mark.gen_test
@pytest.mark.parametrize("returned", [5, 1.5, ["x"], True, object()])
async def test_what_else_a_transport_returns_is_named(
    serve, returned, caplog, uncaught
):
    """The message names the transport, its method and the type."""
    site = serve(Tells, session={"transport": Transport(lambda value: returned)})
    assert (await site.get()).status == 500
    assert "Transport" in caplog.text
    assert "read" in caplog.text
    assert type(returned).__name__ in caplog.text
    assert len(uncaught()) == 1


class Writes(SessionMixin, RequestHandler):
    def get(self):
        self.session["a"] = 1
        self.write("body")

    def session_error(self, error):
        return self.settings.get("page", "page")


class Serializer:
    def dumps(self, value):
        return "text"

    def loads(self, data):
        return {}


WRONG = {
    "generate_id": lambda handler: 5,
    "validate": lambda handler, session: "yes",
    "cookie": lambda handler: ["name"],
}


@pytest.mark.gen_test
@pytest.mark.parametrize("name", WRONG)
async def test_what_hooks_return_is_named(serve, name, caplog, uncaught):
    """The message names the setting, or the method."""
    site = serve(Writes, session={name: WRONG[name]})
    client = await site.client(b=1)
    response = await site.get(headers=client if name == "validate" else None)
    assert response.status == 500
    assert name in caplog.text


def test_what_a_serializer_returns_is_named():
    """It is tried where the manager is built."""
    with pytest.raises(TypeError, match="dumps"):
        SessionManager(serializer=Serializer())


@pytest.mark.gen_test
async def test_what_on_error_returns_is_named(serve, store, caplog):
    """There are two answers to an outage."""
    site = serve(Writes, session={"on_error": lambda *_: "degarde"})
    store.fail("add")
    assert (await site.get()).status in (500, 503)
    assert "on_error" in caplog.text


@pytest.mark.gen_test
async def test_what_session_error_returns_is_named(serve, store, caplog):
    """A page of text goes out in its place."""
    site = serve(Writes, page=5)
    store.fail("add")
    assert (await site.get()).status == 503
    assert "session_error" in caplog.text


# A cookie that depends on the session.


class Chooses(SessionMixin, RequestHandler):
    async def get(self, what):
        if what == "login":
            await self.session.login("ann")
        elif what == "write":
            self.session["a"] = 1
        elif what == "end":
            self.session = None
        self.write(str(self.session.get("a")))


def by_session(handler, session):
    is_user = session is not None and session.principal is not None
    return {"samesite": "Strict" if is_user else "Lax"}


@pytest.mark.gen_test
async def test_a_cookie_may_depend_on_its_session(serve):
    """A callable of two arguments gets the session."""
    site = serve([("/(.*)", Chooses)], session={"cookie": by_session})
    lax = session_cookie(await site.get("/write"))
    strict = session_cookie(await site.get("/login"))
    assert (lax.attributes["samesite"], strict.attributes["samesite"]) == (
        "Lax",
        "Strict",
    )
    headers = {"Cookie": f"session={lax.value}"}
    assert (await site.get("/read", headers=headers)).body == b"1"
    assert is_cleared(await site.get("/end", headers=headers))


@pytest.mark.gen_test
async def test_its_session_may_be_missing(serve):
    """None where the name is looked up, before there is one."""
    seen = []

    def cookie(handler, session):
        seen.append(session)
        return {}

    site = serve([("/(.*)", Chooses)], session={"cookie": cookie})
    assert (await site.get("/read", headers=await site.client(a=1))).body == b"1"
    assert seen
    assert all(session is None or isinstance(session, Session) for session in seen)
    assert None in seen


@pytest.mark.gen_test
async def test_a_cookie_stays_in_its_place_whatever_the_session(serve, caplog):
    """A callable that moves it by the session is warned of once: who clears it?"""

    def cookie(handler, session):
        is_user = session is not None and session.principal is not None
        return {"path": "/" if is_user else "/app"}

    site = serve([("/app/(.*)", Chooses)], session={"cookie": cookie})
    await site.get("/app/write")
    assert not caplog.records
    for _ in range(2):
        await site.get("/app/login")
    (record,) = caplog.records
    assert "returns another name, domain, path or partitioned" in record.getMessage()


@pytest.mark.gen_test
async def test_a_callable_of_the_handler_works(serve):
    """As a plain function, and as a method or a default argument makes it."""

    class Tenant:
        def cookie(self, handler):
            return {"path": "/app"}

    for cookie in (
        lambda handler: {"path": "/app"},
        lambda handler, path="/app": {"path": path},
        Tenant().cookie,
    ):
        site = serve([("/app/(.*)", Chooses)], session={"cookie": cookie})
        response = await site.get("/app/write")
        assert response.status == 200
        assert session_cookie(response).attributes["path"] == "/app"


@pytest.mark.gen_test
@pytest.mark.parametrize("known", [True, False])
async def test_a_callable_that_uses_the_session_is_told_how(
    serve, known, caplog, uncaught
):
    """It would need what it is asked for; it may take the session instead."""

    def cookie(handler):
        return {"samesite": "Strict" if handler.session.principal else "Lax"}

    site = serve([("/(.*)", Chooses)], session={"cookie": cookie})
    client = await site.client(a=1) if known else {}
    response = await site.get("/write", headers=client)
    assert response.status == 500
    assert re.search(r"two arguments|\(handler, session\)", caplog.text)
    assert "prepare() was not called" not in caplog.text
    assert "not awaited" not in caplog.text


# Names of other libraries, and values that are documented.


OTHERS = {
    "set": "session[key] = value",
    "delete": "del session[key]",
    "remove": "session.pop(key, None)",
    "has_key": "key in session",
    "invalidate": "await session.destroy()",
    "clear_session": "await session.destroy()",
    "flush": "await session.destroy()",
    "cycle_key": "await session.regenerate()",
    "rotate": "await session.regenerate()",
    "commit": "await session.save()",
    "is_empty": "not session",
    "new": "session.is_new",
    "session_id": "session.id",
    "session_key": "session.id",
    "permanent": "session.remember(True)",
    "max_age": "session.set_idle_timeout(seconds)",
}


@pytest.mark.gen_test
@pytest.mark.parametrize("name", OTHERS)
async def test_names_of_other_libraries_name_ours(name):
    """An AttributeError that says what it is called here."""
    manager = SessionManager(store="memory://")
    await manager.set("x" * 43, {"a": 1})
    session = await manager.get("x" * 43)
    with pytest.raises(AttributeError) as raised:
        getattr(session, name)
    assert f"'{name}'" in str(raised.value)
    assert str(raised.value).endswith(f"use {OTHERS[name]}")
    assert not hasattr(session, name)
    await manager.close()


class NeverSaves(SessionMixin, RequestHandler):
    session_save = False

    async def get(self, what):
        self.session["a"] = 1
        if what == "save":
            await self.session.save()
        elif what == "login":
            await self.session.login("ann")


@pytest.mark.gen_test
@pytest.mark.parametrize("what", ["nothing", "save", "login"])
async def test_session_save_false_is_about_the_end_of_a_request(serve, what):
    """save() and login() store all the same; they were asked for."""
    site = serve([("/(.*)", NeverSaves)])
    response = await site.get(f"/{what}")
    assert response.status == 200
    assert (session_cookie(response) is not None) == (what != "nothing")
    assert site.sessions() == 0 if what == "nothing" else site.sessions() > 0


class Expires(SessionMixin, RequestHandler):
    async def get(self, what):
        if what == "set":
            now = datetime.fromtimestamp(self.settings["clock"](), UTC)
            self.session.set_expiry(now + timedelta(seconds=60))
        elif what == "take_back":
            self.session.set_expiry(None)
        elif what == "new":
            self.session["a"] = 1
            self.session.set_expiry(None)


@pytest.mark.gen_test
async def test_set_expiry_none_takes_the_end_back(serve, clock):
    """The idle timeout counts again."""
    site = serve([("/(.*)", Expires)], clock=clock)
    client = await site.client(a=1)
    assert (await site.get("/set", headers=client)).status == 200
    assert (await site.get("/take_back", headers=client)).status == 200
    clock.advance(3600)
    assert await site.stored(client) == {"a": 1}
    assert (await site.get("/new")).status == 200


@pytest.mark.gen_test
async def test_set_expiry_ends_it(serve, clock):
    """Where nobody takes it back."""
    site = serve([("/(.*)", Expires)], clock=clock)
    client = await site.client(a=1)
    assert (await site.get("/set", headers=client)).status == 200
    clock.advance(3600)
    assert await site.stored(client) is None


class Number(SessionMixin, RequestHandler):
    async def get(self):
        await self.session.login(7)
        self.write({"principal": self.session.principal})


@pytest.mark.gen_test
async def test_a_number_of_a_user_is_kept_as_text(serve):
    """`login` says so."""
    response = await serve(Number).get()
    assert response.json() == {"principal": "7"}
    assert "text" in Session.login.__doc__


# Mistakes where an application is put together. Each message has what is wrong, and
# what to write instead.


def cookie_value():
    return create_signed_value("secret", "session", "x" * 43).decode()


def with_attribute(name, value):
    return lambda: type("Page", (SessionMixin, RequestHandler), {name: value})


AT_START = {
    "mixin order": (
        lambda: type("Page", (RequestHandler, SessionMixin), {}),
        TypeError,
        ["Page", "class Page(SessionMixin, RequestHandler)"],
    ),
    "misspelt mode": (
        with_attribute("session_load", "lasy"),
        ValueError,
        ["Page.session_load", "did you mean 'lazy'"],
    ),
    "mode of a wrong type": (
        with_attribute("session_load", False),
        TypeError,
        ["Page.session_load", "'eager', 'lazy' or 'off'", "not bool"],
    ),
    "text for a truth value": (
        with_attribute("session_renew", "no"),
        TypeError,
        ["Page.session_renew", "True or False", "not str"],
    ),
    "number for a truth value": (
        with_attribute("session_save", 0),
        TypeError,
        ["Page.session_save", "True, False or None", "not int"],
    ),
    "manager for its name": (
        with_attribute("session_manager_name", object()),
        TypeError,
        ["Page.session_manager_name", "text"],
    ),
    "a Session by hand": (
        lambda: Session({"a": 1}),
        TypeError,
        ["self.session", "manager.get(session_id)"],
    ),
    "semicolon": (
        lambda: SessionManager(store="memcached://a;b"),
        ValueError,
        ["store URL", "separated by commas"],
    ),
    "semicolon after a port": (
        lambda: SessionManager(store="memcached://a:11211;b:11211"),
        ValueError,
        ["store URL", "separated by commas"],
    ),
    "bar": (
        lambda: SessionManager(store="memcached://a|b"),
        ValueError,
        ["store URL", "host name", "letters, digits"],
    ),
    "memcache": (
        lambda: SessionManager(store="memcache://a"),
        ValueError,
        ["store URL", "did you mean memcached://?"],
    ),
    "capitals": (
        lambda: SessionManager(store="Memcacheds://a"),
        ValueError,
        ["store URL", "did you mean memcacheds://?"],
    ),
    "no scheme": (
        lambda: SessionManager(store="127.0.0.1:11211"),
        ValueError,
        ["store URL", "did you mean memcached://?"],
    ),
    "redis": (
        lambda: SessionManager(store="redis://a"),
        ValueError,
        ["store URL", "memcached", "a Store of your own"],
    ),
    "a URL as a server": (
        lambda: MemcachedStore("memcached://a"),
        ValueError,
        ["host:port", "MemcachedStore.from_url()"],
    ),
    "settings as the application": (
        lambda: SessionManager({"store": "memory://"}),
        TypeError,
        ["application must be", "Application", "not dict"],
    ),
    "settings in a keyword": (
        lambda: SessionManager(session={"store": "memory://"}),
        ValueError,
        ["unknown session setting 'session'"],
    ),
    "manager of a name": (
        lambda: SessionManager.of("admin"),
        TypeError,
        ["an Application or a RequestHandler", "not str"],
    ),
    "manager that is not there": (
        lambda: SessionManager.of(Application(), "admin"),
        RuntimeError,
        ["'admin'", "SessionManager(application, name='admin')"],
    ),
    "misspelt setting": (
        lambda: SessionManager(Application(session={"idle_timout": 60})),
        ValueError,
        ["'idle_timout'", "did you mean 'idle_timeout'"],
    ),
    "text for seconds": (
        lambda: SessionManager(store="memory://", idle_timeout="60"),
        TypeError,
        ["idle_timeout", "seconds, a timedelta or None", "not str"],
    ),
    "misspelt cookie attribute": (
        lambda: SessionManager(store="memory://", cookie={"http_only": True}),
        ValueError,
        ["'http_only'", "did you mean 'httponly'"],
    ),
    "pickle": (
        lambda: SessionManager(store="memory://", serializer="pickle"),
        ValueError,
        ["serializer", "'msgpack' or 'json'"],
    ),
}


@pytest.mark.parametrize("mistake", AT_START)
def test_a_mistake_at_the_start_is_told(mistake):
    """When the class or the manager is made, not by the first visitor."""
    act, error, words = AT_START[mistake]
    with pytest.raises(error) as raised:
        act()
    for word in words:
        assert word in str(raised.value)


def test_an_attribute_may_be_chosen_by_each_request():
    """A property is no mistake."""
    with_attribute("session_save", property(lambda self: None))()


# Mistakes in a handler's code.


def assigns(session, value):
    session["cart"] = value


async def in_a_loop_of_its_own(session):
    await asyncio.to_thread(lambda: asyncio.run(session.save()))


WRONG_ACTS = {
    "seconds for an expiry": (
        lambda session: session.set_expiry(3600),
        TypeError,
        ["set_expiry", "not int", "set_idle_timeout()"],
    ),
    "naive expiry": (
        lambda session: session.set_expiry(datetime(2040, 1, 1)),
        ValueError,
        ["set_expiry", "datetime.now(UTC) + timedelta(hours=1)"],
    ),
    "key that is no text": (
        lambda session: session.__setitem__(1, "a"),
        EncodeError,
        ["session", "a key that is no text: int"],
    ),
    "no principal": (
        lambda session: session.login(None),
        TypeError,
        ["principal", "text or a whole number", "not NoneType"],
    ),
    "remember for some time": (
        lambda session: session.remember(3600),
        TypeError,
        ["remember", "True or False", "not int"],
    ),
    "a new dict in a transaction": (
        lambda session: session.transact(lambda data: {**data, "n": 1}),
        TypeError,
        ["transact", "change the dict that it gets, in place"],
    ),
    "a verb in a thread": (
        in_a_loop_of_its_own,
        RuntimeError,
        ["cannot save on another event loop", "run_coroutine_threadsafe"],
    ),
}
WRONG_VALUES = {
    "tuple": ((1, 2), "use a list"),
    "set": ({1}, "use a list"),
    "UUID": (UUID(int=1), "use its text: str(value)"),
    "Decimal": (Decimal(1), "use its text: str(value)"),
    "date": (date(2040, 1, 1), "use its text: value.isoformat()"),
    "timedelta": (timedelta(1), "use its seconds: value.total_seconds()"),
    "datetime": (datetime(2040, 1, 1), "use one that is aware"),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("mistake", WRONG_ACTS)
async def test_a_mistake_in_a_handler_is_told(serve, mistake):
    """Where it stands, as an error."""
    act, error, words = WRONG_ACTS[mistake]
    told = []

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            with pytest.raises(error) as raised:
                await as_result(act(self.session))
            told.append(str(raised.value))

    site = serve(Handler)
    assert (await site.get(headers=await site.client(a=1))).status == 200
    assert [word for word in words if word not in told[0]] == []


async def as_result(value):
    return await value if inspect.isawaitable(value) else value


@pytest.mark.gen_test
@pytest.mark.parametrize("type_name", WRONG_VALUES)
async def test_a_value_that_would_not_come_back_is_told(serve, caplog, type_name):
    """With its key, its type and what to store instead."""
    value, advice = WRONG_VALUES[type_name]

    class Handler(SessionMixin, RequestHandler):
        def get(self):
            assigns(self.session, value)

    assert (await serve(Handler).get()).status == 500
    assert f"session['cart'] holds a {type_name} " in caplog.text
    assert advice in caplog.text


LATE = {
    "set": lambda session: session.__setitem__("b", 1),
    "save": lambda session: session.save(),
    "login": lambda session: session.login("ann"),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("where", ["after finish", "on_finish", "background task"])
@pytest.mark.parametrize("act", LATE)
async def test_a_change_after_the_response_is_told(serve, act, where):
    """With what to use there: the session by its id."""
    told = asyncio.get_running_loop().create_future()

    async def change(session):
        try:
            await as_result(LATE[act](session))
        except RuntimeError as error:
            told.set_result(str(error))
        else:
            told.set_result("nothing was raised")

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            len(self.session)
            if where == "background task":
                self.settings["task"] = asyncio.create_task(self.later())
            elif where == "after finish":
                await self.finish()
                await change(self.session)

        async def later(self):
            await self.settings["sent"].wait()
            await change(self.session)

        def on_finish(self):
            super().on_finish()
            if where == "on_finish":
                self.settings["task"] = asyncio.ensure_future(change(self.session))

    sent = asyncio.Event()
    site = serve(Handler, sent=sent)
    client = await site.client(a=1)
    assert (await site.get(headers=client)).status == 200
    sent.set()
    message = await told
    assert "the response is finished: too late to" in message
    assert "before finish(), not in on_finish()" in message
    assert "await manager.get(session_id)" in message
    assert await site.stored(client) == {"a": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize("given", [cookie_value(), "short", None, 5, "é" * 30])
async def test_what_is_no_session_id_is_told(given):
    """The value of a signed cookie is none; it is not shown."""
    manager = SessionManager(store="memory://")
    for verb in (manager.get, manager.destroy):
        with pytest.raises(ValueError, match=r"self\.session\.id is one") as raised:
            await verb(given)
        assert "the value of a cookie is not" in str(raised.value)
        assert str(given) not in str(raised.value)
    await manager.close()


class Uses(SessionMixin, RequestHandler):
    def prepare(self):
        pass

    def get(self):
        self.session["a"] = 1


@pytest.mark.gen_test
async def test_a_prepare_without_super_is_told(serve, caplog, uncaught):
    """Where the session is used."""
    assert (await serve(Uses).get()).status == 500
    assert "SessionMixin.prepare() was not called" in caplog.text
    assert "must await super().prepare()" in caplog.text


@pytest.mark.gen_test
async def test_a_setting_without_a_manager_is_told_by_the_first_request(
    serve, caplog, uncaught
):
    """``SessionManager(app)`` tells at the start; the next request is told, too."""
    site = serve(Writes, attached=False, session={"idle_timout": 60})
    for _ in range(2):
        assert (await site.get()).status == 500
        assert "did you mean 'idle_timeout'" in caplog.text
        caplog.clear()
