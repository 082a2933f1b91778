"""The usual save: one operation, which the answer waits for without a task."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import (
    MemoryStore,
    SessionManager,
    SessionMixin,
    StoreRejected,
    StoreUnavailable,
)

from ..support.site import settle

# Shorter than a writer waits for another one of its process that gets nowhere.
PATIENCE = 0.25

pytestmark = pytest.mark.in_both_ways


class Counts(SessionMixin, RequestHandler):
    def get(self):
        self.session["n"] = self.session.get("n", 0) + 1
        self.write(str(self.session["n"]))


@contextlib.asynccontextmanager
async def held(site, store, client):
    """The connection of a request whose save is under way."""
    store.hold("cas")
    async with await site.open() as wire:
        await wire.ask(headers=client)
        await store.reached("cas")
        await settle()
        yield wire


@pytest.mark.gen_test
async def test_a_future_is_waited_for_without_a_task(serve, store):
    """The store's answer is all that the request waits for."""
    site = serve(Counts)
    client = await site.client(n=0)
    async with held(site, store, client) as wire:
        names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}
        assert ("HeldResponse._save" in names) is (not store.by_future), names
        store.release("cas")
        assert (await wire.receive()).body == b"1"
    assert store.calls == ["get", "cas"]


class Reads(SessionMixin, RequestHandler):
    def get(self):
        self.write(str(self.session["n"]))


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Reads, Counts])
async def test_a_renewal_is_waited_for_without_a_task(serve, store, handler):
    """Alone, and with the request's changes. The cookie goes when it is stored."""
    site = serve(handler, session={"renew_after": 0})
    client = await site.client(n=0)
    async with held(site, store, client) as wire:
        names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}
        assert ("HeldResponse._save" in names) is (not store.by_future), names
        store.release("cas")
        response = await wire.receive()
    assert "Max-Age" in response.headers["Set-Cookie"]
    assert store.calls == ["get", "cas"]
    counter = "renewals" if handler is Reads else "saves"
    assert site.manager.stats()[counter] == 1


@pytest.mark.gen_test
async def test_a_renewal_that_another_was_before_is_left_at_that(serve, store):
    """It is dropped, the response goes without the cookie, and the next may write."""
    site = serve([("/", Reads), ("/count", Counts)], session={"renew_after": 0})
    client = await site.client(n=0)
    other = SessionManager(store=store.inner, clock=site.manager.settings.clock)
    async with held(site, store, client) as wire:
        session = await other.get(client["Cookie"][8:])
        session["m"] = 1
        await session.save()
        store.release("cas")
        response = await wire.receive()
    assert response.status == 200
    assert "Set-Cookie" not in response.headers
    assert store.calls == ["get", "cas"]
    assert site.manager.stats()["renewals"] == 0
    assert (await site.get("/count", headers=client)).body == b"1"
    assert await site.stored(client) == {"n": 1, "m": 1}


@pytest.mark.gen_test
async def test_drain_waits_for_it(serve, store):
    """It is one of the running saves until its answer is known."""
    site = serve(Counts)
    client = await site.client(n=0)
    async with held(site, store, client) as wire:
        assert site.manager.stats()["running_saves"] == 1
        assert not await site.manager.drain(0.05)
        draining = asyncio.ensure_future(site.manager.drain(5))
        await settle()
        store.release("cas")
        assert await draining
        assert site.manager.stats()["running_saves"] == 0
        assert await site.stored(client) == {"n": 1}
        assert (await wire.receive()).body == b"1"


@pytest.mark.gen_test
async def test_drain_waits_for_what_follows_it(serve, store):
    """Where another request was faster, the save goes on, and so does drain."""
    site = serve(Counts)
    client = await site.client(n=0)
    another_process = SessionManager(
        store=store.inner, clock=site.manager.settings.clock
    )
    async with held(site, store, client) as wire:
        other = await another_process.get(client["Cookie"][8:])
        other["m"] = 1
        await other.save()
        draining = asyncio.ensure_future(site.manager.drain(5))
        store.release("cas")
        assert await draining
        assert site.manager.stats()["running_saves"] == 0
        assert (await wire.receive()).status == 200
    assert store.calls.count("cas") == 2, "it met the other, and went on"
    assert site.manager.stats()["conflicts"] == 1
    assert await site.stored(client) == {"n": 1, "m": 1}


@pytest.mark.gen_test
async def test_writers_of_one_process_wait_for_each_other(serve, store):
    """They cause no conflicts, and each writes once."""
    site = serve(Counts)
    client = await site.client(n=0)
    async with held(site, store, client) as wire, await site.open() as other:
        await other.ask(headers=client)
        await settle()
        assert store.calls.count("cas") == 1
        store.release("cas")
        assert (await wire.receive()).status == (await other.receive()).status == 200
    assert store.calls.count("cas") == 2
    assert site.manager.stats()["conflicts"] == 0
    assert await site.stored(client) == {"n": 1}


@pytest.mark.gen_test
async def test_a_save_in_memory_is_done_at_once(serve, clock):
    """It is counted, nothing waits for it, and the next writer does not either."""
    site = serve(Counts, session={"store": MemoryStore(clock=clock)})
    client = await site.client(n=0)
    for number in (1, 2, 3):
        before = asyncio.get_running_loop().time()
        assert (await site.get(headers=client)).body == b"%d" % number
        assert asyncio.get_running_loop().time() - before < PATIENCE
    stats = site.manager.stats()
    assert (stats["saves"], stats["running_saves"]) == (3, 0)
    assert stats["held_answers"] == 0


@pytest.mark.gen_test
async def test_a_save_in_memory_goes_on_where_another_was_faster(serve, clock):
    """Its answer is known at once, too: it is a conflict."""

    class IsOvertaken(Counts):
        async def get(self):
            super().get()
            other = await site.manager.get(self.session.id)
            other["m"] = 1
            await other.save()

    site = serve(
        [("/", Counts), ("/overtaken", IsOvertaken)],
        session={"store": MemoryStore(clock=clock)},
    )
    client = await site.client(n=0)
    assert (await site.get("/overtaken", headers=client)).body == b"1"
    assert await site.stored(client) == {"n": 1, "m": 1}
    assert site.manager.stats()["conflicts"] == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("is_done", [True, False])
async def test_one_whose_answer_is_lost_is_looked_for(serve, store, is_done):
    """It is known again where it was done, and done once more where it was not."""
    site = serve(Counts)
    client = await site.client(n=0)
    cas = store.inner.cas

    async def loses_its_answer(*args):
        store.inner.cas = cas
        if is_done:
            await cas(*args)
        raise StoreUnavailable("cas", "", "the test says so", outcome_unknown=True)

    store.inner.cas = loses_its_answer
    assert (await site.get(headers=client)).body == b"1"
    assert await site.stored(client) == {"n": 1}
    again = [] if is_done else ["cas"]
    assert store.calls == ["get", "cas", "get", *again]


@pytest.mark.gen_test
async def test_one_that_the_store_finds_too_large_says_how_large(serve, store, caplog):
    """As where it is not the first operation of a save."""
    site = serve(Counts)
    client = await site.client(n=0)
    store.fail("cas", StoreRejected("cas", "", "the test says so", too_large=True))
    assert (await site.get(headers=client)).status == 500
    assert "73 bytes exceeds the node's item size" in caplog.text
    assert await site.stored(client) == {"n": 0}


@pytest.mark.gen_test
async def test_one_that_cannot_begin_fails_as_ever(serve, store, monkeypatch):
    """A store that refuses at once is asked again by the save, which says so."""
    site = serve(Counts)
    client = await site.client(n=0)
    asked = []

    def refuse(key, data, ttl, token):
        asked.append(key)
        raise StoreUnavailable("cas", "", "the test says so")

    monkeypatch.setattr(store, "cas", refuse)
    response = await site.get(headers=client)
    assert response.status == 503
    assert "Retry-After" in response.headers
    assert len(asked) == 2
    assert site.manager.stats()["running_saves"] == 0


@pytest.mark.gen_test
async def test_what_another_request_ended_stays_ended(serve, store):
    """The answer leaves; what it changed is dropped, and counted."""
    site = serve(Counts)
    client = await site.client(n=0)
    async with held(site, store, client) as wire:
        await site.end(client)
        store.release("cas")
        assert (await wire.receive()).status == 200
    assert await site.stored(client) is None
    assert site.manager.stats()["dropped_saves"] == 1
