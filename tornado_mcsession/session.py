"""The session as a handler uses it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import secrets
import weakref
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
)
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import msgspec

from .checks import principal_name, seconds, text, type_error
from .exceptions import (
    EncodeError,
    SessionError,
    SessionGone,
    SessionNotLoaded,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from .sessions import ids
from .sessions.lookup import Found, Presented
from .sessions.record import (
    NO_OPTIONS,
    Changes,
    Flash,
    Record,
    merge,
    replace_values,
)
from .sessions.repository import Attempt, Edit, Replaced, Stored
from .sessions.revocation import Identity
from .sessions.rotation import Moved
from .sessions.serializers import check_items, encoded_values
from .sessions.state import (
    CLOSED,
    DETACHED,
    ENDED,
    NEW,
    NOTHING,
    OPEN,
    STORED,
    TRANSITIONS,
    UNAVAILABLE,
    UNLOADED,
    Delivery,
    Event,
    Plan,
    Step,
)
from .stores.base import CasResult

if TYPE_CHECKING:
    from .manager import SessionManager

__all__ = ["Session"]

_T = TypeVar("_T")

MAX_GRACE = 60.0
ID_ATTEMPTS = 3

# The last second that a datetime can stand for.
_MAX_TIMESTAMP = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
_MISSING: Any = object()
_NO_KEYS: frozenset[Any] = frozenset()


class Session(MutableMapping[str, Any]):
    """One user's data, as one request sees and changes it.

    A mapping of text to whatever the serializer carries. Changes are saved at the
    end of the request, nested ones too::

        self.session["cart"] = ["book"]
        self.session["cart"].append("pen")

    Nothing is stored, and no cookie set, before there is something in it. Parallel
    requests that change different keys, also keys of nested mappings, all keep
    their changes. For the same key the later save wins, unless it is changed by
    `transact`. Like any empty mapping, a session without data is false, even if a
    user is logged in: ask `exists`.

    The awaitable methods talk to the store at once; those of one session run one
    after another. Each may raise `.StoreError`, and `RuntimeError` once the
    response is finished, or where it would change the id after the headers left.
    """

    __hash__ = None  # type: ignore[assignment]

    # What most requests leave as it is.
    _phase = UNLOADED
    _why_unloaded = ""
    _reach = OPEN
    _delivery = Delivery.NOTHING
    _presented = Presented.NONE
    _is_new = True
    _is_told = False  # a verb raised SessionGone
    _accessed = False
    _had_principal = False
    _moving = 0  # logins and the like that are under way
    _turn: _Turn | None = None
    _stored: Stored | None = None
    _others: tuple[str, ...] = ()  # presented, alive, and not this session
    _doomed: tuple[str, ...] = ()  # to be ended with the request
    _flashed: tuple[Flash, ...] = ()
    _flashes_read: frozenset[bytes] = _NO_KEYS
    _options: Mapping[str, Any] = NO_OPTIONS
    _begun_at: float | None = None
    _validating: asyncio.Future[None] | None = None
    _end_failed = False

    def __init__(
        self,
        manager: SessionManager,
        handler: Any = None,
        session_ids: tuple[str, ...] = (),
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._manager = manager
        self._handler = None if handler is None else weakref.ref(handler)
        self._loop = loop
        # Of what the request presented: what a logout must end besides this session.
        self._presented_ids = session_ids
        self._data: dict[str, Any] = {}

    @property
    def _started(self) -> float:
        if self._begun_at is None:
            self._begun_at = self._manager.settings.clock()
        return self._begun_at

    def _drop_changes(self) -> None:
        self._flashed, self._flashes_read, self._options = (), _NO_KEYS, NO_OPTIONS

    def _advance(self, event: Event) -> None:
        self._phase = TRANSITIONS[self._phase][event]

    # The mapping.

    def _read(self) -> dict[str, Any]:
        self._accessed = True
        if self._phase is UNLOADED:
            raise SessionNotLoaded(self._why_unloaded)
        return self._data

    def _write(self) -> dict[str, Any]:
        reach = self._reach
        if reach is not OPEN:
            if reach is CLOSED:
                raise RuntimeError(
                    "the response is finished: too late to change the session. Code "
                    "outside a request uses await manager.get(session_id)"
                )
            if self._phase is NEW:
                self._refuse_sealed("begin a session")
        return self._read()

    def _refuse_sealed(self, act: str) -> None:
        if self._reach is not OPEN and self._reach is not CLOSED:
            raise RuntimeError(
                f"the headers have left: too late to {act}, since its cookie could not "
                "be sent"
            )

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        _check_key(key)
        self._write()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._write()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __contains__(self, key: object) -> bool:
        return key in self._read()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Session):
            return self._read() == other._read()
        if isinstance(other, Mapping):
            return self._read() == dict(other)
        return NotImplemented

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return self._read() | dict(other)

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return dict(other) | self._read()

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        self.update(other)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of ``key``, or ``default``."""
        return self._read().get(key, default)

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove ``key`` and return its value, or ``default`` if given."""
        data = self._write()
        return data.pop(key) if default is _MISSING else data.pop(key, default)

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the pair that was added last."""
        return self._write().popitem()

    def clear(self) -> None:
        """Remove all keys that this request sees; the session itself stays."""
        self._write().clear()

    def copy(self) -> dict[str, Any]:
        """Return the data as a new dict."""
        return dict(self._read())

    def replace(self, data: Mapping[str, Any]) -> None:
        """Put ``data`` in place of all keys that this request sees."""
        if not isinstance(data, Mapping):
            raise type_error("session", data, "a mapping or None")
        items = dict(data)
        for key in items:
            _check_key(key)
        kept = self._write()
        kept.clear()
        kept.update(items)

    def __repr__(self) -> str:
        words = {
            UNLOADED: "not loaded",
            UNAVAILABLE: "unavailable",
            ENDED: "ended",
        }
        word = words.get(self._phase) or ("new" if self._is_new else "loaded")
        closed = " closed" if self._reach is CLOSED else ""
        return f"<Session {word}{closed} keys={len(self._data)}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            hint = _OTHER_NAMES.get(name)
            more = f"; use {hint}" if hint else ""
            raise AttributeError(f"'Session' has no attribute {name!r}{more}")

    # What is known of it. Reading a property counts as access, as reading a key does,
    # but for those that tell about the request rather than the session.

    @property
    def id(self) -> str | None:
        """The session id; `None` before the first save. Keep it out of logs."""
        self._read()
        return None if self._stored is None else self._stored.id

    @property
    def is_new(self) -> bool:
        """Whether this request found no stored session to start from."""
        self._read()
        return self._is_new

    @property
    def exists(self) -> bool:
        """Whether a session is stored, with or without data."""
        self._read()
        return self._phase is STORED

    @property
    def presented(self) -> str:
        """What became of the session id that the request presented.

        ``"none"``: it presented none. ``"live"``: it is this session's.
        ``"expired"``: the session ended by itself in the last five minutes.
        ``"ended"``: it was logged out, revoked or given a new id a moment ago.
        ``"unknown"``: there is no such session. ``"refused"``: the ``validate``
        setting refused it. ``"ambiguous"``: there were several living ones.
        """
        self._read()
        return self._presented.value

    @property
    def modified(self) -> bool:
        """Whether there is something to save."""
        if self._phase is UNLOADED:
            return False
        if self._doomed:
            return True
        try:
            changes = self._changed()
        except EncodeError:
            return True
        return self._has_data() if self._stored is None else bool(changes)

    @property
    def accessed(self) -> bool:
        """Whether the request used the session."""
        return self._accessed

    @property
    def available(self) -> bool:
        """Whether the store could tell; otherwise nothing here is saved."""
        return self._phase is not UNAVAILABLE

    @property
    def created(self) -> datetime:
        """When the session began, in UTC; a login begins it anew."""
        self._read()
        record = self._record
        return _utc(self._started if record is None else record.created)

    @property
    def expires_at(self) -> datetime:
        """When the session ends, if no request renews it before, in UTC."""
        self._read()
        record = self._as_it_would_be()
        if record is not self._record:
            now = self._manager.settings.clock()
            record = self._manager.lifetime.renewed(record, now)
        return _utc(record.expires_at)

    @property
    def idle_timeout(self) -> float | None:
        """The seconds without a request that end it; `None`: no idle end."""
        self._read()
        return self._manager.lifetime.idle_timeout_of(self._as_it_would_be())

    @property
    def principal(self) -> str | None:
        """Whom `login` was called with, as text; `None`: nobody is logged in."""
        self._read()
        record = self._record
        return None if record is None else record.principal

    @property
    def authenticated_at(self) -> datetime | None:
        """When `login` was last called for it, in UTC; `None`: never."""
        self._read()
        record = self._record
        if record is None or record.authenticated_at is None:
            return None
        return _utc(record.authenticated_at)

    @property
    def persistent(self) -> bool | None:
        """What `remember` chose; `None`: the cookie setting holds."""
        self._read()
        if "persistent" in self._options:
            return bool(self._options["persistent"])
        return None if self._record is None else self._record.persistent

    def _handler_now(self) -> Any:
        """Return the request's handler; None outside a request."""
        return None if self._handler is None else self._handler()

    @property
    def _record(self) -> Record | None:
        return None if self._stored is None else self._stored.record

    def _as_it_would_be(self) -> Record:
        record = self._record or self._first(b"", (), NO_OPTIONS, self._started)
        if not self._options:
            return record
        return msgspec.structs.replace(record, **self._options)

    # Messages for the next page, and the session's own timeouts.

    def flash(self, message: str, category: str = "info") -> None:
        """Keep ``message`` for whoever calls `flashes` next.

        Kept beside the mapping. Messages of parallel requests all survive.
        """
        message, category = text("message", message), text("category", category)
        self._write()
        self._flashed += (Flash(secrets.token_bytes(6), category, message),)

    def flashes(self, category: str | None = None) -> list[tuple[str, str]]:
        """Return and remove the messages, as ``(category, message)``, oldest first.

        With a ``category``, only those of it.
        """
        self._read()
        if self._reach is CLOSED:
            raise RuntimeError("the response is finished: too late to read messages")
        stored = () if self._record is None else self._record.flashes
        waiting = [flash for flash in stored if flash.id not in self._flashes_read]
        found = [
            flash
            for flash in (*waiting, *self._flashed)
            if category is None or flash.category == category
        ]
        mine = {flash.id for flash in self._flashed}
        self._flashes_read |= {flash.id for flash in found if flash.id not in mine}
        self._flashed = tuple(flash for flash in self._flashed if flash not in found)
        return [(flash.category, flash.message) for flash in found]

    def remember(self, persistent: bool) -> None:
        """Let the cookie outlive the browser, or end with it."""
        if not isinstance(persistent, bool):
            raise type_error("remember", persistent, "True or False")
        self._set_option("remember", "persistent", persistent)

    def set_idle_timeout(self, timeout: float | timedelta | None) -> None:
        """End this session after ``timeout`` without a request.

        In seconds, or a timedelta; `None` goes back to the setting. The lifetime
        still holds.
        """
        own = seconds("idle_timeout", timeout)
        self._set_option("set_idle_timeout", "idle_timeout", own)

    def set_expiry(self, when: datetime | None) -> None:
        """End this session at ``when``, an aware datetime, whatever happens.

        Requests do not put it off. A time after the end of its lifetime counts as
        that end. `None` takes a fixed end back.
        """
        if when is not None:
            if not isinstance(when, datetime):
                raise type_error("set_expiry", when, "an aware datetime or None")
            if when.tzinfo is None or when.utcoffset() is None:
                raise ValueError("set_expiry needs an aware datetime, with a time zone")
        end = None if when is None else when.timestamp()
        self._set_option("set_expiry", "end", end)

    def _set_option(self, verb: str, name: str, value: object) -> None:
        self._write()
        if self._reach is not OPEN:
            self._refuse_sealed(verb)
        self._options = {**self._options, name: value}

    # What talks to the store.

    async def save(self) -> None:
        """Save the changes now; stored when it returns.

        Unchanged afterwards means no second save at the end of the request, and a
        later server error does not take it back. Without changes nothing is
        written. It saves even where the handler says ``session_save = False``.
        Raises `.SessionGone` where another request ended the session.
        """
        await self._in_turn("save", self._save)

    async def _save(self) -> None:
        self._refuse_ended()
        changes, renew = self._changes(), self._may_renew()
        if changes and self._manager.settings.before_save is not None:
            await self._look_before_saving()
            changes = self._changes()
        if changes or self._reach is not DETACHED:
            await self._store(changes, renew=renew)
        elif renew and self._renewal_is_due():
            await self._renew(must=True)

    async def reload(self) -> None:
        """Drop the changes of this request and take what is stored.

        Raises `.SessionGone` where nothing is stored any more.
        """
        await self._in_turn("reload", self._reload)

    async def _reload(self) -> None:
        self._refuse_ended()
        snapshot = self._snapshot()
        if self._stored is None:
            self._take_in({}, snapshot)
            return
        found = await self._manager.lookup.find([self._stored.id])
        if found.stored is None:
            raise self._is_gone()
        self._became(found.stored, snapshot, found.values)

    async def touch(self) -> None:
        """Put the session's end off now, as a request that renews it does.

        Nothing happens where no session is stored. An open WebSocket keeps its
        session alive by this; the cookie is not sent there.
        """
        await self._in_turn("touch", self._touch)

    async def _touch(self) -> None:
        self._refuse_ended()
        if self._stored is not None:
            await self._renew(must=True)

    @overload
    async def transact(self, fn: Callable[[dict[str, Any]], Awaitable[_T]]) -> _T: ...
    @overload
    async def transact(self, fn: Callable[[dict[str, Any]], _T]) -> _T: ...
    async def transact(self, fn: Callable[[dict[str, Any]], Any]) -> Any:
        """Change the stored data by ``fn``, as if no other request were there.

        ``fn`` gets a dict: what is stored, with this request's changes made to it.
        It changes the dict in place; that is saved, and its result returned. It is
        called again where another request saved in between, so it must do nothing
        else. It may be ``async``. If it raises, nothing is saved. ::

            def vote(data):
                data["votes"] = data.get("votes", 0) + 1
            await self.session.transact(vote)
        """
        return await self._in_turn("transact", self._transact, fn)

    async def _transact(self, fn: Callable[[dict[str, Any]], Any]) -> Any:
        self._refuse_ended()
        await self._look_before_saving()
        changes = self._changes()
        transaction = _Transaction(self, fn)
        if self._stored is None:
            self._refuse_sealed("begin a session")
            encoded = transaction.run(self._loads(changes.encoded))
            if not isinstance(encoded, bytes):
                encoded = await encoded
            values = self._loads(encoded)
            if values or changes.flashed:
                await self._create(changes, data=encoded)
            else:
                self._take_in(values, changes)
            return transaction.result
        serializer = self._manager.codec.serializer

        def edit(stored: Stored) -> Record | Awaitable[Record]:
            record = _of(stored)
            values = self._manager.codec.values(record)
            draft = transaction.run(changes.made_to(values, serializer))
            if isinstance(draft, bytes):
                return self._edited(record, changes, draft)
            return self._edited_when_drafted(record, changes, draft)

        await self._update(changes, edit, renew=self._may_renew())
        return transaction.result

    async def _edited_when_drafted(
        self, record: Record, changes: Changes, draft: Awaitable[bytes]
    ) -> Record:
        return self._edited(record, changes, await draft)

    async def regenerate(
        self, keep: bool = True, *, grace: float | timedelta = 0
    ) -> None:
        """Give the session a new id; the old one is dead when it returns.

        With the same data, or empty with ``keep=False``. Call it when the user's
        rights change; `login` does it by itself. Raises `.SessionGone` where
        another request ended the session.

        Where ids are changed now and then, with no change of rights, requests
        already in flight with the old id keep working for ``grace`` seconds (60 at
        most). They are not told the new id.
        """
        allowance = seconds("grace", grace) if grace else 0.0
        if allowance is None or allowance > MAX_GRACE:
            raise ValueError(f"grace must be from 0 to {MAX_GRACE:g} seconds")
        await self._whole("regenerate", self._regenerate, keep, allowance)

    async def _regenerate(
        self, before: Changes | None, keep: bool, grace: float
    ) -> None:
        self._refuse_sealed("give the session a new id")
        self._refuse_ended()
        await self._look_before_saving()
        changes = self._changes()
        if self._stored is None:
            if keep:
                await self._store(changes)
            else:
                self._take_in({}, changes if before is None else before)
            return
        now = self._manager.settings.clock()

        def edit(record: Record) -> Record:
            edit = self._edited if keep else self._emptied
            return self._manager.lifetime.renewed(edit(record, changes), now)

        digest = ids.digest_of(self._stored.id)
        await self._move(changes, edit, digest, before, grace)

    async def login(self, principal: str | int) -> None:
        """Remember that ``principal`` is logged in, under a new id.

        Stored when it returns. A number is kept as text: after ``login(7)``,
        `principal` is ``"7"``. The data is kept where nobody was logged in, or the
        same principal; another one starts empty. The lifetime begins anew.
        """
        await self._whole("log in", self._login, principal_name(principal))

    async def _login(self, before: Changes | None, who: str) -> None:
        self._refuse_sealed("log in")
        await self._look_before_saving()
        changes = self._changes()
        now = self._manager.settings.clock()
        first = self._first(changes.encoded, changes.flashed, changes.options, now)
        until = self._manager.lifetime.renewed(
            msgspec.structs.replace(first, principal=who), now
        ).expires_at
        identity = await self._manager.revocation.identify(who, until)

        def edit(record: Record) -> Record:
            kept = record.principal in (None, who)
            edit = self._edited if kept else self._emptied
            return self._logged_in(edit(record, changes), changes, identity, now)

        if self._phase is STORED:
            try:
                await self._move(changes, edit, identity.digest, before)
                return
            except SessionGone:
                pass  # a logout came first: this login stands for itself
        await self._create(changes, identity, self._own_data(changes))

    def _logged_in(
        self, record: Record, changes: Changes, identity: Identity, now: float
    ) -> Record:
        edited = msgspec.structs.replace(
            record,
            created=now,
            end=changes.options.get("end"),
            principal=identity.principal,
            authenticated_at=now,
            marker=identity.marker,
        )
        return self._manager.lifetime.renewed(edited, now)

    async def revoke_others(self) -> None:
        """End all other sessions of the principal, on whatever device.

        For a changed password, or a user who asks for it. None of them can be used
        any more when it returns, and this one has a new id. Costs the same however
        many there are. Raises `RuntimeError` where nobody is logged in, and
        `.SessionGone` where another request ended this session; then nothing was
        done. With `.StoreError` nothing may have been ended, or all: this one too.
        """
        await self._whole("revoke the other sessions", self._revoke_others)

    async def _revoke_others(self, before: Changes | None) -> None:
        self._refuse_sealed("give the session a new id")
        self._refuse_ended()
        record = self._record
        if record is None or record.principal is None or record.marker is None:
            raise RuntimeError("nobody is logged in, whose sessions could be ended")
        await self._look_before_saving()
        changes = self._changes()
        now = self._manager.settings.clock()
        marker = self._manager.revocation.next_value(record)

        def edit(record: Record) -> Record:
            edited = self._edited(record, changes)
            edited = msgspec.structs.replace(edited, marker=marker)
            return self._manager.lifetime.renewed(edited, now)

        # The marker is set last: until then nothing was done to the others, and this
        # session is alive before and after.
        assert self._stored is not None
        await self._move(changes, edit, ids.digest_of(self._stored.id), before)
        assert self._stored is not None
        try:
            await self._manager.revocation.replace(self._stored.id, _of(self._stored))
        except SessionGone:
            self._delivery = Delivery.NOTHING
            raise self._is_gone() from None

    async def logout(self) -> None:
        """End the session; the same as `destroy`."""
        await self.destroy()

    async def destroy(self) -> None:
        """End the session; it is dead when this returns.

        Whatever the request presented is ended, loaded or not. What is written
        afterwards in this request starts a new session. Raises `.SessionGone`
        where somebody has logged in since under a newer id: the older id cannot
        end that. Raises `.StoreError` where the end cannot be confirmed; the
        response then clears the cookie all the same, and the manager tries again.
        """
        await self._whole("destroy", self._destroy)

    async def _destroy(self, before: Changes | None) -> None:
        snapshot = self._snapshot() if before is None else before
        doomed, self._doomed = (*self._doomed, *self._ids_to_end()), ()
        self._end_failed = True  # then nothing of it is saved or renewed any more
        await self._end(doomed)
        self._end_failed = False
        self._forget(snapshot)

    def _ids_to_end(self) -> tuple[str, ...]:
        own = () if self._stored is None else (self._stored.id,)
        return (*own, *self._presented_ids)

    async def _end(self, session_ids: tuple[str, ...]) -> None:
        """End sessions; all are tried, and the last failure is raised."""
        failure: StoreError | SessionGone | None = None
        clear = False
        for session_id in dict.fromkeys(session_ids):
            at = self._stored
            if at is not None and (at.id != session_id or at.token is None):
                at = None
            try:
                await self._manager.end(session_id, at)
                clear = True
            except StoreError as error:
                clear, failure = True, error
            except SessionGone as error:
                failure = failure or error
        if clear:
            self._delivery = Delivery.CLEAR
        if failure is not None:
            if isinstance(failure, SessionGone):
                self._manager.count_refused_end()
            raise failure

    def _forget(self, snapshot: Changes | None) -> None:
        """Become the session of nobody; what was written since ``snapshot`` stays."""
        if snapshot is not None:
            self._take_in({}, snapshot)
        else:
            self._data.clear()
            self._drop_changes()
        self._stored = None
        self._presented_ids = self._others = ()
        self._is_new = True
        self._advance(Event.DESTROYED)

    def _doom(self) -> None:
        """End the session with the request; what is written now is a new one's."""
        self._accessed = True
        if self._reach is CLOSED:
            raise RuntimeError("the response is finished: too late to end the session")
        if self._reach is DETACHED:
            raise RuntimeError(
                "no response will end it: await self.session.destroy() on a WebSocket"
            )
        self._doomed += self._ids_to_end()
        was_unavailable = self._phase is UNAVAILABLE
        self._forget(None)
        if was_unavailable:
            # What is written from now on is still for this request only.
            self._advance(Event.FAILED)

    # How the verbs run: one after another, and those that change the id to their end.

    async def _in_turn(
        self, verb: str, act: Callable[..., Awaitable[_T]], *arguments: Any
    ) -> _T:
        turn = self._entered(verb)
        async with turn:
            return await act(*arguments)

    async def _whole(
        self, verb: str, act: Callable[..., Awaitable[None]], *arguments: Any
    ) -> None:
        turn = self._entered(verb)
        # What is written from now on is written meanwhile: the act is a task, which
        # begins a moment later.
        before = None if turn.is_taken else self._snapshot()
        self._moving += 1
        work = self._moved_in_turn(turn, act, before, *arguments)
        await self._manager.tasks.whole(work)

    async def _moved_in_turn(
        self, turn: _Turn, act: Callable[..., Awaitable[None]], *arguments: Any
    ) -> None:
        try:
            async with turn:
                await act(*arguments)
        finally:
            self._moving -= 1

    def _entered(self, verb: str) -> _Turn:
        self._accessed = True
        if self._reach is CLOSED:
            raise RuntimeError(
                f"the response is finished: too late to {verb}. Code outside a request "
                "uses await manager.get(session_id)"
            )
        if verb != "destroy":
            if self._phase is UNLOADED:
                raise SessionNotLoaded(self._why_unloaded)
            if self._phase is UNAVAILABLE:
                raise StoreUnavailable(verb, "", "the session could not be loaded")
        if self._loop is not None and asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f"cannot {verb} on another event loop than the request's: in a worker "
                "thread, use asyncio.run_coroutine_threadsafe(..., loop) with the "
                "handler's loop, or do it after the thread has ended"
            )
        turn = self._own_turn()
        turn.refuse_holder()
        return turn

    def _own_turn(self) -> _Turn:
        if self._turn is None:
            self._turn = _Turn()
        return self._turn

    def _refuse_ended(self) -> None:
        if self._phase is ENDED:
            self._is_told = True
            raise SessionGone("session was ended by another request")

    def _is_gone(self) -> SessionGone:
        """Note that another request ended the session; return the error to raise."""
        self._advance(Event.GONE)
        self._is_told = True
        return SessionGone("session was ended by another request")

    def _may_renew(self) -> bool:
        # Record and cookie expire together, so not where no cookie can be sent. A
        # WebSocket keeps its session alive without one.
        handler = self._handler_now()
        if handler is None or not getattr(handler, "session_renew", True):
            return False
        return self._reach is OPEN or self._reach is DETACHED

    async def _look_before_saving(self) -> None:
        """Let the ``before_save`` setting look at the session, and change it."""
        if self._manager.settings.before_save is None:
            return
        # At the end of a request the handler may not change it any more; this may.
        reach = self._reach
        if reach is CLOSED:
            self._reach = OPEN
        try:
            await self._manager.before_save(self)
        finally:
            self._reach = reach

    # Loading.

    def _loaded(self, found: Found) -> None:
        """Stand for what was found under the ids that the request presented."""
        self._presented = found.presented
        if found.stored is not None:
            self._stored = found.stored
            self._data = found.values
            self._is_new = False
            self._presented_ids = ()
            record = found.stored.record
            self._had_principal = record is not None and record.principal is not None
            self._advance(Event.FOUND)
            return
        if found.others:
            self._presented_ids = self._others = found.others
        if found.is_ended:
            self._others = self._presented_ids
        self._advance(Event.FOUND_ENDED if found.is_ended else Event.NOT_FOUND)

    def _refused(self) -> None:
        """Be an empty session, since ``validate`` refused the one that was loaded."""
        if self._stored is None:
            return  # the hook has ended it
        self._presented = Presented.REFUSED
        self._presented_ids = self._others = (self._stored.id,)
        self._stored, self._data, self._is_new = None, {}, True
        self._drop_changes()
        self._advance(Event.NOT_FOUND)

    def _failed(self) -> None:
        """Go on without the store: what is written is for this request only."""
        self._advance(Event.FAILED)

    # What was changed.

    def _loads(self, data: bytes) -> dict[str, Any]:
        loaded: dict[str, Any] = self._manager.codec.serializer.loads(data)
        return loaded

    def _dumps_or_differs(self, value: Any) -> Any:
        try:
            return self._manager.codec.serializer.dumps(value)
        except Exception:
            return object()  # equal to nothing: the next save will tell

    def _has_data(self) -> bool:
        return bool(self._data or self._flashed)

    def _changed(self) -> Changes | None:
        """Return the `_changes`; `None` if the stored record says what is here.

        Most requests change nothing: for them this is all that is asked.
        """
        record = self._stored and self._stored.record
        if (
            record is None
            or self._flashed
            or self._flashes_read
            or self._options is not NO_OPTIONS
        ):
            return self._changes()
        if not self._accessed:
            return None
        encoded = self._encoded()
        return None if encoded == record.data else self._compared(record, encoded)

    def _changes(self) -> Changes:
        """Return what was changed since the session was loaded or saved.

        The encoded form decides. Raises `.EncodeError` for a value that would not
        come back as it was.
        """
        record = self._record
        if record is None:
            encoded = self._encoded()
            check_items(self._manager.codec.serializer, self._data, encoded=True)
            return self._as_changes(frozenset(self._data), _NO_KEYS, b"", encoded)
        if not self._accessed:
            return self._as_changes(_NO_KEYS, _NO_KEYS, record.data, record.data)
        return self._compared(record, self._encoded())

    def _as_changes(
        self,
        changed: frozenset[str],
        deleted: frozenset[str],
        base: bytes,
        encoded: bytes,
    ) -> Changes:
        return Changes(
            changed,
            deleted,
            base,
            encoded,
            self._flashed,
            self._flashes_read,
            self._options,
        )

    def _encoded(self) -> bytes:
        serializer = self._manager.codec.serializer
        try:
            return serializer.dumps(self._data)
        except Exception as error:
            check_items(serializer, self._data)
            raise EncodeError(
                "session", "mapping", f"that cannot be encoded ({type(error).__name__})"
            ) from None

    def _compared(self, record: Record, encoded: bytes) -> Changes:
        base = record.data
        if encoded == base:
            return self._as_changes(_NO_KEYS, _NO_KEYS, base, base)
        serializer, data = self._manager.codec.serializer, self._data
        # The bytes also differ where another serializer wrote them, or where the keys
        # stand in another order.
        stored = encoded_values(serializer, base)
        try:
            current = encoded_values(serializer, encoded, data)
        except RecursionError:
            check_items(serializer, data)  # names what is too deep
            raise
        changed = {
            key: data[key]
            for key, value in current.items()
            if key not in stored
            or (
                value != stored[key]
                and bytes(value) != serializer.dumps(serializer.loads(stored[key]))
            )
        }
        check_items(serializer, changed, encoded=True)
        deleted = frozenset(stored.keys() - data.keys())
        if not changed and not deleted:
            encoded = base
        return self._as_changes(frozenset(changed), deleted, base, encoded)

    def _snapshot(self) -> Changes:
        """Return the present state, whether it can be encoded or not.

        What is written later differs from it, and so is found again.
        """
        try:
            encoded = self._manager.codec.serializer.dumps(self._data)
        except Exception:
            encoded = b""
        return self._as_changes(_NO_KEYS, _NO_KEYS, b"", encoded)

    def _own_data(self, changes: Changes) -> bytes:
        """Return the data that ``changes`` alone make, as those of a new session."""
        if not changes.base:
            return changes.encoded
        serializer = self._manager.codec.serializer
        return serializer.dumps(changes.made_to({}, serializer))

    def _became(
        self,
        stored: Stored,
        seen: Changes,
        values: dict[str, Any] | None = None,
        before: Changes | None = None,
    ) -> None:
        """Stand for ``stored``; what was changed since ``seen`` stays changed.

        Values that are stored as they are here keep their objects.
        """
        record = _of(stored)
        if record.data != seen.encoded:
            if values is None:
                values = self._manager.codec.values(record)
            self._take_in_values(values, seen if before is None else before)
        if before is not None and self._flashed:
            # A message that was added meanwhile may have been dropped with the data.
            kept = {flash.id for flash in record.flashes}
            added = [f for f in seen.flashed if f not in before.flashed]
            lost = {flash.id for flash in added} - kept
            seen = seen._replace(
                flashed=tuple(f for f in seen.flashed if f.id not in lost)
            )
        if self._flashed or self._flashes_read or self._options:
            self._drop_seen(seen)
        self._stored = stored
        self._presented_ids = ()
        if record.principal is not None:
            self._had_principal = True
        if self._phase is not STORED:
            self._advance(Event.SAVED)

    def _take_in(self, values: dict[str, Any], seen: Changes) -> None:
        self._take_in_values(values, seen)
        self._drop_seen(seen)

    def _take_in_values(self, values: dict[str, Any], seen: Changes) -> None:
        dumps = self._dumps_or_differs
        before = self._loads(seen.encoded) if seen.encoded else dict(self._data)
        replace_values(self._data, merge(before, self._data, values, dumps), dumps)

    def _drop_seen(self, seen: Changes) -> None:
        if self._flashed:
            self._flashed = tuple(f for f in self._flashed if f not in seen.flashed)
        if self._flashes_read:
            self._flashes_read -= seen.read
        if self._options:
            left = {
                name: value
                for name, value in self._options.items()
                if name not in seen.options or seen.options[name] != value
            }
            self._options = left or NO_OPTIONS

    # What becomes of a record.

    def _first(
        self,
        data: bytes,
        flashes: tuple[Flash, ...],
        options: Mapping[str, Any],
        now: float,
    ) -> Record:
        record = Record(
            created=now,
            renewed_at=now,
            expires_at=now,
            data=data,
            flashes=flashes,
            **options,
        )
        return self._manager.lifetime.renewed(record, now)

    def _edited(
        self, record: Record, changes: Changes, data: bytes | None = None
    ) -> Record:
        """Return ``record`` with ``changes`` made to it, or with other ``data``."""
        if data is None:
            if record.data == changes.base:
                data = changes.encoded
            else:
                codec = self._manager.codec
                values = changes.made_to(codec.values(record), codec.serializer)
                data = codec.serializer.dumps(values)
        return msgspec.structs.replace(
            record,
            data=data,
            flashes=changes.flashes(record.flashes),
            **changes.options,
        )

    def _emptied(self, record: Record, changes: Changes) -> Record:
        """Return ``record`` without data, messages and options.

        Only the options that this request set stay.
        """
        own = {"idle_timeout": None, "end": None, "persistent": None}
        return msgspec.structs.replace(
            record,
            data=self._manager.codec.empty(),
            flashes=(),
            **{**own, **changes.options},
        )

    # Storing.

    async def _store(
        self,
        changes: Changes | None,
        *,
        always: bool = False,
        renew: bool = True,
        attempt: Attempt | None = None,
    ) -> None:
        """Create or update the session; nothing where nothing was changed.

        With ``always`` an existing one is written all the same. A renewal that is
        due goes along. ``attempt`` is the first try, where it is under way.
        """
        if changes is None:
            changes = self._changes()
        if self._stored is None:
            if self._has_data() or (always and self._manager.settings.allow_empty):
                self._refuse_sealed("begin a session")
                await self._create(changes)
        elif changes or always:
            known = changes
            await self._update(
                known,
                lambda stored: self._edited(_of(stored), known),
                renew=renew,
                attempt=attempt,
            )

    async def _create(
        self,
        changes: Changes,
        identity: Identity | None = None,
        data: bytes | None = None,
    ) -> None:
        """Store a session for the first time, with ``data`` instead of the own."""
        manager = self._manager
        await manager.admit(self)
        now = manager.settings.clock()
        encoded = changes.encoded if data is None else data
        record = self._first(encoded, changes.flashed, changes.options, now)
        if identity is not None:
            record = self._logged_in(record, changes, identity, now)
        for _ in range(ID_ATTEMPTS):
            new_id = await manager.mint(self, identity.digest if identity else "")
            stored = await manager.records.create(new_id, record)
            if stored is not None:
                others = self._others
                self._became(stored, changes)
                self._delivery = Delivery.SEND
                manager.counts["saves"] += 1
                manager.report_begin()
                await self._end_others(others)
                return
        raise StoreRejected("save", "", f"{ID_ATTEMPTS} new ids in a row were taken")

    async def _end_others(self, others: tuple[str, ...]) -> None:
        """End what the request presented and is not used, so that one session is left.

        An end that cannot be confirmed is tried again later.
        """
        self._others = ()
        for session_id in others:
            try:
                await self._manager.end(session_id)
            except (StoreError, SessionGone):
                pass  # kept by the manager; or another login's

    async def _update(
        self,
        changes: Changes,
        edit: Edit,
        *,
        renew: bool,
        attempt: Attempt | None = None,
    ) -> None:
        """Put ``edit(stored)``, with ``changes`` in it, in the place of the stored.

        Its end is put off where that is due and ``renew``, and where the request
        set an option that bears on it.
        """
        assert self._stored is not None
        renews = self._renews(_of(self._stored), changes, renew)
        if renews:
            edit = self._renewing(edit)
        stored = await self._change(edit, attempt)
        self._updated(stored, changes)
        if renews:
            await self._renewed(stored)

    def _updated(self, stored: Stored, changes: Changes) -> None:
        self._became(stored, changes)
        self._manager.counts["saves"] += 1

    def _renews(self, record: Record, changes: Changes, renew: bool) -> bool:
        if changes.options:
            return True
        now = self._manager.settings.clock()
        return renew and self._manager.lifetime.renewal_due(record, now)

    def _renewing(self, edit: Edit) -> Edit:
        async def when_edited(edited: Awaitable[Record]) -> Record:
            return self._put_off(await edited)

        def renewing(stored: Stored) -> Record | Awaitable[Record]:
            edited = edit(stored)
            if isinstance(edited, Record):
                return self._put_off(edited)
            return when_edited(edited)

        return renewing

    def _put_off(self, record: Record) -> Record:
        now = self._manager.settings.clock()
        cookie = self._sends_cookie()
        return self._manager.lifetime.renewed(record, now, cookie=cookie)

    def _sends_cookie(self) -> bool:
        # A job has no response, and a stream's headers may have left.
        return self._handler is not None and self._reach in (OPEN, CLOSED)

    async def _renewed(self, stored: Stored) -> None:
        if self._sends_cookie():
            self._delivery = Delivery.SEND
        await self._manager.revocation.keep(stored.id, _of(stored))

    async def _change(self, edit: Edit, attempt: Attempt | None = None) -> Stored:
        assert self._stored is not None
        records = self._manager.records
        try:
            return await records.change(self._stored, edit, attempt=attempt)
        except SessionGone:
            raise self._is_gone() from None

    async def _renew(self, *, must: bool = False) -> bool:
        """Put off the session's end; return whether that was done.

        Where another request came in between, it is left at that, unless it
        ``must`` be done.
        """
        at, records = self._stored, self._manager.records
        assert at is not None
        if must:
            stored = await self._change(lambda found: self._put_off(_of(found)))
            # What others saved meanwhile is taken in: it is no change of this request.
            base = _of(at).data
            seen = Changes(_NO_KEYS, _NO_KEYS, base, base, (), _NO_KEYS, NO_OPTIONS)
            self._became(stored, seen)
        else:
            if at.token is None or records.is_over(_of(at)):
                return False
            attempt = records.begin(at, self._put_off(_of(at)))
            if attempt is None:
                return False
            try:
                answer = await records.operations.answer(attempt.answer)
                is_stored = answer is CasResult.STORED
            finally:
                stored = records.done(attempt)
            if not is_stored:
                return False
        self._stored = stored
        self._manager.counts["renewals"] += 1
        await self._renewed(stored)
        return True

    async def _move(
        self,
        changes: Changes,
        edit: Callable[[Record], Record],
        digest: str,
        before: Changes | None,
        grace: float = 0.0,
    ) -> None:
        """Put ``edit(record)`` under a new id with this ``digest``, if any.

        What was written since ``before`` stays, also where the data does not go
        along.
        """
        at = self._stored
        assert at is not None
        manager = self._manager
        new_id = await manager.mint(self, digest)
        try:
            moved = await manager.rotation.move(at, new_id, edit, grace)
        except Replaced:
            if not grace:
                raise self._is_gone() from None
            # Another request has just given it a new id, which serves for both.
            moved = Moved(await self._change(lambda stored: edit(_of(stored))))
        except SessionGone:
            raise self._is_gone() from None
        self._became(moved.stored, changes, before=before)
        self._delivery = Delivery.SEND
        manager.counts["saves"] += 1
        manager.report_end("rotated")
        if moved.failure is not None:
            raise moved.failure

    # The end of the request.

    def _plan(self, *, failed: bool, save: bool | None, renew: bool) -> Plan:
        """Decide what the end of a request must do. Raises `.EncodeError`."""
        settings = self._manager.settings
        if self._end_failed or (failed and not settings.save_on_server_error):
            return NOTHING
        if self._doomed:
            return Plan(Step.DESTROY)
        phase = self._phase
        if save is False or phase is UNLOADED or phase is UNAVAILABLE:
            return NOTHING
        if phase is STORED:
            changes = self._changes() if save else self._changed()
            if changes is not None and (save or changes):
                return Plan(Step.UPDATE, changes)
            if renew and self._accessed and self._renewal_is_due():
                return Plan(Step.RENEW)
            return NOTHING
        if phase is ENDED:
            if self._has_data() if self._stored is None else self._changed():
                self._manager.requests.count_dropped_save(log=not self._is_told)
            return NOTHING
        if self._has_data() or (settings.allow_empty and self._accessed):
            if not self._manager.withholds(self):
                return Plan(Step.CREATE, self._changes())
        return NOTHING

    def _renewal_is_due(self) -> bool:
        record = self._stored and self._stored.record
        return record is not None and self._manager.lifetime.renewal_due(
            record, self._manager.settings.clock()
        )

    def _begin(self, plan: Plan, renew: bool) -> Attempt | None:
        """Begin the one operation that a save mostly is; `_commit` goes on from it.

        None where there is more to do, or where something else is under way. When
        it is stored, `_finished_attempt` is all that is left to do.
        """
        at, changes = self._stored, plan.changes
        if (
            plan.step is not Step.UPDATE
            or self._reach is not CLOSED
            or self._turn is not None
            or self._manager.settings.before_save is not None
            or at is None
            or at.token is None
            or changes is None
        ):
            return None
        record = _of(at)
        if self._renews(record, changes, renew):
            return None
        try:
            return self._manager.records.begin(at, self._edited(record, changes))
        except SessionError:
            return None  # `_commit` meets it too, and raises it

    def _finished_attempt(self, plan: Plan, attempt: Attempt) -> None:
        assert plan.changes is not None
        self._updated(self._manager.records.done(attempt), plan.changes)

    async def _commit(
        self, plan: Plan, *, renew: bool, attempt: Attempt | None = None
    ) -> None:
        """Do what was planned. Raises `.SessionError`, and what a hook raises."""
        step = plan.step
        if step is Step.RENEW:
            await self._renew()
        elif step is Step.DESTROY:
            doomed, told = self._doomed, self._delivery
            self._doomed = ()
            try:
                await self._end(doomed)
            finally:
                if self._stored is not None:
                    self._delivery = told  # a new session was saved since
            save = getattr(self._handler_now(), "session_save", None)
            if self._has_data() and save is not False:
                if self._phase is not UNAVAILABLE:
                    await self._look_before_saving()
                    await self._store(None, renew=renew)
        elif step is not Step.NOTHING:
            changes = plan.changes
            if self._manager.settings.before_save is not None and attempt is None:
                await self._look_before_saving()
                if self._doomed:  # the hook has ended the session
                    await self._commit(Plan(Step.DESTROY), renew=renew)
                    return
                changes = self._changes()
            await self._store(changes, always=True, renew=renew, attempt=attempt)


class _Transaction:
    """Runs ``fn`` for `Session.transact`; ``result`` is what it last returned."""

    def __init__(self, session: Session, fn: Callable[[dict[str, Any]], Any]) -> None:
        self._serializer = session._manager.codec.serializer
        self._fn = fn
        self.result: Any = None

    def run(self, data: dict[str, Any]) -> bytes | Awaitable[bytes]:
        """Return what ``fn`` makes of ``data``, encoded.

        Raises `.EncodeError` where it put something in that would not come back.
        """
        before = self._serializer.dumps(data)
        # A copy: what ``fn`` does must be undone by forgetting it.
        draft: dict[str, Any] = self._serializer.loads(before)
        returned = self._fn(draft)
        if inspect.isawaitable(returned):
            return self._run_on(before, draft, returned)
        return self._ran(before, draft, returned)

    async def _run_on(
        self, before: bytes, draft: dict[str, Any], returned: Awaitable[Any]
    ) -> bytes:
        return self._ran(before, draft, await returned)

    def _ran(self, before: bytes, draft: dict[str, Any], result: Any) -> bytes:
        self.result = result
        try:
            after = self._serializer.dumps(draft)
        except Exception:
            check_items(self._serializer, draft)
            raise
        if after == before:
            if (
                isinstance(result, dict)
                and result is not draft
                and result != draft
                and (not draft or draft.keys() & result.keys())
                and not any(result is value for value in draft.values())
            ):
                raise TypeError(
                    "transact's function returned a new dict and left the data as it "
                    "was: change the dict that it gets, in place"
                )
            return after
        stored = encoded_values(self._serializer, before)
        current = encoded_values(self._serializer, after, draft)
        check_items(
            self._serializer,
            {k: draft[k] for k, value in current.items() if stored.get(k) != value},
            encoded=True,
        )
        return after


# Which turns the running task, or one that it came from, has at the moment.
_TURNS: ContextVar[tuple[object, ...]] = ContextVar("turns", default=())


class _Turn:
    """Lets one task at a time work on a session.

    For a task that has the turn already, and for those that it starts and waits
    for, it would never come: RuntimeError.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._mark: object = None

    @property
    def is_taken(self) -> bool:
        """Whether some task has the turn."""
        return self._lock.locked()

    def refuse_holder(self) -> None:
        """Raise where the running task has the turn already."""
        if self._mark is not None and self._mark in _TURNS.get():
            raise RuntimeError(
                "the session is being saved: a hook, or a function that transact "
                "calls, cannot await its methods"
            )

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Take the turn, or raise `.StoreUnavailable` where it does not come."""
        try:
            async with asyncio.timeout(seconds):
                await self.__aenter__()
        except TimeoutError:
            raise StoreUnavailable(
                "save", "", "another call on the session has not ended"
            ) from None
        try:
            yield
        finally:
            await self.__aexit__()

    async def __aenter__(self) -> None:
        self.refuse_holder()
        await self._lock.acquire()
        self._mark = object()
        self._before = _TURNS.set((*_TURNS.get(), self._mark))

    async def __aexit__(self, *_: object) -> None:
        self._mark = None
        _TURNS.reset(self._before)
        self._lock.release()


_OTHER_NAMES = {
    "set": "session[key] = value",
    "delete": "del session[key]",
    "remove": "session.pop(key, None)",
    "has_key": "key in session",
    "invalidate": "await session.destroy()",
    "clear_session": "await session.destroy()",
    "flush": "await session.destroy()",
    "cycle_key": "await session.regenerate()",
    "commit": "await session.save()",
    "is_empty": "not session",
    "max_age": "session.set_idle_timeout(seconds)",
}


def _of(stored: Stored) -> Record:
    assert stored.record is not None
    return stored.record


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(min(timestamp, _MAX_TIMESTAMP), UTC)


def _check_key(key: object) -> None:
    if type(key) is not str:
        raise EncodeError(
            "session", "mapping", f"with a key that is no text: {type(key).__name__}"
        )
