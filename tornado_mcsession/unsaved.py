"""Changes to a session that nobody will save: found, counted, and logged once."""

from __future__ import annotations

import inspect
import logging
import weakref
from collections import Counter
from typing import TYPE_CHECKING

from .sessions.state import CLOSED, NEW, STORED

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Unsaved", "place_of_caller"]

logger = logging.getLogger("tornado_mcsession")

# To look at a session when it is dropped costs some microseconds. A prime, so that
# routes that are requested in turn are all looked at sooner or later.
RARELY = 61

_SOCKET = (
    "a WebSocket was closed with changes to its session that were not saved; await "
    "self.session.save() after a change"
)
_DROPPED = (
    "a request was over before its response was finished, and the changes to its "
    "session were not saved; await self.session.save() after a change. A handler that "
    "overrides on_connection_close() must call super().on_connection_close()"
)
_LATE = (
    "a session was changed after its response was finished, and nobody saves that; use "
    "session = await manager.get(session_id) and await session.save()"
)
_BY_ID = (
    "a session from manager.get() was changed and not saved; await session.save() "
    "after a change"
)


class Unsaved:
    """Knows which handler classes changed a session where nobody saves it.

    A manager has one. A WebSocket's session is looked at when the socket closes, and
    one from `.SessionManager.get` when it is dropped. Other sessions are looked at
    when they are dropped, too, in ``debug`` mode all of them, otherwise every 61st.
    """

    def __init__(self, counts: Counter[str], *, debug: bool) -> None:
        self._counts = counts
        self._every = 1 if debug else RARELY
        self._made = 0
        self._told: weakref.WeakSet[type] = weakref.WeakSet()
        self._told_places: set[str] = set()

    def watches_next(self) -> bool:
        """Return whether the session of the request that begins is to be watched."""
        self._made += 1
        return self._made % self._every == 0

    def socket_closed(self, session: Session, owner: type) -> None:
        """Look at the session of a WebSocket of the class ``owner``."""
        if session._phase is STORED and session.modified:
            self._tell(owner, _SOCKET)

    def dropped(self, session: Session, owner: type | str) -> None:
        """Look at a session that nobody has any more."""
        if session._reach is not CLOSED:
            if session._phase in (STORED, NEW) and session.modified:
                self._tell(owner, _BY_ID if isinstance(owner, str) else _DROPPED)
        elif session._at_end is not None and session._phase is STORED:
            is_late = session._draft.snapshot().encoded != session._at_end
            if is_late and session._changed():
                self._tell(owner, _LATE)

    def _tell(self, owner: type | str, text: str) -> None:
        """Count lost changes; log them once for a handler class or a line of code."""
        self._counts["unsaved_changes"] += 1
        if isinstance(owner, str):
            if owner not in self._told_places:
                self._told_places.add(owner)
                logger.warning("%s: %s", owner, text)
        elif owner not in self._told:
            self._told.add(owner)
            logger.warning("%s (%s): %s", owner.__qualname__, _place(owner), text)


def _place(owner: type) -> str:
    """Return the file and line where a class begins, or else its module."""
    try:
        return f"{inspect.getsourcefile(owner)}:{inspect.getsourcelines(owner)[1]}"
    except (OSError, TypeError):
        return owner.__module__


def place_of_caller() -> str:
    """Return the file and line that awaits the coroutine that calls this."""
    frame = inspect.currentframe()
    for _ in range(2):
        frame = None if frame is None else frame.f_back
    if frame is None or frame.f_globals.get("__name__", "").startswith("asyncio."):
        return "a task"  # which nobody awaits in this very moment
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
