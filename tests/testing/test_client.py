"""SessionClient: sessions for requests, and what is in them afterwards."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime, timedelta

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.httputil import HTTPHeaders
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

from tornado_mcsession import (
    EncodeError,
    MemoryStore,
    SessionManager,
    SessionMixin,
    SessionRefused,
    StoreUnavailable,
)
from tornado_mcsession.interop.express import express_session
from tornado_mcsession.interop.koa import koa_session
from tornado_mcsession.testing import FaultyStore, SessionClient

ID = "a" * 43


class Cart(SessionMixin, RequestHandler):
    """Shows the session, and changes it."""

    def get(self):
        self.write({"principal": self.session.principal, **self.session})

    def post(self):
        self.session.setdefault("cart", []).append(self.get_body_argument("item"))
        self.redirect("/")


class Login(SessionMixin, RequestHandler):
    async def post(self):
        await self.session.login(self.get_body_argument("name"))
        self.redirect("/")


class Logout(SessionMixin, RequestHandler):
    def post(self):
        self.session = None
        self.redirect("/")


class Admin(SessionMixin, RequestHandler):
    session_manager_name = "admin"

    def get(self):
        self.write(dict(self.session))


class Echo(RequestHandler):
    """Shows the cookies of the request, and sets and removes some."""

    def get(self):
        self.write(self.request.headers.get("Cookie", "none"))

    def post(self):
        for line in self.get_body_arguments("line"):
            self.add_header("Set-Cookie", line)


class Socket(SessionMixin, WebSocketHandler):
    def open(self):
        self.write_message(dict(self.session))


class Bearer:
    """A transport whose response header has another name than the request's."""

    vary = "Authorization"

    def read(self, handler):
        return handler.request.headers.get("Authorization", "")[7:] or None

    def write(self, handler, headers, session):
        headers["X-Session-Token"] = session.id

    def clear(self, handler, headers):
        headers["X-Session-Token"] = ""


class BearerClient(SessionClient):
    def receive(self, headers):
        super().receive(headers)
        if "X-Session-Token" in headers:
            self.headers["Authorization"] = f"Bearer {headers['X-Session-Token']}"


def application(*, secret="secret", **session) -> Application:
    return Application(
        [
            ("/", Cart),
            ("/shop/", Cart),
            ("/login", Login),
            ("/logout", Logout),
            ("/admin", Admin),
            ("/echo", Echo),
            ("/socket", Socket),
        ],
        cookie_secret=secret,
        session={"store": MemoryStore(), **session},
    )


@pytest.fixture
def app() -> Application:
    """The application that ``session_client`` is a client of."""
    return application()


def by_host(handler):
    return {"name": handler.request.host_name.partition(".")[0]}


TRANSPORTS = {
    "signed": {},
    "not signed": {"secret": None},
    "own name": {"cookie": {"name": "sid"}},
    "path": {"cookie": {"path": "/shop"}},
    "https": {"cookie": {"secure": True}},
    "prefix": {"cookie": {"name": "__Host-sid"}},
    "browser session": {"cookie": {"persistent": False}},
    "header": {"transport": "header:X-Session"},
    "both": {"transport": ["header:X-Session", "cookie"]},
    "both, the other way": {"transport": ["cookie", "header:X-Session"]},
    "on_finish": {"persist": "on_finish"},
    "encrypted": {"encryption_keys": [b"k" * 32]},
    "json": {"serializer": "json"},
}


@pytest.mark.gen_test
@pytest.mark.parametrize("options", TRANSPORTS.values(), ids=TRANSPORTS)
@pytest.mark.parametrize("principal", [None, "ann", 7])
async def test_a_request_has_the_session_that_was_begun(options, principal, caplog):
    """However the id travels; what the handler changed is there afterwards."""
    async with SessionClient(application(**options)) as client:
        await client.begin({"cart": ["pen"]}, principal=principal)
        name = None if principal is None else str(principal)
        shown = await client.fetch("/shop/")
        assert shown.body == (b'{"principal": %b, "cart": ["pen"]}') % (
            b"null" if name is None else f'"{name}"'.encode()
        )
        response = await client.fetch("/shop/", method="POST", body="item=book")
        assert response.code == 302
        session = await client.session()
        assert session["cart"] == ["pen", "book"]
        assert session.principal == name
    assert caplog.messages == []


@pytest.mark.gen_test
async def test_it_works_with_every_store(any_store):
    """In memory and in memcached, and with faults around either."""
    for store in (any_store, FaultyStore(any_store)):
        client = SessionClient(application(store=store))
        await client.begin({"n": 1})
        assert (await client.fetch("/")).body == b'{"principal": null, "n": 1}'
        assert await client.session() == {"n": 1}


@pytest.mark.gen_test
async def test_a_tenant_has_its_own_cookie():
    """The cookie's attributes may depend on the host that the headers name."""
    app = application(cookie=by_host)
    async with SessionClient(app, headers={"Host": "one.example"}) as client:
        await client.begin({"n": 1})
        assert list(client.cookies) == ["one"]
        assert (await client.fetch("/")).body == b'{"principal": null, "n": 1}'
        client.headers["Host"] = "two.example"
        assert await client.session() is None
        assert (await client.fetch("/")).body == b'{"principal": null}'


@pytest.mark.gen_test
async def test_a_transport_of_ones_own_needs_a_method():
    """Which request header the response's leads to, a subclass says."""
    async with BearerClient(application(transport=Bearer())) as client:
        await client.begin({"n": 1})
        assert (await client.fetch("/")).body == b'{"principal": null, "n": 1}'
        assert await client.session() == {"n": 1}


SHARED = {
    "koa": (koa_session, {"keys": ["a secret", "an older one"]}),
    "express": (express_session, {"secret": "a secret"}),
}


@pytest.mark.gen_test
@pytest.mark.parametrize(("settings", "given"), SHARED.values(), ids=SHARED)
async def test_a_shared_session_can_begin(settings, given):
    """One that Node reads as well, with the cookies that Node would set."""
    app = application()
    app.settings["session"] = settings(store=MemoryStore(), **given)
    async with SessionClient(app) as client:
        await client.begin({"n": 1})
        assert (await client.fetch("/")).body == b'{"principal": null, "n": 1}'
        assert await client.session() == {"n": 1}
        await client.fetch("/logout", method="POST", body="")
        assert await client.session() is None
        assert client.cookies == {}


@pytest.mark.gen_test
async def test_several_managers_have_a_session_each():
    """One request carries both, and each manager finds its own."""
    app = application()
    SessionManager(app, name="admin", store=MemoryStore())
    async with SessionClient(app) as client:
        await client.begin({"n": 1})
        await client.begin({"n": 2}, name="admin", principal="root")
        assert sorted(client.cookies) == ["admin", "session"]
        assert (await client.fetch("/")).body == b'{"principal": null, "n": 1}'
        assert (await client.fetch("/admin")).body == b'{"n": 2}'
        assert (await client.session()).principal is None
        assert (await client.session("admin")).principal == "root"


@pytest.mark.gen_test
@pytest.mark.parametrize("options", [{}, {"transport": "header:X-Session"}], ids=repr)
async def test_it_follows_a_login_and_a_logout(options):
    """The id that a login sends is taken over, and a logout leaves none."""
    async with SessionClient(application(**options)) as client:
        await client.begin({"n": 1})
        before = (await client.session()).id
        await client.fetch("/login", method="POST", body="name=ann")
        session = await client.session()
        assert (session.principal, session["n"]) == ("ann", 1)
        assert session.id != before
        await client.fetch("/logout", method="POST", body="")
        assert await client.session() is None
        assert client.cookies == {}
        assert list(client.headers) == []


@pytest.mark.gen_test
async def test_the_application_may_begin_the_session():
    """A client without one gets it by its first request that begins one."""
    async with SessionClient(application()) as client:
        assert await client.session() is None
        await client.fetch("/", method="POST", body="item=pen")
        assert await client.session() == {"cart": ["pen"]}


@pytest.mark.gen_test
async def test_begin_leaves_the_session_of_before_alone():
    """Two clients of one application, or one client twice, have two sessions."""
    app = application()
    async with SessionClient(app) as client:
        await client.begin({"n": 1}, principal="ann")
        first = await client.session()
        await client.begin({"n": 2}, principal="ann")
        second = await client.session()
        assert first.id != second.id
        assert await app.settings["session_manager"].get(first.id) == {"n": 1}
        other = SessionClient(app)
        await other.begin({"n": 3})
        assert await client.session() == {"n": 2}
        assert await other.session() == {"n": 3}


@pytest.mark.gen_test
async def test_its_session_can_be_changed():
    """A test may set what no argument of begin says."""
    async with SessionClient(application()) as client:
        await client.begin({"n": 1})
        session = await client.session()
        session["n"] = 5
        session.set_idle_timeout(timedelta(minutes=5))
        await session.save()
        assert (await client.fetch("/")).body == b'{"principal": null, "n": 5}'


@pytest.mark.gen_test
async def test_a_session_expires_by_the_clock(session_clock):
    """The client goes on sending the cookie, as a browser's clock may be wrong."""
    store = MemoryStore(clock=session_clock)
    app = application(store=store, clock=session_clock, idle_timeout=3600)
    async with SessionClient(app) as client:
        await client.begin({"n": 1})
        session_clock.advance(timedelta(hours=1, seconds=-1))
        assert await client.session() == {"n": 1}
        session_clock.advance(400)
        assert await client.session() is None
        assert client.cookies != {}
        assert (await client.fetch("/")).body == b'{"principal": null}'


@pytest.mark.gen_test
async def test_what_is_not_stored_is_an_error():
    """No data and nobody; data that cannot be kept; a store that is down."""
    store = FaultyStore()
    async with SessionClient(application(store=store)) as client:
        for nothing in (None, {}):
            with pytest.raises(ValueError, match="data, or with a principal"):
                await client.begin(nothing)
        with pytest.raises(EncodeError):
            await client.begin({"n": {1, 2}})
        store.fail("add")
        with pytest.raises(StoreUnavailable):
            await client.begin({"n": 1})
        assert client.cookies == {}


@pytest.mark.gen_test
async def test_an_empty_session_may_begin():
    """Where the settings say so."""
    async with SessionClient(application(allow_empty=True)) as client:
        await client.begin()
        assert await client.session() == {}
        assert (await client.session()).exists


def test_it_needs_an_application():
    """A function that makes one is none."""
    with pytest.raises(
        TypeError, match=r"must be a tornado\.web\.Application, not fun"
    ):
        SessionClient(application)


@pytest.mark.gen_test
async def test_hooks_are_asked_as_for_a_request():
    """They see a request with the client's headers."""
    seen = []

    def allow(handler):
        seen.append(handler.request.headers["User-Agent"])
        return "Bot" not in seen[-1]

    app = application(allow_new=allow)
    async with SessionClient(app, headers={"User-Agent": "GoodBot"}) as client:
        with pytest.raises(SessionRefused):
            await client.begin({"n": 1})
        client.headers["User-Agent"] = "Browser"
        await client.begin({"n": 1})
    assert seen == ["GoodBot", "Browser"]


@pytest.mark.gen_test
async def test_it_keeps_all_cookies():
    """As a browser does, but for their paths and domains."""
    past = (datetime.now(UTC) - timedelta(days=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    later = past.replace(past[12:16], "2999")
    async with SessionClient(application()) as client:
        assert (await client.fetch("/echo")).body == b"none"
        await post_lines(client, 'a=1; Path="/x"', "b=x=y", "c=3; Max-Age=0")
        assert (await client.fetch("/echo")).body == b"a=1; b=x=y"
        await post_lines(client, f"a=; Expires={past}", f"b=2; expires={later}")
        assert client.cookies == {"b": "2"}
        await post_lines(client, "b=; Max-Age=-1", "c=4; Max-Age=5; Expires=" + past)
        assert client.cookies == {"c": "4"}
        await post_lines(client, "d=5; Max-Age=soon")
        assert client.cookies == {"c": "4", "d": "5"}


async def post_lines(client, *lines):
    fields = [("line", line.encode()) for line in lines]
    body = "&".join(
        f"{name}=" + "".join(f"%{byte:02x}" for byte in value) for name, value in fields
    )
    await client.fetch("/echo", method="POST", body=body)


@pytest.mark.gen_test
async def test_headers_of_one_request_are_added():
    """They go with the client's own, and a Cookie goes with its cookies."""
    async with SessionClient(application(), headers={"X-A": "1"}) as client:
        client.cookies["a"] = "1"
        shown = await client.fetch("/echo", headers={"Cookie": "_xsrf=x"})
        assert shown.body == b"a=1; _xsrf=x"
        headers = client.request_headers({"X-B": "2"})
        assert sorted(headers.get_all()) == [
            ("Cookie", "a=1"),
            ("X-A", "1"),
            ("X-B", "2"),
        ]
        headers["X-A"] = "3"
        assert client.headers["X-A"] == "1"


@pytest.mark.gen_test
async def test_a_form_with_a_token_is_accepted():
    """The token is in the body, and in a cookie of the same request."""
    app = application()
    app.settings["xsrf_cookies"] = True
    async with SessionClient(app) as client:
        await client.begin({"cart": []})
        form = {"method": "POST", "body": "_xsrf=x&item=pen"}
        assert (await client.fetch("/", **form)).code == 403
        response = await client.fetch("/", headers={"Cookie": "_xsrf=x"}, **form)
        assert response.code == 302
        assert await client.session() == {"cart": ["pen"]}


@pytest.mark.gen_test
async def test_it_can_use_a_server_that_runs(http_server, base_url):
    """With its URL, no other is started."""
    client = SessionClient(http_server.request_callback, base_url)
    await client.begin({"n": 1})
    response = await client.fetch("/")
    assert response.effective_url == f"{base_url}/"
    assert response.body == b'{"principal": null, "n": 1}'
    response = await client.fetch(f"{base_url}/echo")
    assert response.body.startswith(b"session=")


@pytest.mark.gen_test
async def test_requests_may_be_sent_by_others(http_client, base_url, app):
    """Their headers are the client's, and it takes the response's."""
    client = SessionClient(app)
    await client.begin({"n": 1})
    url = base_url.replace("http", "ws", 1) + "/socket"
    socket = await websocket_connect(HTTPRequest(url, headers=client.request_headers()))
    assert await socket.read_message() == '{"n": 1}'
    socket.close()
    response = await http_client.fetch(
        f"{base_url}/login",
        method="POST",
        body="name=ann",
        headers=client.request_headers(),
        follow_redirects=False,
        raise_error=False,
    )
    client.receive(response.headers)
    assert (await client.session()).principal == "ann"
    client.receive(HTTPHeaders())
    assert (await client.session()).principal == "ann"


@pytest.mark.gen_test
async def test_errors_are_responses(session_client):
    """Unless the test wants them to be raised."""
    assert (await session_client.fetch("/nothing")).code == 404
    with pytest.raises(HTTPClientError):
        await session_client.fetch("/nothing", raise_error=True)


def test_one_client_may_be_used_by_several_loops():
    """The server starts anew on each, and the session stays."""
    client = SessionClient(application())

    async def count(expected):
        if not expected:
            await client.begin({"cart": []})
        await client.fetch("/", method="POST", body="item=pen")
        assert len((await client.session())["cart"]) == expected + 1

    for expected in range(3):
        run(count(expected))
    run(client.close())
    gc.collect()


def run(coroutine):
    """As `asyncio.run`, but without a change of the current event loop."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(coroutine)


@pytest.mark.integration
@pytest.mark.parametrize("closes", [True, False])
def test_close_leaves_nothing_open(memcached, closes):
    """Sockets and threads of the server, and of the store, are gone."""
    app = application(store=memcached.url)

    async def play():
        client = SessionClient(app)
        await client.begin({"n": 1})
        await client.fetch("/")
        if closes:
            await client.close()
        return client

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        client = runner.run(play())
    run(client.close())
    with pytest.raises(StoreUnavailable, match="closed"):
        run(app.settings["session_manager"].get(ID))
    gc.collect()


def test_it_shows_no_id():
    """Its repr can be in a log."""
    client = SessionClient(application())
    run(client.begin({"n": 1}))
    (value,) = client.cookies.values()
    assert value not in repr(client)
    assert repr(client) == "<SessionClient cookies=1>"
