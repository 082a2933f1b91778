"""Sessions at their end: out of the store, and their id away from the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ._rotation import Rotation
from ._state import Delivery, SessionState
from .exceptions import StoreError, StoreRejected, StoreUnavailable

__all__ = ["Endings"]


class Endings:
    """Ends sessions, under ``older_key_of`` their id as well, if anything is.

    ``undeleted`` gets the store key of one whose end could not be confirmed.
    """

    def __init__(
        self,
        rotation: Rotation,
        key_of: Callable[[str], str],
        older_key_of: Callable[[str], str | None],
        undeleted: Callable[[str], None],
    ) -> None:
        self._rotation = rotation
        self._key_of = key_of
        self._older_key_of = older_key_of
        self._undeleted = undeleted

    async def destroy(self, state: SessionState) -> None:
        """Remove the session from the store, and its id from the client."""
        if state.retired:
            state.forget()  # a newer id is in use: neither it nor its cookie is ours
            return
        ids = [*state.doomed, state.id or state.presented or ""]
        state.doomed = ()
        await self.end_all(state, ids)
        state.forget()
        state.is_new, state.gone, state.unloaded = True, False, None

    async def end_all(self, state: SessionState, ids: Iterable[str]) -> None:
        """Remove sessions from the store, and their id from the client.

        All are tried; the last failure is raised. The client keeps the id that
        has taken the place of one, which is another request's to tell.
        """
        failure: StoreError | None = None
        clear = False
        for session_id in filter(None, ids):
            try:
                clear |= await self.delete(session_id) is not None
            except StoreError as error:
                clear, failure = True, error
        if clear:
            state.delivery = Delivery.CLEAR
        if failure is not None:
            raise failure

    async def delete(self, session_id: str) -> bool | None:
        """Remove a session from the store; return whether it was there.

        `None` where it was given a new id that this one does not lead to. Where
        that cannot be confirmed, it is tried again when the node answers.
        """
        key, older = self._key_of(session_id), self._older_key_of(session_id)
        try:
            # A request that is moving it finds the older one closed, or has
            # moved it by now.
            was_there = older is not None and await self._rotation.end(older)
            ended = await self._rotation.end(key, session_id)
            return True if ended is False and was_there else ended
        except StoreError as error:
            self._end_later(key, older)
            if isinstance(error, StoreUnavailable):
                # Whichever of its steps failed: what failed was a logout.
                raise StoreUnavailable(
                    "destroy",
                    error.node,
                    error.reason,
                    outcome_unknown=error.outcome_unknown,
                ) from error
            raise StoreRejected("destroy", error.node, error.reason) from error
        except asyncio.CancelledError:
            self._end_later(key, older)
            raise

    def _end_later(self, key: str, older: str | None) -> None:
        if older is not None:
            self._undeleted(older)
        self._undeleted(key)
