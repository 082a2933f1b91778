"""A store over emcache, an asyncio client, to compare the library's threads with."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import emcache

from tornado_mcsession import CasResult, Entry, Store, StoreUnavailable

__all__ = ["EmcacheStore"]

# Each waiting operation has one: with fewer, some time out (1.3.3). Its batches of
# reads do not help: a gets() that is alone in one never returns.
CONNECTIONS = 32


@contextlib.contextmanager
def translated(operation: str) -> Iterator[None]:
    """Raise the store's own error for what the network raises."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(operation, "", type(error).__name__) from error


class EmcacheStore(Store):
    """Sessions by emcache; what the measured sites need of a store."""

    keeps_deadline = True  # each of its operations has a second

    def __init__(self, client: emcache.Client) -> None:
        self._client = client

    @classmethod
    async def connected(cls, address: str) -> EmcacheStore:
        host, _, port = address.partition(":")
        client = await emcache.create_client(
            [emcache.MemcachedHostAddress(host, int(port))],
            max_connections=CONNECTIONS,
            min_connections=CONNECTIONS,
        )
        return cls(client)

    async def get(self, key: str) -> Entry | None:
        with translated("get"):
            item = await self._client.gets(key.encode())
        return None if item is None else Entry(item.value, item.cas)

    async def add(self, key: str, data: bytes, ttl: float) -> bool:
        try:
            with translated("add"):
                await self._client.add(key.encode(), data, exptime=math.ceil(ttl))
        except emcache.NotStoredStorageCommandError:
            return False
        return True

    async def cas(self, key: str, data: bytes, ttl: float, token: Any) -> CasResult:
        seconds = math.ceil(ttl)
        try:
            with translated("cas"):
                await self._client.cas(key.encode(), data, token, exptime=seconds)
        except emcache.StorageCommandError:
            return CasResult.CONFLICT
        return CasResult.STORED

    async def touch(self, key: str, ttl: float) -> bool:
        raise NotImplementedError

    async def delete(self, key: str) -> bool:
        raise NotImplementedError

    async def close(self) -> None:
        """The process is killed."""
