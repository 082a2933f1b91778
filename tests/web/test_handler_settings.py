"""What a handler class, or a single request, says about its session."""

from __future__ import annotations

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionManager, SessionMixin
from tornado_mcsession.exceptions import SessionNotLoaded

from ..support.site import is_cleared, session_cookie


class Lazy(SessionMixin, RequestHandler):
    session_load = "lazy"

    async def get(self):
        await self.load_session()
        session = await self.load_session()
        assert session is self.session
        self.session["n"] = self.session.get("n", 0) + 1
        self.write(str(self.session["n"]))

    def post(self):
        self.write("body")

    async def delete(self):
        if self.request.path == "/destroy":
            await self.session.destroy()
        else:
            self.session = None
        if self.get_query_argument("load", ""):
            self.write(str(len(await self.load_session())))

    def put(self):
        self.write(str(self.session.get("n")))


@pytest.mark.gen_test
async def test_lazy_loads_when_asked(serve, store):
    """load_session() loads once; without it there is no call to the store."""
    site = serve(Lazy)
    client = await site.client(n=1)
    await site.request("POST", "/", client, b"")
    assert store.calls == []
    assert (await site.get(headers=client)).body == b"2"
    assert store.calls == ["get", "cas"]
    assert await site.stored(client) == {"n": 2}
    response = await site.get()
    assert await site.stored(response) == {"n": 1}


@pytest.mark.gen_test
@pytest.mark.parametrize("target", ["/destroy", "/doom"])
@pytest.mark.parametrize("load", ["", "?load=1"])
async def test_a_lazy_logout_needs_no_load(serve, store, target, load):
    """It ends the session and its cookie; loading afterwards brings nothing back."""
    site = serve(Lazy)
    client = await site.client(n=1)
    response = await site.request("DELETE", target + load, client)
    assert response.body == (b"0" if load else b"")
    assert is_cleared(response)
    assert await site.stored(client) is None
    assert store.calls == ["get", "cas"]


@pytest.mark.gen_test
@pytest.mark.parametrize(("load", "why"), [("lazy", "load_session"), ("off", "'off'")])
async def test_what_was_not_loaded_cannot_be_used(serve, store, load, why):
    """SessionNotLoaded says what is to be done about it."""
    raised = []

    class Handler(SessionMixin, RequestHandler):
        session_load = load

        def get(self):
            for use in (
                lambda: self.session["n"],
                lambda: self.session.update(n=1),
                lambda: self.session_id,
                lambda: setattr(self, "session", {"n": 1}),
            ):
                try:
                    use()
                except SessionNotLoaded as error:
                    raised.append(str(error))

    site = serve(Handler)
    assert (await site.get(headers=await site.client(n=1))).status == 200
    assert len(raised) == 4
    assert all(why in message for message in raised)
    assert store.calls == []


@pytest.mark.gen_test
async def test_a_load_mode_that_does_not_exist_is_an_error(serve, uncaught):
    """Where each request chooses it, a spelling mistake is a 500."""

    class Handler(SessionMixin, RequestHandler):
        @property
        def session_load(self):
            return "lasy"

    assert (await serve(Handler).get()).status == 500
    assert len(uncaught()) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("change", [True, False])
async def test_polling_routes_need_not_renew(serve, store, clock, change):
    """With session_renew False neither record nor cookie move; changes are saved."""

    class Handler(SessionMixin, RequestHandler):
        session_renew = False

        def get(self):
            self.session["n"] = self.session["n"] + change

    site = serve(Handler)
    client = await site.client(n=1)
    session_id = client["Cookie"].removeprefix("session=")
    ends = (await site.manager.get(session_id)).expires_at
    clock.advance(80_000)
    assert session_cookie(await site.get(headers=client)) is None
    session = await site.manager.get(session_id)
    assert session.expires_at == ends
    assert session == {"n": 1 + change}


class Saves(SessionMixin, RequestHandler):
    """Takes session_save for this request from the query."""

    def get(self):
        choice = self.get_query_argument("save", "")
        self.session_save = {"yes": True, "no": False, "": None}[choice]
        if self.request.path == "/change":
            self.session["n"] = 2
        elif self.request.path == "/read":
            self.session.get("n")
        elif self.request.path == "/doom":
            self.session = None
        if self.get_query_argument("fail", ""):
            self.set_status(500)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("target", "calls"),
    [
        ("/change?save=no", []),
        ("/read?save=no", []),
        ("/doom?save=no", ["get", "cas"]),
        ("/change?save=yes", ["cas"]),
        ("/read?save=yes", ["cas"]),
        ("/untouched?save=yes", ["cas"]),
        ("/read?save=yes&fail=1", []),
        ("/untouched?save=yes&fail=1", []),
        ("/read", []),
        ("/change", ["cas"]),
    ],
)
async def test_saving_may_be_forced_or_forbidden(serve, store, target, calls):
    """True saves an existing session unchanged, False never; per request too."""
    site = serve(Saves)
    client = await site.client(n=1)
    await site.get(target, client)
    assert await site.manager.drain(5)
    assert store.calls == ["get", *calls]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/read", "/untouched"])
async def test_forced_saving_creates_nothing(serve, store, path):
    """A session that holds nothing is not stored."""
    await serve(Saves).get(path + "?save=yes")
    assert store.calls == []


@pytest.mark.gen_test
async def test_forced_saving_of_an_untouched_session_does_not_renew_it(
    serve, store, clock
):
    """Its cookie does not go out: so its record keeps its end."""
    site = serve(Saves)
    client = await site.client(n=1)
    session_id = client["Cookie"].removeprefix("session=")
    ends = (await site.manager.get(session_id)).expires_at
    clock.advance(80_000)
    response = await site.get("/untouched?save=yes", client)
    assert session_cookie(response) is None
    assert await site.manager.drain(5)
    assert (await site.manager.get(session_id)).expires_at == ends


@pytest.mark.gen_test
async def test_a_failing_forced_save_of_an_untouched_session(serve, store, caplog):
    """The answer is out; the log tells, and nothing is left unretrieved."""
    site = serve(Saves)
    store.fail("cas")
    client = await site.client(n=1)
    assert (await site.get("/untouched?save=yes", client)).status == 200
    assert await site.manager.drain(5)
    assert "after its response to GET" in caplog.text


@pytest.mark.gen_test
async def test_a_handler_may_use_another_manager(serve, store):
    """Each has a cookie of its own, by its name."""

    class Admin(SessionMixin, RequestHandler):
        session_manager_name = "admin"

        def get(self):
            self.session["admin"] = True

    site = serve(Admin, attached=False)
    SessionManager(site.application, name="admin")
    response = await site.get()
    assert response.header("Set-Cookie").startswith("admin=")
    assert "session_manager:admin" in site.application.settings
    assert "session_manager" not in site.application.settings


class Assigns(SessionMixin, RequestHandler):
    def get(self):
        self.session = {"b": 2}

    def post(self):
        self.session = None
        self.session["c"] = 3

    def put(self):
        self.session |= {"b": 2}

    def delete(self):
        self.session = None


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_assigned_data_replaces_the_old(serve, method):
    """``session = {...}`` puts other data in, ``|=`` adds; both under the same id."""
    site = serve(Assigns)
    client = await site.client(a=1)
    response = await site.request(method, "/", client, b"")
    assert session_cookie(response) is None
    old = {"a": 1} if method == "PUT" else {}
    assert await site.stored(client) == {**old, "b": 2}


@pytest.mark.gen_test
async def test_assigning_none_ends_the_session_with_the_request(serve, store):
    """The cookie goes when the record is gone; an error takes it back."""
    site = serve(Assigns)
    client = await site.client(a=1)
    response = await site.request("DELETE", "/", client)
    assert is_cleared(response)
    assert await site.stored(client) is None
    assert store.calls == ["get", "get", "cas"]


@pytest.mark.gen_test
async def test_what_follows_the_end_begins_a_new_session(serve, store):
    """Under a new id, whose cookie replaces the old one."""
    site = serve(Assigns)
    client = await site.client(a=1)
    response = await site.request("POST", "/", client, b"")
    assert await site.stored(client) is None
    assert await site.stored(response) == {"c": 3}
    assert store.calls == ["get", "get", "cas", "add"]


@pytest.mark.gen_test
@pytest.mark.parametrize("known", [True, False])
async def test_other_classes_prepare_after_the_session(serve, known):
    """Those behind SessionMixin find it loaded, whether they are async or not."""
    prepared = []

    class Waits:
        async def prepare(self):
            prepared.append(self.session.get("a"))

    class Base(RequestHandler):
        def prepare(self):
            prepared.append("base")

    class First(SessionMixin, Waits, Base):
        def get(self):
            self.write("body")

    class Second(SessionMixin, Base):
        def get(self):
            self.write("body")

    site = serve([("/first", First), ("/second", Second)])
    client = await site.client(a=1) if known else {}
    for path in ("/first", "/second"):
        assert (await site.get(path, client)).body == b"body"
    assert prepared == [1 if known else None, "base"]
