"""The memcached servers that a setting names."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from ..checks import type_error

__all__ = ["Server", "parse_servers", "parse_url", "parse_weights"]

DEFAULT_PORT = 11211
SCHEMES = ("memcached", "memcacheds")

# An IPv6 address stands in brackets, or its end would be taken as a port.
_SERVER = re.compile(
    r"(?: \[ (?P<address>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]+(?:%\w+)?) \]"
    r"  | (?P<host>[^\s:\[\]@/]+) )"
    r"(?: : (?P<port>[0-9]{1,5}) )?",
    re.VERBOSE,
)


class Server(NamedTuple):
    """A server's stable name, and where it listens."""

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
    names = [server.name for server in parsed]
    if len(set(names)) != len(names):
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
    match = _SERVER.fullmatch(server)
    if match is None:
        raise ValueError("a server must be 'host:port' or '[IPv6 address]:port'")
    port = int(match["port"] or DEFAULT_PORT)
    if not 0 < port < 65536:
        raise ValueError("a server's port must be from 1 to 65535")
    host = match["host"] or match["address"]
    _check_name(host)
    shown = f"[{host}]" if ":" in host else host
    return Server(f"{shown}:{port}", (host, port))


def _check_name(host: str) -> None:
    try:
        host.encode("idna")  # as the socket module does it
    except UnicodeError:
        raise ValueError(
            "a server's host name must be made of labels of 1 to 63 characters"
        ) from None


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
    return [host.strip() for host in hosts.split(",")], options


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
}
