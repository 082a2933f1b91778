"""A session under a new id, the end of a session, and ends that must be tried again."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..exceptions import (
    SessionConflict,
    SessionGone,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from . import ids
from .lifetime import TOMBSTONE_SECONDS
from .record import Record
from .repository import Follow, Replaced, Repository, Stored
from .tasks import Tasks

if TYPE_CHECKING:
    from .revocation import Revocation

__all__ = ["Moved", "Rotation"]

logger: logging.Logger = logging.getLogger("tornado_mcsession")


class Moved(NamedTuple):
    """A session under its new id.

    ``failure`` says that nobody can tell whether the old id is dead. It is then
    ended later, and the new id must be sent: it may be all that is left.
    """

    stored: Stored
    failure: StoreUnavailable | None = None


class Rotation:
    """Gives sessions new ids, and ends them.

    Nothing is deleted. What stays behind is a *tombstone*, a retired record, put
    there by cas: a write that arrives late meets it, and what a request with the
    old id writes is dropped. ``keep_for`` is how long a session may live, and so
    how long an end that could not be confirmed is tried again. ``report_end`` is
    then called with the reason and the principal.
    """

    def __init__(
        self,
        records: Repository,
        revocation: Revocation,
        tasks: Tasks,
        keep_for: float,
        report_end: Callable[[str, str | None], None],
    ) -> None:
        self._records = records
        self._revocation = revocation
        self.pending: PendingEnds = PendingEnds(
            self, records, tasks, keep_for, report_end
        )

    def _tombstone(
        self,
        record: Record,
        successor: bytes | None = None,
        *,
        same_login: bool = False,
        grace: float = 0.0,
    ) -> Record:
        now = self._records.clock()
        return msgspec.structs.replace(
            record,
            retired=True,
            expires_at=now + TOMBSTONE_SECONDS,
            data=b"",
            flashes=(),
            principal=None,
            successor=successor,
            successor_until=now + grace if grace else None,
            same_login=same_login,
            login=None,
        )

    async def move(
        self,
        at: Stored,
        new_id: str,
        edit: Callable[[Record], Record],
        grace: float = 0.0,
    ) -> Moved:
        """Put ``edit(record)`` under ``new_id``, and a tombstone in the old place.

        The new record is there before the old one is closed by `change`: a save
        that was acknowledged in between is carried over, and a logout in between
        wins (`.SessionGone`). For ``grace`` seconds the tombstone leads requests
        to the new id. With a grace, a session that has just been given a new id
        is not given another one: that is a `.Replaced`.
        """
        moved: Stored | None = None
        failed: StoreError | None = None
        unsure: StoreUnavailable | None = None
        carried = b""

        async def close(stored: Stored) -> Record:
            nonlocal moved, failed, carried
            record = stored.record
            newer = edit(record)
            if moved is None:
                moved = await self._records.create(new_id, newer)
                if moved is None:
                    raise StoreRejected("regenerate", "", "the new id is taken")
            elif record.writes != carried:
                try:
                    moved = await self._records.change(moved, lambda _: newer)
                except StoreError as error:
                    failed = error
                    raise
            carried = record.writes
            return self._tombstone(
                record,
                ids.seal(stored.id, new_id),
                same_login=record.user == newer.user,
                grace=grace,
            )

        try:
            follow = Follow.NOWHERE if grace else Follow.GRACE
            await self._records.change(at, close, follow=follow, counted=True)
        except Exception as error:
            if (
                isinstance(error, StoreUnavailable)
                and error.outcome_unknown
                and moved is not None
                and failed is None
            ):
                self.pending.add(at.id, follow=False)
                unsure = error
            else:
                if moved is not None:
                    await self._drop(new_id)
                raise
        assert moved is not None
        if at.record.login is not None and at.record.handle != moved.record.handle:
            # It was another login's.
            await self._revocation.forget(at.id, at.record)
        return Moved(moved, unsure)

    async def _drop(self, new_id: str) -> None:
        """End a new id that nobody was told."""
        try:
            await self.end(new_id, follow=False)
        except StoreError:
            self.pending.add(new_id, follow=False)

    async def end(
        self, session_id: str, *, at: Stored | None = None, follow: bool = True
    ) -> Record | None:
        """End the session of ``session_id``; return its record, None if none was there.

        ``at`` is its record, where that was read. Where the id was replaced by the
        same login, the session that it leads to is ended. Raises `.SessionGone`
        where another login came: whoever holds the older id must not end that.
        Raises `.StoreError` where the end cannot be confirmed.
        """
        now = self._records.clock()
        blank = Record(created=now, renewed_at=now, expires_at=now + 1, data=b"")
        ended: Stored | None = None

        def close(stored: Stored) -> Record:
            nonlocal ended
            ended = stored
            return self._tombstone(stored.record)

        try:
            await self._records.change(
                at or self._records.at(session_id),
                close,
                follow=Follow.LOGIN if follow else Follow.NOWHERE,
                # Other processes may be able to read it.
                unreadable=blank,
            )
        except Replaced as error:
            if follow and error.has_new_id:
                raise SessionGone(
                    "somebody has logged in since: the older session id cannot end "
                    "that login"
                ) from None
            return None
        except SessionGone:
            return None
        except SessionConflict as error:
            raise StoreUnavailable(
                "destroy", "", "other requests kept changing it", outcome_unknown=True
            ) from error
        except StoreError as error:
            raise _as_destroy(error) from error
        if ended is None:
            return None
        # Without ``follow`` the id has a successor, or was to be one, which is alive.
        if follow:
            await self._revocation.forget(ended.id, ended.record)
        return ended.record


def _as_destroy(error: StoreError) -> StoreError:
    # Whichever of its steps failed: what failed was the end of a session.
    if isinstance(error, StoreUnavailable):
        return StoreUnavailable(
            "destroy", error.node, error.reason, outcome_unknown=error.outcome_unknown
        )
    return StoreRejected("destroy", error.node, error.reason)


class PendingEnds:
    """Ends that could not be confirmed, to be tried again when the store answers.

    At most 50,000 ids are kept (some 10 MB), each until its session would have
    ended by itself. They are tried after a second, and then less and less often;
    at once by `retry_soon`.
    """

    LIMIT = 50_000
    FIRST_PAUSE = 1.0
    LONGEST_PAUSE = 60.0
    AT_ONCE = 64

    def __init__(
        self,
        rotation: Rotation,
        records: Repository,
        tasks: Tasks,
        keep_for: float,
        report_end: Callable[[str, str | None], None],
    ) -> None:
        self._rotation = rotation
        self._records = records
        self._tasks = tasks
        self._keep_for = keep_for
        self._report_end = report_end
        # Whether the end follows the id to a newer one, and until when it is tried.
        self.ids: OrderedDict[str, tuple[bool, float]] = OrderedDict()
        self._is_busy = False
        self._is_asked = False
        self._is_closed = False
        self._pause = self.FIRST_PAUSE
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, session_id: str, *, follow: bool = True) -> None:
        """Keep ``session_id`` to be ended later, unless this is closed."""
        if self._is_closed:
            logger.warning("a logout after close() could not be confirmed")
            return
        known = self.ids.get(session_id)
        until = self._records.clock() + self._keep_for
        self.ids[session_id] = (follow or (known is not None and known[0]), until)
        if len(self.ids) > self.LIMIT:
            self.ids.popitem(last=False)
            counts = self._records.counts
            counts["dropped_ends"] += 1
            # One line for each thousand: there may be very many.
            if counts["dropped_ends"] % 1000 == 1:
                logger.error(
                    "more than %d logouts wait to be confirmed; the oldest were "
                    "dropped (%d so far), and their sessions may still be alive",
                    self.LIMIT,
                    counts["dropped_ends"],
                )
        self.arm()

    def retry_soon(self) -> None:
        """Try now; where that is being done, once more afterwards."""
        if not self.ids:
            return
        if self._is_busy:
            self._is_asked = True
            return
        self._is_busy = True
        self._tasks.start(self._retry())

    def close(self) -> None:
        """Try no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.ids.clear()

    def arm(self) -> None:
        """See to it that they are tried again on the running loop."""
        # A timer, not a task: nothing of it is left when its loop closes, and then
        # another loop's takes its place.
        loop = asyncio.get_running_loop()
        if self._timer is None or self._loop is not loop:
            if self._timer is not None:
                self._timer.cancel()
            self._loop = loop
            self._timer = loop.call_later(self._pause, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pause = min(2 * self._pause, self.LONGEST_PAUSE)
        self.retry_soon()

    async def _retry(self) -> None:
        ended = 0
        try:
            now = self._records.clock()
            for session_id in [i for i, (_, until) in self.ids.items() if until <= now]:
                del self.ids[session_id]
            due = list(self.ids)
            for start in range(0, len(due), self.AT_ONCE):
                some = due[start : start + self.AT_ONCE]
                done = await asyncio.gather(*map(self._try, some))
                for session_id, is_done in zip(some, done, strict=True):
                    if is_done:
                        self.ids.pop(session_id, None)
                ended += sum(done)
            if ended:
                logger.warning("unconfirmed logouts that are finished now: %d", ended)
        finally:
            self._is_busy = False
        if not self.ids:
            self._pause = self.FIRST_PAUSE
        elif self._is_asked:
            self._is_asked = False
            self.retry_soon()
        else:
            self.arm()

    async def _try(self, session_id: str) -> bool:
        follow = self.ids.get(session_id, (True, 0.0))[0]
        try:
            ended = await self._rotation.end(session_id, follow=follow)
        except SessionGone:
            return True  # another login took its place
        except StoreError:
            return False
        # What does not follow is an id that was replaced, which is no logout.
        if ended is not None and follow:
            self._report_end("logout", ended.principal)
        return True
