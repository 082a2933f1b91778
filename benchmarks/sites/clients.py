"""Stores over asyncio clients, to compare the library's threads with."""

from __future__ import annotations

import math
from typing import Any

import aiomcache
import emcache

from tornado_mcsession import CasResult, Entry, Store

# Each waiting operation of emcache has one: with fewer, some time out (1.3.3). Its
# batches of reads do not help: a gets() that is alone in one never returns.
EMCACHE_CONNECTIONS = 32
AIOMCACHE_CONNECTIONS = 8


class ClientStore(Store):
    """What the measured sites do not need of a store, and errors of clients.

    Those count as "cannot tell", as all errors of a store that are not the package's.
    """

    # aiomcache has no deadline of its own, and does not survive the manager's: a
    # cancelled operation leaves its connection in the middle of a response.
    keeps_deadline = True

    def touch(self, key: str, ttl: float) -> Any:
        raise NotImplementedError

    def delete(self, key: str) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        """The process is killed."""


class EmcacheStore(ClientStore):
    """Sessions by emcache."""

    def __init__(self, client: emcache.Client) -> None:
        self._client = client

    @classmethod
    async def connected(cls, address: str) -> EmcacheStore:
        host, _, port = address.partition(":")
        client = await emcache.create_client(
            [emcache.MemcachedHostAddress(host, int(port))],
            max_connections=EMCACHE_CONNECTIONS,
            min_connections=EMCACHE_CONNECTIONS,
        )
        return cls(client)

    async def get(self, key: str) -> Entry | None:
        item = await self._client.gets(key.encode())
        return None if item is None else Entry(item.value, item.cas)

    async def add(self, key: str, data: bytes, ttl: float, flags: int = 0) -> bool:
        try:
            await self._client.add(key.encode(), data, exptime=math.ceil(ttl))
        except emcache.NotStoredStorageCommandError:
            return False
        return True

    async def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> CasResult:
        seconds = math.ceil(ttl)
        try:
            await self._client.cas(key.encode(), data, token, exptime=seconds)
        except emcache.StorageCommandError:
            return CasResult.CONFLICT
        return CasResult.STORED


class AiomcacheStore(ClientStore):
    """Sessions by aiomcache."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self._client = aiomcache.Client(
            host, int(port), pool_size=AIOMCACHE_CONNECTIONS
        )

    async def get(self, key: str) -> Entry | None:
        data, token = await self._client.gets(key.encode())
        return None if data is None else Entry(data, token)

    async def add(self, key: str, data: bytes, ttl: float, flags: int = 0) -> bool:
        return await self._client.add(key.encode(), data, math.ceil(ttl))

    async def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> CasResult:
        stored = await self._client.cas(key.encode(), data, token, math.ceil(ttl))
        # It does not tell whether there is another version or none.
        return CasResult.STORED if stored else CasResult.CONFLICT
