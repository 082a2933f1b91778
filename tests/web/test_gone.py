"""A session that another request ended, under a verb of this one."""

from __future__ import annotations

import logging

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionGone, SessionMixin

from ..support.site import session_cookie

VERBS = {
    "save": lambda session: session.save(),
    "reload": lambda session: session.reload(),
    "transact": lambda session: session.transact(lambda data: data.update(n=1)),
    "regenerate": lambda session: session.regenerate(),
}


class Loses(SessionMixin, RequestHandler):
    """Another tab logs out while it is under way."""

    async def get(self, verb):
        self.session["b"] = 1
        await self.settings["session_manager"].destroy(self.session.id)
        await VERBS[verb](self.session)


class Catches(Loses):
    async def get(self, verb):
        try:
            await super().get(verb)
        except SessionGone:
            self.set_status(202)


class OwnPage(Loses):
    def write_error(self, status_code, **kwargs):
        error = kwargs["exc_info"][1]
        self.finish(f"{status_code} {type(error).__name__}")


def test_its_status_is_409():
    """Conflict: the request may be made again, by whoever logs in."""
    assert SessionGone.status == 409


@pytest.mark.gen_test
@pytest.mark.parametrize("verb", VERBS)
async def test_it_is_a_409_and_a_line(serve, verb, caplog, logged):
    """No traceback: nothing is wrong with the server."""
    site = serve([("/(.*)", Loses)])
    client = await site.client(a=1)
    response = await site.get(f"/{verb}", headers=client)
    assert response.status == 409
    assert session_cookie(response) is None
    assert len(logged(logging.INFO)) == 1
    assert not logged(logging.ERROR)
    assert not logged(logging.WARNING)
    assert not [record for record in caplog.records if record.exc_info]
    assert await site.stored(client) is None


@pytest.mark.gen_test
@pytest.mark.parametrize("verb", VERBS)
async def test_it_may_be_caught(serve, verb):
    """The response is then the handler's own; nothing comes back."""
    site = serve([("/(.*)", Catches)])
    client = await site.client(a=1)
    response = await site.get(f"/{verb}", headers=client)
    assert response.status == 202
    assert session_cookie(response) is None
    assert await site.stored(client) is None


@pytest.mark.gen_test
async def test_its_page_is_the_handlers(serve):
    """write_error() gets the error."""
    site = serve([("/(.*)", OwnPage)])
    response = await site.get("/transact", headers=await site.client(a=1))
    assert (response.status, response.body) == (409, b"409 SessionGone")
