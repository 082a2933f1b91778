"""When a session ends, and when using it puts that off. All pure."""

from __future__ import annotations

import math

import msgspec

from ._record import Record
from .config import SessionConfig

__all__ = ["ends_at", "idle_timeout", "is_over", "is_sound", "renewal_due", "renewed"]

# A session's own times may be anything, and memcached's are numbers of 32 bits.
_CENTURIES = 1e12
# Clocks differ, and are put right: a record may be from the future, and then lives
# as much longer. From further ahead than this it would live for good.
MAX_AHEAD = 86_400.0


def idle_timeout(config: SessionConfig, record: Record) -> float | None:
    """Return the idle timeout that holds for ``record``; `None`: no idle end."""
    if record.idle_timeout is not None:
        return record.idle_timeout
    if record.end is not None:
        return None  # a fixed end replaces the idle one
    if record.principal is None and config.anonymous_timeout is not None:
        return config.anonymous_timeout
    return config.idle_timeout


def ends_at(config: SessionConfig, record: Record) -> float:
    """Return when ``record`` ends at the latest, whatever happens."""
    end = math.inf if record.end is None else record.end
    if config.lifetime is not None:
        end = min(end, record.created + config.lifetime)
    return end


def renewed(config: SessionConfig, record: Record, now: float) -> Record:
    """Return ``record`` with its end put off from ``now``.

    The idle timeout is stretched by ``renew_after``, since that share of it may
    pass before the next renewal: so a session never ends before its idle
    timeout, and at most that share later.
    """
    idle = idle_timeout(config, record)
    end = ends_at(config, record)
    if idle is not None:
        end = min(end, now + idle * (1 + (config.renew_after or 0)))
    end = min(end, now + _CENTURIES)
    return msgspec.structs.replace(record, renewed_at=now, expires_at=end)


def renewal_due(config: SessionConfig, record: Record, now: float) -> bool:
    """Return whether using ``record`` now must put off its end."""
    share = config.renew_after
    if share is None:
        return False
    idle = idle_timeout(config, record)
    if idle is None or now - record.renewed_at < share * idle:
        return False
    return record.expires_at < ends_at(config, record)


def is_over(config: SessionConfig, record: Record, now: float) -> bool:
    """Return whether ``record`` has ended.

    So has one from more than a day ahead: some clock was wrong when it was
    written, or is now, and nothing that it says of its end can be believed.
    """
    if now >= record.expires_at:
        return True
    ahead = now + MAX_AHEAD
    if record.created > ahead or record.renewed_at > ahead:
        return True
    return not record.retired and now >= ends_at(config, record)


def is_sound(record: Record) -> bool:
    """Return whether the times in ``record`` are times."""
    idle, login = record.idle_timeout, record.authenticated_at
    # Comparisons, which are false for NaN: this is done for each request.
    return (
        0 <= record.created < math.inf
        and 0 <= record.renewed_at < math.inf
        and -math.inf < record.expires_at < math.inf
        and (idle is None or 0 < idle < math.inf)
        and (login is None or 0 <= login < math.inf)
        and (record.end is None or -math.inf < record.end < math.inf)
        and (
            record.successor_until is None
            or -math.inf < record.successor_until < math.inf
        )
    )
