"""The library over aiomcache, an asyncio client, instead of threads."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import aiomcache

from tornado_mcsession import CasResult, Entry, Store, StoreUnavailable

from .contents import BACKLOG
from .ours import make_app

__all__ = ["AiomcacheStore", "serve"]

CONNECTIONS = 8


@contextlib.contextmanager
def telling(operation: str) -> Iterator[None]:
    """Raise the store's own error for what the client raises."""
    try:
        yield
    except (OSError, aiomcache.ClientException) as error:
        raise StoreUnavailable(operation, "", type(error).__name__) from error


class AiomcacheStore(Store):
    """Sessions by aiomcache, without deadlines.

    It has none, and the manager's would cancel a call where it waits for a
    connection too long: one that is cancelled while it reads goes back to the
    pool, and gives its answer to who asks next.
    """

    keeps_deadline = True

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self._client = aiomcache.Client(host, int(port), pool_size=CONNECTIONS)

    async def get(self, key: str) -> Entry | None:
        with telling("get"):
            data, token = await self._client.gets(key.encode())
        return None if data is None else Entry(data, token)

    async def add(self, key: str, data: bytes, ttl: float) -> bool:
        with telling("add"):
            return await self._client.add(key.encode(), data, math.ceil(ttl))

    async def cas(self, key: str, data: bytes, ttl: float, token: Any) -> CasResult:
        with telling("cas"):
            stored = await self._client.cas(key.encode(), data, token, math.ceil(ttl))
        # It does not tell whether there is another version or none.
        return CasResult.STORED if stored else CasResult.CONFLICT

    async def touch(self, key: str, ttl: float) -> bool:
        with telling("touch"):
            return await self._client.touch(key.encode(), math.ceil(ttl))

    async def delete(self, key: str) -> bool:
        with telling("delete"):
            return await self._client.delete(key.encode())

    async def close(self) -> None:
        await self._client.close()


async def serve(port: int, memcached: str) -> None:
    make_app(store=AiomcacheStore(memcached)).listen(port, "127.0.0.1", backlog=BACKLOG)
