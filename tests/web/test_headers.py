"""When the cookie goes out, and what caches are told about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tornado.web import RequestHandler, StaticFileHandler

from tornado_mcsession import SessionMixin

from ..support.site import is_cleared, session_cookie

NEVER_SHARED = 'private, no-cache="Set-Cookie"'


class Acts(SessionMixin, RequestHandler):
    """Does what the path names, and sends the Cache-Control that it is given."""

    async def get(self):
        if cache := self.get_query_argument("cache", ""):
            self.set_header("Cache-Control", cache)
        if vary := self.get_query_argument("vary", ""):
            self.set_header("Vary", vary)
        await getattr(self, self.request.path[1:])()
        if self.get_query_argument("flush", ""):
            await self.flush()
        self.write("body")

    async def nothing(self):
        pass

    async def show(self):
        self.write(repr(self.session))

    async def read(self):
        self.session.get("n")

    async def change(self):
        self.session["n"] = self.session.get("n", 0) + 1

    async def login(self):
        await self.session.login("ann")

    async def regenerate(self):
        await self.session.regenerate()

    async def remember(self):
        self.session.remember(True)

    async def timeout(self):
        self.session.set_idle_timeout(60)

    async def expiry(self):
        now = datetime.fromtimestamp(1_800_000_000, UTC)
        self.session.set_expiry(now + timedelta(hours=1))

    async def destroy(self):
        await self.session.destroy()

    async def saved(self):
        self.session["n"] = 5
        await self.session.save()


SENDS = ["/login", "/regenerate", "/remember", "/timeout", "/expiry"]
QUIET = ["/nothing", "/show", "/read", "/change", "/saved"]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", SENDS + QUIET)
async def test_a_known_client_gets_the_cookie_for_a_reason_only(serve, path):
    """A new id, or a new end, brings it; reading and changing data does not."""
    site = serve(Acts)
    response = await site.get(path, await site.client(n=1))
    assert (session_cookie(response) is not None) is (path in SENDS)
    assert not is_cleared(response)


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/read", "/change", "/saved"])
async def test_a_renewal_brings_the_cookie(serve, clock, path):
    """Once renew_after has passed, and the session is used; then not again."""
    site = serve(Acts)
    client = await site.client(n=1)
    clock.advance(8_639)
    assert session_cookie(await site.get(path, client)) is None
    clock.advance(1)
    cookie = session_cookie(await site.get(path, client))
    assert cookie.attributes["max-age"] == str(95_040)  # a day and a tenth
    assert session_cookie(await site.get(path, client)) is None


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/nothing", "/show"])
async def test_what_does_not_use_the_session_does_not_renew_it(serve, clock, path):
    """Only its repr is no use of a session."""
    site = serve(Acts)
    client = await site.client(n=1)
    clock.advance(80_000)
    response = await site.get(path, client)
    assert session_cookie(response) is None
    assert response.header("Vary") is None


@pytest.mark.gen_test
async def test_a_destroyed_session_takes_the_cookie_along(serve, store):
    """For whoever had one; who had none gets no line for nothing."""
    site = serve(Acts)
    assert is_cleared(await site.get("/destroy", await site.client(n=1)))
    assert session_cookie(await site.get("/destroy")) is None


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "Cookie"),
        ("Accept-Language", "Accept-Language, Cookie"),
        ("Accept, cookie", "Accept, cookie"),
        ("*", "*"),
    ],
)
@pytest.mark.parametrize("flush", ["", "1"])
async def test_vary_is_appended(serve, before, after, flush):
    """Where the session was used, and what the handler said stays said."""
    site = serve(Acts)
    target = f"/read?flush={flush}&vary={before.replace(' ', '%20')}"
    assert (await site.get(target)).all_headers("Vary") == [after]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/nothing", "/show", "/read"])
async def test_vary_goes_with_all_that_is_streamed(serve, path):
    """When headers leave early, the rest may still depend on the session."""
    site = serve(Acts)
    response = await site.get(path + "?flush=1")
    assert response.header("Vary") == "Cookie"


@pytest.mark.gen_test
async def test_vary_names_the_transports_header(serve):
    """Without cookies it is the header that carries the id."""
    site = serve(Acts, session={"transport": "header:X-Session-ID"})
    for target in ("/read", "/nothing?flush=1"):
        assert (await site.get(target)).header("Vary") == "X-Session-ID"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", NEVER_SHARED),
        ("public, s-maxage=60", NEVER_SHARED),
        ("Public, max-age=60, S-MaxAge=60", f"max-age=60, {NEVER_SHARED}"),
        ("private, no-store", f"no-store, {NEVER_SHARED}"),
    ],
)
@pytest.mark.parametrize("flush", ["", "1"])
async def test_an_answer_with_the_cookie_is_not_shared(
    serve, before, after, flush, caplog
):
    """Caches may keep it for its user alone; one warning names the handler."""
    site = serve(Acts)
    target = f"/change?flush={flush}&cache={before.replace(' ', '%20')}"
    for _ in range(2):
        response = await site.get(target)
        assert session_cookie(response) is not None
        assert response.header("Cache-Control") == after
    warned = [r for r in caplog.records if "shared caches" in r.getMessage()]
    assert len(warned) == ("public" in before.lower())
    assert all("Acts" in record.getMessage() for record in warned)


@pytest.mark.gen_test
async def test_an_answer_without_the_cookie_may_be_shared(serve):
    """Vary alone tells caches what it depends on."""
    site = serve(Acts)
    cache = "public, s-maxage=60"
    response = await site.get(
        "/change?cache=public,%20s-maxage=60", await site.client(n=1)
    )
    assert response.header("Cache-Control") == cache
    assert response.header("Vary") == "Cookie"


class Static(SessionMixin, StaticFileHandler):
    def set_extra_headers(self, path):
        self.session.get("n")


class PublicStatic(SessionMixin, StaticFileHandler):
    pass


@pytest.fixture
def files(tmp_path):
    """The settings of a static handler with one file."""
    (tmp_path / "file.txt").write_text("body")
    return {"path": str(tmp_path)}


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_static_files_with_the_cookie(serve, files, clock, method):
    """A versioned file that renews the session is kept by its user's cache alone."""
    site = serve([("/(.*)", Static, files)])
    client = await site.client(n=1)
    plain = await site.request(method, "/file.txt?v=1", client)
    assert plain.header("Cache-Control") == "max-age=315360000"
    assert plain.header("Vary") == "Cookie"
    clock.advance(80_000)
    renewed = await site.request(method, "/file.txt?v=1", client)
    assert session_cookie(renewed) is not None
    assert renewed.header("Cache-Control") == f"max-age=315360000, {NEVER_SHARED}"


@pytest.mark.gen_test
@pytest.mark.parametrize("renews", [True, False])
async def test_not_modified_says_the_same(serve, files, clock, renews):
    """A 304 has Vary, and the cookie of a renewal, as its 200 would."""
    site = serve([("/static/(.*)", Static, files), ("/.*", Acts)])
    client = await site.client(n=1)
    for target in ("/static/file.txt", "/read"):
        etag = (await site.get(target, client)).header("Etag")
        clock.advance(10_000 * renews)
        response = await site.get(target, {**client, "If-None-Match": etag})
        assert (response.status, response.header("Vary")) == (304, "Cookie")
        assert (session_cookie(response) is not None) is renews
        if renews:
            assert response.header("Cache-Control").endswith(NEVER_SHARED)


@pytest.mark.gen_test
async def test_static_files_that_do_not_use_the_session(serve, files, store):
    """Nothing is added but Vary, since they stream: their file leaves unsaved."""
    site = serve([("/(.*)", PublicStatic, files)])
    response = await site.get("/file.txt?v=1")
    assert response.header("Cache-Control") == "max-age=315360000"
    assert response.header("Vary") == "Cookie"
    assert response.body == b"body"
    assert store.calls == []
