"""What is known of the tries to replace a record."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

from ._record import Record
from .exceptions import StoreError, StoreUnavailable
from .stores.base import CasResult

__all__ = ["Attempt", "Make", "Tries"]

Make = Callable[[Record], Record | Awaitable[Record]]


class Attempt(NamedTuple):
    """One try, which began at a time of the monotonic clock."""

    record: Record
    answer: Awaitable[CasResult]
    began: float


class Tries:
    """What was tried to replace a record, so far."""

    def __init__(self, make: Make, counted: bool) -> None:
        self.make = make
        self.counted = counted
        self.count = 0
        self.is_writing = False
        self.seconds = 0.0  # what the store took
        self.written: dict[bytes, Record] = {}
        self.unknown: StoreUnavailable | None = None
        """The last write whose answer was lost."""

    async def made(self, stored: Record, scope: asyncio.Timeout | None) -> Record:
        """Return what to put in the place of ``stored``.

        Unless it is counted, the time that takes is not that of ``scope``.
        """
        made = self.make(stored)
        if isinstance(made, Record):
            return made
        if scope is None or self.counted:
            return await made
        with _paused(scope):
            return await made

    def begin(self, record: Record) -> None:
        """Note that ``record`` is being written."""
        self.written[record.writes[0]] = record
        self.count += 1
        self.is_writing = True

    def outcome(self, error: StoreError) -> StoreError:
        """Return what to raise for ``error``, which ends these tries.

        Where there was a write before, it may have been done, or still be: one
        whose answer was lost, and one that conflicts, since a store that asks
        twice may have met its own.
        """
        if not self.count:
            return error
        return error.of_unknown_outcome()


@contextlib.contextmanager
def _paused(scope: asyncio.Timeout) -> Iterator[None]:
    """Let the time of what is done here not count."""
    loop = asyncio.get_running_loop()
    began, when = loop.time(), scope.when()
    scope.reschedule(None)
    try:
        yield
    finally:
        assert when is not None
        scope.reschedule(when + loop.time() - began)
