"""Handlers that do not wait for what they have begun."""

from __future__ import annotations

import asyncio

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from ..support.site import session_cookie, settle

pytestmark = pytest.mark.in_both_ways


class Impatient(SessionMixin, RequestHandler):
    """Gives up on a login, or never waits for it; ends as the path says."""

    async def post(self):
        login = asyncio.ensure_future(self.session.login("ann"))
        await asyncio.sleep(0)
        if self.request.path == "/cancel":
            login.cancel()
            raise ZeroDivisionError
        self.write("done")


@pytest.mark.parametrize(("path", "status"), [("/cancel", 500), ("/leave", 200)])
@pytest.mark.gen_test
async def test_a_login_that_was_begun_is_told(serve, store, uncaught, path, status):
    """The old id is dead by then: the answer waits, and carries the new one."""
    site = serve(Impatient)
    client = await site.client(a=1)
    store.hold("cas")
    async with await site.open() as wire:
        await wire.ask("POST", path, headers=client)
        await store.reached("cas")
        await settle()
        assert not wire.received
        store.release("cas")
        answer = await wire.receive("POST")
    assert answer.status == status
    assert len(uncaught()) == (status == 500)
    assert session_cookie(answer) is not None
    assert await site.stored(client) is None
    assert await site.stored(answer) == {"a": 1}
