"""The application's hooks, sync or async, and the ids they may give."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

from . import _ids
from ._state import SessionState
from .config import SessionConfig
from .exceptions import SessionRefused
from .session import Session

__all__ = ["Hooks"]


class Hooks:
    """Calls the hooks of the settings. What one raises passes as it is."""

    def __init__(self, config: SessionConfig, counts: Counter[str]) -> None:
        self._config = config
        self._counts = counts

    async def admit_new(self, state: SessionState) -> None:
        """Raise `.SessionRefused` where the application wants no new session."""
        hook = self._config.allow_new
        if hook is not None and not await _awaited(hook(_handler(state))):
            self._counts["refused_sessions"] += 1
            raise SessionRefused

    async def mint(self, state: SessionState, digest: str) -> str:
        """Return a new session id, with a principal's ``digest`` if any."""
        generate = self._config.generate_id
        if generate is None:
            return _ids.new_id(digest)
        base = await _awaited(generate(_handler(state)))
        if not isinstance(base, str) or not _ids.is_valid(base) or "." in base:
            raise ValueError(
                "generate_id must return 22 to 200 characters of A-Z, a-z, 0-9, _ and -"
            )
        return _ids.with_digest(base, digest)

    @property
    def looks_at_saves(self) -> bool:
        """Whether there is a hook that may change what is saved."""
        return self._config.before_save is not None

    async def before_save(self, session: Session, state: SessionState) -> None:
        """Let the application look at what is about to be saved, and change it."""
        hook = self._config.before_save
        if hook is not None:
            await _awaited(hook(_handler(state), session))

    async def accepts(self, session: Session, state: SessionState) -> bool:
        """Return whether the application accepts the session that was loaded."""
        hook = self._config.validate
        return hook is None or bool(await _awaited(hook(_handler(state), session)))


def _handler(state: SessionState) -> Any:
    return None if state.handler is None else state.handler()


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
