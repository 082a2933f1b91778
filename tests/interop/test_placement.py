"""Several memcached servers: both applications look for a session on the same one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tornado_mcsession import MemcachedStore, MemoryStore, SessionManager
from tornado_mcsession.interop.koa import koa_session
from tornado_mcsession.interop.node import NodeRouter

from ..support.node import find_node, install_packages

HERE = Path(__file__).parent

RING = """
const [servers, keys] = JSON.parse(require("fs").readFileSync(0));
const Memcached = require("memcached");
const ring = new Memcached(servers).HashRing;
console.log(JSON.stringify(keys.map((key) => ring.get(key))));
"""


def owners_by_node(servers, keys):
    """On which server the npm package keeps each of the keys."""
    install_packages(HERE)
    done = subprocess.run(
        [find_node(), "-e", RING],
        cwd=HERE,
        input=json.dumps([servers, keys]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "servers",
    [
        {"10.0.0.1:11211": 1},
        {"10.0.0.1:11211": 1, "10.0.0.2:11211": 1, "10.0.0.3:11211": 1},
        {"cache1:11211": 1, "cache1:11212": 1, "cache2:11300": 1, "cache3:11211": 1},
        {"a:11211": 1, "b:11211": 2, "c:11211": 5},
        {"a:1": 1, "b:2": 1.5, "c:3": 0.5, "d:4": 1},
    ],
    ids=lambda servers: ",".join(servers),
)
def test_keys_are_placed_as_node_places_them(servers):
    """Two thousand keys, with the default port and others, with weights and without."""
    keys = [f"koa:sess:{number:032x}" for number in range(2000)]
    router = NodeRouter({name: float(weight) for name, weight in servers.items()})
    ours = [router.node_for(key) for key in keys]
    assert ours == owners_by_node(servers, keys)
    shares = router.shares()
    assert sum(shares.values()) == pytest.approx(1)
    for name, share in shares.items():
        assert ours.count(name) / len(keys) == pytest.approx(share, abs=0.05)


@pytest.mark.integration
@pytest.mark.gen_test(timeout=60)
async def test_sessions_are_found_on_each_of_three_servers(meet, memcached_factory):
    """By whichever application did not begin them; logins and ends, too."""
    servers = [memcached_factory() for _ in range(3)]
    user = meet(servers=servers)
    for number in range(15):
        other = user.another()
        await other.node("change", n=number)
        assert await other.python("read") == {"n": number}
        await other.python("login", user=f"user-{number}")
        assert await other.node("read") == {"n": number, "user": f"user-{number}"}
        other = user.another()
        await other.python("change", n=number)
        assert await other.node("read") == {"n": number}
        await other.python("logout")
        assert await other.node("read") == {}
    assert all(len(server.keys()) > 3 for server in servers)


# What is refused when the settings are made.


def test_a_server_may_have_the_name_that_node_knows():
    """Where Python reaches it by another one."""
    url = "memcached://cache1:11211=10.0.0.5:11211,cache2:11211=10.0.0.6:11211"
    store = koa_session(store=url, keys=["k"])["store"]
    usual = koa_session(store="memcached://cache1,cache2", keys=["k"])["store"]
    keys = [f"koa:sess:{number:032x}" for number in range(200)]
    assert [store.node_of(key) for key in keys] == [usual.node_of(key) for key in keys]


def test_a_store_that_places_keys_otherwise_is_refused():
    """With one server there is nothing to place."""
    several = ["10.0.0.1:11211", "10.0.0.2:11211"]
    with pytest.raises(ValueError, match="router=NodeRouter"):
        koa_session(store=MemcachedStore(several), keys=["k"])
    koa_session(store=MemcachedStore(several, router=NodeRouter), keys=["k"])
    koa_session(store=MemcachedStore(several[0]), keys=["k"])
    koa_session(store=MemoryStore(), keys=["k"])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"keys": {"a": 1}}, TypeError, "a list"),
        ({"keys": []}, ValueError, "at least one"),
        ({"keys": [""]}, ValueError, "is empty"),
        ({"keys": [7]}, TypeError, "text or bytes, not int"),
        ({"prefix": "a b"}, ValueError, "prefix must be"),
        ({"prefix": "é"}, ValueError, "prefix must be"),
        ({"cookie": {"nmae": "x"}}, ValueError, "did you mean 'name'"),
    ],
)
def test_senseless_settings_are_refused(framework, settings, error, message):
    """With the name of what is wrong."""
    with pytest.raises(error, match=message):
        framework.shared("memory://", **{"keys": ["k"], **settings})


def test_senseless_settings_of_koa_are_refused():
    """Which express does not have."""
    with pytest.raises(ValueError, match="the name of a hash"):
        koa_session(store="memory://", keys=["k"], algorithm="shake_128")
    with pytest.raises(ValueError, match="the name of a hash"):
        koa_session(store="memory://", keys=["k"], algorithm="none")
    with pytest.raises(TypeError, match="signed must be True or False"):
        koa_session(store="memory://", keys=["k"], signed=None)
    with pytest.raises(TypeError, match="keys must be a list"):
        koa_session(store="memory://", keys="k")
    with pytest.raises(ValueError, match="at least one"):
        koa_session(store="memory://")
    koa_session(store="memory://", signed=False)


@pytest.mark.parametrize(
    "more", [{"serializer": "json"}, {"encryption_keys": [b"k" * 32]}]
)
def test_settings_that_node_could_not_read_are_refused(framework, more):
    """JSON without encryption is what Node reads."""
    with pytest.raises(ValueError, match="codec replaces"):
        SessionManager(**framework.shared("memory://", **more))


def test_other_settings_go_with_them(framework):
    """Any, by their own names."""
    given = framework.shared("memory://", idle_timeout=60, on_error="degrade")
    settings = SessionManager(**given).settings
    assert (settings.idle_timeout, settings.on_error) == (60, "degrade")
    with pytest.raises(ValueError, match="did you mean 'idle_timeout'"):
        SessionManager(**framework.shared("memory://", idle_timout=60))


def test_long_keys_are_hashed_as_node_does(framework):
    """memcached takes 250 bytes."""
    prefix = "p" * 120
    manager = SessionManager(**framework.shared("memory://", prefix=prefix))
    assert manager.codec.key("a" * 130) == prefix + "a" * 130
    assert len(manager.codec.key("a" * 131)) == 32
