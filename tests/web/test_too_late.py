"""What comes after the headers, or after the end, and what is said to it."""

from __future__ import annotations

import asyncio
import json

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from ..support.site import session_cookie, settle

pytestmark = pytest.mark.in_both_ways

LATE_ACTS = {
    "setitem": lambda session: session.__setitem__("a", 1),
    "flash": lambda session: session.flash("hello"),
    "login": lambda session: session.login("ann"),
    "update": lambda session: session.update(a=1),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("accessed", [True, False])
@pytest.mark.parametrize("act", LATE_ACTS.values(), ids=LATE_ACTS)
async def test_a_session_cannot_begin_after_the_headers(serve, store, act, accessed):
    """Its cookie could not be sent: RuntimeError, and nothing is stored."""

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            if accessed:
                len(self.session)
            await self.flush()
            try:
                result = act(self.session)
                if result is not None:
                    await result
            except RuntimeError as error:
                self.write(str(error))

    site = serve(Handler)
    assert b"headers have left" in (await site.get()).body
    assert store.calls == []


@pytest.mark.gen_test
@pytest.mark.parametrize("accessed", [True, False])
@pytest.mark.parametrize("verb", ["login", "regenerate"])
async def test_the_id_is_sealed_by_the_headers(serve, store, verb, accessed):
    """A stored session, be it new, gets no other id after them."""

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            if accessed:
                self.session["n"] = 1
            await self.flush()
            try:
                await getattr(self.session, verb)(*["ann"][: verb == "login"])
            except RuntimeError as error:
                self.write(str(error))

    site = serve(Handler)
    for client in (await site.client(a=1), {}):
        if client or accessed:
            response = await site.get(headers=client)
            assert b"headers have left" in response.body
    assert store.calls == (["get", "cas", "add"] if accessed else ["get"])


@pytest.mark.gen_test
async def test_what_is_loaded_after_the_headers_is_sealed_as_well(serve, store):
    """A lazy session that stood in for it until then makes no difference."""

    class Handler(SessionMixin, RequestHandler):
        session_load = "lazy"

        async def get(self):
            assert self.session.available
            await self.flush()
            session = await self.load_session()
            try:
                session["a"] = 1
            except RuntimeError as error:
                self.write(str(error))

    assert b"headers have left" in (await serve(Handler).get()).body
    assert store.calls == []


class Changes(SessionMixin, RequestHandler):
    """Changes its session before and after the headers leave."""

    async def get(self):
        self.session["before"] = 1
        await self.flush()
        self.session["after"] = 1


class Late(SessionMixin, RequestHandler):
    """Looks at its session for the first time when they have left."""

    async def get(self):
        await self.flush()
        self.session["after"] = 1


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Changes, Late])
async def test_the_end_does_not_renew(serve, clock, handler):
    """No renewal without its cookie: after the headers none can be sent."""
    site = serve(handler)
    client = await site.client(before=1)
    session_id = client["Cookie"].removeprefix("session=")
    ends = (await site.manager.get(session_id)).expires_at
    clock.advance(80_000)
    response = await site.get(headers=client)
    renewed = (await site.manager.get(session_id)).expires_at != ends
    assert renewed is (session_cookie(response) is not None)
    assert renewed is (handler is Changes)


@pytest.mark.gen_test
async def test_a_mutation_after_finish_raises(serve, store):
    """What comes too late to be saved is an error, not a loss."""
    messages = []

    class Handler(SessionMixin, RequestHandler):
        async def get(self):
            len(self.session)
            if self.request.path != "/reads":
                self.session["a"] = 1
            finished = self.finish("body")
            if self.request.path != "/still-saving":
                await finished
            for act in (
                lambda: self.session.__setitem__("b", 1),
                lambda: self.session.clear(),
                lambda: self.session.flash("late"),
                lambda: setattr(self, "session", None),
                lambda: setattr(self, "session", {"b": 1}),
            ):
                try:
                    act()
                except RuntimeError as error:
                    messages.append(str(error))
            for verb in (self.session.save, self.session.destroy):
                try:
                    await verb()
                except RuntimeError as error:
                    messages.append(str(error))

    site = serve(Handler)
    for path in ("/still-saving", "/saved", "/reads"):
        await site.get(path)
        await settle()
        assert len(messages) == 7
        assert all("the response is finished" in message for message in messages)
        messages.clear()
    assert store.calls == ["add", "add"]


@pytest.mark.gen_test
async def test_a_first_use_after_finish_is_too_late_as_well(serve, store):
    """A session that nobody used before is not saved behind the answer."""
    messages = []

    class Handler(SessionMixin, RequestHandler):
        def get(self):
            self.finish(str(self.settings["known"]))
            try:
                self.session["b"] = self.session.get("a")
            except RuntimeError as error:
                messages.append(str(error))

    for known in (True, False):
        site = serve(Handler, known=known)
        client = await site.client(a=1) if known else {}
        await site.get(headers=client)
        await settle()
    assert len(messages) == 2
    assert store.calls == ["get"]


class SavesInBetween(SessionMixin, RequestHandler):
    """Saves more between the decision to save at a flush and that save."""

    async def get(self):
        self.session["a"] = 2
        flushed = self.flush()
        await asyncio.sleep(0)
        self.session["b"] = 2
        await self.session.save()
        await flushed
        manager = self.settings["session_manager"]
        stored = await manager.get(self.session.id)
        self.write(json.dumps(dict(stored)))


@pytest.mark.gen_test
async def test_what_was_decided_before_another_save_is_decided_anew(serve, store):
    """A flush's save that comes late does not undo what was saved meanwhile."""
    site = serve(SavesInBetween)
    client = await site.client(a=1, b=1)
    seen = (await site.get(headers=client)).json()
    assert seen == await site.stored(client) == {"a": 2, "b": 2}


class ChangesOnFinish(SessionMixin, RequestHandler):
    """Changes the session in on_finish, which Tornado calls when all is written."""

    failure: RuntimeError | None = None

    def get(self):
        self.write(str(self.session["a"]))

    def on_finish(self):
        try:
            self.session["a"] = 2
        except RuntimeError as error:
            type(self).failure = error
        super().on_finish()


@pytest.mark.gen_test
async def test_nothing_is_changed_after_the_answer(serve, store):
    """Where nothing was to be saved the answer has left: the change is refused."""
    site = serve(ChangesOnFinish)
    client = await site.client(a=1)
    assert (await site.get(headers=client)).body == b"1"
    assert "response is finished" in str(ChangesOnFinish.failure)
    assert await site.stored(client) == {"a": 1}
