"""A function that changes what is stored, run until nobody comes in between."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from . import _merge
from ._state import SessionState
from .serializers import check_items

__all__ = ["Transaction"]


class Transaction:
    """Runs ``fn`` for `.Session.transact`; ``result`` is what it last returned."""

    def __init__(
        self, state: SessionState, fn: Callable[[dict[str, Any]], Any]
    ) -> None:
        self._state = state
        self._fn = fn
        self.result: Any = None

    async def run(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return what ``fn`` makes of ``data``, which stays as it is.

        Raises `.EncodeError` where it put something in that would not come back.
        """
        state = self._state
        # A copy: what ``fn`` does must be undone by forgetting it.
        draft: dict[str, Any] = state.serializer.loads(state.serializer.dumps(data))
        result = self._fn(draft)
        self.result = await result if inspect.isawaitable(result) else result
        changed = _merge.diff(data, draft, state.dumps_or_differs).changed
        check_items(state.serializer, changed)
        return draft
