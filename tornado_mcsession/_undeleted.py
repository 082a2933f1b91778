"""Logouts that could not be confirmed, to be finished when the store answers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from .exceptions import StoreError

__all__ = ["Undeleted"]

LIMIT = 1000


class Undeleted:
    """The store keys of ended sessions that may still be there.

    At most 1,000 are kept, the newest, each until its session would have ended
    by itself (``keep_for`` seconds).
    """

    def __init__(
        self,
        delete: Callable[[str], Awaitable[object]],
        keep_for: float,
        clock: Callable[[], float],
    ) -> None:
        self._delete = delete
        self._keep_for = keep_for
        self._clock = clock
        self._keys: OrderedDict[str, float] = OrderedDict()
        self._busy = False

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str) -> None:
        """Keep ``key`` to be deleted later."""
        self._keys[key] = self._clock() + self._keep_for
        while len(self._keys) > LIMIT:
            self._keys.popitem(last=False)

    async def retry(self) -> None:
        """Delete what is kept; what still cannot be deleted stays."""
        if self._busy:
            return
        self._busy = True
        try:
            now = self._clock()
            due = [key for key, until in self._keys.items() if until > now]
            self._keys = OrderedDict((key, self._keys[key]) for key in due)
            for outcome, key in zip(
                await asyncio.gather(*map(self._try, due)), due, strict=True
            ):
                if outcome:
                    self._keys.pop(key, None)
        finally:
            self._busy = False

    async def _try(self, key: str) -> bool:
        try:
            await self._delete(key)
        except StoreError:
            return False
        return True
