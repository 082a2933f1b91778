"""Sessions in memcached: the servers, which of them keeps a key, what each is asked."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import ipaddress
import logging
import math
import re
import socket
import ssl
import struct
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from ...checks import positive_int, type_error
from ..base import (
    CasResult,
    Entry,
    NodeCallback,
    Store,
    check_data,
    check_flags,
    check_key,
    check_ttl,
    tell_of_forks,
)
from . import protocol
from .connection import Access, Addresses, Connector, checked_seconds
from .executor import Limits
from .node import Node

__all__ = [
    "MemcachedStore",
    "Router",
    "Server",
    "parse_servers",
    "parse_url",
    "parse_weights",
]

logger: logging.Logger = logging.getLogger("tornado_mcsession")

# protocol.txt: a larger number of seconds is taken for a Unix time.
_MONTH = 60 * 60 * 24 * 30
_LAST = 2**31 - 1


class MemcachedStore(Store):
    """Keeps sessions in one or more memcached servers.

    Each server has its own connections, threads and queue, so that one in
    trouble holds up its own sessions alone. Keys are placed by the servers'
    names: give them in any order, but by the same names in every process. ::

        MemcachedStore("127.0.0.1:11211")
        MemcachedStore(["cache1:11211", "cache2:11211"], timeout=0.5)
        MemcachedStore("cache1=10.0.0.5:11211,cache2=10.0.0.6:11211")

    Args:
        servers: ``"host:port"``, several of them separated by commas, the path
            of a Unix socket, or a list of these. ``"name=host:port"`` gives a server
            a name that stays when the server moves to another address.
        timeout: seconds for one operation as a whole: connecting, TLS and a
            response that arrives in drips included.
        connect_timeout: seconds of it for connecting.
        threads: threads, and so connections, for each server.
        max_pending: unfinished operations for each server; more are refused.
        username: for a server that runs with ``-Y``.
        password: likewise.
        tls: ``True``, or an `ssl.SSLContext`.
        tls_ca: a file of the certificates to trust, in PEM, instead of the
            system's.
        tls_cert: a file with the certificate to show to the server.
        tls_key: a file with its key, where ``tls_cert`` does not hold it.
        weights: for each server how large its share of the sessions is; all
            have the same without.
        reconnect_timeout: seconds that an operation also waits, while its
            server does not respond, for it to come back; 0: none.
        addresses: ``"same"`` where all addresses of a host name lead to the same
            sessions, such as proxies before the same servers. Without it, a name
            with several addresses of one family is refused.
        router: what places keys on servers, given their weights by name: `.Router`, or
            a class derived from it where other programs place them in another way.
        executor: run the blocking calls here, instead of on own threads; it is
            not shut down by `close`. After a fork, the child has own threads.
    """

    keeps_deadline = True

    def __init__(
        self,
        servers: str | Sequence[str | tuple[str, int]],
        *,
        timeout: float = 1.0,
        connect_timeout: float = 0.5,
        threads: int = 2,
        max_pending: int = 1024,
        username: str | None = None,
        password: str | None = None,
        tls: bool | ssl.SSLContext = False,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        weights: Sequence[float] | None = None,
        reconnect_timeout: float = 0.0,
        addresses: Addresses | None = None,
        router: Callable[[Mapping[str, float]], Router] | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.timeout: float = checked_seconds("timeout", timeout)
        self.reconnect_timeout: float = _patience(reconnect_timeout)
        positive_int("threads", threads)
        positive_int("max_pending", max_pending)
        limits = Limits(self.timeout, self.reconnect_timeout, threads, max_pending)
        parsed = parse_servers(servers)
        self._router = (router or Router)(parse_weights(parsed, weights))
        access = Access(
            connect_timeout=connect_timeout,
            username=username,
            password=password,
            tls=tls,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            addresses=addresses,
        )
        self._nodes = {
            name: Node(
                name, address, Connector(address, access), limits, self._note, executor
            )
            for name, address in parsed
        }
        self._only = next(iter(self._nodes.values())) if len(parsed) == 1 else None
        self._connected: list[NodeCallback] = []
        self._disconnected: list[NodeCallback] = []
        for node in self._nodes.values():
            tell_of_forks(node)

    @classmethod
    def from_url(cls, url: str, **more: Any) -> MemcachedStore:
        """Return the store that a URL describes.

        ``memcached://host:port,host2:port2/?timeout=1``, ``memcached:///path``
        for a Unix socket, ``memcacheds://`` for TLS. ``more`` are arguments that no
        URL can hold. Raises `ValueError`.
        """
        servers, options = parse_url(url)
        try:
            return cls(servers, **options, **more)
        except (TypeError, ValueError) as error:
            raise ValueError(f"store URL: {error}") from None

    @property
    def router(self) -> Router:
        """What places keys on servers."""
        return self._router

    def get(self, key: str) -> Awaitable[Entry | None]:
        return self._node(key).ask("get", key)

    def get_many(self, keys: Sequence[str]) -> Awaitable[dict[str, Entry]]:
        own: dict[Node, list[str]] = {}
        for key in keys:
            own.setdefault(self._node(key), []).append(key)
        if len(own) == 1:
            # As for a session and what belongs to it.
            return next(iter(own)).ask("get", tuple(keys))
        return self._get_from_several(own)

    async def _get_from_several(
        self, own: Mapping[Node, Sequence[str]]
    ) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        asked = [node.ask("get", tuple(each)) for node, each in own.items()]
        for part in await asyncio.gather(*asked):
            found.update(part)
        return found

    def add(self, key: str, data: bytes, ttl: float, flags: int = 0) -> Awaitable[bool]:
        node = self._node(key)
        check_data(data)
        command = protocol.add(key, data, _exptime(ttl), check_flags(flags))
        return node.ask("add", command)

    def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> Awaitable[CasResult]:
        if not isinstance(token, bytes):
            raise type_error("token", token, "what an entry came with")
        node = self._node(key)
        check_data(data)
        command = protocol.cas(key, data, _exptime(ttl), token, check_flags(flags))
        return node.ask("cas", command)

    def touch(self, key: str, ttl: float) -> Awaitable[bool]:
        return self._node(key).ask("touch", protocol.touch(key, _exptime(ttl)))

    def delete(self, key: str) -> Awaitable[bool]:
        return self._node(key).ask("delete", protocol.delete(key))

    async def close(self, timeout: float | None = None) -> None:
        """Let what merely waits fail, and wait for what runs; then close all.

        It waits for as long as an operation may take, or ``timeout`` seconds if that
        is shorter.
        """
        await asyncio.gather(*(node.close(timeout) for node in self._nodes.values()))

    def stop_waiting(self) -> None:
        for node in self._nodes.values():
            node.stop_waiting()

    def node_of(self, key: str) -> str:
        return self._router.node_for(check_key(key))

    def on_connect(self, callback: NodeCallback) -> None:
        self._connected.append(callback)

    def on_disconnect(self, callback: NodeCallback) -> None:
        self._disconnected.append(callback)

    def stats(self) -> dict[str, Any]:
        return {"nodes": {name: node.stats() for name, node in self._nodes.items()}}

    async def health(self) -> dict[str, dict[str, Any]]:
        found = await asyncio.gather(*(node.health() for node in self._nodes.values()))
        return dict(zip(self._nodes, found, strict=True))

    def __repr__(self) -> str:
        return f"<MemcachedStore nodes={len(self._nodes)}>"

    def _node(self, key: str) -> Node:
        check_key(key)
        return self._only or self._nodes[self._router.node_for(key)]

    def _note(self, node: Node, answers: bool, before: bool | None) -> None:
        if not answers:
            logger.warning("%s does not answer: %s", node.name, node.reason)
        elif before is False:
            logger.warning("%s answers again", node.name)
        for callback in self._connected if answers else self._disconnected:
            try:
                callback(node.name)
            except Exception:
                logger.exception("a store event's callback failed")


def _exptime(ttl: float) -> int:
    """Return the exptime that keeps an item for ``ttl`` seconds at least.

    memcached counts whole seconds and may be up to one early; 0 would mean for
    ever, as would a number over 32 bits.
    """
    whole = math.ceil(check_ttl(ttl)) + 1
    if whole > _MONTH:
        whole += math.ceil(time.time())
    return min(whole, _LAST)


def _patience(value: object) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0.0
    return checked_seconds("reconnect_timeout", value)


# The servers that a setting names.

DEFAULT_PORT = 11211
SCHEMES = ("memcached", "memcacheds")

# An IPv6 address stands in brackets, or its end would be taken for a port.
_SERVER = re.compile(
    r"(?: \[ (?P<address>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]+)"
    r"        (?: %(?P<zone>[A-Za-z0-9._~-]+) )? \]"
    r"  | (?P<host>[^\s:;\[\]@/=]+) )"
    r"(?: : (?P<port>[0-9]{1,5}) )?",
    re.VERBOSE,
)
# Without what separates the parts of a URL.
_HOST = re.compile(r"[A-Za-z0-9._-]+")
# Sessions are placed by it, and it is shown in logs.
_NAME = re.compile(r"[A-Za-z0-9._:%\[\]-]{1,250}")


class Server(NamedTuple):
    """A server's stable name, and where it listens.

    ``address`` is host and port, or the path of a Unix socket.
    """

    name: str
    address: tuple[str, int] | str


def parse_servers(servers: object) -> list[Server]:
    """Return the servers that a ``servers`` argument names, checked."""
    if isinstance(servers, str):
        servers = [part.strip() for part in servers.split(",")]
    if not isinstance(servers, Sequence):
        raise type_error("servers", servers, "text or a list")
    parsed = [_server(server) for server in servers]
    if not parsed:
        raise ValueError("servers must name at least one")
    for each in zip(*parsed, strict=True):
        if len(set(each)) != len(each):
            raise ValueError("servers must differ from each other")
    return parsed


def parse_weights(servers: Sequence[Server], weights: object) -> dict[str, float]:
    """Return the weight of each server by its name, checked."""
    if weights is None:
        return {server.name: 1.0 for server in servers}
    if isinstance(weights, str) or not isinstance(weights, Sequence):
        raise type_error("weights", weights, "a list of numbers")
    if len(weights) != len(servers):
        raise ValueError("weights must be as many as servers")
    for weight in weights:
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise type_error("a weight", weight, "a number")
        if not 0 < weight < math.inf:
            raise ValueError("a weight must be finite and greater than 0")
    return {
        server.name: float(weight)
        for server, weight in zip(servers, weights, strict=True)
    }


def _server(server: object) -> Server:
    if isinstance(server, tuple) and len(server) == 2:
        host, port = server
        if not isinstance(host, str):
            raise type_error("a server's host", host, "text")
        if isinstance(port, bool) or not isinstance(port, int):
            raise type_error("a server's port", port, "a whole number")
        server = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not isinstance(server, str):
        raise type_error("a server", server, "'host:port', a path, or (host, port)")
    if server.startswith("/"):
        return Server(server, server)
    name, equals, place = server.partition("=")
    if equals and _NAME.fullmatch(name) is None:
        raise ValueError(
            "a server's name must be made of ASCII letters, digits and .-_"
        )
    address = _address(place if equals else server)
    return Server(name if equals else _name_of(address), address)


def _address(place: str) -> tuple[str, int] | str:
    if place.startswith("/"):
        return place
    match = _SERVER.fullmatch(place)
    if match is None:
        if ";" in place or " " in place:
            raise ValueError("servers must be separated by commas: 'host:port,host2'")
        if "://" in place:
            raise ValueError(
                "a server must be 'host:port'; a URL is for MemcachedStore.from_url()"
            )
        raise ValueError("a server must be 'host:port' or '[IPv6 address]:port'")
    port = int(match["port"] or DEFAULT_PORT)
    if not 0 < port < 65536:
        raise ValueError("a server's port must be from 1 to 65535")
    if match["host"] is not None:
        return _canonical(match["host"]), port
    try:
        found = ipaddress.IPv6Address(match["address"])
    except ValueError:
        raise ValueError(
            "a server in brackets must be an IPv6 address: '[::1]:port'"
        ) from None
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped), port
    zone = match["zone"] or ""
    # In a URL the % before a zone is written %25, which may be copied from there.
    if (rest := zone.removeprefix("25")) and not rest.isdigit():
        zone = rest
    return (f"{found.compressed}%{zone}" if zone else found.compressed), port


def _canonical(host: str) -> str:
    """Return the one spelling of a host: another would place keys elsewhere."""
    try:
        # As the socket module does it. The dot at the end is that of the root.
        name = host.encode("idna").decode("ascii").lower().removesuffix(".")
        # It makes a colon, or a space, of some other characters.
        if not name.isprintable() or _HOST.fullmatch(name) is None:
            raise UnicodeError
    except UnicodeError:
        raise ValueError(
            "a server's host name must be made of labels of 1 to 63 letters, digits, "
            "- and _"
        ) from None
    try:
        return socket.inet_ntoa(socket.inet_aton(name))  # 127.1 is 127.0.0.1
    except OSError:
        return name


def _name_of(address: tuple[str, int] | str) -> str:
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# The URL of a store.


def parse_url(url: str) -> tuple[list[str], dict[str, Any]]:
    """Return the servers and the other arguments that a store URL holds.

    Raises `ValueError`, which shows no part of the URL but names of options.
    """
    # By hand: urllib refuses several IPv6 addresses, cuts a password at "#",
    # and quotes it in some of its errors.
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in SCHEMES:
        raise ValueError(
            "store URL must begin with memory://, memcached:// or memcacheds://"
            + _meant(scheme if colon else "")
        )
    rest, _, query = rest.partition("?")
    place, slash, path = rest.partition("/")
    options = _options(query)
    if scheme == "memcacheds":
        if options.get("tls") is False:
            raise ValueError("store URL has memcacheds:// and tls=0")
        options["tls"] = True
    credentials, at, hosts = place.rpartition("@")
    if at:
        username, _, password = credentials.partition(":")
        options["username"], options["password"] = unquote(username), unquote(password)
    if not hosts:
        if not path:
            raise ValueError("store URL names no server: memcached://host:port")
        return [slash + unquote(path)], options
    if path:
        raise ValueError(
            "store URL has a path after the servers (a / in a password is written %2F)"
        )
    # RFC 6874: the % before the zone of an IPv6 address is encoded in a URL.
    return [host.strip().replace("%25", "%") for host in hosts.split(",")], options


def _meant(scheme: str) -> str:
    """Return what to write instead of a URL with another scheme."""
    # It is not shown: a password may stand there.
    if scheme.lower() in ("redis", "rediss", "valkey", "unix"):
        return (
            "; sessions are kept in memcached, and anything else needs a Store of your "
            "own"
        )
    near = difflib.get_close_matches(scheme.lower(), (*SCHEMES, "memory"), n=1)
    return f"; did you mean {near[0] if near else 'memcached'}://?"


def _options(query: str) -> dict[str, Any]:
    given = parse_qsl(query, keep_blank_values=True)
    texts = dict(given)
    for name in texts:
        if name not in _OPTIONS:
            raise ValueError(f"store URL has an unknown setting; {_hint(name)}")
    if len(texts) != len(given):
        raise ValueError("store URL has a setting twice")
    options = {}
    for name, text in texts.items():
        convert, allowed = _OPTIONS[name]
        try:
            options[name] = convert(text)
        except (KeyError, ValueError):
            raise ValueError(f"store URL: {name} must be {allowed}") from None
    return options


def _hint(name: str) -> str:
    # It is not shown: a password with a "?" in it ends here.
    near = difflib.get_close_matches(name, _OPTIONS, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(_OPTIONS)}; a ? in a password is written %3F"


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "timeout": (float, "a number of seconds"),
    "connect_timeout": (float, "a number of seconds"),
    "threads": (int, "a whole number"),
    "max_pending": (int, "a whole number"),
    "username": (str, "text"),
    "password": (str, "text"),
    "tls": ({"1": True, "0": False}.__getitem__, "0 or 1"),
    "tls_ca": (str, "a path"),
    "tls_cert": (str, "a path"),
    "tls_key": (str, "a path"),
    "weights": (_numbers, "numbers, separated by commas"),
    "reconnect_timeout": (float, "a number of seconds"),
    "addresses": (str, "'same'"),
}


# Which server keeps a key.

# A look-up costs one CRC and one index, for any number of nodes. How even the
# shares are: python -m benchmarks.routing.
SLOTS = 16_384
_UNIT = 2.0**-64


class Router:
    """Places keys on nodes by rendezvous: each slot's node has the highest weight.

    The place depends on the nodes' names and weights alone: it is the same in
    every process, whatever the order in which the nodes are listed, and whether
    they respond or not. Adding a node to ``n`` moves one key in ``n + 1``.

    ``nodes`` maps names to weights; a node with weight 2 gets twice the keys.
    """

    def __init__(self, nodes: Mapping[str, float]) -> None:
        if not nodes:
            raise ValueError("a store needs at least one node")
        self._names = list(nodes)
        # At once, not at the first request: a thousand nodes take 1 s.
        self._slots = self._names * SLOTS if len(nodes) == 1 else _filled(nodes)

    def shares(self) -> dict[str, float]:
        """Return which part of the keys is placed on each node, from 0 to 1."""
        counts = Counter(self._slots)
        return {name: counts[name] / SLOTS for name in self._names}

    def node_for(self, key: str) -> str:
        """Return the name of the node that ``key`` is placed on."""
        start = key.find("{")
        if start >= 0:
            end = key.find("}", start)
            if end > start + 1:
                key = key[start + 1 : end]
        return self._slots[zlib.crc32(key.encode("ascii")) % SLOTS]


def _filled(nodes: Mapping[str, float]) -> list[str]:
    """Return the node of each slot."""
    scores = _draws if len(set(nodes.values())) == 1 else _scores
    best = [-math.inf] * SLOTS
    owner = [""] * SLOTS
    for name in sorted(nodes):
        for slot, score in enumerate(scores(name, nodes[name])):
            if score > best[slot]:
                best[slot] = score
                owner[slot] = name
    return owner


def _draws(name: str, _: float) -> Iterable[int]:
    """Return a number for each slot, uniform over 64 bits."""
    stream = hashlib.shake_128(name.encode("utf-8")).digest(8 * SLOTS)
    return struct.unpack(f">{SLOTS}Q", stream)


def _scores(name: str, weight: float) -> Iterable[float]:
    # Weighted rendezvous: with u uniform in (0, 1), the largest of
    # -weight / ln(u) falls on each node in proportion to its weight. It rises
    # with u, so that the draws alone decide where all weights are the same.
    for draw in _draws(name, weight):
        yield -weight / math.log((draw + 0.5) * _UNIT)
