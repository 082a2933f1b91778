"""The session as a handler uses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, overload

from ._checks import seconds, text, type_error
from ._keeper import SessionKeeper
from ._mapping import SessionMapping
from ._record import UNSET
from ._state import SessionState
from .exceptions import SessionNotLoaded

__all__ = ["Session", "state_of"]

_T = TypeVar("_T")

MAX_GRACE = 60.0
# The last second that a datetime can stand for.
_MAX_TIMESTAMP = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


class Session(SessionMapping):
    """One user's data, as one request sees and changes it.

    A mapping of text to whatever the serializer carries. Changes are saved at
    the end of the request, nested ones too::

        self.session["cart"] = ["book"]
        self.session["cart"].append("pen")

    Nothing is stored, and no cookie set, before there is something in it.
    Parallel requests that change different keys all keep their changes; for
    the same key the later save wins, unless it is changed by `transact`.

    The awaitable methods talk to the store at once; those of one session run
    one after another. Each may raise `.StoreError`, and `RuntimeError` once the
    answer is finished, or where it would change the id after the headers left.
    """

    __slots__ = ("__weakref__", "_keeper")

    def __init__(self, keeper: SessionKeeper, state: SessionState) -> None:
        super().__init__(state)
        self._keeper = keeper

    # What is known of it.

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

    # Messages for the next page, and the session's own timeouts.

    def flash(self, message: str, category: str = "info") -> None:
        """Keep ``message`` for whoever calls `flashes` next.

        Kept beside the mapping. Messages of parallel requests all survive.
        """
        message, category = text("message", message), text("category", category)
        self._write()
        self._state.flash(message, category)

    def flashes(self, category: str | None = None) -> list[tuple[str, str]]:
        """Return and remove the messages, as ``(category, message)``, oldest first.

        With a ``category``, only those of it.
        """
        self._read()
        if self._state.closed:
            raise RuntimeError("the answer is finished: too late to read messages")
        return [(f.category, f.message) for f in self._state.read_flashes(category)]

    def remember(self, persistent: bool) -> None:
        """Let the cookie outlive the browser, or end with it."""
        if not isinstance(persistent, bool):
            raise type_error("remember", persistent, "True or False")
        self._write()
        self._state.persistent = persistent

    def set_idle_timeout(self, timeout: float | timedelta | None) -> None:
        """End this session after ``timeout`` without a request.

        In seconds, or a timedelta; `None` goes back to the setting. The
        lifetime still holds.
        """
        own = seconds("idle_timeout", timeout)
        self._write()
        self._state.idle_timeout = own

    def set_expiry(self, when: datetime) -> None:
        """End this session at ``when``, an aware datetime, whatever happens.

        Requests do not put it off. Later than its lifetime allows counts as the
        end of its lifetime.
        """
        if not isinstance(when, datetime):
            raise type_error("set_expiry", when, "an aware datetime")
        if when.tzinfo is None or when.utcoffset() is None:
            raise ValueError("set_expiry needs an aware datetime, with a time zone")
        self._write()
        self._state.end = when.timestamp()

    # What talks to the store.

    async def save(self) -> None:
        """Save the changes now; stored when it returns.

        Unchanged afterwards means no second save at the end of the request, and
        a later server error does not take it back. Without changes nothing is
        written. Raises `.SessionGone` where another request ended the session.
        """
        await self._in_turn("save", self._keeper.save)

    async def reload(self) -> None:
        """Drop the own changes and take what is stored.

        Raises `.SessionGone` where nothing is any more.
        """
        await self._in_turn("reload", self._keeper.reload)

    async def regenerate(
        self, keep: bool = True, *, grace: float | timedelta = 0
    ) -> None:
        """Give the session a new id; the old one is dead when it returns.

        With the same data, or empty with ``keep=False``. Call it when the
        user's rights change; `login` does it by itself. Raises `.SessionGone`
        where another request ended the session.

        Where ids are rotated now and then, with no change of rights, ``grace``
        seconds (60 at most) lead requests that are under way with the old id to
        the session; they are not told the new one.
        """
        allowance = seconds("grace", grace) if grace else 0.0
        if allowance is None or allowance > MAX_GRACE:
            raise ValueError(f"grace must be from 0 to {MAX_GRACE:g} seconds")
        await self._keeper.whole(
            self._in_turn(
                "regenerate",
                lambda state: self._keeper.regenerate(state, keep, allowance),
            )
        )

    async def login(self, principal: str | int) -> None:
        """Remember that ``principal`` is logged in, under a new id.

        Stored when it returns. The data is kept where nobody was logged in, or
        the same principal; another one starts empty. The lifetime begins anew.
        """
        if isinstance(principal, bool) or not isinstance(principal, str | int):
            raise type_error("principal", principal, "text or a whole number")
        name = principal if isinstance(principal, str) else str(int(principal))
        name = text("principal", name)
        if not name:
            raise ValueError("principal must not be empty")
        await self._keeper.whole(
            self._in_turn("login", lambda state: self._keeper.login(state, name))
        )

    async def logout(self) -> None:
        """End the session; the same as `destroy`."""
        await self.destroy()

    async def destroy(self) -> None:
        """Remove the session from the store; gone when it returns.

        What is written afterwards in this request starts a new session.
        """
        await self._in_turn("destroy", self._keeper.destroy, load=False)

    @overload
    async def transact(self, fn: Callable[[dict[str, Any]], Awaitable[_T]]) -> _T: ...
    @overload
    async def transact(self, fn: Callable[[dict[str, Any]], _T]) -> _T: ...
    async def transact(self, fn: Callable[[dict[str, Any]], Any]) -> Any:
        """Change the stored data by ``fn``, as if no other request were there.

        ``fn`` gets a dict: what is stored, with this request's changes made to
        it. What it leaves there is saved, and its result returned. It is called
        again where another request saved in between, so that it must do
        nothing else. It may be ``async``. If it raises, nothing is saved. ::

            def vote(data):
                data["votes"] = data.get("votes", 0) + 1
            await self.session.transact(vote)
        """
        return await self._in_turn(
            "transact", lambda state: self._keeper.transact(state, fn)
        )

    async def _in_turn(
        self, verb: str, act: Callable[[SessionState], Any], *, load: bool = True
    ) -> Any:
        state = self._state
        state.accessed = True
        if state.closed:
            raise RuntimeError(f"the answer is finished: too late to {verb}")
        if load and state.unloaded is not None:
            raise SessionNotLoaded(state.unloaded)
        self._keeper.refuse_unavailable(state, verb)
        async with state.in_turn():
            return await act(state)


def state_of(session: Session) -> SessionState:
    """Return what the manager works on behind ``session``."""
    return session._state


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(min(timestamp, _MAX_TIMESTAMP), UTC)
