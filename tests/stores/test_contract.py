"""The stores of this package, and one as a user may write it, keep the contract."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tornado_mcsession import (
    CasResult,
    Entry,
    MemcachedStore,
    MemoryStore,
    Store,
    StoreUnavailable,
)
from tornado_mcsession.stores.base import (
    check_data,
    check_flags,
    check_key,
    check_ttl,
)
from tornado_mcsession.testing import FaultyStore
from tornado_mcsession.testing.contract import (
    ArgumentContract,
    ExpiryContract,
    LoopContract,
    StoreContract,
    ValueContract,
)


class DictStore(Store):
    """As small as a store can be."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[Entry, float]] | None = {}

    def _find(self, operation: str, key: str) -> Entry | None:
        check_key(key)
        if self._entries is None:
            raise StoreUnavailable(operation, "", "the store is closed")
        entry, end = self._entries.get(key, (None, 0.0))
        return entry if end > time.time() else None

    def _put(self, key: str, data: bytes, ttl: float, flags: int) -> None:
        self._entries[key] = Entry(data, object(), flags), time.time() + ttl

    async def get(self, key: str) -> Entry | None:
        return self._find("get", key)

    async def add(self, key: str, data: bytes, ttl: float, flags: int = 0) -> bool:
        check_data(data)
        check_ttl(ttl)
        check_flags(flags)
        if self._find("add", key) is not None:
            return False
        self._put(key, data, ttl, flags)
        return True

    async def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> CasResult:
        check_data(data)
        check_ttl(ttl)
        check_flags(flags)
        entry = self._find("cas", key)
        if entry is None:
            return CasResult.MISSING
        if entry.token is not token:
            return CasResult.CONFLICT
        self._put(key, data, ttl, flags)
        return CasResult.STORED

    async def touch(self, key: str, ttl: float) -> bool:
        check_ttl(ttl)
        entry = self._find("touch", key)
        if entry is not None:
            self._entries[key] = entry, time.time() + ttl
        return entry is not None

    async def delete(self, key: str) -> bool:
        found = self._find("delete", key) is not None
        self._entries.pop(key, None)
        return found

    async def close(self) -> None:
        self._entries = None


class FutureStore(DictStore):
    """Returns futures, whose operations are under way, and done."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in ("get", "add", "cas", "touch", "delete"):
            return found

        def begin(*args: Any) -> asyncio.Future[Any]:
            future = asyncio.get_running_loop().create_future()
            try:
                found(*args).send(None)
            except StopIteration as ended:
                future.set_result(ended.value)
            except StoreUnavailable as error:
                future.set_exception(error)
            return future

        return begin


class TestDictStore(StoreContract):
    """A store with no more than what is abstract."""

    def make_store(self):
        return DictStore()


class TestFutureStore(ValueContract, ArgumentContract, ExpiryContract):
    """A store whose operations are no coroutines."""

    def make_store(self):
        return FutureStore()


class TestMemoryStore(StoreContract):
    """The embedded default."""

    def make_store(self):
        return MemoryStore()


class TestFaultyStore(StoreContract):
    """Without a fault, it is as good as the store in it."""

    def make_store(self):
        return FaultyStore()


@pytest.mark.integration
class TestMemcachedStore(StoreContract):
    """One real memcached."""

    @pytest.fixture(autouse=True)
    def _servers(self, memcached):
        self.url = memcached.url + "?timeout=10"

    def make_store(self):
        return MemcachedStore.from_url(self.url)


@pytest.mark.integration
class TestTwoNodes(ValueContract, LoopContract):
    """Two real memcacheds, among which the keys are divided."""

    @pytest.fixture(autouse=True)
    def _servers(self, memcached, own_memcached):
        self.servers = [memcached.server, own_memcached.server]

    def make_store(self):
        return MemcachedStore(self.servers, timeout=10)


@pytest.mark.integration
class TestUnixSocket(ValueContract, LoopContract):
    """A real memcached behind a Unix socket."""

    @pytest.fixture(autouse=True)
    def _servers(self, memcached_socket):
        self.url = f"memcached://{memcached_socket}?timeout=10"

    def make_store(self):
        return MemcachedStore.from_url(self.url)
