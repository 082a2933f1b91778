"""One user, one session, two applications: what either does, the other sees."""

from __future__ import annotations

import asyncio
import json

import pytest

from .conftest import KOA

pytestmark = pytest.mark.integration

CONTENTS = {
    "user": "ünïcödé \u2028 \U0001f600",
    "cart": [1, {"a": "é", "empty": {}, "none": [None]}],
    "f": 1.5,
    "yes": True,
    "text": 'quotes " and \\ and \r\n',
    "2": "a number as a key",
    "large": 2**53 - 1,
}


@pytest.mark.gen_test
async def test_python_reads_what_node_wrote(user):
    """A session that Node began is the user's in Python, under the same id."""
    await user.node("change", **CONTENTS)
    cookie = user.cookie
    assert await user.python("read") == CONTENTS
    assert (await user.python("about"))["presented"] == "live"
    assert user.cookie == cookie


@pytest.mark.gen_test
async def test_node_reads_what_python_wrote(user):
    """A session that Python began is the user's in Node, under the same id."""
    await user.python("change", **CONTENTS)
    cookie = user.cookie
    assert await user.node("read") == CONTENTS
    await user.node("change", more=1)
    assert user.cookie == cookie
    assert await user.python("read") == {**CONTENTS, "more": 1}


@pytest.mark.gen_test
async def test_each_changes_what_the_other_left(user):
    """In turn, with changed, nested and deleted keys."""
    await user.node("change", a=1, b={"c": [1]}, gone=1)
    assert await user.python("change", a=2, gone=None) == {"a": 2, "b": {"c": [1]}}
    assert await user.node("change", b={"c": [2]}) == {"a": 2, "b": {"c": [2]}}
    assert await user.python("change", d=4, a=None) == {"b": {"c": [2]}, "d": 4}
    assert await user.node("read") == {"b": {"c": [2]}, "d": 4}


@pytest.mark.gen_test
async def test_reading_a_session_of_ones_own_writes_nothing(user, memcached):
    """Python writes once to a session that Node began, and then only changes."""
    await user.node("change", a=1)
    await user.python("read")
    before = memcached.stats()["cmd_set"]
    await user.python("read")
    await user.python("read")
    assert memcached.stats()["cmd_set"] == before


@pytest.mark.gen_test
async def test_messages_are_shown_once(user):
    """By whichever application comes next, in order."""
    await user.python("flash", category="info", message="from Python")
    await user.node("flash", category="error", message="from Node")
    await user.node("flash", category="error", message="from Node")
    assert await user.python("flashes") == {
        "flashes": [
            ["info", "from Python"],
            ["error", "from Node"],
            ["error", "from Node"],
        ]
    }
    assert await user.node("flashes") == {"flashes": []}
    await user.python("flash", category="info", message="again")
    assert await user.node("flashes") == {"flashes": [["info", "again"]]}
    assert await user.python("flashes") == {"flashes": []}
    assert await user.python("read") == {}


@pytest.mark.gen_test
async def test_messages_that_are_no_text(user):
    """Anything that JSON can hold, in either direction."""
    message = {"text": "saved", "items": [1, None], "link": "/cart"}
    await user.python("flash", category="info", message=message)
    await user.node("flash", category="info", message=[1, {"a": "é"}])
    await user.node("flash", category="info", message=None)
    assert await user.python("flashes") == {
        "flashes": [["info", message], ["info", [1, {"a": "é"}]], ["info", None]]
    }
    await user.python("flash", category="info", message=message)
    assert await user.node("flashes") == {"flashes": [["info", message]]}


@pytest.mark.gen_test
async def test_a_message_is_not_taken_for_an_equal_one(user):
    """One that Node adds while Python shows the one before it is shown, too."""
    await user.node("flash", category="info", message="saved")
    session_id = (await user.python("about"))["id"]
    for _ in range(3):
        session = await user.manager.get(session_id)
        assert session.flashes() == [("info", "saved")]
        await user.node("flash", category="info", message="saved")
        await session.save()
    await user.node("flash", category="info", message="saved")
    assert await user.python("flashes") == {"flashes": [["info", "saved"]] * 2}


@pytest.mark.gen_test
async def test_a_new_id_of_python_is_nodes_too(user):
    """The data goes along; the old id leads nowhere, in either application."""
    await user.node("change", a=1)
    old = user.copy()
    await user.python("regenerate")
    assert user.cookie != old.cookie
    assert await user.node("read") == {"a": 1}
    assert await old.copy().node("read") == {}
    assert await old.copy().python("read") == {}
    assert user.node_process.is_running


@pytest.mark.parametrize("act", ["login", "copied"])
@pytest.mark.gen_test
async def test_a_new_id_of_node_is_pythons_too(user, act):
    """Also where it copies all that it finds, what is Python's own included."""
    await user.python("login", user="ann")
    await user.python("flash", category="info", message="hello")
    old = user.copy()
    await user.node(act, user="ann")
    assert user.cookie != old.cookie
    assert await user.python("read") == {"user": "ann"}
    about = await user.python("about")
    assert (about["presented"], about["principal"]) == ("live", None)
    assert await old.copy().python("read") == {}
    assert await old.copy().node("read") == {}


@pytest.mark.gen_test
async def test_who_logs_in_at_python_is_known_to_node(user):
    """With what was there before; a visitor's old id is dead."""
    await user.node("change", cart=["book"])
    visitor = user.copy()
    await user.python("login", user="ann")
    assert await user.node("read") == {"cart": ["book"], "user": "ann"}
    assert await visitor.node("read") == {}
    await user.node("change", cart=["pen"])
    about = await user.python("about")
    assert (about["principal"], about["presented"]) == ("ann", "live")
    assert await user.python("read") == {"cart": ["pen"], "user": "ann"}
    principal = (await user.node("whole"))["mcsession"]["principal"]
    assert principal == "ann"


@pytest.mark.gen_test
async def test_who_logs_in_at_node_is_known_to_python(user):
    """By the data: Node has no other notion of it."""
    await user.python("change", cart=["book"])
    visitor = user.copy()
    await user.node("login", user="ann")
    assert await user.python("read") == {"cart": ["book"], "user": "ann"}
    assert await visitor.python("read") == {}


@pytest.mark.gen_test
async def test_a_logout_at_python_is_one_at_node(user):
    """For the browser, and for whoever kept its cookies; Node goes on running."""
    await user.node("login", user="ann")
    kept = user.copy()
    await user.python("logout")
    assert user.cookie is None
    assert await user.node("read") == {}
    assert await kept.copy().node("read") == {}
    assert await kept.copy().python("read") == {}
    # What Node begins now is another session.
    thief = kept.copy()
    await thief.node("change", a=1)
    assert thief.cookie not in (kept.cookie, None)
    assert await thief.python("read") == {"a": 1}


@pytest.mark.gen_test
async def test_a_logout_at_node_is_one_at_python(user):
    """For the browser, and for whoever kept its cookies."""
    await user.python("login", user="ann")
    kept = user.copy()
    await user.node("logout")
    assert await user.python("read") == {}
    about = await kept.copy().python("about")
    assert (about["presented"], about["principal"]) == ("unknown", None)


@pytest.mark.gen_test
async def test_a_revoked_session_is_over_for_python_alone(user):
    """Node knows nothing of it: that is what the guide says."""
    await user.python("login", user="ann")
    assert await user.manager.revoke("ann")
    assert await user.python("read") == {}
    other = user.copy()
    assert await other.node("read") == {"user": "ann"}


@pytest.mark.gen_test
async def test_the_other_sessions_of_a_user_are_ended(user):
    """Those that Python began; the own one goes on in both applications."""
    other = user.another()
    await other.python("login", user="ann")
    await user.python("login", user="ann")
    await user.python("others")
    assert await other.python("read") == {}
    assert await user.python("read") == {"user": "ann"}
    assert await user.node("read") == {"user": "ann"}


@pytest.mark.gen_test
async def test_who_acts_as_another_comes_back(meet):
    """Also if Node saves the session meanwhile; what was set aside is not shown."""
    user = meet(python={"track_sessions": True})
    await user.python("login", user="ann")
    await user.python("impersonate", user="bob")
    assert await user.node("change", cart=["pen"]) == {"cart": ["pen"]}
    assert (await user.python("about"))["principal"] == "bob"
    assert await user.python("read") == {"cart": ["pen"]}
    await user.python("stop")
    assert (await user.python("about"))["principal"] == "ann"
    assert await user.node("change", a=1) == {"user": "ann", "a": 1}
    (listed,) = await user.manager.sessions("ann")
    assert await user.manager.end("ann", listed.handle)
    assert await user.python("read") == {}


@pytest.mark.gen_test
async def test_a_rolling_node_keeps_the_session_alive(meet, memcached):
    """It saves each session that it has read, with all that Python keeps there."""
    user = meet(node={"rolling": True})
    await user.python("login", user="ann")
    await user.python("flash", category="info", message="hello")
    key = await user.key()
    assert memcached.ttl(key) > 86_400
    assert await user.node("read") == {"user": "ann"}
    assert memcached.ttl(key) <= 86_400
    about = await user.python("about")
    assert (about["presented"], about["principal"]) == ("live", "ann")
    assert await user.python("flashes") == {"flashes": [["info", "hello"]]}


@pytest.mark.gen_test
async def test_parallel_python_requests_lose_nothing(user):
    """Twenty transactions on a session that Node began count to twenty."""
    await user.node("change", n=0)
    await user.python("read")
    await asyncio.gather(*(user.copy().python("count") for _ in range(20)))
    assert (await user.node("read"))["n"] == 20


@pytest.mark.gen_test
async def test_half_a_surrogate_pair_does_not_lose_the_session(user):
    """A JavaScript program that cuts a text leaves one; Python shows U+FFFD."""
    user.browser.port = user.node_process.port
    body = b'{"cut": "\\ud83d", "whole": "\\ud83d\\ude00", "text": "\\\\ud83d"}'
    await user.browser.post("/change", body=body)
    whole = {"cut": "\ufffd", "whole": "\U0001f600", "text": "\\ud83d"}
    assert await user.python("read") == whole
    await user.python("change", a=1)
    assert await user.node("read") == {**whole, "a": 1}


@pytest.mark.gen_test
async def test_the_names_that_node_uses_are_refused(user, memcached):
    """They would make the session unreadable for one or the other."""
    await user.python("change", nested={"cookie": 1, "mcsession": 2})
    before = memcached.get(await user.key())
    for name in ("cookie", "mcsession"):
        response = await user.browser.post("/change", json={name: 1})
        assert response.status == 500
    assert memcached.get(await user.key()) == before


@pytest.mark.parametrize("act", ["logout", "login"])
@pytest.mark.gen_test
async def test_python_does_not_revive_what_node_ended(user, act):
    """What its slow request writes is dropped, and its response goes out."""
    await user.node("change", a=1)
    kept = user.copy()
    slow = asyncio.ensure_future(user.copy().python("slowly", late=1))
    await user.gate[0].wait()
    await user.node(act, user="ann")
    user.gate[1].set()
    assert await slow == {"a": 1, "late": 1}
    assert await kept.copy().node("read") == {}
    assert await kept.copy().python("read") == {}
    assert user.manager.stats()["dropped_saves"] == 1


@pytest.mark.gen_test
async def test_what_node_saved_meanwhile_is_merged(user):
    """Python's slow request keeps what Node has changed since it was loaded."""
    await user.node("change", a=1, b=1)
    slow = asyncio.ensure_future(user.copy().python("slowly", late=1))
    await user.gate[0].wait()
    await user.node("change", a=2, c=3)
    user.gate[1].set()
    await slow
    assert await user.node("read") == {"a": 2, "b": 1, "c": 3, "late": 1}


@pytest.mark.gen_test
async def test_jobs_use_shared_sessions_by_their_ids(user):
    """Those that Node began, and those that the job begins."""
    await user.node("change", a=1)
    session_id = (await user.python("about"))["id"]
    manager = user.manager
    session = await manager.get(session_id)
    session["b"] = 2
    await session.save()
    assert await user.node("read") == {"a": 1, "b": 2}
    await manager.set(session_id, {"c": 3})
    assert await user.node("read") == {"c": 3}
    assert await manager.destroy(session_id)
    assert await user.copy().node("read") == {}
    assert await manager.get(session_id) is None


# What is stored.


def stored(memcached, key):
    """The flags and the text under a key."""
    head, _, value = memcached.command(b"mg %b f v" % key.encode()).partition(b"\r\n")
    return int(head.split()[2][1:]), value.decode()


@pytest.mark.gen_test
async def test_node_takes_a_record_for_its_own(user, memcached):
    """It has flags 2, is JSON, and begins with the cookie that Node would write."""
    await user.node("change", a=1)
    (key,) = memcached.keys()
    flags, text = stored(memcached, key)
    of_node = json.loads(text)
    other = user.another()
    await other.python("change", a=1)
    flags_of_python, text = stored(memcached, await other.key())
    of_python = json.loads(text)
    assert flags_of_python == flags == 2
    assert list(of_python) == ["cookie", "a", "mcsession"]
    assert of_python["cookie"] == {**of_node["cookie"], "sameSite": "lax"}


@pytest.mark.gen_test
async def test_what_node_keeps_in_the_cookie_is_left_alone(user):
    """Attributes that a handler of Node's set for this session stay."""
    await user.node("change", a=1)
    before = (await user.node("whole"))["cookie"]
    await user.python("change", a=2)
    await user.python("regenerate")
    assert (await user.node("whole"))["cookie"] == before


@pytest.mark.gen_test
async def test_a_tombstone_is_no_session_for_node(user, memcached):
    """It has the flags of a number, which its text is not."""
    await user.python("change", a=1)
    key = await user.key()
    kept = user.copy()
    await user.python("logout")
    flags, text = stored(memcached, key)
    assert flags == 8
    assert not set(text) & set(" \r\n\t")
    assert 0 < memcached.ttl(key) <= 63
    for _ in range(3):
        assert await kept.copy().node("read") == {}
    assert user.node_process.is_running


# What Node cannot be kept from doing.


@pytest.mark.parametrize("run", [1])
@pytest.mark.gen_test
async def test_a_slow_request_of_nodes_overwrites_what_python_saved(meet, run):
    """It writes all that it has read, whatever was stored since."""
    user = meet(run=run)
    await user.python("change", a=1)
    slow = asyncio.ensure_future(user.copy().node("slowly", b=2))
    await user.another().node("entered")
    assert await user.python("change", c=3) == {"a": 1, "c": 3}
    await user.another().node("open")
    await slow
    assert await user.python("read") == {"a": 1, "b": 2}


@pytest.mark.parametrize("run", [3])
@pytest.mark.gen_test
async def test_only_express_overwrites_what_it_has_read(meet, framework, run):
    """koa leaves a session alone that its request did not change."""
    user = meet(run=run)
    await user.python("change", a=1)
    slow = asyncio.ensure_future(user.copy().node("reads"))
    await user.another().node("entered")
    await user.python("change", a=2)
    await user.another().node("open")
    assert await slow == {"a": 1}
    assert await user.python("read") == {"a": 2 if framework is KOA else 1}


@pytest.mark.parametrize("run", [2])
@pytest.mark.gen_test
async def test_a_slow_request_of_nodes_revives_what_python_ended(meet, run):
    """A logout in between is undone for whoever has the old cookie."""
    user = meet(run=run)
    await user.python("login", user="ann")
    kept = user.copy()
    slow = asyncio.ensure_future(user.copy().node("slowly", b=2))
    await user.another().node("entered")
    await user.python("logout")
    assert await kept.copy().python("read") == {}
    await user.another().node("open")
    await slow
    assert await kept.copy().node("read") == {"user": "ann", "b": 2}
    assert await kept.copy().python("read") == {"user": "ann", "b": 2}
