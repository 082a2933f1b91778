"""Requests that never come to prepare(), and handlers that leave out a call."""

from __future__ import annotations

import pytest
from tornado.web import HTTPError, RequestHandler

from tornado_mcsession import SessionMixin
from tornado_mcsession.exceptions import SessionNotLoaded, StoreUnavailable

from ..support.site import session_cookie, settle


class Page(SessionMixin, RequestHandler):
    """Its error page shows what there is of the session."""

    def get(self):
        self.write("body")

    post = get

    def write_error(self, status_code, **kwargs):
        session = self.session
        session["broken"] = session.get("broken", 0) + 1
        self.write(f"{status_code} {session.available} {len(session)} {session.id}")


BAD_BODY = {"Content-Type": "multipart/form-data; boundary=x"}
REFUSED = {
    "method": (("BREW", "/", {}), 405),
    "path": (("GET", "/%ff", {}), 400),
    "xsrf": (("POST", "/", {}), 403),
}


@pytest.mark.gen_test
@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("known", [True, False])
async def test_a_refused_request_shows_an_empty_session(
    serve, store, request_, status, known
):
    """Its error page gets one that is not available, and is never saved."""
    site = serve([("/(.*)", Path)], xsrf_cookies=True)
    client = await site.client(a=1) if known else {}
    method, path, headers = request_
    response = await site.request(method, path, {**client, **headers}, b"")
    assert response.status == status
    assert response.body == b"%d False 1 None" % status
    assert store.calls == []
    assert session_cookie(response) is None
    assert response.header("Vary") == "Cookie"


class Path(Page):
    def get(self, path):
        self.write("body")

    post = get


@pytest.mark.gen_test
async def test_a_bad_multipart_body(serve, store):
    """Refused before prepare() by Tornado 6.5 and later; nothing breaks before."""
    site = serve(Page)
    response = await site.request("POST", "/", BAD_BODY, b"no multipart at all")
    assert (response.status, response.body) in [
        (400, b"400 False 1 None"),
        (200, b"body"),
    ]
    assert store.calls == []


@pytest.mark.gen_test
async def test_a_page_for_a_prepare_that_failed_before_ours(serve, store):
    """A subclass may refuse a request before it awaits super().prepare()."""

    class Handler(Page):
        async def prepare(self):
            raise HTTPError(418)

    response = await serve(Handler).get()
    assert response.body == b"418 False 1 None"
    assert store.calls == []


@pytest.mark.gen_test
async def test_a_refused_request_of_a_loaded_session_keeps_it(serve):
    """An error page of a request that was prepared sees the real session."""

    class Handler(Page):
        def get(self):
            raise HTTPError(409)

    site = serve(Handler)
    client = await site.client(a=1)
    response = await site.get(headers=client)
    assert response.text.startswith("409 True 2 ")
    assert await site.stored(client) == {"a": 1, "broken": 1}


@pytest.mark.gen_test
async def test_prepare_without_super_says_so(serve, store):
    """A verb that then uses the session gets SessionNotLoaded, which says why."""
    raised = []

    class Handler(SessionMixin, RequestHandler):
        def prepare(self):
            pass

        def get(self):
            try:
                self.session["a"] = 1
            except SessionNotLoaded as error:
                raised.append(str(error))
            self.write("body")

    site = serve(Handler)
    assert (await site.get(headers=await site.client(a=1))).body == b"body"
    assert "super().prepare()" in raised[0]
    assert store.calls == []


@pytest.mark.gen_test
async def test_an_unhandled_not_loaded_is_a_500(serve, uncaught):
    """A mistake of the handler's is logged and answered as any other."""

    class Handler(SessionMixin, RequestHandler):
        def prepare(self):
            pass

        def get(self):
            return self.session["a"]

    response = await serve(Handler).get()
    assert response.status == 500
    assert response.header("Retry-After") is None
    assert len(uncaught()) == 1


@pytest.mark.gen_test
async def test_a_handler_may_go_on_after_a_load_that_failed(serve, store):
    """It catches the error of super().prepare(), and has no session then."""
    raised = []

    class Handler(SessionMixin, RequestHandler):
        async def prepare(self):
            try:
                await super().prepare()
            except StoreUnavailable:
                self.write("caught")

        def get(self):
            try:
                len(self.session)
            except SessionNotLoaded as error:
                raised.append(str(error))

    site = serve(Handler)
    store.fail("get")
    response = await site.get(headers=await site.client(a=1))
    assert (response.status, response.body) == (200, b"caught")
    assert "could not tell" in raised[0]


class NoOnFinish(SessionMixin, RequestHandler):
    def get(self):
        self.session["n"] = self.session.get("n", 0) + 1
        self.write("body")

    def on_finish(self):
        pass


class FailingOnFinish(NoOnFinish):
    def on_finish(self):
        raise ZeroDivisionError


class NoOnFinishStreams(NoOnFinish):
    async def get(self):
        self.session["n"] = 1
        self.write("bo")
        await self.flush()
        self.write("dy")


class ChangesOnFinish(NoOnFinish):
    def on_finish(self):
        self.session["finished"] = True
        super().on_finish()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "handler", [NoOnFinish, NoOnFinishStreams, FailingOnFinish, ChangesOnFinish]
)
async def test_on_finish_may_be_overridden(serve, store, handler, uncaught):
    """Without super().on_finish() the answer is held, saved and let go as well."""
    site = serve(handler)
    store.hold("add")
    async with await site.open() as wire:
        await wire.ask()
        await store.reached("add")
        await settle()
        assert wire.received == b""
        store.release("add")
        response = await wire.receive()
    assert response.body == b"body"
    assert (await site.stored(response))["n"] == 1
    assert store.calls == ["add"]


@pytest.mark.gen_test
@pytest.mark.parametrize("session", [{"no_such_key": 1}, {}])
async def test_settings_that_are_wrong_are_an_error_page(serve, session, uncaught):
    """A manager that cannot be built is a 500, and no client hangs for it."""

    class Handler(SessionMixin, RequestHandler):
        session_manager_name = "session" if session else "missing"

        def get(self):
            self.write(str(len(self.session)))

    site = serve(Handler, session=session, attached=False)
    assert (await site.get()).status == 500
    assert len(uncaught()) == 1


@pytest.mark.gen_test
async def test_headers_that_tornado_cannot_make_end_the_connection(serve, uncaught):
    """Where Tornado fails before there are any headers, no client hangs."""

    class Handler(SessionMixin, RequestHandler):
        def get(self):
            self.session["a"] = 1
            self.write("body")

    class Breaks:
        def __init__(self, request):
            pass

        def transform_first_chunk(self, *_):
            raise ZeroDivisionError

        def transform_chunk(self, chunk, finishing):
            return chunk

    site = serve(Handler, transforms=[Breaks])
    async with await site.open() as wire:
        await wire.ask()
        assert await wire.is_closed()
    assert site.sessions() == 0
