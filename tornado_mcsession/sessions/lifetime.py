"""When a session expires, and when using it renews it. All pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from .record import Record

__all__ = ["EXPIRED_FOR", "TOMBSTONE_SECONDS", "Lifetime", "ttl", "utc"]

TOMBSTONE_SECONDS = 60.0
"""How long a tombstone is kept, for late writes and requests already in flight."""

# An expired record stays readable this long: a page can say "your session timed out".
# It also absorbs differences between the clocks of a process and a store.
EXPIRED_FOR = 300.0
# An application may set any time, and memcached's times have 32 bits.
_CENTURIES = 1e12
# Clocks differ, and are corrected. A record from the future lives longer by that
# difference. A record from further ahead than this would live forever.
MAX_AHEAD = 86_400.0
# The last second that a datetime can stand for.
_MAX_TIMESTAMP = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """The time settings of a manager. Durations are in seconds; None: no limit."""

    idle_timeout: float | None
    lifetime: float | None
    anonymous_timeout: float | None
    renew_after: float | None
    choose: Callable[[Record], float | None] | None = None
    """Returns a record's idle timeout, where the setting is a function."""

    def idle_timeout_of(self, record: Record) -> float | None:
        """Return the idle timeout of ``record``; None: it has none."""
        if record.idle_timeout is not None:
            return record.idle_timeout
        if record.end is not None:
            return None  # a fixed end replaces the idle timeout
        if record.principal is None and self.anonymous_timeout is not None:
            return self.anonymous_timeout
        return self.idle_timeout if self.choose is None else self.choose(record)

    def last_end_of(self, record: Record) -> float:
        """Return when ``record`` expires even if it is renewed."""
        end = math.inf if record.end is None else record.end
        if self.lifetime is not None:
            end = min(end, record.created + self.lifetime)
        return end

    def renewed(self, record: Record, now: float, *, cookie: bool = True) -> Record:
        """Return ``record``, renewed at ``now``.

        Over a WebSocket no ``cookie`` can be sent. The next request that can send one
        then finds its renewal due.

        ``renew_after`` extends the idle timeout, because that share of it may pass
        before the next renewal. So a session never expires before its idle timeout,
        and at most that share later.
        """
        end = self.last_end_of(record)
        idle = self.idle_timeout_of(record)
        if idle is not None:
            end = min(end, now + idle * (1 + (self.renew_after or 0)))
        end = min(end, now + _CENTURIES)
        renewed_at = now if cookie else record.renewed_at
        return msgspec.structs.replace(
            record, renewed_at=renewed_at, expires_at=max(end, now)
        )

    def renewal_due(self, record: Record, now: float) -> bool:
        """Return whether using ``record`` now must renew it."""
        share = self.renew_after
        if share is None:
            return False
        idle = self.idle_timeout_of(record)
        if idle is None or now - record.renewed_at < share * idle:
            return False
        return record.expires_at < self.last_end_of(record)

    def is_over(self, record: Record, now: float) -> bool:
        """Return whether ``record`` has expired.

        A record from more than a day ahead counts as expired: a clock was wrong when
        it was written, or is wrong now.
        """
        if now >= record.expires_at:
            return True
        ahead = now + MAX_AHEAD
        if record.created > ahead or record.renewed_at > ahead:
            return True
        if record.retired:
            return False
        if record.end is not None and now >= record.end:
            return True
        lifetime = self.lifetime
        return lifetime is not None and now >= record.created + lifetime


def ttl(record: Record, now: float, expired_for: float) -> float:
    """Return how long a store keeps ``record``: ``expired_for`` beyond its end.

    So the record decides when a session expires, and never the store's clock.
    """
    return max(record.expires_at - now, 0.0) + expired_for


def utc(timestamp: float) -> datetime:
    """Return a time as users see it, the last possible one for a later one."""
    return datetime.fromtimestamp(min(max(timestamp, 0), _MAX_TIMESTAMP), UTC)
