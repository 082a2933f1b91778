"""The session as a handler uses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar, overload

from .checks import principal_name, seconds, text, type_error
from ._facts import SessionFacts
from ._state import SessionState
from .exceptions import SessionNotLoaded

__all__ = ["Session", "state_of"]

_T = TypeVar("_T")

MAX_GRACE = 60.0


class Session(SessionFacts):
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

    __slots__ = ("__weakref__",)

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
        self._write_options("remember")
        self._state.persistent = persistent

    def set_idle_timeout(self, timeout: float | timedelta | None) -> None:
        """End this session after ``timeout`` without a request.

        In seconds, or a timedelta; `None` goes back to the setting. The
        lifetime still holds.
        """
        own = seconds("idle_timeout", timeout)
        self._write_options("set_idle_timeout")
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
        self._write_options("set_expiry")
        self._state.end = when.timestamp()

    def _write_options(self, verb: str) -> None:
        self._write()
        if self._state.sealed:
            raise RuntimeError(
                f"the headers have left: too late for {verb}, since the cookie could "
                "not be sent"
            )

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
        await self._in_turn(
            "regenerate",
            lambda state: self._keeper.regenerate(state, keep, allowance),
            whole=True,
        )

    async def login(self, principal: str | int) -> None:
        """Remember that ``principal`` is logged in, under a new id.

        Stored when it returns. The data is kept where nobody was logged in, or
        the same principal; another one starts empty. The lifetime begins anew.
        """
        name = principal_name(principal)
        await self._in_turn(
            "login", lambda state: self._keeper.login(state, name), whole=True
        )

    async def revoke_others(self) -> None:
        """End all other sessions of who is logged in, on whatever device.

        For a changed password, or a user who asks for it. None of them can be
        used any more when it returns, and this one has a new id. Costs the same
        however many there are. Raises `RuntimeError` where nobody is logged in,
        and `.SessionGone` where another request ended this session. With
        `.StoreError` nothing may have been ended, or all: this one too.
        """
        await self._in_turn("revoke_others", self._keeper.revoke_others, whole=True)

    async def logout(self) -> None:
        """End the session; the same as `destroy`."""
        await self.destroy()

    async def destroy(self) -> None:
        """Remove the session from the store; gone when it returns.

        What is written afterwards in this request starts a new session.
        """
        await self._in_turn("destroy", self._keeper.destroy, load=False, whole=True)

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
        self,
        verb: str,
        act: Callable[[SessionState], Any],
        *,
        load: bool = True,
        whole: bool = False,
    ) -> Any:
        state = self._state
        state.accessed = True
        if state.closed:
            raise RuntimeError(f"the answer is finished: too late to {verb}")
        if load and state.unloaded is not None:
            raise SessionNotLoaded(state.unloaded)
        self._keeper.refuse_unavailable(state, verb)
        state.in_turn().refuse_holder()

        if whole:
            state.moving += 1
            return await self._keeper.whole(self._move(act))
        async with state.in_turn():
            return await act(state)

    async def _move(self, act: Callable[[SessionState], Any]) -> None:
        state = self._state
        try:
            async with state.in_turn():
                await act(state)
        finally:
            state.moving -= 1


def state_of(session: Session) -> SessionState:
    """Return what the manager works on behind ``session``."""
    return session._state
