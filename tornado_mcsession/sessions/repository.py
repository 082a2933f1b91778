"""Records in a store: read, created, and changed by the one cas loop of the package.

A record is created by ``add`` and changed by ``cas``. There is no plain set, which
would overwrite what another request saved and bring back what it ended. Each record
remembers its newest writes, so that a write whose response was lost is found again:
it is neither taken for failed nor done twice.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeGuard, TypeVar

import msgspec

from ..exceptions import (
    DecodeError,
    SessionConflict,
    SessionError,
    SessionGone,
    SessionTooLarge,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from ..stores.base import CasResult, Entry, Store
from . import ids
from .codec import Codec
from .lifetime import Lifetime, ttl
from .record import WRITE, Record
from .tasks import Writers, WriterTurn

__all__ = [
    "MAX_SIZE",
    "Attempt",
    "Edit",
    "Follow",
    "Observer",
    "Operations",
    "Place",
    "Replaced",
    "Repository",
    "Stored",
]

logger: logging.Logger = logging.getLogger("tornado_mcsession")

_T = TypeVar("_T")

# The deadline bounds them. With fewer tries, or less time between them, requests of
# many processes on one session gave up long before it.
MAX_ATTEMPTS = 1000
MAX_PAUSE = 0.1
# How often a session may get a new id while one request is under way.
MAX_STEPS = 8
LARGE = 64 * 1024
MAX_SIZE = 900 * 1024
"""What an encoded session may have by default; memcached takes items of 1 MiB."""
# A key that was forgotten, or somebody who writes to memcached, makes every request
# meet an unreadable record: one line a minute is enough.
QUIET = 60.0
# Metrics keep numbers for each node for ever, so the nodes must not be without a bound.
MAX_NODES = 256

Observer = Callable[[str, str, float, str], object]


class Place(NamedTuple):
    """A session id and its store key, where nothing was read yet."""

    id: str
    key: str


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A record as it was found under an id, with the token to replace it.

    ``token`` is None where the record was written by this process: a cas does not
    tell the new token.
    """

    id: str
    key: str
    record: Record
    token: Any = None


# Returns what takes the place of a record. It may be asked again for a newer one.
Edit = Callable[[Stored], Record | Awaitable[Record]]


class Attempt(msgspec.Struct, frozen=True):
    """The first try of a change, which is under way."""

    at: Stored
    record: Record
    answer: Awaitable[CasResult]

    def written(self) -> Stored:
        """Return what is stored if it succeeds."""
        return Stored(self.at.id, self.at.key, self.record)


class Follow(enum.Enum):
    """Where a change goes on when it meets a tombstone that names a new id."""

    GRACE = "to the new id while the grace of `regenerate` lasts"
    LOGIN = "to the new id where it is of the same login"
    NOWHERE = "not at all"


class Replaced(SessionGone):
    """There is a tombstone, which tells whether the session ``has_new_id``."""

    def __init__(self, session_id: str, tombstone: Record) -> None:
        super().__init__("session was ended or given a new id by another request")
        self.has_new_id: bool = ids.successor_of(session_id, tombstone) is not None


class Operations:
    """A store's operations, each within its deadline, reported to the observers.

    What a store raises, and what is no `.SessionError`, counts as "cannot tell". One
    that is ``trusted``, as the package's own are, keeps its deadline and raises
    nothing else.
    """

    def __init__(self, store: Store, *, trusted: bool) -> None:
        self.store = store
        self.limit: float = 2 * store.timeout + store.reconnect_timeout
        """The seconds that a load or a change may take in all."""
        self.observers: list[Observer] = []
        self._trusted = trusted
        self._node_names: set[str] = set()

    def get(self, key: str) -> Awaitable[Entry | None]:
        """Return what is stored under ``key``."""
        if self._trusted and not self.observers:
            return self.store.get(key)
        return self._asked("get", key, self.store.get)

    def get_many(self, keys: Sequence[str]) -> Awaitable[dict[str, Entry]]:
        """Return what is stored under ``keys``, without those where nothing is."""
        if self._trusted and not self.observers:
            return self.store.get_many(keys)
        return self._asked("get_many", keys[0], lambda _: self.store.get_many(keys))

    def add(self, key: str, data: bytes, ttl: float, flags: int) -> Awaitable[bool]:
        """Store ``data`` if nothing is under ``key``; return whether it was stored."""
        more = (flags,) if flags else ()  # a store of a user's own may know none
        if self._trusted and not self.observers:
            return self.store.add(key, data, ttl, *more)
        return self._asked("add", key, self.store.add, data, ttl, *more)

    def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int
    ) -> Awaitable[CasResult]:
        """Replace the version that ``token`` came with."""
        return self.answer(self.begin_cas(key, data, ttl, token, flags))

    def begin_cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int
    ) -> Awaitable[CasResult]:
        """Do as `cas`, but let the store's own future through.

        The operation is then under way. `answer` gives its errors the types of this
        package.
        """
        more = (flags,) if flags else ()
        if self.store.keeps_deadline and not self.observers:
            try:
                answer = self.store.cas(key, data, ttl, token, *more)
            except SessionError:
                raise
            except Exception as error:
                raise StoreUnavailable(
                    "cas",
                    "",
                    f"the store raised {type(error).__name__}",
                    outcome_unknown=True,
                ) from error
            if self._trusted or isinstance(answer, asyncio.Future):
                return answer
            return self._asked("cas", key, lambda _: answer)
        return self._asked("cas", key, self.store.cas, data, ttl, token, *more)

    def answer(self, answer: Awaitable[CasResult]) -> Awaitable[CasResult]:
        """Return the result of `begin_cas`. Raises `.SessionError`."""
        if self._trusted or not isinstance(answer, asyncio.Future):
            return answer  # it raises nothing else, and has its observers
        return self._asked("cas", "", lambda _: answer)

    def too_late(self, operation: str) -> StoreUnavailable:
        """Return the error for an operation that took too long in all."""
        return StoreUnavailable(
            operation, "", f"not done within {self.limit:g} s", outcome_unknown=True
        )

    def report(self, kind: str, node: str, seconds: float, outcome: str) -> None:
        """Tell the observers; what one raises is logged."""
        for observer in self.observers:
            try:
                observer(kind, node, seconds, outcome)
            except Exception:
                logger.exception("an observer of the session manager failed")

    async def _asked(
        self, kind: str, key: str, ask: Callable[..., Awaitable[_T]], *arguments: Any
    ) -> _T:
        limit: float | None = None
        if not self.store.keeps_deadline:
            limit = self.store.timeout + self.store.reconnect_timeout
        began = time.monotonic()
        outcome = "unavailable"
        try:
            async with asyncio.timeout(limit) as scope:
                result = await ask(key, *arguments)
            outcome = _outcome(kind, result)
            return result
        except SessionError as error:
            outcome = "rejected" if isinstance(error, StoreRejected) else outcome
            raise
        except Exception as error:
            timed_out = isinstance(error, TimeoutError) and scope.expired()
            raise StoreUnavailable(
                kind,
                "",
                f"no answer within {limit:g} s"
                if timed_out
                else f"the store raised {type(error).__name__}",
                outcome_unknown=kind in ("add", "cas"),
            ) from error
        finally:
            if self.observers:
                seconds = time.monotonic() - began
                self.report(kind, self._node(key), seconds, outcome)

    def _node(self, key: str) -> str:
        """Return the name of a key's node; ``"other"`` beyond `MAX_NODES` of them."""
        names = self._node_names
        try:
            name = self.store.node_of(key)
        except Exception:
            logger.exception("node_of of the session store failed")
            return ""
        if name not in names:
            if len(names) >= MAX_NODES:
                return "other"
            names.add(name)
        return name


def _outcome(kind: str, result: object) -> str:
    """Return the word for a store's answer; raise `TypeError` for what is none."""
    if kind == "get" and (result is None or isinstance(result, Entry)):
        return "miss" if result is None else "hit"
    if kind == "get_many" and isinstance(result, dict):
        return "hit" if result else "miss"
    if kind == "add" and isinstance(result, bool):
        return "stored" if result else "not_stored"
    if kind == "cas" and isinstance(result, CasResult):
        return result.value
    raise TypeError(f"the store's {kind} returned a {type(result).__name__}")


class Repository:
    """Reads, creates and changes the records of sessions.

    ``counts`` are the manager's counters; ``clock`` tells the seconds since 1970.
    """

    def __init__(
        self,
        operations: Operations,
        codec: Codec,
        lifetime: Lifetime,
        *,
        max_size: int,
        clock: Callable[[], float],
        counts: Counter[str],
    ) -> None:
        self.operations = operations
        self.codec = codec
        self.lifetime = lifetime
        self.clock = clock
        self.counts = counts
        self._max_size = max_size
        self._memory = 2 * operations.limit
        self._writers = Writers()
        self._warned_of_size = False
        self._quiet_until = -QUIET
        self._unlogged = 0

    def at(self, session_id: str) -> Place:
        """Return the place of ``session_id``."""
        return Place(session_id, self.codec.key(session_id))

    # Reading.

    def examine(self, at: Place | Stored, entry: Entry | None) -> Stored | None:
        """Return the record in ``entry``; None if nothing readable is there.

        It may be a tombstone, or over: `is_over`. A record that cannot be read is
        counted and logged, and counts as not there.
        """
        if entry is None:
            return None
        try:
            record = self.codec.decode(entry.data, entry.flags, at.key)
        except DecodeError as error:
            self.note_foreign(error)
            return None
        return Stored(at.id, at.key, record, entry.token)

    def is_readable(self, stored: Stored) -> bool:
        """Return whether the session's mapping in a record can be read.

        One that cannot is counted and logged.
        """
        try:
            self.codec.values(stored.record, lazily=True)
        except DecodeError as error:
            self.note_foreign(error)
            return False
        return True

    def is_over(self, record: Record) -> bool:
        """Return whether ``record`` has ended by itself."""
        return self.lifetime.is_over(record, self.clock())

    def note_foreign(self, error: DecodeError) -> None:
        """Count a record that cannot be read, and log it if it is time to."""
        self.counts["corrupt_records"] += 1
        now = time.monotonic()
        if now < self._quiet_until:
            self._unlogged += 1
            return
        more = f"; {self._unlogged} more since the last line" if self._unlogged else ""
        self._quiet_until, self._unlogged = now + QUIET, 0
        logger.warning("a session record was taken as empty: %s%s", error.reason, more)

    # Creating.

    def check(self, session_id: str, record: Record) -> None:
        """Raise what `create` raises for a ``record`` that cannot be stored."""
        before = record if record.written else None
        record = record.stamped(before, self.clock(), self._memory)
        self._encoded(record, self.codec.key(session_id))

    async def create(self, session_id: str, record: Record) -> Stored | None:
        """Add ``record`` under a new id; return it, or None if the id is taken.

        An ``add`` whose response was lost may still arrive. It then meets what the
        second one stored, or the tombstone that ended that.
        """
        at = self.at(session_id)
        before = record if record.written else None  # of the same session's old id
        record = record.stamped(before, self.clock(), self._memory)
        data = self._encoded(record, at.key)
        lost: StoreUnavailable | None = None
        add = self.operations.add
        try:
            async with asyncio.timeout(self.operations.limit):
                for _ in range(MAX_ATTEMPTS):
                    seconds = ttl(record, self.clock(), self.codec.expired_for)
                    try:
                        if await add(at.key, data, seconds, self.codec.flags):
                            return Stored(*at, record)
                    except StoreRejected as error:
                        if error.too_large:  # for the node's own item size
                            raise SessionTooLarge(len(data), None) from error
                        raise
                    except StoreUnavailable as error:
                        if not error.outcome_unknown:
                            failure = lost or error
                            raise failure from failure.__cause__
                        lost = error
                    # Not taken for taken: it may be this very record.
                    found = await self._look(at, None, lost)
                    if found is not None:
                        mine = found.record.write_of((record.writes[:WRITE],))
                        return Stored(*at, record) if mine else None
                    if lost is None:
                        return None
        except TimeoutError as error:
            if lost is None:
                raise self.operations.too_late("save") from error
            raise lost from lost.__cause__
        raise lost or SessionConflict(MAX_ATTEMPTS)

    async def supersede(self, at: Place, record: Record) -> bool:
        """Put ``record`` where something is over or unreadable; return whether it is.

        Raises `Replaced` for a tombstone.
        """
        entry = await self.operations.get(at.key)
        if entry is None:
            return False
        found = self.examine(at, entry)
        before = record  # a blank, where nobody can read what is there
        if found is not None:
            before = found.record
            if before.retired and not self.is_over(before):
                raise Replaced(at.id, before)
            if not self.is_over(before) and self.is_readable(found):
                return False
        attempt = self._write(Stored(*at, before, entry.token), record)
        return await self.operations.answer(attempt.answer) is CasResult.STORED

    # Changing.

    def begin(
        self, at: Stored, record: Record, loop: asyncio.AbstractEventLoop
    ) -> Attempt | None:
        """Begin the one cas that a change mostly is, on the running ``loop``.

        None where another request of this process is changing that session. Who
        gets the answer calls `done`, or hands the attempt to `change`.
        """
        if not self._writers.take(loop, at.key):
            return None
        try:
            return self._write(at, record)
        except BaseException:
            self._writers.leave(loop, at.key)
            raise

    def done(self, attempt: Attempt, loop: asyncio.AbstractEventLoop) -> Stored:
        """Return what ``attempt`` has stored, and let the next writer go on."""
        self._writers.leave(loop, attempt.at.key)
        return attempt.written()

    async def change(
        self,
        at: Place | Stored,
        edit: Edit,
        *,
        attempt: Attempt | None = None,
        follow: Follow = Follow.GRACE,
        unreadable: Record | None = None,
        counted: bool = False,
    ) -> Stored:
        """Put ``edit(stored)`` in the place of the record at ``at``; return it.

        ``at`` is what the request loaded; with a token it spares the first look.
        ``attempt`` is the first try, where it is under way. A round looks at what
        is stored, edits it, and writes it by cas. Then it is stored; or somebody
        was faster, and there is another round; or the response was lost, and the
        next look tells whether one of *our* writes is there.

        Other changes of this process wait for their turn meanwhile. They do not
        wait for an ``edit`` that must be awaited, and its time does not count,
        unless it is ``counted``. A record that cannot be read is taken for
        ``unreadable``.

        Raises `Replaced` for a tombstone that is not to be followed, `.SessionGone`
        where nothing is stored, `.SessionConflict`, `.StoreError`, and whatever
        ``edit`` raises. A `.StoreUnavailable` of unknown outcome says that the
        change may have been made, or may still be.
        """
        mine: dict[bytes, Record] = {}  # what may have been written
        lost: StoreUnavailable | None = None  # why nobody can tell
        lost_numbers: list[int] = []
        number = steps = 0  # of tries, and of new ids that were followed
        is_writing = attempt is not None
        turn = WriterTurn(self._writers, at.key, has=attempt is not None)
        try:
            async with asyncio.timeout(self.operations.limit) as scope:
                found = None
                if isinstance(at, Stored) and at.token is not None and attempt is None:
                    found = at
                if await turn.enter():
                    found = None  # whoever was before us has replaced it
                while number < MAX_ATTEMPTS:
                    if attempt is None:
                        if found is None:
                            found = await self._look(at, unreadable, lost)
                        if found is None:
                            raise lost or SessionGone(_ENDED)
                        record = found.record
                        if mine and (write := record.write_of(mine)):
                            if record.retired and not mine[write].retired:
                                # Done, and ended since; or carried to the new id.
                                if record.successor is None:
                                    raise Replaced(found.id, record)
                            return Stored(found.id, found.key, mine[write])
                        if any(map(record.has_forgotten, lost_numbers)):
                            assert lost is not None
                            raise lost  # done or not: too many wrote since
                        if record.retired:
                            steps += 1
                            at = self._next(found, follow, steps)
                            await turn.move(at.key)
                            found = None
                            continue
                        if self.lifetime.is_over(record, self.clock()):
                            raise SessionGone(_ENDED)
                        try:
                            edited = edit(found)
                            if not isinstance(edited, Record):
                                if counted:
                                    edited = await edited
                                else:
                                    turn.leave()
                                    with _unwatched(scope):
                                        edited = await edited
                        except StoreError:
                            if lost is None:
                                raise
                            raise lost from lost.__cause__
                        attempt = self._write(found, edited)
                        is_writing = True
                    mine[attempt.record.writes[:WRITE]] = attempt.record
                    number += 1
                    try:
                        result = await self.operations.answer(attempt.answer)
                    except StoreError as error:
                        if isinstance(error, StoreRejected) and error.too_large:
                            raise SessionTooLarge(self._size(attempt), None) from error
                        if not _is_of_unknown_outcome(error):
                            # A try before it may have been done all the same.
                            if lost is None:
                                raise
                            raise lost from lost.__cause__
                        lost = error
                        if not attempt.record.retired:
                            # Over a tombstone nothing is written: a living record
                            # proves that none was put there.
                            lost_numbers.append(attempt.record.written)
                        result = CasResult.CONFLICT  # look whether it was done
                    is_writing = False
                    if result is CasResult.STORED:
                        return attempt.written()
                    if result is CasResult.MISSING:
                        raise lost or SessionGone(_ENDED)
                    attempt = found = None
                    await self._pause(number)
        except TimeoutError as error:
            if not scope.expired():
                raise  # one of the edit's own
            if lost is None and number and not is_writing:
                raise SessionConflict(number) from None
            if lost is not None:
                raise lost from lost.__cause__
            late = self.operations.too_late("save")
            late.outcome_unknown = is_writing
            raise late from error
        finally:
            turn.leave()
        raise lost or SessionConflict(number)

    def _size(self, attempt: Attempt) -> int:
        return len(self._encoded(attempt.record, attempt.at.key))

    async def _look(
        self,
        at: Place | Stored,
        unreadable: Record | None,
        lost: StoreUnavailable | None,
    ) -> Stored | None:
        try:
            entry = await self.operations.get(at.key)
        except StoreError:
            if lost is None:
                raise
            raise lost from lost.__cause__
        found = self.examine(at, entry)
        if found is not None and not found.record.retired:
            found = found if self.is_readable(found) else None
        if found is None and entry is not None and unreadable is not None:
            return Stored(at.id, at.key, unreadable, entry.token)
        return found

    def _next(self, found: Stored, follow: Follow, steps: int) -> Place:
        record = found.record
        until = record.successor_until
        if follow is Follow.GRACE:
            leads = until is not None and self.clock() < until
        else:
            leads = follow is Follow.LOGIN and record.same_login
        newer = ids.successor_of(found.id, record) if leads else None
        # An end is followed as far as it leads: the deadline bounds it.
        too_far = steps > MAX_STEPS and follow is not Follow.LOGIN
        if newer is None or too_far:
            raise Replaced(found.id, record)
        return self.at(newer)

    def _write(self, at: Stored, record: Record) -> Attempt:
        now = self.clock()
        record = record.stamped(at.record, now, self._memory)
        data = self._encoded(record, at.key)
        codec = self.codec
        seconds = ttl(record, now, codec.expired_for)
        flags = codec.tombstone_flags if record.retired else codec.flags
        answer = self.operations.begin_cas(at.key, data, seconds, at.token, flags)
        return Attempt(at, record, answer)

    async def _pause(self, number: int) -> None:
        self.counts["conflicts"] += 1
        longest = min(0.001 * 2 ** min(number, 7), MAX_PAUSE)
        await asyncio.sleep(
            random.uniform(0, longest)  # nosec B311 # spreads retries, guards nothing
        )

    def _encoded(self, record: Record, key: str) -> bytes:
        data = self.codec.encode(record, key)
        size = len(data)
        if size > LARGE:
            if size > self._max_size:
                raise SessionTooLarge(size, self._max_size, self._largest(record))
            if not self._warned_of_size:
                self._warned_of_size = True
                logger.warning(
                    "a session is larger than %d bytes, which each request loads; "
                    "keep large data elsewhere",
                    LARGE,
                )
        elif size > self._max_size:
            raise SessionTooLarge(size, self._max_size, self._largest(record))
        return data

    def _largest(self, record: Record) -> list[tuple[str, int]]:
        dumps = self.codec.serializer.dumps
        values = self.codec.values(record)
        sizes = [(key, len(dumps(value))) for key, value in values.items()]
        return sorted(sizes, key=lambda pair: -pair[1])[:3]


def _is_of_unknown_outcome(error: StoreError) -> TypeGuard[StoreUnavailable]:
    return isinstance(error, StoreUnavailable) and error.outcome_unknown


_ENDED = "session was ended by another request"


@contextmanager
def _unwatched(scope: asyncio.Timeout) -> Iterator[None]:
    """Let an edit take its time."""
    loop = asyncio.get_running_loop()
    began, when = loop.time(), scope.when()
    scope.reschedule(None)
    try:
        yield
    finally:
        assert when is not None
        scope.reschedule(when + loop.time() - began)
