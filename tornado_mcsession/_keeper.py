"""What a session asks of the manager that made it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ._state import SessionState

__all__ = ["SessionKeeper"]


class SessionKeeper(Protocol):
    """Keeps sessions: what a `.Session` needs, so that it can be tested without."""

    async def save(self, state: SessionState) -> None:
        """Store what was changed."""

    async def reload(self, state: SessionState) -> None:
        """Take what is stored."""

    async def regenerate(self, state: SessionState, keep: bool, grace: float) -> None:
        """Give the session a new id."""

    async def destroy(self, state: SessionState) -> None:
        """Remove the session from the store."""

    async def transact(
        self, state: SessionState, fn: Callable[[dict[str, Any]], Any]
    ) -> Any:
        """Change what is stored by ``fn``."""

    async def login(self, state: SessionState, principal: str) -> None:
        """Remember who is logged in."""

    async def revoke_others(self, state: SessionState) -> None:
        """End all other sessions of who is logged in."""

    async def whole(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` to its end, also where who waits for it is cancelled."""

    def is_modified(self, state: SessionState) -> bool:
        """Return whether there is something to save."""

    def expires_at(self, state: SessionState) -> float:
        """Return when the session ends."""

    def idle_timeout(self, state: SessionState) -> float | None:
        """Return the session's idle timeout."""

    def refuse_unavailable(self, state: SessionState, verb: str) -> None:
        """Raise where the store could not tell what the session is."""
