"""What users see of a memcached that fails while they are on the site."""

from __future__ import annotations

import asyncio
import time

import pytest

from demo import api
from tornado_mcsession import StoreUnavailable
from tornado_mcsession.sessions.ids import record_key

from ..support.proxy import FaultProxy
from ..support.remote import (
    PATIENCE,
    Account,
    answers_again,
    assert_unavailable,
    comes,
    post,
    session_id,
    started,
    until,
)
from ..support.site import is_cleared, session_cookie, settle

pytestmark = [pytest.mark.integration, pytest.mark.gen_test(timeout=60)]

# What an act leaves of bob's session with n=0: its n, and who is logged in.
ACTS = {
    "write_it": (1, None),
    "save": (1, None),
    "count": (1, None),
    "login": (0, "ann"),
    "regenerate": (0, None),
    "logout": (None, None),
    "destroy": (None, None),
}
ENDS = ("logout", "destroy")
MOVES = ("login", "regenerate")


@pytest.fixture
def start(io_loop):
    yield from started(io_loop)


async def found(browser):
    """What the site finds in the browser's session."""
    page = (await answers_again(browser)).json()
    assert page["available"]
    return page["n"], page["principal"]


async def meet(site, browser, act, when, break_down):
    """Begin ``act``, with an outage before its load or between load and save."""
    if when == "load":
        break_down()
        return asyncio.create_task(post(browser, act))
    halt = site.halt()
    asking = asyncio.create_task(post(browser, act))
    await comes(halt.reached)
    break_down()
    halt.go_on.set()
    return asking


# Requests that wait for a node to come back.


@pytest.mark.parametrize(
    ("when", "act"),
    [(when, act) for act in ACTS for when in ("load", "save")],
)
async def test_a_request_outlives_an_outage(start, proxy, act, when):
    """With reconnect_timeout its user sees a slow answer, and nothing else."""
    site = start(f"{proxy.url}/?timeout=0.2&reconnect_timeout=30")
    browser = await site.user("bob")
    before = session_id(browser)
    away = site.outage()
    asking = await meet(site, browser, act, when, proxy.hang)
    await comes(away)
    await settle()
    assert not asking.done()
    proxy.pass_through()
    response = await asking
    assert response.status == 200, response.text
    assert response.json()["owner"] == "bob"
    is_told = act in (*MOVES, *ENDS)
    assert (session_cookie(response) is not None) is is_told
    assert (session_id(browser) != before) is is_told
    assert await found(browser) == ACTS[act]


@pytest.mark.parametrize("when", ["load", "save"])
@pytest.mark.parametrize("act", ACTS)
async def test_its_patience_ends(start, proxy, act, when):
    """After reconnect_timeout it is a 503 like any, and the session is as it was."""
    site = start(f"{proxy.url}/?timeout=0.1&reconnect_timeout=0.3")
    browser = await site.user("bob")
    before = session_id(browser)
    began = time.monotonic()
    asking = await meet(site, browser, act, when, proxy.cut)
    response = await asking
    assert time.monotonic() - began < 5
    is_logout = when == "save" and act in ENDS
    assert_unavailable(response, cleared=is_logout)
    proxy.pass_through()
    assert (await answers_again(browser)).status == 200
    if not is_logout:
        assert session_id(browser) == before
        assert await found(browser) == (0, None)


async def test_patience_is_for_the_node_not_for_the_client(start, own_memcached):
    """Clients that left while their requests waited leave nothing behind."""
    site = start(f"{own_memcached.url}/?timeout=5&reconnect_timeout=30")
    browser = await site.user("bob")
    away = site.outage()
    own_memcached.kill()
    asking = [asyncio.create_task(post(browser, "count")) for _ in range(10)]
    await comes(away)
    await until(lambda: site.node()["waiting"] == 10)
    for task in asking:
        task.cancel()  # closes its connection
    await asyncio.gather(*asking, return_exceptions=True)
    own_memcached.start()
    assert (await answers_again(browser)).json()["n"] is None
    await until(lambda: site.node()["waiting"] == site.node()["pending"] == 0)
    assert await site.manager.drain(PATIENCE)


async def test_of_many_requests_none_counts_twice(start, own_memcached):
    """While memcached hangs again and again, what was confirmed counts exactly once."""
    site = start(f"{own_memcached.url}/?timeout=0.2&reconnect_timeout=30")
    users = [await site.user(f"user{number}") for number in range(10)]
    statuses: list[list[int]] = [[] for _ in users]

    async def use(number, browser):
        for _ in range(10):
            response = await post(browser, "count")
            statuses[number].append(response.status)
            if response.status == 200:
                assert response.json()["owner"] == f"user{number}"
            else:
                assert_unavailable(response)

    asking = [asyncio.create_task(use(*user)) for user in enumerate(users)]
    for progress in (20, 50, 80):
        await until(lambda done=progress: sum(map(len, statuses)) >= done)
        away = site.outage()
        own_memcached.stop()
        await asyncio.wait(
            [asyncio.create_task(away.wait()), asyncio.gather(*asking)],
            return_when="FIRST_COMPLETED",
        )
        own_memcached.cont()
    await asyncio.gather(*asking)
    for told, browser in zip(statuses, users, strict=True):
        n, _ = await found(browser)
        # A 503 does not say that nothing was done.
        assert told.count(200) <= n <= len(told) == 10


class Breaking(FaultProxy):
    """Breaks down at the ``nth`` command of a kind, before or after it was done."""

    def __init__(self, target_port, command, nth, *, is_done):
        self.is_armed = False
        self._command, self._left, self._is_done = command, nth, is_done
        self._done = asyncio.Event()
        super().__init__(target_port)
        self._answer = self._tell

    async def _tell(self, link, data):
        if self._is_refusing:
            self._done.set()
        else:
            await link.send(data)

    async def _forward_requests(self, link):
        ask = link.ask

        async def watch(data):
            if self.is_armed and data.startswith(self._command):
                self._left -= 1
                if not self._left:
                    await self._break_down(ask, data)
                    return
            await ask(data)

        link.ask = watch
        await super()._forward_requests(link)

    async def _break_down(self, ask, data):
        self.is_armed = False
        self._is_refusing = True
        if self._is_done:
            await ask(data)
            await self._done.wait()
        for link in self._links:
            link.close()


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize(
    ("command", "nth"),
    [(b"gets", 1), (b"gets", 2), (b"add", 1), (b"cas", 1), (b"cas", 2)],
)
@pytest.mark.parametrize("act", ACTS)
async def test_wherever_it_breaks_a_request_is_done_once_or_not(
    start, memcached, act, command, nth, is_done
):
    """A 200 means done, a 503 not, or a logout that is finished when it can be."""
    with Breaking(memcached.port, command, nth, is_done=is_done) as proxy:
        site = start(f"{proxy.url}/?timeout=5&reconnect_timeout=30&threads=1")
        browser = await site.user("bob")
        before = browser.cookie_header()
        away = asyncio.create_task(comes(site.outage()))
        proxy.is_armed = True
        asking = asyncio.create_task(post(browser, act))
        await asyncio.wait([asking, away], return_when="FIRST_COMPLETED")
        away.cancel()
        if asking.done():
            proxy.is_armed = False  # there was no such command
        proxy.pass_through()
        response = await asking
        if response.status == 200:
            assert await found(browser) == ACTS[act]
        elif act in ENDS:
            assert_unavailable(response, cleared=True)
            await until(lambda: not site.manager.stats()["pending_destroys"])
        else:
            assert_unavailable(response)
            assert await found(browser) == (0, None)
        if act in ENDS or (act in MOVES and response.status == 200):
            old = await site.browser().get("/", headers={"Cookie": before})
            assert old.json()["owner"] is None


async def test_an_update_that_left_first_waits_too(start, proxy):
    """persist="on_finish": its save waits in the background, and is done once."""
    site = start(
        f"{proxy.url}/?timeout=0.2&reconnect_timeout=30",
        session={"persist": "on_finish"},
    )
    browser = await site.user("bob")
    away = site.outage()
    asking = await meet(site, browser, "write_it", "save", proxy.hang)
    assert (await asking).status == 200
    await comes(away)
    next_one = asyncio.create_task(post(browser, "write_it"))
    proxy.pass_through()
    assert (await next_one).json()["n"] == 1
    assert await site.manager.drain(PATIENCE)
    assert await found(browser) == (2, None)


# Without patience: a 503, and no logout (G4).


FAULTS = {
    "breaks": FaultProxy.cut,
    "hangs": FaultProxy.hang,
    "loses answers": FaultProxy.lose_answers,
    "breaks off": lambda proxy: proxy.cut_after(1),
    "talks nonsense": lambda proxy: proxy.garbage(b"nonsense\r\n"),
    "refuses": lambda proxy: proxy.garbage(b"ERROR Too many open connections\r\n"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("when", ["load", "save"])
@pytest.mark.parametrize("act", ACTS)
async def test_an_outage_is_not_a_logout(start, proxy, act, when, fault):
    """No answer of an outage touches the cookie, and the session is there after it."""
    site = start(f"{proxy.url}/?timeout=0.2")
    browser = await site.user("bob")
    before = session_id(browser)
    asking = await meet(site, browser, act, when, lambda: FAULTS[fault](proxy))
    is_logout = when == "save" and act in ENDS
    assert_unavailable(await asking, cleared=is_logout)
    proxy.pass_through()
    await answers_again(browser)
    if is_logout:
        return
    assert session_id(browser) == before
    n, principal = await found(browser)
    # A write whose answer was lost may be there; a login is not half there.
    assert n == 0 or (when == "save" and n == ACTS[act][0])
    assert principal is None


async def test_a_logout_is_finished_when_the_node_answers(start, proxy):
    """Whoever has a copy of the cookie is logged out then, without a further word."""
    site = start(f"{proxy.url}/?timeout=5")
    browser = await site.user("bob", "login")
    thief = site.browser()
    thief.set_cookie(f"session={session_id(browser)}; Path=/")
    other = await site.user("eve")
    assert (await thief.get("/")).json()["principal"] == "ann"
    asking = await meet(site, browser, "logout", "save", proxy.cut)
    response = await asking
    assert_unavailable(response, cleared=True)
    assert "logged out, but that could not be confirmed" in response.text
    assert session_id(browser) is None
    assert_unavailable(await thief.get("/"))
    assert site.manager.stats()["pending_destroys"] == 1
    proxy.pass_through()
    assert (await answers_again(other)).json()["owner"] == "eve"
    assert await site.manager.drain(PATIENCE)
    assert site.manager.stats()["pending_destroys"] == 0
    assert (await thief.get("/")).json()["principal"] is None


async def test_a_restart_of_memcached_gives_nobody_a_strangers_session(
    start, own_memcached
):
    """Who was there starts empty, under a new id, and nobody's record comes back."""
    site = start(own_memcached.url)
    users = [await site.user(f"user{number}") for number in range(20)]
    before = [session_id(browser) for browser in users]
    own_memcached.restart()
    for number, browser in enumerate(users):
        assert (await browser.get("/")).json()["owner"] is None
        if number % 2:
            await browser.post(f"/begin?owner=new{number}", body=b"")
    after = [session_id(browser) for browser in users]
    assert before[::2] == after[::2]
    assert len({*before, *after}) == 30
    for number, browser in enumerate(users):
        owner = (await browser.get("/")).json()["owner"]
        assert owner == (f"new{number}" if number % 2 else None)


# One of two nodes.


async def test_a_node_that_hangs_is_its_own_users_trouble_alone(
    start, memcached, own_memcached
):
    """Users of the other see nothing of it; its own get a 503, never a stranger's."""
    with FaultProxy(own_memcached.port) as proxy:
        nodes = f"127.0.0.1:{memcached.port},127.0.0.1:{proxy.port}"
        site = start(f"memcached://{nodes}/?timeout=10")
        users = {f"user{n}": await site.user(f"user{n}") for n in range(40)}
        ids = {name: session_id(browser) for name, browser in users.items()}
        kept = memcached.keys()
        well = {name for name in users if record_key("mcsession:", ids[name]) in kept}
        ill = users.keys() - well
        assert well
        assert ill
        proxy.hang()
        stuck = [asyncio.create_task(post(users[name], "count")) for name in ill]
        for _ in range(3):
            for name in well:
                response = await post(users[name], "count")
                assert (response.status, response.json()["owner"]) == (200, name)
        assert not any(task.done() for task in stuck)
        proxy.cut()
        for response in await asyncio.gather(*stuck):
            assert_unavailable(response)
        proxy.pass_through()
        for name, browser in users.items():
            page = (await answers_again(browser)).json()
            assert (page["owner"], session_id(browser)) == (name, ids[name])
            assert page["n"] == (3 if name in well else 0)


async def test_a_node_that_hangs_does_not_hold_up_its_users(start, proxy, caplog):
    """Once it is known, of 200 requests at once one tries; the others do not wait."""
    timeout = 2
    site = start(f"{proxy.url}/?timeout={timeout}")
    browser = await site.user("bob")
    proxy.cut()
    while site.node()["breaker"] != "open":
        assert_unavailable(await browser.get("/"))
    proxy.hang()
    caplog.clear()
    began = time.monotonic()
    for response in await asyncio.gather(*(browser.get("/") for _ in range(200))):
        assert_unavailable(response)
    told = [r.getMessage() for r in caplog.records if r.name == "tornado_mcsession"]
    tried = [message for message in told if "breaker open" not in message]
    assert len(told) == 200
    assert len(tried) <= 1 + (time.monotonic() - began) // timeout


# What the application makes of it.


def choosing(answer, seen):
    def on_error(phase, error, handler):
        seen.append((phase, type(error), handler.request.path))
        return answer

    return on_error


PHASES = {
    "load": ("load", "write_it"),
    "save": ("save", "write_it"),
    "renew": ("save", "touch"),
    "destroy": ("save", "logout"),
}


async def fail(start, proxy, clock, phase, on_error, handler=Account):
    """The answer to a request that meets an outage in ``phase``; and its browser."""
    site = start(
        f"{proxy.url}/?timeout=5",
        handler,
        {"on_error": on_error, "clock": clock},
    )
    browser = await site.user("bob")
    if phase == "renew":
        clock.advance(50_000)
    when, act = PHASES[phase]
    asking = await meet(site, browser, act, when, proxy.cut)
    response = await asking
    proxy.pass_through()
    return response, browser


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("choice", ["raise", "degrade"])
async def test_on_error_is_asked_in_each_phase(start, proxy, clock, phase, choice):
    """With the phase, the error and the handler; what it says is what users see."""
    seen = []
    response, browser = await fail(start, proxy, clock, phase, choosing(choice, seen))
    assert seen == [(phase, StoreUnavailable, f"/{PHASES[phase][1]}")]
    if phase == "destroy":
        assert_unavailable(response, cleared=True)
    elif choice == "raise" and phase != "renew":
        assert_unavailable(response)
    else:
        assert response.status == 200
        assert session_cookie(response) is None
        assert response.json()["available"] is (phase != "load")
    if phase != "destroy":
        assert (await answers_again(browser)).json()["owner"] == "bob"
        assert await found(browser) == (0, None)


def raising(phase, error, handler):
    raise ZeroDivisionError


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("on_error", [raising, lambda *_: "ignore", lambda *_: None])
async def test_an_on_error_that_fails_is_a_500(
    start, proxy, clock, uncaught, phase, on_error
):
    """And no more than that: a logout still clears its cookie, the rest is left."""
    response, browser = await fail(start, proxy, clock, phase, on_error)
    assert response.status == 500
    assert response.header("Retry-After") is None
    assert is_cleared(response) is (phase == "destroy")
    if phase != "destroy":
        assert session_cookie(response) is None
        assert (await answers_again(browser)).json()["owner"] == "bob"


@pytest.mark.parametrize("act", [*MOVES, "save", "count", "logout", "destroy"])
async def test_what_must_not_be_degraded_is_not(start, proxy, act):
    """A request that does without its session cannot pretend to log in or out."""
    site = start(f"{proxy.url}/?timeout=5", session={"on_error": "degrade"})
    browser = await site.user("bob")
    before = session_id(browser)
    asking = await meet(site, browser, act, "load", proxy.cut)
    ends = act in ("logout", "destroy")
    assert_unavailable(await asking, cleared=ends)
    proxy.pass_through()
    if ends:  # what it presented is ended as soon as the node answers
        assert site.manager.stats()["pending_destroys"] == 1
        return
    assert (await answers_again(browser)).json()["owner"] == "bob"
    assert session_id(browser) == before


class Pages(Account):
    """Makes its own pages for an outage."""

    def write_error(self, status_code, exc_info, **kwargs):
        error = exc_info[1]
        self.write({"page": "load", "error": type(error).__name__, "node": error.node})

    def session_error(self, error):
        return {"page": "save", "error": type(error).__name__, "node": error.node}


@pytest.mark.parametrize("phase", ["load", "save", "destroy"])
async def test_the_page_is_the_applications(start, proxy, clock, phase):
    """write_error makes it where a load fails, session_error where a save does."""
    response, _ = await fail(start, proxy, clock, phase, "raise", Pages)
    assert_unavailable(response, cleared=phase == "destroy")
    assert response.json() == {
        "page": "load" if phase == "load" else "save",
        "error": "StoreUnavailable",
        "node": f"127.0.0.1:{proxy.port}",
    }


async def test_a_load_balancer_can_ask(start, memcached, own_memcached):
    """The demo's /readyz: 200 while any node answers, 503 while none does."""
    both = f"memcached://127.0.0.1:{memcached.port},127.0.0.1:{own_memcached.port}"
    site = start(both, routes=api.ROUTES)
    response = await site.browser().get("/readyz")
    assert (response.status, response.json()["status"]) == (200, "ok")
    own_memcached.kill()
    response = await site.browser().get("/readyz")
    assert (response.status, response.json()["status"]) == (200, "degraded")
    alone = start(own_memcached.url, routes=api.ROUTES)
    response = await alone.browser().get("/readyz")
    assert (response.status, response.json()["status"]) == (503, "down")
    assert response.header("Cache-Control") == "no-store"
    assert (await alone.browser().get("/healthz")).status == 200
