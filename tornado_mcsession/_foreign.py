"""Records that cannot be read: counted, and logged without filling the log."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from .exceptions import DecodeError

__all__ = ["ForeignRecords"]

logger = logging.getLogger("tornado_mcsession")

# A key that was forgotten, or somebody who writes to memcached, makes every
# request meet one.
QUIET = 60.0


class ForeignRecords:
    """Takes note of records that were taken as empty.

    Each counts in ``corrupt_records``. The first one is logged, and from then on
    one a minute while they keep coming, with the number of those in between.
    """

    def __init__(
        self, counts: Counter[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counts = counts
        self._clock = clock
        self._quiet_until = -QUIET
        self._unlogged = 0

    def note(self, error: DecodeError) -> None:
        """Count the record that raised ``error``, and log it if it is time to."""
        self._counts["corrupt_records"] += 1
        now = self._clock()
        if now < self._quiet_until:
            self._unlogged += 1
            return
        more = f"; {self._unlogged} more since the last line" if self._unlogged else ""
        self._quiet_until, self._unlogged = now + QUIET, 0
        logger.warning("a session record was taken as empty: %s%s", error.reason, more)
