"""When to ask a node that does not answer, and when not to."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

__all__ = ["Breaker"]

# One failure may be a lost packet; three in a row, with no answer in between,
# are a node that is gone.
FAILURES = 3
# A refused connection costs nothing, and may be tried often.
SHORTEST_PAUSE = 0.1


class Breaker:
    """Keeps operations from a node that does not answer.

    It is *closed* while the node answers. When the node failed to three times
    in a row it is *open*: nobody asks. After a pause it is *half-open*: one
    operation, the probe, finds out whether the node is back. The pause is as
    long as the last failure took, so that at most half of the time is spent
    waiting for a node that hangs, and one that refuses is back within 0.1 s.

    Whoever talks to the node tells what happened, by `answered`, `refused` and
    `failed`; a probe that nobody tells of within ``timeout`` seconds was lost.
    All methods may be called from any thread.
    """

    def __init__(
        self, timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._is_probing = False
        self._try_at = 0.0
        self._answered_at = -math.inf
        self.is_closed = True
        """Whether anybody may ask."""
        self.answers: bool | None = None
        """Whether the node does; `None` before it was first asked."""

    @property
    def state(self) -> str:
        """``"closed"``, ``"open"`` or ``"half-open"``."""
        if self.is_closed:
            return "closed"
        return "half-open" if self._is_probing else "open"

    def admits(self) -> bool:
        """Return whether to ask the node now; of many callers, one is the probe."""
        if self.is_closed:
            return True
        with self._lock:
            now = self._clock()
            if self.is_closed:
                return True
            if now < self._try_at:
                return False
            self._is_probing = True
            self._try_at = now + self._timeout
            return True

    def probe(self) -> None:
        """Let the next operation through, whoever else does."""
        with self._lock:
            if not self.is_closed:
                self._is_probing = True
                self._try_at = self._clock() + self._timeout

    @property
    def is_open(self) -> bool:
        """Whether nobody may ask, not even a probe that was admitted."""
        return not self.is_closed and not self._is_probing

    def seconds_to_probe(self) -> float:
        """Return how long it is until `admits` may say yes."""
        if self.is_closed:
            return 0.0
        return max(0.0, self._try_at - self._clock())

    def answered(self) -> None:
        """Note an answer of the node."""
        self._answered_at = self._clock()
        if self.answers and not self._failures:
            return  # as nearly always, and without the lock
        with self._lock:
            self.answers = True
            self._close()

    def refused(self) -> None:
        """Note that the node is there, and refuses or talks nonsense."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self.is_closed = True
        self._failures = 0
        self._is_probing = False

    def failed(self, took: float) -> None:
        """Note that the node did not answer, which took so many seconds.

        Where it answered others meanwhile, it is not the node.
        """
        with self._lock:
            if self._clock() - took < self._answered_at:
                return
            self.answers = False
            self._failures += 1
            if self._failures >= FAILURES:
                self.is_closed = self._is_probing = False
                self._try_at = self._clock() + max(SHORTEST_PAUSE, took)
