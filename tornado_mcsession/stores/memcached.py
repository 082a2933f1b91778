"""Sessions in memcached: keys to nodes, nodes' answers to the store's outcomes."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Awaitable, Sequence
from concurrent.futures import Executor
from typing import Any

from .._routing import Router
from ..checks import positive_int, type_error
from ..exceptions import StoreError
from ._access import checked_address, checked_seconds, link_maker
from ._node import Limits, Node
from ._servers import parse_servers, parse_url, parse_weights
from .base import (
    CasResult,
    Entry,
    NodeCallback,
    Store,
    check_data,
    check_key,
    check_ttl,
)

__all__ = ["MemcachedStore"]

logger = logging.getLogger("tornado_mcsession")

# protocol.txt: a larger number of seconds is taken as a Unix time.
_MONTH = 60 * 60 * 24 * 30
_LAST = 2**31 - 1


class MemcachedStore(Store):
    """Keeps sessions in one or more memcached servers.

    Each server has its own connections, threads and queue, so that one in
    trouble holds up its own sessions alone. Keys are placed by the servers'
    names: give them in any order, but by the same names in every process. ::

        MemcachedStore("127.0.0.1:11211")
        MemcachedStore(["cache1:11211", "cache2:11211"], timeout=0.5)

    Args:
        servers: ``"host:port"``, several of them separated by commas, the path
            of a Unix socket, or a list of these.
        timeout: seconds for one operation as a whole: connecting, TLS and an
            answer that arrives in drips included.
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
        reconnect_timeout: seconds that an operation waits besides, while its
            server does not answer, for it to come back; 0: none.
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
        executor: Executor | None = None,
    ) -> None:
        self.timeout = checked_seconds("timeout", timeout)
        self.reconnect_timeout = _patience(reconnect_timeout)
        limits = _limits(self, threads, max_pending)
        parsed = parse_servers(servers)
        self._router = Router(parse_weights(parsed, weights))
        links = link_maker(
            connect_timeout=connect_timeout,
            username=username,
            password=password,
            tls=tls,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
        )
        self._nodes = {
            name: Node(
                name,
                checked_address(address, links),
                links,
                self._note,
                limits,
                executor,
            )
            for name, address in parsed
        }
        self._connected: list[NodeCallback] = []
        self._disconnected: list[NodeCallback] = []

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

    async def get(self, key: str) -> Entry | None:
        entry: Entry | None = await self._node(key).ask("get", key)
        return entry

    async def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        if len(keys) == 1:
            return {key: entry for key in keys if (entry := await self.get(key))}
        nodes = [self._node(key) for key in keys]
        if keys and nodes.count(nodes[0]) == len(nodes):
            # As for a session and what belongs to it.
            found: dict[str, Entry] = await nodes[0].ask("get", *keys)
            return found
        own: dict[Node, list[str]] = {}
        for node, key in zip(nodes, keys, strict=True):
            own.setdefault(node, []).append(key)
        answers = await asyncio.gather(*map(self.get_many, own.values()))
        return {key: entry for found in answers for key, entry in found.items()}

    async def add(self, key: str, data: bytes, ttl: float, flags: int = 0) -> bool:
        added: bool = await self._node(key).ask(
            "add", key, check_data(data), _expire(ttl)
        )
        return added

    def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> Awaitable[CasResult]:
        if not isinstance(token, bytes):
            raise type_error("token", token, "what an entry came with")
        node = self._node(key)
        return node.ask("cas", key, check_data(data), _expire(ttl), token)

    async def touch(self, key: str, ttl: float) -> bool:
        touched: bool = await self._node(key).ask("touch", key, _expire(ttl))
        return touched

    async def delete(self, key: str) -> bool:
        deleted: bool = await self._node(key).ask("delete", key)
        return deleted

    async def close(self) -> None:
        await asyncio.gather(*(node.close() for node in self._nodes.values()))

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
        return self._nodes[self._router.node_for(check_key(key))]

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


def _expire(ttl: float) -> int:
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


def _limits(store: Store, threads: int, max_pending: int) -> Limits:
    positive_int("threads", threads)
    positive_int("max_pending", max_pending)
    return Limits(store.timeout, store.reconnect_timeout, threads, max_pending)
