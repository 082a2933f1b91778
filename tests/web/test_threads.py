"""A worker thread that the handler awaits may use the session."""

from __future__ import annotations

import asyncio
import concurrent.futures

import pytest
from tornado.web import RequestHandler

from tornado_mcsession import SessionMixin

from ..support.site import is_cleared, session_cookie

DAY = 86_400


class Works(SessionMixin, RequestHandler):
    """Does its work in a thread, as its path says."""

    async def get(self, how):
        if self.session_load == "lazy":
            await self.load_session()
        self.write(str(await asyncio.to_thread(WORK[how], self)))


class Lazy(Works):
    session_load = "lazy"


class Streams(Works):
    """Sends its headers before the thread begins."""

    async def get(self, how):
        await self.flush()
        await super().get(how)


def reads(handler):
    return handler.session.get("a")


def writes(handler):
    handler.session["b"] = 1


def nested(handler):
    handler.session.setdefault("list", []).append(1)


def flashes(handler):
    handler.session.flash("hello")


def ends(handler):
    handler.session = None


def assigns(handler):
    handler.session = {"c": 1}


WORK = {work.__name__: work for work in (reads, writes, nested, flashes, ends, assigns)}
RESULTS = {
    "reads": {"a": 1},
    "writes": {"a": 1, "b": 1},
    "nested": {"a": 1, "list": [1]},
    "flashes": {"a": 1},
    "ends": None,
    "assigns": {"c": 1},
}


@pytest.mark.gen_test
@pytest.mark.parametrize("how", WORK)
@pytest.mark.parametrize("handler", [Works, Lazy])
async def test_the_first_use_may_be_in_a_thread(serve, handler, how):
    """What it did to the session is saved."""
    site = serve([("/(.*)", handler)])
    client = await site.client(a=1)
    response = await site.get(f"/{how}", headers=client)
    assert response.status == 200
    assert response.header("Vary") == "Cookie"
    assert await site.stored(client) == RESULTS[how]
    assert is_cleared(response) == (how == "ends")
    if how == "flashes":
        session = await site.manager.get(client["Cookie"].removeprefix("session="))
        assert session.flashes() == [("info", "hello")]


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["writes", "nested", "assigns"])
@pytest.mark.parametrize("handler", [Works, Lazy])
async def test_a_thread_may_begin_a_session(serve, handler, how):
    """Its cookie comes with the response."""
    site = serve([("/(.*)", handler)])
    response = await site.get(f"/{how}")
    assert response.status == 200
    assert (await site.stored(response)).keys() == RESULTS[how].keys() - {"a"}


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["reads", "writes", "nested"])
async def test_a_thread_may_use_it_after_the_headers(serve, store, how):
    """A change of a stored session holds the end of the response."""
    site = serve([("/(.*)", Streams)])
    client = await site.client(a=1)
    response = await site.get(f"/{how}", headers=client)
    assert response.status == 200
    assert await site.stored(client) == RESULTS[how]


@pytest.mark.gen_test
async def test_reading_in_a_thread_renews(serve, clock):
    """As any other use does."""
    site = serve([("/(.*)", Works)])
    client = await site.client(a=1)
    clock.advance(DAY / 2)
    response = await site.get("/reads", headers=client)
    assert response.body == b"1"
    assert session_cookie(response) is not None


@pytest.mark.gen_test
async def test_two_threads_may_use_it_at_once(serve):
    """Both changes are kept, whichever was first."""

    class Both(SessionMixin, RequestHandler):
        async def get(self):
            def work(key):
                barrier.wait(10)
                self.session[key] = 1

            import threading

            barrier = threading.Barrier(2)
            await asyncio.gather(
                asyncio.to_thread(work, "b"), asyncio.to_thread(work, "c")
            )

    site = serve(Both)
    client = await site.client(a=1)
    assert (await site.get(headers=client)).status == 200
    assert await site.stored(client) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.gen_test
async def test_an_executor_of_the_handler_is_as_good(serve, io_loop):
    """tornado.concurrent.run_on_executor, or IOLoop.run_in_executor."""
    executor = concurrent.futures.ThreadPoolExecutor(1)

    class Executes(SessionMixin, RequestHandler):
        async def get(self):
            await io_loop.run_in_executor(executor, writes, self)

    site = serve(Executes)
    client = await site.client(a=1)
    assert (await site.get(headers=client)).status == 200
    assert await site.stored(client) == {"a": 1, "b": 1}
    executor.shutdown()


VERBS = {
    "save": lambda session: session.save(),
    "reload": lambda session: session.reload(),
    "touch": lambda session: session.touch(),
    "login": lambda session: session.login("ann"),
    "logout": lambda session: session.logout(),
    "regenerate": lambda session: session.regenerate(),
    "destroy": lambda session: session.destroy(),
    "transact": lambda session: session.transact(lambda data: None),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("verb", VERBS)
async def test_an_async_verb_in_a_thread_says_what_to_do(serve, store, verb, first):
    """A RuntimeError that names the event loop, also in a loop of the thread's own."""
    raised = []

    class Verbs(SessionMixin, RequestHandler):
        async def get(self):
            if not first:
                self.session["b"] = 1

            def work():
                async def run():
                    await VERBS[verb](self.session)

                try:
                    asyncio.run(run())
                except RuntimeError as error:
                    raised.append(str(error))

            await asyncio.to_thread(work)
            self.session["c"] = 1

    site = serve(Verbs)
    client = await site.client(a=1)
    response = await site.get(headers=client)
    assert response.status == 200
    assert len(raised) == 1
    assert "event loop" in raised[0] or "thread" in raised[0]
    stored = await site.stored(client)
    assert stored is not None
    assert stored["c"] == 1


@pytest.mark.gen_test
async def test_a_thread_that_nobody_awaits_is_told_that_it_is_late(serve):
    """A change after the response is a RuntimeError, as in the loop."""
    raised = []
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Forgets(SessionMixin, RequestHandler):
        def get(self):
            len(self.session)

            def work():
                release.wait(10)
                try:
                    self.session["b"] = 1
                except RuntimeError as error:
                    raised.append(str(error))
                loop.call_soon_threadsafe(told.set)

            import threading

            release = self.settings["release"] = threading.Event()
            loop.run_in_executor(None, work)

    site = serve(Forgets)
    client = await site.client(a=1)
    assert (await site.get(headers=client)).status == 200
    site.seen["release"].set()
    await told.wait()
    assert raised
    assert await site.stored(client) == {"a": 1}
