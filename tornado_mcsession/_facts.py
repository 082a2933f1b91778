"""What is known of a session, and asked without the store."""

from __future__ import annotations

from datetime import UTC, datetime

from ._keeper import SessionKeeper
from ._mapping import SessionMapping
from ._record import UNSET
from ._state import SessionState

__all__ = ["SessionFacts"]

# The last second that a datetime can stand for.
_MAX_TIMESTAMP = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


class SessionFacts(SessionMapping):
    """A session's properties. Reading one counts as access, as reading a key does,
    but for those that tell about the request rather than the session.
    """

    __slots__ = ("_keeper",)

    def __init__(self, keeper: SessionKeeper, state: SessionState) -> None:
        super().__init__(state)
        self._keeper = keeper

    @property
    def id(self) -> str | None:
        """The session id; `None` before the first save. Keep it out of logs."""
        return self._noted().id

    @property
    def is_new(self) -> bool:
        """Whether this request found no stored session to start from."""
        return self._noted().is_new

    @property
    def modified(self) -> bool:
        """Whether there is something to save."""
        return self._keeper.is_modified(self._state)

    @property
    def accessed(self) -> bool:
        """Whether the request used the session."""
        return self._state.accessed

    @property
    def available(self) -> bool:
        """Whether the store could tell; otherwise nothing here is saved."""
        return self._state.available

    @property
    def created(self) -> datetime:
        """When the session began, in UTC; a login begins it anew."""
        state = self._noted()
        return _utc(state.started if state.record is None else state.record.created)

    @property
    def expires_at(self) -> datetime:
        """When the session ends, if no request renews it before, in UTC."""
        return _utc(self._keeper.expires_at(self._noted()))

    @property
    def idle_timeout(self) -> float | None:
        """The seconds without a request that end it; `None`: no idle end."""
        return self._keeper.idle_timeout(self._noted())

    @property
    def principal(self) -> str | None:
        """Whom `login` was called with; `None`: nobody is logged in."""
        record = self._noted().record
        return None if record is None else record.principal

    @property
    def authenticated_at(self) -> datetime | None:
        """When `login` was last called for it, in UTC; `None`: never."""
        record = self._noted().record
        if record is None or record.authenticated_at is None:
            return None
        return _utc(record.authenticated_at)

    @property
    def persistent(self) -> bool | None:
        """What `remember` chose; `None`: the cookie setting holds."""
        state = self._noted()
        if state.persistent is not UNSET:
            return bool(state.persistent)
        return None if state.record is None else state.record.persistent

    def _noted(self) -> SessionState:
        self._read()
        return self._state


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(min(timestamp, _MAX_TIMESTAMP), UTC)
