"""Sessions whose end could not be confirmed, to be ended when the store answers."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from ._tasks import Tasks
from .exceptions import StoreError

__all__ = ["Undeleted"]

logger = logging.getLogger("tornado_mcsession")

LIMIT = 1000
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


class Undeleted:
    """The store keys of ended sessions that may still be there.

    At most 1,000 are kept, the newest, each until its session would have ended
    by itself (``keep_for`` seconds). ``end`` is tried on them again after a
    second, and then less and less often; at once by `retry_soon`.
    """

    def __init__(
        self,
        end: Callable[[str], Awaitable[object]],
        keep_for: float,
        clock: Callable[[], float],
        tasks: Tasks,
    ) -> None:
        self._end = end
        self._keep_for = keep_for
        self._clock = clock
        self._tasks = tasks
        self._keys: OrderedDict[str, float] = OrderedDict()
        self._is_busy = False
        self._is_asked = False
        self._is_closed = False
        self._pause = FIRST_PAUSE
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str) -> None:
        """Keep ``key`` to be ended later, unless this is closed."""
        if self._is_closed:
            logger.warning("a logout after close() could not be confirmed")
            return
        self._keys[key] = self._clock() + self._keep_for
        while len(self._keys) > LIMIT:
            self._keys.popitem(last=False)
        self._arm()

    def retry_soon(self) -> None:
        """Try now; where that is being done, once more afterwards."""
        if not self._keys:
            return
        if self._is_busy:
            self._is_asked = True
            return
        self._is_busy = True
        self._tasks.start(self._retry())

    def close(self) -> None:
        """Try no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._keys.clear()

    def _arm(self) -> None:
        # A timer, not a task: nothing is left over of it when its loop closes,
        # and then another loop's takes its place.
        loop = asyncio.get_running_loop()
        if self._timer is None or self._loop is not loop:
            if self._timer is not None:
                self._timer.cancel()
            self._loop = loop
            self._timer = loop.call_later(self._pause, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self.retry_soon()

    async def _retry(self) -> None:
        try:
            now = self._clock()
            for key in [key for key, until in self._keys.items() if until <= now]:
                del self._keys[key]
            due = list(self._keys)
            ended = await asyncio.gather(*map(self._try, due))
            for key, is_done in zip(due, ended, strict=True):
                if is_done:
                    self._keys.pop(key, None)
            if any(ended):
                logger.warning(
                    "unconfirmed logouts that are finished now: %d", sum(ended)
                )
        finally:
            self._is_busy = False
        if not self._keys:
            self._pause = FIRST_PAUSE
        elif self._is_asked:
            self._is_asked = False
            self.retry_soon()
        else:
            self._arm()

    async def _try(self, key: str) -> bool:
        try:
            await self._end(key)
        except StoreError:
            return False
        return True
