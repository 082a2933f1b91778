"""Sessions in this process: for development, tests, and a single process."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from ..checks import positive_int
from ..exceptions import StoreError, StoreRejected, StoreUnavailable
from .base import (
    CasResult,
    Entry,
    Store,
    check_data,
    check_flags,
    check_key,
    check_ttl,
    tell_of_forks,
)

__all__ = ["MemoryStore"]

logger: logging.Logger = logging.getLogger("tornado_mcsession")

# What an entry costs beside its key and data: the tuple, two dictionary and
# heap slots, and the objects' heads.
OVERHEAD = 300


class _Item(NamedTuple):
    entry: Entry
    expires: float


class MemoryStore(Store):
    """Keeps sessions in the memory of this process, and forgets them with it.

    It keeps the whole contract: entries expire and are freed, and no more than
    ``max_bytes`` are kept; the least recently used make room, and are counted
    in ``stats()``. Several processes do not share it: behind a load balancer, use
    `.MemcachedStore`.

    Args:
        max_bytes: bound of keys, data and their overhead.
        clock: returns seconds; for tests.
    """

    keeps_deadline = True

    def __init__(
        self,
        max_bytes: int = 64 * 1024 * 1024,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        positive_int("max_bytes", max_bytes)
        self._max_bytes = max_bytes
        self._clock = clock
        self._items: OrderedDict[str, _Item] = OrderedDict()
        self._expiries: list[tuple[float, int, str]] = []
        self._tokens = itertools.count(1)
        self._bytes = 0
        self._evictions = 0
        self._closed = False
        self._is_inherited = False
        # Event loops in several threads may share the store.
        self._lock = threading.Lock()
        tell_of_forks(self)

    async def get(self, key: str) -> Entry | None:
        check_key(key)
        with self._use("get"):
            item = self._find(key)
            return None if item is None else item.entry

    async def add(self, key: str, data: bytes, ttl: float, flags: int = 0) -> bool:
        _check(key, data, ttl, flags)
        with self._use("add"):
            if self._find(key) is not None:
                return False
            self._put("add", key, data, ttl, flags)
            return True

    def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> asyncio.Future[CasResult]:
        done: asyncio.Future[CasResult] = asyncio.get_running_loop().create_future()
        try:
            done.set_result(self._replace(key, data, ttl, token, flags))
        except StoreError as error:
            done.set_exception(error)
        return done

    def _replace(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int
    ) -> CasResult:
        _check(key, data, ttl, flags)
        with self._use("cas"):
            item = self._find(key)
            if item is None:
                return CasResult.MISSING
            if item.entry.token != token:
                return CasResult.CONFLICT
            self._put("cas", key, data, ttl, flags)
            return CasResult.STORED

    async def touch(self, key: str, ttl: float) -> bool:
        _check(key, b"", ttl, 0)
        with self._use("touch"):
            item = self._find(key)
            if item is None:
                return False
            self._keep(key, _Item(item.entry, self._clock() + ttl))
            return True

    async def delete(self, key: str) -> bool:
        check_key(key)
        with self._use("delete"):
            found = self._find(key) is not None
            if found:
                self._remove(key)
            return found

    async def close(self) -> None:
        if self._closed:
            return
        with self._use("close"):
            self._closed = True
            self._items.clear()
            self._expiries.clear()
            self._bytes = 0

    def stats(self) -> dict[str, Any]:
        return {
            "entries": len(self._items),
            "bytes": self._bytes,
            "max_bytes": self._max_bytes,
            "evictions": self._evictions,
        }

    def __repr__(self) -> str:
        return f"<MemoryStore entries={len(self._items)} bytes={self._bytes}>"

    def _use(self, operation: str) -> threading.Lock:
        if self._closed:
            raise StoreUnavailable(operation, "", "the store is closed")
        if self._is_inherited:
            self._is_inherited = False
            logger.warning(
                "MemoryStore is used after a fork: the processes do not share their "
                "sessions; set store to a memcached:// URL"
            )
        return self._lock

    def forked(self) -> None:
        """Work on alone: another thread of the parent may have held the lock."""
        self._is_inherited = True
        self._lock = threading.Lock()

    def _find(self, key: str) -> _Item | None:
        item = self._items.get(key)
        if item is None:
            return None
        if item.expires <= self._clock():
            self._remove(key)
            return None
        self._items.move_to_end(key)
        return item

    def _put(
        self, operation: str, key: str, data: bytes, ttl: float, flags: int
    ) -> None:
        size = len(key) + len(data) + OVERHEAD
        if size > self._max_bytes:
            raise StoreRejected(
                operation, "", "larger than the whole store", too_large=True
            )
        if key in self._items:
            self._remove(key)
        self._free_expired()
        while self._bytes + size > self._max_bytes:
            self._remove(next(iter(self._items)))
            self._evictions += 1
        self._bytes += size
        expires = self._clock() + ttl
        entry = Entry(bytes(data), next(self._tokens), flags)
        self._keep(key, _Item(entry, expires))

    def _keep(self, key: str, item: _Item) -> None:
        self._items[key] = item
        heapq.heappush(self._expiries, (item.expires, item.entry.token, key))
        # Each renewal leaves a stale pair in the heap; more of them than
        # entries would be a leak.
        if len(self._expiries) > 2 * len(self._items) + 64:
            self._expiries = [
                (item.expires, item.entry.token, key)
                for key, item in self._items.items()
            ]
            heapq.heapify(self._expiries)

    def _remove(self, key: str) -> None:
        item = self._items.pop(key)
        self._bytes -= len(key) + len(item.entry.data) + OVERHEAD

    def _free_expired(self) -> None:
        now = self._clock()
        while self._expiries and self._expiries[0][0] <= now:
            _, token, key = heapq.heappop(self._expiries)
            item = self._items.get(key)
            if item and item.entry.token == token and item.expires <= now:
                self._remove(key)


def _check(key: str, data: bytes, ttl: float, flags: int) -> None:
    check_key(key)
    check_data(data)
    check_ttl(ttl)
    check_flags(flags)
