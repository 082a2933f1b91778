"""When a shared session ends, and who puts that off."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime

import pytest

from tornado_mcsession import MemoryStore, SessionManager
from tornado_mcsession.interop.koa import koa_session

from ..support.requests import FakeHandler
from .conftest import EXPRESS, KOA

pytestmark = pytest.mark.integration

DAY = 86_400
HOUR = 3600
# As usual for koa. Where a cookie ends with the browser, express knows of no age.
PERSISTENT = {"cookie": {"persistent": True}}


def lasting(framework, seconds):
    """Options of Node's library for sessions that end after that time."""
    return {"cookie": {"maxAge": seconds * 1000}}


@pytest.mark.gen_test
async def test_a_session_of_nodes_ends_as_node_says(meet, framework, memcached):
    """The maxAge of its cookie is the idle timeout, also where Python changes it."""
    user = meet(node=lasting(framework, HOUR), python={"idle_timeout": HOUR})
    await user.node("change", a=1)
    (key,) = memcached.keys()
    assert HOUR - 2 <= memcached.ttl(key) <= HOUR
    about = await user.python("about")
    assert about["idle_timeout"] == HOUR
    assert HOUR * 1.1 - 5 <= memcached.ttl(key) <= HOUR * 1.1 + 3
    assert about["expires_at"] == pytest.approx(time.time() + HOUR * 1.1, abs=5)
    await user.node("change", a=2)
    assert HOUR - 2 <= memcached.ttl(key) <= HOUR


@pytest.mark.gen_test
async def test_an_age_of_one_session_is_respected(meet, memcached):
    """One that a handler of Node's set, then one of Python's."""
    user = meet(python=PERSISTENT)
    await user.node("change", a=1)
    await user.node("age", maxAge=600_000)
    # express asks the clock twice.
    assert (await user.python("about"))["idle_timeout"] == pytest.approx(600, abs=0.1)
    key = await user.key()
    assert 655 <= memcached.ttl(key) <= 663
    await user.python("age", seconds=1200)
    await user.node("change", a=2)
    assert 1195 <= memcached.ttl(key) <= 1200
    assert (await user.python("about"))["idle_timeout"] == 1200
    cookie = (await user.node("whole"))["cookie"]
    assert cookie[user.framework.age] == 1_200_000


@pytest.mark.gen_test
async def test_an_age_that_node_changes_later_is_respected(meet):
    """In a session that Python knows already."""
    user = meet(python=PERSISTENT)
    await user.python("change", a=1)
    await user.python("age", seconds=1200)
    await user.node("age", maxAge=600_000)
    assert (await user.python("about"))["idle_timeout"] == pytest.approx(600, abs=0.1)


@pytest.mark.gen_test
async def test_node_renews_the_cookie_of_a_session_of_pythons(meet, framework):
    """When it changes the session, as with one of its own."""
    user = meet(python=PERSISTENT)
    await user.python("change", a=1)
    assert "max-age" in user.browser.cookie(framework.cookie).attributes
    await user.node("change", a=2)
    assert "expires" in user.browser.cookie(framework.cookie).attributes


@pytest.mark.parametrize("framework", [EXPRESS], ids=["express"])
@pytest.mark.gen_test
async def test_the_cookies_date_is_that_of_the_session(meet, memcached):
    """As express writes it: both are in what is stored."""
    user = meet(python=PERSISTENT)
    await user.python("change", a=1)
    cookie = json.loads(memcached.get(await user.key()))["cookie"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", cookie["expires"])
    when = datetime.fromisoformat(cookie["expires"]).timestamp()
    end = (await user.python("about"))["expires_at"]
    assert when == pytest.approx(end, abs=0.01)
    assert cookie["originalMaxAge"] == DAY * 1000


@pytest.mark.gen_test
async def test_odd_ages_do_not_keep_node_from_saving(meet, memcached):
    """Node would send a fraction of a second, which memcached refuses."""
    user = meet(python=PERSISTENT)
    await user.python("change", a=1)
    await user.python("age", seconds=1200.25)
    await user.node("change", a=2)
    assert await user.python("read") == {"a": 2}
    assert 1190 <= memcached.ttl(await user.key()) <= 1201


@pytest.mark.gen_test
async def test_a_function_may_choose_the_time(meet, memcached):
    """For the sessions of both; Node keeps to it when it saves one again."""
    python = {
        "idle_timeout": lambda session: 600 if session.get("brief") else 3600,
        "cookie": {"persistent": True},
    }
    user = meet(node={"cookie": {"maxAge": 7_200_000}}, python=python)
    await user.node("change", brief=True)
    assert (await user.python("about"))["idle_timeout"] == 600
    await user.node("change", a=1)
    assert memcached.ttl(await user.key()) <= 600
    await user.python("change", brief=False)
    assert (await user.python("about"))["idle_timeout"] == 3600
    await user.node("change", a=2)
    assert 600 < memcached.ttl(await user.key()) <= 3600


@pytest.mark.gen_test
async def test_long_sessions_outlive_a_save_by_node(meet, memcached):
    """Node would send more than 30 days, which memcached takes for 1970."""
    python = {"idle_timeout": 60 * DAY, "lifetime": 365 * DAY}
    user = meet(python={**python, **PERSISTENT})
    await user.python("change", a=1)
    key = await user.key()
    # memcached takes what is left for a date.
    assert 66 * DAY - 10 <= memcached.ttl(key) <= 66 * DAY + 5
    await user.node("change", a=2)
    assert await user.python("read") == {"a": 2}
    assert memcached.ttl(key) <= 30 * DAY


@pytest.mark.gen_test
async def test_a_session_that_only_node_uses_lives_on(meet, clock):
    """What Python remembers of its end is older than Node's last save."""
    clock.now = time.time()
    user = meet(python={"clock": clock})
    await user.python("change", a=1)
    end = (await user.python("about"))["expires_at"]
    await user.node("change", b=2)
    clock.now = end + 10  # memcached keeps it by its own clock
    about = await user.python("about")
    assert about["presented"] == "live"
    assert await user.python("read") == {"a": 1, "b": 2}
    assert about["expires_at"] > end + DAY


@pytest.mark.gen_test
async def test_a_session_that_python_saved_last_ends_as_python_says(meet, clock):
    """Where nobody has used it since, also by the clock of this process."""
    clock.now = time.time()
    user = meet(python={"clock": clock})
    await user.node("change", a=1)
    await user.python("change", b=2)
    clock.now = (await user.python("about"))["expires_at"] + 1
    assert await user.python("read") == {}


@pytest.mark.gen_test
async def test_a_save_that_renews_nothing_cuts_nothing_off(meet, clock, memcached):
    """Where Node has put off the end meanwhile."""
    clock.now = time.time()
    user = meet(python={"clock": clock})
    await user.python("change", a=1)
    key = await user.key()
    await user.node("change", b=2)
    clock.now += DAY
    await user.python("quiet/change", c=3)
    assert memcached.ttl(key) >= DAY


@pytest.mark.gen_test
async def test_the_lifetime_holds_for_python(meet, clock):
    """It is counted from the first write by Python; Node knows no such end."""
    clock.now = time.time()
    user = meet(python={"clock": clock, "lifetime": 7 * DAY})
    await user.node("change", a=1)
    await user.python("read")
    for _ in range(6):
        clock.now += DAY
        await user.node("change", a=2)
        assert await user.python("read") == {"a": 2}
    clock.now += DAY + 1
    await user.node("change", a=3)
    assert await user.python("read") == {}
    assert await user.node("read") == {"a": 3}


@pytest.mark.gen_test
async def test_a_cookie_that_ends_with_the_browser(meet, framework, memcached):
    """As Node has it: without an end in both applications' cookies."""
    node = {"cookie": {"maxAge": None}}
    if framework is KOA:
        node["ttl"] = HOUR * 1000
    python = {"idle_timeout": HOUR, "cookie": {"persistent": False}}
    user = meet(node=node, python=python)
    await user.python("change", a=1)
    assert "max-age" not in user.browser.cookie(framework.cookie).attributes
    await user.node("change", b=2)
    assert "expires" not in user.browser.cookie(framework.cookie).attributes
    key = await user.key()
    if framework is KOA:
        assert memcached.ttl(key) <= HOUR
    await user.python("remember", persistent=True)
    assert "max-age" in user.browser.cookie(framework.cookie).attributes
    await user.node("change", b=3)
    assert await user.python("read") == {"a": 1, "b": 3}


@pytest.mark.gen_test
async def test_node_can_save_what_python_does_not_remember(user):
    """koa without its option ttl could store nothing."""
    await user.python("change", a=1)
    await user.python("remember", persistent=False)
    await user.node("change", b=2)
    assert await user.python("read") == {"a": 1, "b": 2}
    assert (await user.python("about"))["persistent"] is False


@pytest.mark.gen_test
async def test_nodes_choice_of_a_browser_session_is_kept(meet, framework):
    """Where Python's cookies usually outlive the browser, and this one does not."""
    node = {"cookie": {"maxAge": None}}
    if framework is KOA:
        node["ttl"] = HOUR * 1000
    user = meet(node=node, python=PERSISTENT)
    await user.node("change", a=1)
    await user.python("change", b=2)
    assert (await user.python("about"))["persistent"] is False
    assert "max-age" not in user.browser.cookie(framework.cookie).attributes
    await user.node("change", c=3)
    assert "expires" not in user.browser.cookie(framework.cookie).attributes
    assert await user.python("read") == {"a": 1, "b": 2, "c": 3}


@pytest.mark.gen_test
async def test_a_tracked_session_that_only_node_renews_stays_on_the_list(clock):
    """Also when the user logs in on another device."""
    store = MemoryStore(clock=clock)
    options = {"clock": clock, "signed": False, "idle_timeout": 3600, "lifetime": None}
    shared = koa_session(store=store, track_sessions=True, **options)
    manager = SessionManager(cookie_secret="s", **shared)

    async def log_in(label):
        session = await manager.open(FakeHandler())
        await session.login("ann", label=label)
        return session.id

    session_id = await log_in("mine")
    key = manager.codec.key(session_id)
    for number in range(4):
        clock.advance(3000)
        entry = await store.get(key)
        saved = json.dumps({**json.loads(entry.data), "n": number}).encode()
        await store.cas(key, saved, 3600, entry.token, entry.flags)
    assert [each.label for each in await manager.sessions("ann")] == ["mine"]
    await log_in("another device")
    session = await manager.get(session_id)
    assert (session.principal, session["n"]) == ("ann", 3)
