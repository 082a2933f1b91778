"""Faults put into the store on purpose, to see that the soak finds them."""

from __future__ import annotations

import random
from collections import deque
from contextvars import ContextVar
from typing import Any

from tornado_mcsession import CasResult, Entry, MemcachedStore

__all__ = ["ENDING", "FAULTS", "PlantedStore"]

FAULTS = ("lost-cas", "skipped-logout", "swapped-reads")

ENDING: ContextVar[bool] = ContextVar("ENDING", default=False)
"""Whether this request is a logout."""


class PlantedStore(MemcachedStore):
    """Keeps sessions in memcached, and has one fault.

    ``lost-cas``: one cas in twenty is not done, and reported as stored.
    ``skipped-logout``: so is each write of a logout. ``swapped-reads``: one read in
    twenty returns what is under another key.
    """

    _fault: str
    _read: deque[tuple[str, bytes]]

    @classmethod
    def with_fault(cls, url: str, fault: str) -> PlantedStore:
        """Return the store of a URL, with this fault."""
        store = cls.from_url(url)
        assert isinstance(store, cls)
        store._fault = fault
        store._read = deque(maxlen=50)
        return store

    async def get(self, key: str) -> Entry | None:
        entry = await super().get(key)
        if self._fault != "swapped-reads" or entry is None:
            return entry
        others = [data for other, data in self._read if other != key]
        self._read.append((key, entry.data))
        if others and self._happens():
            other = random.choice(others)  # nosec B311 # a fault, no secret
            return entry._replace(data=other)
        return entry

    async def cas(self, key: str, *args: Any, **options: Any) -> CasResult:
        if self._fault == "lost-cas" and self._happens():
            return CasResult.STORED
        if self._fault == "skipped-logout" and ENDING.get():
            return CasResult.STORED
        return await super().cas(key, *args, **options)

    async def delete(self, key: str) -> bool:
        if self._fault == "skipped-logout" and ENDING.get():
            return True
        return await super().delete(key)

    def _happens(self) -> bool:
        return random.random() < 0.05  # nosec B311 # a fault, no secret
