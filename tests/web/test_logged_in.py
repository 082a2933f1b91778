"""Requests of who is logged in, of who is no more, and of who may not begin."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, HTTPError, RequestHandler

from tornado_mcsession import MemcachedStore, SessionMixin

from ..support.http import RawConnection
from ..support.site import session_cookie


class Account(SessionMixin, RequestHandler):
    """Logs in, out everywhere, and counts."""

    def get(self):
        self.write({"principal": self.session.principal, "n": self.session.get("n")})

    async def put(self):
        await self.session.login("alice")

    async def post(self):
        self.session["n"] = self.session.get("n", 0) + 1

    async def patch(self):
        await self.session.revoke_others()
        raise HTTPError(500)

    async def delete(self):
        await self.settings["session_manager"].revoke("alice")


class CountingPool(ThreadPoolExecutor):
    """Counts the jobs that it is given: the hops to a thread."""

    def __init__(self):
        super().__init__(2)
        self.jobs = []

    def submit(self, fn, /, *args, **kwargs):
        self.jobs.append(super().submit(fn, *args, **kwargs))
        return self.jobs[-1]

    async def begin(self):
        """Count from now on; what still looks for more to do would take it along."""
        await asyncio.gather(*map(asyncio.wrap_future, self.jobs))
        self.jobs.clear()


async def log_in(site):
    return {"Cookie": f"session={session_cookie(await site.request('PUT')).value}"}


@pytest.fixture
def counted_store(io_loop, memcached):
    """A memcached store on `CountingPool`, as ``store.pool``."""
    with CountingPool() as pool:
        store = MemcachedStore([memcached.server], executor=pool, timeout=10)
        store.pool = pool
        yield store
        io_loop.run_sync(store.close)


@pytest.mark.integration
@pytest.mark.gen_test
@pytest.mark.parametrize(("method", "hops"), [("GET", 1), ("POST", 2)])
async def test_a_logged_in_session_costs_no_more_hops(counted_store, method, hops):
    """Its marker is read with it; a change is written as usual."""
    app = Application([("/", Account)], session={"store": counted_store})
    server = HTTPServer(app)
    socket, port = bind_unused_port()
    server.add_socket(socket)
    try:
        async with await RawConnection.open(port) as wire:
            cookie = session_cookie(await wire.request("PUT", "/", {}, b"")).value
            headers = {"Cookie": f"session={cookie}"}
            await counted_store.pool.begin()
            body = b"" if method == "POST" else None
            assert (await wire.request(method, "/", headers, body)).status == 200
            # A job that has just read may write, too.
            assert 1 <= len(counted_store.pool.jobs) <= hops
    finally:
        server.stop()
        await server.close_all_connections()


@pytest.mark.gen_test
async def test_a_revoked_session_is_an_empty_one(serve):
    """Its cookie stays as it is, and the response does not say why."""
    site = serve(Account)
    alice, other = await log_in(site), await log_in(site)
    assert (await site.get(headers=alice)).json()["principal"] == "alice"
    assert (await site.request("DELETE", headers=other)).status == 200
    for headers in (alice, other):
        response = await site.get(headers=headers)
        assert response.json() == {"principal": None, "n": None}
        assert session_cookie(response) is None


@pytest.mark.gen_test
async def test_a_page_under_way_begins_no_second_session(serve):
    """The answer of the new id is the only one that sets a cookie."""
    site = serve(Account)
    alice = await log_in(site)
    response = await site.request("PATCH", headers=alice, body=b"")
    assert session_cookie(response) is not None
    late = await site.request("POST", headers=alice, body=b"")
    assert (late.status, session_cookie(late)) == (200, None)


@pytest.mark.gen_test
async def test_a_new_id_is_told_by_an_error_page_too(serve, uncaught):
    """The others are ended, and this one goes on, whatever came afterwards."""
    site = serve(Account)
    alice, other = await log_in(site), await log_in(site)
    response = await site.request("PATCH", headers=alice, body=b"")
    assert response.status == 500
    mine = {"Cookie": f"session={session_cookie(response).value}"}
    assert (await site.get(headers=mine)).json()["principal"] == "alice"
    assert (await site.get(headers=other)).json()["principal"] is None


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_refused_session_is_a_429(serve, method, caplog):
    """At the end of a request, or in it: no cookie, nothing stored, one line."""
    site = serve(Account, {"allow_new": lambda handler: False})
    with caplog.at_level("INFO", "tornado_mcsession"):
        response = await site.request(method, body=b"")
    assert response.status == 429
    assert session_cookie(response) is None
    assert site.sessions() == 0
    (line,) = [r for r in caplog.records if r.name == "tornado_mcsession"]
    assert (line.levelname, "429" in line.getMessage()) == ("INFO", True)


@pytest.mark.gen_test
async def test_the_hook_knows_who_asks(serve):
    """By the handler: an address has its limit, others have theirs."""
    begun = []

    def allow(handler):
        begun.append(handler.request.headers["X-From"])
        return begun.count(begun[-1]) <= 2

    site = serve(Account, {"allow_new": allow})
    seen = [
        (await site.request("POST", headers={"X-From": who}, body=b"")).status
        for who in ("a", "a", "a", "b", "a")
    ]
    assert seen == [200, 200, 429, 200, 429]
