"""`access_log`: the access log tells the status that was sent."""

from __future__ import annotations

import logging

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin, access_log

from ..support.site import settle

pytestmark = pytest.mark.in_both_ways


class Writes(SessionMixin, RequestHandler):
    """Changes its session."""

    def get(self):
        self.session["n"] = self.session.get("n", 0) + 1
        self.set_status(201)
        self.write("done")

    async def post(self):
        self.write("begun")
        await self.flush()
        self.get_argument("no such")


class Reads(SessionMixin, RequestHandler):
    """Uses no session."""

    def get(self):
        self.set_status(int(self.get_argument("status", "200")))


class Plain(RequestHandler):
    """Has none."""

    def get(self):
        self.write("plain")


@pytest.fixture
def lines():
    """What was logged: the path and the status of each request."""
    return []


@pytest.fixture
def site(serve, lines):
    """An application that logs each request."""
    routes = [("/writes", Writes), ("/reads", Reads), ("/plain", Plain)]
    log = access_log(
        lambda handler, status: lines.append((handler.request.path, status))
    )
    return serve(routes, log_function=log)


@pytest.mark.gen_test
async def test_the_status_that_was_sent_is_logged(site, store, lines):
    """A failed save is a 503 there too, not the handler's 201."""
    store.fail("add")
    response = await site.get("/writes")
    await settle()
    assert response.status == 503
    assert lines == [("/writes", 503)]


@pytest.mark.gen_test
async def test_a_failed_update_is_logged_as_it_was_sent(site, store, lines):
    """The same for a session that exists, whose save is one operation."""
    client = await site.client(n=1)
    store.fail("cas")
    response = await site.get("/writes", client)
    await settle()
    assert response.status == 503
    assert lines == [("/writes", 503)]


@pytest.mark.gen_test
async def test_the_line_comes_after_the_save(site, store, lines):
    """Nothing is logged while the response waits."""
    store.hold("add")
    async with await site.open() as wire:
        await wire.ask("GET", "/writes")
        await store.reached("add")
        await settle()
        assert lines == []
        store.release("add")
        assert (await wire.receive("GET")).status == 201
        await settle()
    assert lines == [("/writes", 201)]


@pytest.mark.gen_test
async def test_each_request_is_logged_once(site, lines):
    """With a session, without one, and by a handler that cannot have one."""
    for path in ("/writes", "/reads", "/plain", "/nowhere"):
        await site.get(path)
    await settle()
    assert lines == [
        ("/writes", 201),
        ("/reads", 200),
        ("/plain", 200),
        ("/nowhere", 404),
    ]


@pytest.mark.gen_test
async def test_headers_that_have_left_are_logged(site, lines, uncaught):
    """A stream that fails later was begun with its own status."""
    await site.request("POST", "/writes", body=b"")
    await settle()
    assert lines == [("/writes", 200)]


@pytest.mark.parametrize(
    ("status", "level"),
    [(200, logging.INFO), (404, logging.WARNING), (500, logging.ERROR)],
)
@pytest.mark.gen_test
async def test_the_usual_line_is_like_tornados(serve, caplog, status, level):
    """On the same logger, at the same level."""
    caplog.set_level(logging.INFO, logger="tornado.access")
    site = serve(Reads, log_function=access_log())
    await site.get(f"/a?status={status}")
    await settle()
    (record,) = [each for each in caplog.records if each.name == "tornado.access"]
    assert record.levelno == level
    begin = f"{status} GET /a?status={status} (127.0.0.1) "
    assert record.getMessage().startswith(begin)
    assert record.getMessage().endswith("ms")
