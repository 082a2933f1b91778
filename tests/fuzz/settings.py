"""What stands in configuration files and environment variables."""

from __future__ import annotations

from typing import Any

from tornado.httputil import HTTPHeaders

from tornado_mcsession import MemcachedStore
from tornado_mcsession.settings import Settings
from tornado_mcsession.stores.memcached import parse_servers, parse_url
from tornado_mcsession.web.cookie import CookieOptions

from .material import PLANTED, STORE_KEY, assert_silent

# More would be as many nodes, with a table that is filled at once.
MAX_SERVERS = 4
FILES = ("tls_ca", "tls_cert", "tls_key")


def check(data: bytes) -> None:
    """The first byte chooses what the rest is text of."""
    text = data[1:].decode("utf-8", "surrogateescape")
    kinds = (_check_url, _check_servers, _check_cookie, _check_config)
    try:
        kinds[(data[0] if data else 0) % 4](text)
    except UnicodeError:
        raise  # it quotes what it met
    except (TypeError, ValueError) as error:
        assert_silent(error)
    assert_silent()


def _check_url(text: str) -> None:
    servers, options = parse_url(text)
    if len(servers) > MAX_SERVERS:
        return
    for name in FILES:
        options.pop(name, None)  # they would be read
    options.pop("tls", None)  # reading the system's certificates takes 20 ms
    store = MemcachedStore(servers, **options)
    if PLANTED not in str(servers):
        assert PLANTED not in f"{store!r} {store.stats()}"


def _check_servers(text: str) -> None:
    for name, address in parse_servers(text):
        assert isinstance(address, str) or 0 < address[1] < 65536
        assert "=" in text or parse_servers(name)[0].name == name


def _check_cookie(text: str) -> None:
    names = ("name", "path", "domain", "samesite")
    given: dict[str, Any] = dict(zip(names, text.split("\n"), strict=False))
    options = CookieOptions.build(given, name="session")
    for value in ("i" * 43, ""):
        line = options.line(value, "https", 60)
        HTTPHeaders().add("Set-Cookie", line)
        assert line.isascii()
        assert line.isprintable()
        assert line.split("; ")[0] == f"{options.name}={value}"


def _check_config(text: str) -> None:
    names = ("key_prefix", "transport", "on_error", "persist", "serializer")
    given: dict[str, Any] = dict(zip(names, text.split("\n"), strict=False))
    config = Settings.build(given, name="session")
    if given.get("key_prefix") is None:
        return
    key = config.key_prefix + "{" + "d" * 22 + "}" + "0" * 64
    assert len(key) <= 250
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key
    assert STORE_KEY.fullmatch("mcsession:" + key.removeprefix(config.key_prefix))


def seeds() -> list[bytes]:
    """Settings as the documentation has them, and as hands slip."""
    password = f"{PLANTED}-password"
    urls = [
        "memcached://127.0.0.1:11211",
        "memcached://a:1,b:2,[::1]:3/?timeout=1&threads=4&weights=1,2,3",
        "memcached:///run/memcached.sock",
        "memcacheds://host/?tls_ca=/etc/ca.pem",
        f"memcached://user:{password}@host:11211",
        f"memcached://user:{password}@host:port",
        f"memcached://host/?username=user&password={password}",
        f"memcached://host/?username=user&password={password}&timout=1",
        f"memcached://user:{password}?x@host",
        f"memcached://user:{password}/x@host",
        f"mecached://user:{password}@host",
        "memcached://host/?timeout=nan&weights=inf",
        "memcached://host/?threads=" + "9" * 5000,
        "memcached://host/?max_pending=-1",
        "memcached://" + "a" * 64 + ".example",
        "memcached://\u0345\udc80:1",
        "memory://",
    ]
    cookies = ["session\n/", "__Host-s\n/\n\nLax", "s\n/a;b\nexample.org\nNone", "\r\n"]
    configs = ["mcsession:\ncookie", "p\nheader:X-Session-ID\ndegrade", "{x}\nheader:"]
    texts = [f"{kind}{url}" for kind in "01" for url in urls]
    texts += [f"1{servers}" for servers in ("a,b:2,[::1]", "/a,/b", "[fe80::1%eth0]:1")]
    texts += [f"2{text}" for text in cookies] + [f"3{text}" for text in configs]
    return [text.encode("utf-8", "surrogateescape") for text in texts]


WORDS = [
    b"memcached://",
    b"user:planted-secret-5e1d@",
    b"/?timeout=",
    b"&threads=",
    b"%00",
    b"[::1]:",
    b"\xff",
    b"header:",
]
