"""Store URLs and server lists: what they mean, and what is said of bad ones.

Read by themselves: a store does not tell all that a URL has said.
"""

from __future__ import annotations

import re
import ssl

import pytest

from tornado_mcsession import MemcachedStore
from tornado_mcsession.stores.memcached import parse_servers, parse_url

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("servers", "names"),
    [
        ("127.0.0.1:11211", ["127.0.0.1:11211"]),
        ("cache", ["cache:11211"]),
        ("cache1:1, cache2:2", ["cache1:1", "cache2:2"]),
        (["a:1", ("b", 2)], ["a:1", "b:2"]),
        (("a:1", "b:2"), ["a:1", "b:2"]),
        ("[::1]:11212", ["[::1]:11212"]),
        ("[::1]", ["[::1]:11211"]),
        ([("fe80::1%eth0", 1)], ["[fe80::1%eth0]:1"]),
        ("[fe80::1%25eth0]", ["[fe80::1%eth0]:11211"]),
        ("[fe80::1%br-lan.100]:1", ["[fe80::1%br-lan.100]:1"]),
        ("[fe80::1%251]:1", ["[fe80::1%251]:1"]),
        ("LOCALHOST, Cache.Example.:1", ["localhost:11211", "cache.example:1"]),
        ("[::0001]:1,[FE80:0::A]:1", ["[::1]:1", "[fe80::a]:1"]),
        ("[::ffff:127.0.0.1]:1", ["127.0.0.1:1"]),
        ("127.1:1", ["127.0.0.1:1"]),
        ("h\u00f6st:1", ["xn--hst-sna:1"]),
        ("one=cache1:1,two=[::1]:1,three=10.0.0.1", ["one", "two", "three"]),
        ("cache1:11211=10.0.0.1:5", ["cache1:11211"]),
        (["Disk=/run/m.sock"], ["Disk"]),
        ("/run/memcached.sock", ["/run/memcached.sock"]),
        ("a:65535", ["a:65535"]),
    ],
)
def test_servers_have_stable_names(servers, names):
    """However a server is written, it has one name, with its port, or its own."""
    assert [server.name for server in parse_servers(servers)] == names


def test_servers_have_addresses():
    """A server's address is host and port, or a path."""
    parsed = parse_servers(["[::1]:5", "host", "/run/m.sock", "a=Host2.:1", "b=/x"])
    addresses = [server.address for server in parsed]
    assert addresses == [("::1", 5), ("host", 11211), "/run/m.sock", ("host2", 1), "/x"]


@pytest.mark.parametrize(
    "servers",
    [
        "",
        [],
        "a:1,,b:2",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "a:999999",
        "a:-1",
        "a:x",
        "a:1:2",
        "a:²",
        "::1",
        "[::1",
        "[::1]x",
        "[::1]:",
        "[host]:1",
        "[face]:1",
        "a b:1",
        "a\n:1",
        f"user:{SECRET}@host:1",
        "a,a",
        "a,A",
        "localhost:1,LOCALHOST.:1",
        "[::1]:1,[0::1]:1",
        "127.0.0.1:1,[::ffff:127.0.0.1]:1",
        "a:11211,a",
        "x=a,x=b",
        "x=a,y=a",
        "x=a,a:11211=b,a",
        "=a",
        "x=",
        "x=y=z",
        "a b=c",
        "h\uff1a1",
        "[fe80::1%]:1",
        "[::1%a/b]:1",
        "[1::2::3]:1",
        [("", 1)],
        [("a", 0)],
    ],
    ids=repr,
)
def test_bad_servers_are_refused(servers):
    """What names no server is a ValueError that shows nothing of it."""
    with pytest.raises(ValueError, match="server") as raised:
        MemcachedStore(servers)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "servers",
    [
        None,
        5,
        b"a:1",
        ("127.0.0.1", 11211),
        [None],
        [("a", "1")],
        [("a", True)],
        [(None, 1)],
    ],
    ids=repr,
)
def test_servers_of_a_wrong_type_are_refused(servers):
    """What is no text, list or pair is a TypeError that says what is wanted."""
    with pytest.raises(TypeError, match="server"):
        MemcachedStore(servers)


@pytest.mark.parametrize(
    ("url", "servers", "options"),
    [
        ("memcached://h", ["h"], {}),
        ("memcached://h:1/", ["h:1"], {}),
        ("memcached://h:1,i:2", ["h:1", "i:2"], {}),
        ("memcached://[::1]:1,[::2]:2", ["[::1]:1", "[::2]:2"], {}),
        ("memcached:///run/m.sock", ["/run/m.sock"], {}),
        ("memcached:///run/a%20b@c.sock", ["/run/a b@c.sock"], {}),
        ("memcacheds://h", ["h"], {"tls": True}),
        ("memcached://h?tls=1", ["h"], {"tls": True}),
        ("memcached://[fe80::1%25eth0]:1", ["[fe80::1%eth0]:1"], {}),
        ("memcached://[fe80::1%251]:1", ["[fe80::1%1]:1"], {}),
        ("memcached://a=h:1,b=i", ["a=h:1", "b=i"], {}),
        ("memcached://h?addresses=same", ["h"], {"addresses": "same"}),
        ("memcached://h?timeout=0.5", ["h"], {"timeout": 0.5}),
        (
            "memcached://h/?connect_timeout=2&threads=3&max_pending=4",
            ["h"],
            {"connect_timeout": 2.0, "threads": 3, "max_pending": 4},
        ),
        (
            "memcached://me:p%40ss%2F#:@h?timeout=1",
            ["h"],
            {"username": "me", "password": "p@ss/#:", "timeout": 1.0},
        ),
        (
            "memcached://me:pw@/run/m.sock",
            ["/run/m.sock"],
            {"username": "me", "password": "pw"},
        ),
    ],
)
def test_a_url_says_servers_and_options(url, servers, options):
    """Servers, credentials and options of a URL are taken as they are written."""
    assert parse_url(url) == (servers, options)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "must begin with"),
        ("redis://h", "must begin with"),
        ("memcached:h", "must begin with"),
        ("memcached://", "names no server"),
        ("memcached:///", "names no server"),
        ("memcached://h/path", "path"),
        ("memcached://h:x", "server"),
        ("memcached://h?timeot=1", "did you mean 'timeout'"),
        ("memcached://h?timeout=1&timeout=2", "twice"),
        ("memcached://h?timeout=fast", "timeout must be a number"),
        ("memcached://h?timeout=", "timeout must be a number"),
        ("memcached://h?timeout=0", "timeout must be"),
        ("memcached://h?timeout=nan", "timeout must be"),
        ("memcached://h?threads=1.5", "threads must be a whole number"),
        ("memcached://h?threads=0", "threads must be"),
        ("memcached://h?max_pending=-1", "max_pending must be"),
        ("memcached://h?tls=true", "tls must be 0 or 1"),
        ("memcacheds://h?tls=0", "memcacheds:// and tls=0"),
        ("memcached://a..b", "host name"),
        (f"memcached://{'a' * 64}", "host name"),
        ("memcached://h?tls_ca=/x", "tls_ca needs tls=True"),
        ("memcacheds:///x.sock", "tls: a Unix socket has none"),
        ("memcached://h?weights=1,2", "weights must be as many"),
        ("memcached://h?addresses=all", "addresses must be 'same'"),
        ("memcached://h?weights=x", "weights must be numbers"),
        ("memcached://h?weights=-1", "a weight must be"),
        ("memcached://h?reconnect_timeout=-1", "reconnect_timeout must be"),
        ("memcached://h?reconnect_timeout=x", "reconnect_timeout must be"),
        (f"memcached://me:{SECRET}@h:x", "server"),
        (f"memcached://me:{SECRET}@[::1:1", "server"),
        (f"memcached://me:{SECRET}@h\uff03:x", "server"),
        (f"memcached://me:{SECRET}/@h", "server"),
        (f"memcached://me:{SECRET}%20x@h", "password must be"),
        (f"memcached://:{SECRET}@h", "username is missing"),
        (f"memcached://{SECRET}@h", "password is missing"),
        (f"memcached://h?password={SECRET}", "username must be"),
        (f"memcached://h?password={SECRET}&timeout=x", "timeout must be"),
        (f"memcached://h?pasword={SECRET}", "did you mean 'password'"),
        (f"memcached://me:pa?{SECRET}@h", "unknown setting.*%3F"),
        (f"memcached://me:pa/{SECRET}@h", "%2F"),
    ],
)
def test_a_bad_url_is_refused(url, said):
    """The error says what is wrong, and neither a credential nor its cause does."""
    with pytest.raises(ValueError, match=said) as raised:
        MemcachedStore.from_url(url)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": float("inf")}, ValueError),
        ({"timeout": None}, TypeError),
        ({"timeout": True}, TypeError),
        ({"connect_timeout": -1}, ValueError),
        ({"threads": 0}, ValueError),
        ({"threads": 1.0}, TypeError),
        ({"max_pending": 0}, ValueError),
        ({"username": "a"}, TypeError),
        ({"password": SECRET}, TypeError),
        ({"username": "a b", "password": SECRET}, ValueError),
        ({"username": "a", "password": f"{SECRET}\r\n"}, ValueError),
        ({"username": "", "password": SECRET}, ValueError),
        ({"tls": "yes"}, TypeError),
        ({"tls": None}, TypeError),
        ({"tls_cert": "/x"}, ValueError),
        ({"tls": True, "tls_key": "/x"}, ValueError),
        ({"tls": True, "tls_ca": "/no/such/file"}, ValueError),
        ({"tls": True, "tls_ca": 1}, TypeError),
        ({"tls": True, "tls_ca": ""}, ValueError),
        ({"tls": True, "tls_cert": "/no/such/file"}, ValueError),
        ({"weights": "1"}, TypeError),
        ({"weights": [1, 2]}, ValueError),
        ({"reconnect_timeout": None}, TypeError),
        ({"reconnect_timeout": False}, TypeError),
    ],
    ids=repr,
)
def test_bad_arguments_name_themselves(options, error):
    """A senseless argument is an error that begins with a name of one."""
    with pytest.raises(error) as raised:
        MemcachedStore("127.0.0.1:1", **options)
    assert re.match(r"\w+", str(raised.value))[0] in {*options, "username", "password"}
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("weight", "error"),
    [(0, ValueError), (float("nan"), ValueError), (True, TypeError), ("1", TypeError)],
)
def test_a_bad_weight_is_refused(weight, error):
    """A share is a number greater than 0."""
    with pytest.raises(error, match="a weight must be"):
        MemcachedStore(["a:1", "b:1"], weights=[1, weight])


def test_tls_takes_a_context():
    """An SSLContext of the user's own is taken for what it is."""
    MemcachedStore("127.0.0.1:1", tls=ssl.create_default_context())
    MemcachedStore.from_url("memcacheds://127.0.0.1:1")


def test_the_repr_shows_no_credentials():
    """A store can be logged."""
    store = MemcachedStore("a:1,b:2", username="me", password=SECRET)
    assert repr(store) == "<MemcachedStore nodes=2>"
