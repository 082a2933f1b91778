"""What is stored of a session, and what a request changed in it."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any, NamedTuple

import msgspec

from . import _merge
from ._merge import Delta

__all__ = [
    "NO_CHANGES",
    "NO_OPTIONS",
    "UNSET",
    "Changes",
    "Flash",
    "Options",
    "Record",
    "new_write_id",
]

# How many writes a record remembers. A save whose answer was lost looks for its
# own write among them: others may have written since, but hardly this often.
REMEMBERED_WRITES = 4


class Flash(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message for the next page; ``id`` tells it from an equal one."""

    id: bytes
    category: str
    message: str


class Record(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A session as it is stored. Times are seconds since 1970.

    Fields may be added at the end: a process of the older release skips them.
    Frozen: a request starts from one and leaves another. ``data`` is the
    mapping, encoded by the serializer; all else is kept beside it, never in it.
    """

    created: float
    renewed_at: float
    expires_at: float
    data: bytes
    writes: tuple[bytes, ...] = ()
    """The ids of the newest writes, newest first."""
    flashes: tuple[Flash, ...] = ()
    principal: str | None = None
    authenticated_at: float | None = None
    marker: bytes | None = None
    """What the principal's revocation marker held when this one logged in."""
    idle_timeout: float | None = None
    """This session's own idle timeout in seconds; `None`: the setting's."""
    end: float | None = None
    """This session's own end; `None`: none but that of its lifetime."""
    persistent: bool | None = None
    """Whether the cookie outlives the browser; `None`: as the setting says."""
    retired: bool = False
    """The id was replaced: this record holds its place for late requests."""
    successor: bytes | None = None
    """The id that replaced it, readable with the old one; `None`: not told."""
    successor_until: float | None = None

    def written_by(self, write_ids: Collection[bytes]) -> bytes | None:
        """Return the newest of ``write_ids`` that this record remembers."""
        return next((write for write in self.writes if write in write_ids), None)

    def stamped(self, write_id: bytes, before: Record | None) -> Record:
        """Return this record as written by ``write_id`` over ``before``."""
        earlier = before.writes if before is not None else ()
        writes = (write_id, *earlier[: REMEMBERED_WRITES - 1])
        return msgspec.structs.replace(self, writes=writes)


def new_write_id() -> bytes:
    """Return a random id for one save. It is no secret, and asks no kernel.

    Processes have different ones: after a fork Python seeds its generator anew.
    """
    return random.randbytes(8)  # nosec B311 # tells writes apart, guards nothing


class _Unset:
    """Stands for an option that a request left alone, where `None` has a meaning."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Any = _Unset()


class Options(NamedTuple):
    """What a request set of a record's own options; `UNSET` where nothing."""

    idle_timeout: Any = UNSET
    end: Any = UNSET
    persistent: Any = UNSET

    def __bool__(self) -> bool:
        return not (
            self.idle_timeout is UNSET
            and self.end is UNSET
            and self.persistent is UNSET
        )

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of a `Record` that were set."""
        if self is NO_OPTIONS or not self:
            return {}
        return {
            name: value for name, value in self._asdict().items() if value is not UNSET
        }


NO_OPTIONS = Options()
"""What nearly every request sets of them: one for all, made once."""


class Changes(NamedTuple):
    """What a request did to its session, apart from what the session was.

    It can be made to a newer state than the one that the request started from.
    ``encoded`` is the whole data as the request sees it, for the usual case
    that nobody else changed it.
    """

    delta: Delta
    encoded: bytes
    flashed: tuple[Flash, ...]
    read: frozenset[bytes]
    options: Options

    def __bool__(self) -> bool:
        return bool(self.delta or self.flashed or self.read or self.options)

    def made_to(self, newer: dict[str, Any]) -> dict[str, Any]:
        """Return the data of a newer state with these changes made to it."""
        return _merge.apply(self.delta, newer)

    def flashes(self, newer: tuple[Flash, ...]) -> tuple[Flash, ...]:
        """Return the messages of a newer state with these changes made to them."""
        if not self.flashed and not self.read:
            return newer
        # A message of this request is there already where an earlier save of it
        # was done, but its answer lost.
        mine = {flash.id for flash in self.flashed}
        gone = self.read | mine
        return tuple(f for f in newer if f.id not in gone) + self.flashed


NO_CHANGES = Changes(Delta({}, frozenset()), b"", (), frozenset(), NO_OPTIONS)
