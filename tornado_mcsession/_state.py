"""What one request knows of its session, and has done to it.

`.Session` shows it to the handler; the manager and its commits work on it.
"""

from __future__ import annotations

import enum
import secrets
import weakref
from collections.abc import Callable
from typing import Any

from . import _merge
from ._merge import Delta
from ._record import NO_OPTIONS, UNSET, Changes, Flash, Options, Record
from ._turn import Turn
from .exceptions import EncodeError
from .serializers import Encoded, Serializer, check_items, encoded_values

__all__ = ["Delivery", "SessionState"]

_NONE: frozenset[Any] = frozenset()
_NO_DELTA = Delta({}, _NONE)


class Delivery(enum.Enum):
    """What the answer tells the client about the session's id."""

    NOTHING = "nothing"
    SEND = "send"
    CLEAR = "clear"


class SessionState:
    """The session of one request: where it came from, and what became of it."""

    __slots__ = (
        "accessed",
        "available",
        "closed",
        "data",
        "delivery",
        "doomed",
        "end",
        "flashed",
        "flashes_read",
        "gone",
        "handler",
        "id",
        "idle_timeout",
        "is_new",
        "key",
        "moving",
        "persistent",
        "presented",
        "record",
        "retired",
        "sealed",
        "serializer",
        "started",
        "token",
        "turn",
        "unloaded",
    )

    def __init__(
        self,
        serializer: Serializer,
        started: float,
        handler: weakref.ref[Any] | None = None,
    ) -> None:
        self.serializer = serializer
        self.started = started
        self.handler = handler
        self.accessed = False
        self.available = True
        self.closed = False  # the answer is finished
        self.moving = 0  # how many logins and the like are under way
        self.sealed = False  # the headers have left: the id cannot change
        self.retired = False  # loaded under an id that was replaced
        self.gone = False  # another request ended it
        self.unloaded: str | None = None  # why it was not loaded
        self.delivery = Delivery.NOTHING
        self.doomed: tuple[str, ...] = ()  # ids to destroy at the end of the request
        self.presented: str | None = None  # the id that the request carried
        self.turn: Turn | None = None
        self.key = ("", "")  # an id that was looked for, and its store key
        self.is_new = True
        self.forget()

    def in_turn(self) -> Turn:
        """Return what to enter before changing what is stored."""
        if self.turn is None:
            self.turn = Turn()
        return self.turn

    @property
    def begins_too_late(self) -> bool:
        """Whether a first save would have a cookie to send that cannot be sent.

        What is dropped anyway may still be written.
        """
        dropped = self.retired or not self.available
        return self.sealed and self.record is None and not dropped

    def refuse_sealed(self, act: str) -> None:
        """Raise where it is too late to tell the client an id."""
        if self.sealed:
            raise RuntimeError(
                f"the headers have left: too late to {act}, since its cookie could not "
                "be sent"
            )

    def forget(self) -> None:
        """Become the empty session of nobody, as before a first save."""
        self.id: str | None = None
        self.record: Record | None = None
        self.token: Any = None
        self.data: dict[str, Any] = {}
        self.drop_changes()

    def drop_changes(self) -> None:
        """Forget what was changed beside the data."""
        # Nothing that is made anew for each request: most have no messages.
        self.flashed: tuple[Flash, ...] = ()
        self.flashes_read: frozenset[bytes] = _NONE
        self.idle_timeout: Any = UNSET
        self.end: Any = UNSET
        self.persistent: Any = UNSET

    def adopt(
        self, session_id: str, record: Record, token: Any, data: dict[str, Any]
    ) -> None:
        """Stand for ``record`` as it is stored, with nothing changed."""
        self.id = session_id
        self.record = record
        self.token = token
        self.data = data
        self.drop_changes()

    def saved(
        self,
        session_id: str,
        record: Record,
        changes: Changes,
        loads: Callable[[Record], dict[str, Any]],
    ) -> None:
        """Stand for ``record``, which was stored with ``changes`` in it.

        What was changed while the save was under way stays changed. Values that
        are stored as they are here keep their objects; others get the stored.
        """
        if record.data != changes.encoded:
            self._take_in(loads(record), changes)
        self.id = session_id
        self.record = record
        self.token = None  # a cas does not tell the new one
        self.gone = False
        if self.flashed:
            self.flashed = tuple(f for f in self.flashed if f not in changes.flashed)
        if self.flashes_read:
            self.flashes_read -= changes.read
        for name, value in changes.options.as_fields().items():
            if getattr(self, name) == value:
                setattr(self, name, UNSET)

    def _take_in(self, stored: dict[str, Any], changes: Changes) -> None:
        seen = self.serializer.loads(changes.encoded)
        later = _merge.diff(seen, self.data, self.dumps_or_differs)
        self.set_data(_merge.apply(later, stored))

    def set_data(self, data: dict[str, Any]) -> None:
        """Hold ``data``; values that are equal to those here keep their objects."""
        dumps = self.dumps_or_differs
        for key, value in data.items():
            if key in self.data and dumps(self.data[key]) == dumps(value):
                data[key] = self.data[key]
        self.data.clear()
        self.data.update(data)

    @property
    def options(self) -> Options:
        """What was set of the record's own options."""
        if self.idle_timeout is self.end is self.persistent is UNSET:
            return NO_OPTIONS
        return Options(self.idle_timeout, self.end, self.persistent)

    def has_data(self) -> bool:
        """Return whether there is anything worth a first save."""
        return bool(self.data or self.flashed)

    def changed(self) -> Changes | None:
        """Return the `changes`; `None` if the stored record says what is here.

        Most requests change nothing: for them this is all that is asked.
        """
        record = self.record
        beside = self.flashed or self.flashes_read or self.options is not NO_OPTIONS
        if record is None or beside:
            return self.changes()
        if not self.accessed:
            return None
        encoded = self._encoded()
        return None if encoded == record.data else self._changes(*self._delta(encoded))

    def changes(self) -> Changes:
        """Return what was changed since the session was loaded or saved.

        The encoded form decides. Raises `.EncodeError` for a value that would
        not come back as it was.
        """
        record = self.record
        if record is not None and not self.accessed:
            return self._changes(_NO_DELTA, record.data)
        return self._changes(*self._delta(self._encoded()))

    def _changes(self, delta: Delta, encoded: bytes) -> Changes:
        return Changes(delta, encoded, self.flashed, self.flashes_read, self.options)

    def _encoded(self) -> bytes:
        try:
            return self.serializer.dumps(self.data)
        except Exception:
            check_items(self.serializer, self.data)
            raise EncodeError("session", "mapping", "which cannot be encoded") from None

    def _delta(self, encoded: bytes) -> tuple[Delta, bytes]:
        serializer, data = self.serializer, self.data
        if self.record is None:
            check_items(serializer, data, encoded=True)
            return Delta(dict(data), frozenset()), encoded
        if encoded == self.record.data:
            return _NO_DELTA, encoded
        # The bytes also differ where another serializer wrote them, or where
        # the keys stand in another order.
        stored = encoded_values(serializer, self.record.data)
        try:
            current = encoded_values(serializer, encoded, data)
        except RecursionError:
            check_items(serializer, data)  # names what is too deep
            raise
        changed = {
            key: data[key]
            for key, value in current.items()
            if key not in stored or not self._is_same(value, stored[key])
        }
        check_items(serializer, changed, encoded=True)
        deleted = stored.keys() - data.keys()
        delta = Delta(changed, frozenset(deleted) if deleted else _NONE)
        return delta, encoded if delta else self.record.data

    def _is_same(self, encoded: Encoded, stored: Encoded) -> bool:
        if encoded == stored:
            return True
        again = self.serializer.dumps(self.serializer.loads(stored))
        return bytes(encoded) == again

    def dumps_or_differs(self, value: Any) -> Any:
        """Return ``value`` encoded, to be compared; if it cannot be, it differs."""
        try:
            return self.serializer.dumps(value)
        except Exception:
            return object()  # equal to nothing: the next save will tell

    def is_modified(self) -> bool:
        """Return whether a save would have something to save."""
        if self.doomed:
            return True
        try:
            changes = self.changed()
        except EncodeError:
            return True
        return self.has_data() if self.record is None else bool(changes)

    def flash(self, message: str, category: str) -> None:
        """Add a message for the next page."""
        self.flashed += (Flash(secrets.token_bytes(6), category, message),)

    def read_flashes(self, category: str | None) -> list[Flash]:
        """Return the messages of ``category``, or all, and mark them as read."""
        stored = self.record.flashes if self.record is not None else ()
        waiting = [f for f in stored if f.id not in self.flashes_read]
        found = [
            flash
            for flash in (*waiting, *self.flashed)
            if category is None or flash.category == category
        ]
        mine = {flash.id for flash in self.flashed}
        self.flashes_read |= {f.id for f in found if f.id not in mine}
        self.flashed = tuple(flash for flash in self.flashed if flash not in found)
        return found
