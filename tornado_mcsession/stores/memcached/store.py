"""Sessions in memcached: which node an operation is for, and what it asks."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from ...checks import positive_int, type_error
from ...exceptions import StoreError
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
from .connection import Access, Connector, checked_seconds
from .node import Limits, Node
from .servers import Router, parse_servers, parse_url, parse_weights

__all__ = ["MemcachedStore"]

logger = logging.getLogger("tornado_mcsession")

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
        tls: `True`, or an `ssl.SSLContext`.
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
        addresses: str | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.timeout = checked_seconds("timeout", timeout)
        self.reconnect_timeout = _patience(reconnect_timeout)
        positive_int("threads", threads)
        positive_int("max_pending", max_pending)
        limits = Limits(self.timeout, self.reconnect_timeout, threads, max_pending)
        parsed = parse_servers(servers)
        self._router = Router(parse_weights(parsed, weights))
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
    def from_url(cls, url: str) -> MemcachedStore:
        """Return the store that a URL describes.

        ``memcached://host:port,host2:port2/?timeout=1``, ``memcached:///path``
        for a Unix socket, ``memcacheds://`` for TLS. Raises `ValueError`.
        """
        servers, options = parse_url(url)
        try:
            return cls(servers, **options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"store URL: {error}") from None

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
        asked = [node.ask("get", tuple(each)) for node, each in own.items()]
        answers = await asyncio.gather(*asked)
        return {key: entry for found in answers for key, entry in found.items()}

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
        nodes = self._nodes.values()
        await asyncio.gather(*(node.close(timeout) for node in nodes))

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
        nodes = self._nodes.values()
        answers = await asyncio.gather(*(_health(node) for node in nodes))
        return dict(zip(self._nodes, answers, strict=True))

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


async def _health(node: Node) -> dict[str, Any]:
    try:
        return {"ok": True, "seconds": await node.ping()}
    except StoreError as error:
        return {"ok": False, "error": error.reason}


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
