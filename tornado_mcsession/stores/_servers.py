"""The memcached servers that a setting names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from .._checks import type_error

__all__ = ["Server", "parse_servers", "parse_url"]

DEFAULT_PORT = 11211
SCHEMES = ("memcached", "memcacheds")


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


def _server(server: object) -> Server:
    if isinstance(server, tuple) and len(server) == 2:
        host, port = server
    elif isinstance(server, str):
        if server.startswith("/"):
            return Server(server, server)
        host, port = _split(server)
    else:
        raise type_error("a server", server, "'host:port', a path, or (host, port)")
    if not isinstance(host, str) or not host:
        raise ValueError("a server needs a host name: 'host:port'")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise ValueError("a server's port must be from 1 to 65535")
    shown = f"[{host}]" if ":" in host else host
    return Server(f"{shown}:{port}", (host, port))


def _split(server: str) -> tuple[str, int]:
    host, colon, port = server, "", ""
    if server.startswith("["):
        host, _, rest = server[1:].partition("]")
        colon, port = rest[:1], rest[1:]
    elif ":" in server:
        host, colon, port = server.rpartition(":")
    if not colon:
        return host, DEFAULT_PORT
    if not (port.isascii() and port.isdigit()):
        raise ValueError("a server's port must be from 1 to 65535")
    return host, int(port)


def parse_url(url: str) -> tuple[list[str], dict[str, Any]]:
    """Return the servers and the other arguments that a store URL holds."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(
            "store URL must begin with memory://, memcached:// or memcacheds://"
        )
    options: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name in options:
            raise ValueError(f"store URL has {name!r} twice")
        options[name] = text
    if parts.scheme == "memcacheds":
        options["tls"] = "1"
    credentials, at, hosts = parts.netloc.rpartition("@")
    if at:
        username, _, password = credentials.partition(":")
        options["username"], options["password"] = unquote(username), unquote(password)
    if not hosts:
        if len(parts.path) < 2:
            raise ValueError("store URL names no server: memcached://host:port")
        return [unquote(parts.path)], options
    if parts.path not in ("", "/"):
        raise ValueError("store URL has a path after the servers")
    return [host.strip() for host in hosts.split(",")], options
