"""What shared caches, browsers and the back button may keep."""

from __future__ import annotations

import pytest
from tornado.web import HTTPError, RequestHandler

from tornado_mcsession import SessionMixin

from ..support.site import session_cookie

KEEP = {
    "CDN-Cache-Control": "max-age=600",
    "Cloudflare-CDN-Cache-Control": "max-age=600",
    "Netlify-CDN-Cache-Control": "public, max-age=600",
    "Vercel-CDN-Cache-Control": "max-age=600",
    "Surrogate-Control": "max-age=600",
    "X-Accel-Expires": "600",
    "Expires": "Thu, 01 Jan 2037 00:00:00 GMT",
}


class Page(SessionMixin, RequestHandler):
    """Uses its session as the path says, and wants to be kept by caches."""

    async def get(self, use, end="plain"):
        for name, value in KEEP.items():
            self.set_header(name, value)
        self.set_header("Cache-Control", "public, max-age=60, s-maxage=600")
        if use == "reads":
            len(self.session)
        elif use == "writes":
            self.session["a"] = 1
        elif use == "login":
            await self.session.login("ann")
        elif use == "ends":
            self.session = None
        self.write("body")
        if end == "flush":
            await self.flush()
        elif end == "304":
            self.set_status(304)
            self.clear_header("Content-Type")
            self._write_buffer.clear()
        elif end == "404":
            self.set_status(404)

    head = get


@pytest.fixture
def site(serve):
    return serve([("/([a-z]+)", Page), ("/([a-z]+)/([a-z0-9]+)", Page)])


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("end", ["plain", "flush", "304", "404"])
@pytest.mark.parametrize("use", ["writes", "login", "ends"])
async def test_no_shared_cache_may_keep_a_cookie(site, use, end, method):
    """Each header by which it would goes."""
    headers = await site.client(a=2) if use == "ends" else {}
    response = await site.request(method, f"/{use}/{end}", headers)
    assert session_cookie(response) is not None
    for name in KEEP:
        assert response.header(name) is None, name
    control = response.header("Cache-Control")
    assert "private" in control
    assert 'no-cache="Set-Cookie"' in control
    assert "public" not in control
    assert "s-maxage" not in control
    assert response.header("Vary") == "Cookie"


@pytest.mark.gen_test
@pytest.mark.parametrize("use", ["nothing", "reads"])
async def test_without_a_cookie_they_stay(site, use):
    """The application knows what may be kept; Vary tells of the use."""
    response = await site.get(f"/{use}", headers=await site.client(a=1))
    assert session_cookie(response) is None
    for name, value in KEEP.items():
        assert response.header(name) == value
    assert response.header("Cache-Control") == "public, max-age=60, s-maxage=600"
    assert response.header("Vary") == ("Cookie" if use == "reads" else None)


@pytest.mark.gen_test
async def test_they_go_with_a_renewal(site, clock):
    """It brings the cookie as well."""
    client = await site.client(a=1)
    clock.advance(43_200)
    response = await site.get("/reads", headers=client)
    assert session_cookie(response) is not None
    assert not [name for name in KEEP if response.header(name) is not None]


# no_store: no private page by the back button after a logout.


class Private(SessionMixin, RequestHandler):
    """Uses its session as the path says."""

    async def get(self, use):
        if use == "login":
            await self.session.login("ann")
        elif use == "flushes":
            len(self.session)
            await self.flush()
        elif use == "fails":
            len(self.session)
            raise HTTPError(404)
        elif use == "own":
            len(self.session)
            self.set_header("Cache-Control", "public, max-age=60")
        elif use != "nothing":
            len(self.session)


async def control_of(site, use):
    """The Cache-Control of what a user sees who is logged in."""
    login = await site.get("/login")
    headers = {"Cookie": f"session={session_cookie(login).value}"}
    response = await site.get(f"/{use}", headers=headers)
    return response.header("Cache-Control") or ""


@pytest.mark.gen_test
@pytest.mark.parametrize("use", ["reads", "flushes", "fails", "own"])
async def test_no_store_is_for_pages_of_users(serve, use):
    """Each response whose request used a session with a principal."""
    site = serve([("/(.*)", Private)], session={"no_store": True})
    control = await control_of(site, use)
    assert "no-store" in control
    assert "public" not in control


@pytest.mark.gen_test
async def test_no_store_leaves_other_pages(serve):
    """Those that use no session, and those of visitors who are not logged in."""
    site = serve([("/(.*)", Private)], session={"no_store": True})
    assert "no-store" not in await control_of(site, "nothing")
    response = await site.get("/reads", headers=await site.client(a=1))
    assert "no-store" not in (response.header("Cache-Control") or "")
    assert "no-store" not in ((await site.get("/reads")).header("Cache-Control") or "")


@pytest.mark.gen_test
async def test_no_store_counts_a_login(serve):
    """The page that follows it directly is private already."""
    site = serve([("/(.*)", Private)], session={"no_store": True})
    assert "no-store" in (await site.get("/login")).header("Cache-Control")


@pytest.mark.gen_test
async def test_without_the_setting_pages_may_be_kept(serve):
    """Browsers may keep them; it is off by default."""
    site = serve([("/(.*)", Private)])
    assert "no-store" not in await control_of(site, "reads")
