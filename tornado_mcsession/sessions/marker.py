"""A principal's marker as it is stored, with the list of the principal's sessions."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence

import msgspec

from .lifetime import TOMBSTONE_SECONDS

__all__ = ["MOST_SESSIONS", "Listed", "Marker", "NewerMarker", "Standing"]

# Each request of a logged-in session reads the marker, so it must stay small.
MOST_SESSIONS = 100
"""How many sessions a marker lists."""
_MOST_ENDED = 20


class Standing(enum.Enum):
    """What a record's marker says of it."""

    ALIVE = "alive"
    OVERTAKEN = "ended a moment ago"
    DEAD = "dead"


class Listed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A session in the list. Times are whole seconds since 1970."""

    handle: bytes
    """Random bytes that the session's record repeats. They are not made of its id."""
    begun: int
    used: int
    """When it was last renewed."""
    until: int
    """When it expires if it is not renewed."""
    label: bytes = b""
    """As `.Codec.seal` made it."""

    def is_over(self, now: float) -> bool:
        """Return whether the session has expired, also if it was renewed once more.

        That renewal may not have been noted here.
        """
        return now >= self.until + max(self.until - self.used, 0)


class Ended(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A session that was taken off the list a moment ago."""

    handle: bytes
    at: int


class Marker(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is stored beside the records of a principal. Times are as in a record."""

    value: bytes
    since: float
    """When the value was made."""
    until: float
    """When the store drops the marker, if nobody puts that off."""
    used: bool = True
    """Whether anybody has logged in with this value."""
    sessions: tuple[Listed, ...] = ()
    """The tracked sessions, in the order of their logins."""
    ended: tuple[Ended, ...] = ()
    """Those that were ended in the last minute, in the order of their ends."""

    def standing_of(self, handle: bytes, now: float) -> Standing:
        """Return whether the list has the session of ``handle``."""
        for session in self.sessions:
            if session.handle == handle:
                return Standing.ALIVE
        for ended in self.ended:
            if ended.handle == handle and abs(now - ended.at) < TOMBSTONE_SECONDS:
                return Standing.OVERTAKEN
        return Standing.DEAD

    def with_session(
        self,
        new: Listed,
        most: int,
        instead_of: bytes | None,
        now: float,
        is_over: Callable[[Listed], bool],
    ) -> Marker:
        """Return the marker with ``new`` in the list, without those that are over.

        At most ``most`` sessions stay in it: those go first that seem to have
        expired, then the oldest. The session that ``new`` is ``instead_of`` does not
        count. A session that was added before, and perhaps ended since, is not added
        again.
        """
        known = {each.handle for each in self.sessions}
        known |= {each.handle for each in self.ended}
        if new.handle in known:
            return self
        listed = [each for each in self.sessions if not is_over(each)]
        counted = [each for each in listed if each.handle != instead_of]
        counted.sort(key=lambda each: each.until > now)
        surplus = counted[: max(len(counted) + 1 - most, 0)]
        kept = [each for each in listed if each not in surplus]
        return self._listing([*kept, new], surplus, now)

    def without(self, handle: bytes, now: float) -> Marker:
        """Return the marker without the session of ``handle``, if it was there."""
        gone = [each for each in self.sessions if each.handle == handle]
        if not gone:
            return self
        kept = [each for each in self.sessions if each.handle != handle]
        return self._listing(kept, gone, now)

    def _listing(
        self, kept: Sequence[Listed], gone: Sequence[Listed], now: float
    ) -> Marker:
        recent = [each for each in self.ended if now - each.at < TOMBSTONE_SECONDS]
        ended = [*recent, *(Ended(each.handle, int(now)) for each in gone)]
        return msgspec.structs.replace(
            self, sessions=tuple(kept), ended=tuple(ended[-_MOST_ENDED:])
        )

    def renewed(self, handle: bytes, now: float, until: float) -> Marker:
        """Return the marker with the session of ``handle`` as just used."""
        used, end = int(now), math.ceil(until)
        sessions = tuple(
            msgspec.structs.replace(each, used=max(used, each.used), until=end)
            if each.handle == handle
            else each
            for each in self.sessions
        )
        return msgspec.structs.replace(self, sessions=sessions)

    def replaced(self, value: bytes, now: float, handle: bytes | None) -> Marker:
        """Return the marker with a new value.

        Of its list, only the session of ``handle`` stays.
        """
        kept = tuple(each for each in self.sessions if each.handle == handle)
        return msgspec.structs.replace(
            self, value=value, since=now, used=True, sessions=kept, ended=()
        )


class NewerMarker(Marker, frozen=True, array_like=True, gc=False):
    """A marker with fields that a later release has added."""

    unknown: tuple[msgspec.Raw, ...] = ()
