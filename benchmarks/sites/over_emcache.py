"""The library over emcache, an asyncio client, instead of threads."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import emcache

from tornado_mcsession import CasResult, Entry, Store, StoreUnavailable

from .contents import BACKLOG
from .ours import make_app

__all__ = ["EmcacheStore", "serve"]

# Each waiting operation has one: with fewer, some time out (emcache 1.3.3). Its
# batches of reads do not help: a gets() that is alone in one never returns.
CONNECTIONS = 32


@contextlib.contextmanager
def telling(operation: str) -> Iterator[None]:
    """Raise the store's own error for what the network raises."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(operation, "", type(error).__name__) from error


class EmcacheStore(Store):
    """Sessions by emcache."""

    keeps_deadline = True  # each of its operations has a second

    def __init__(self, client: emcache.Client) -> None:
        self._client = client

    async def get(self, key: str) -> Entry | None:
        with telling("get"):
            item = await self._client.gets(key.encode())
        return None if item is None else Entry(item.value, item.cas)

    async def add(self, key: str, data: bytes, ttl: float) -> bool:
        try:
            with telling("add"):
                await self._client.add(key.encode(), data, exptime=math.ceil(ttl))
        except emcache.NotStoredStorageCommandError:
            return False
        return True

    async def cas(self, key: str, data: bytes, ttl: float, token: Any) -> CasResult:
        seconds = math.ceil(ttl)
        try:
            with telling("cas"):
                await self._client.cas(key.encode(), data, token, exptime=seconds)
        except emcache.NotStoredStorageCommandError:
            return CasResult.CONFLICT
        except emcache.StorageCommandError:
            return CasResult.MISSING
        return CasResult.STORED

    async def touch(self, key: str, ttl: float) -> bool:
        try:
            with telling("touch"):
                await self._client.touch(key.encode(), math.ceil(ttl))
        except emcache.NotFoundCommandError:
            return False
        return True

    async def delete(self, key: str) -> bool:
        try:
            with telling("delete"):
                await self._client.delete(key.encode())
        except emcache.NotFoundCommandError:
            return False
        return True

    async def close(self) -> None:
        await self._client.close()


async def serve(port: int, memcached: str) -> None:
    host, _, at = memcached.partition(":")
    client = await emcache.create_client(
        [emcache.MemcachedHostAddress(host, int(at))],
        max_connections=CONNECTIONS,
        min_connections=CONNECTIONS,
    )
    make_app(store=EmcacheStore(client)).listen(port, "127.0.0.1", backlog=BACKLOG)
