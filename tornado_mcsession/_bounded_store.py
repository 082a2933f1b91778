"""A store whose operations end in time, whatever it does itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from .exceptions import StoreUnavailable
from .stores.base import CasResult, Entry, Store

__all__ = ["BoundedStore"]

_T = TypeVar("_T")


class BoundedStore:
    """A `.Store` whose operations end within its own times.

    Where the store sees to that by itself, they are the store's.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.limit = 2 * store.timeout + store.reconnect_timeout
        """The seconds that a load or a commit may take in all."""

    def get(self, key: str) -> Awaitable[Entry | None]:
        """Return what is stored under ``key``."""
        return self._bounded("load", self._store.get(key))

    def get_many(self, keys: Sequence[str]) -> Awaitable[dict[str, Entry]]:
        """Return what is stored under ``keys``."""
        return self._bounded("load", self._store.get_many(keys))

    def add(self, key: str, data: bytes, ttl: float) -> Awaitable[bool]:
        """Store ``data`` if nothing is under ``key``; return whether it was."""
        return self._bounded("save", self._store.add(key, data, ttl), write=True)

    def cas(
        self, key: str, data: bytes, ttl: float, token: Any, operation: str = "save"
    ) -> Awaitable[CasResult]:
        """Replace the version that ``token`` came with by ``data``.

        What is returned may be a future, and then is under way.
        """
        done = self._store.begin_cas(key, data, ttl, token)
        return self._bounded(operation, done, write=True)

    def delete(self, key: str) -> Awaitable[bool]:
        """Remove what is under ``key``; return whether it was there."""
        return self._bounded("destroy", self._store.delete(key), write=True)

    def too_late(self, operation: str) -> StoreUnavailable:
        """Return the error for an operation whose tries took too long in all."""
        return StoreUnavailable(
            operation, "", f"not done within {self.limit:g} s", outcome_unknown=True
        )

    def _bounded(
        self, operation: str, answer: Awaitable[_T], *, write: bool = False
    ) -> Awaitable[_T]:
        if self._store.keeps_deadline:
            return answer
        return self._in_time(operation, answer, write)

    async def _in_time(self, operation: str, answer: Awaitable[_T], write: bool) -> _T:
        limit = self._store.timeout + self._store.reconnect_timeout
        try:
            async with asyncio.timeout(limit):
                return await answer
        except TimeoutError as error:
            raise StoreUnavailable(
                operation,
                "",
                f"no answer within {limit:g} s",
                outcome_unknown=write,
            ) from error
