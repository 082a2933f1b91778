"""The session as a handler uses it."""

from __future__ import annotations

import asyncio
import functools
import sys
import weakref
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    MutableMapping,
)
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

import msgspec
from msgspec import Raw

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
from .sessions.draft import Changes, Draft, Transaction
from .sessions.lifetime import utc
from .sessions.record import Aside, Login, Record
from .sessions.repository import Attempt, Edit, Replaced, Stored
from .sessions.revocation import Identity
from .sessions.rotation import Moved
from .sessions.state import (
    CLOSED,
    DETACHED,
    ENDED,
    NEW,
    OPEN,
    STORED,
    TRANSITIONS,
    UNAVAILABLE,
    UNLOADED,
    Delivery,
    Event,
    Presented,
)
from .sessions.tasks import Turn
from .stores.base import CasResult

if TYPE_CHECKING:
    from .manager import SessionManager
    from .sessions.lookup import Found

__all__ = ["Session", "WatchedSession"]

_T = TypeVar("_T")
_Verb = TypeVar("_Verb", bound=Callable[..., Any])

MAX_GRACE = 60.0
ID_ATTEMPTS = 3

_MISSING: Any = object()


def _in_turn(verb: str, *, to_its_end: bool = False) -> Callable[[_Verb], _Verb]:
    """Let a method of a session run while no other of these methods does.

    With ``to_its_end`` it goes on even if its caller is cancelled: half of a login
    would leave the old id dead, and the new one unsent. What the request writes
    meanwhile is told from what it wrote before by `Session._before`.
    """

    def decorate(act: _Verb) -> _Verb:
        if not to_its_end:

            @functools.wraps(act)
            async def method(self: Session, *args: Any, **keywords: Any) -> Any:
                async with self._entered(verb):
                    self._before = None
                    return await act(self, *args, **keywords)

            return cast(_Verb, method)

        @functools.wraps(act)
        async def whole(self: Session, *args: Any, **keywords: Any) -> None:
            turn = self._entered(verb)
            # The act is a task, which begins a moment later.
            before = None if turn.is_taken else self._draft.snapshot()

            async def in_turn() -> None:
                try:
                    async with turn:
                        self._before = before
                        await act(self, *args, **keywords)
                finally:
                    self._moving -= 1

            self._moving += 1
            await self._manager.tasks.whole(in_turn())

        return cast(_Verb, whole)

    return decorate


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
    response is finished, or if it would change the id after the headers left.
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
    _before: Changes | None = None  # the session as a verb found it that is running
    _turn: Turn | None = None
    _stored: Stored | None = None
    _others: tuple[str, ...] = ()  # presented, alive, and not this session
    _doomed: tuple[str, ...] = ()  # to be ended with the request
    _begun_at: float | None = None
    _validating: asyncio.Future[None] | None = None
    _end_failed = False
    _is_watched = False
    _at_end: bytes | None = None  # the data of a watched one when its response ended

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
        try:
            self._draft = Draft(manager.codec)
        except AttributeError:
            raise TypeError(
                "a Session is not made by hand: a handler has self.session, which a "
                "dict can be assigned to, and other code awaits manager.get(session_id)"
            ) from None

    @classmethod
    def _showing(cls, manager: SessionManager, record: Record) -> Session:
        """Return a session that shows ``record``, without an id and read-only."""
        session = cls(manager)
        session._stored = Stored("", "", record)
        if record.data:
            session._draft.data = manager.codec.values(record)
        session._is_new, session._phase, session._reach = False, STORED, CLOSED
        return session

    @property
    def _started(self) -> float:
        if self._begun_at is None:
            self._begun_at = self._manager.settings.clock()
        return self._begun_at

    def _advance(self, event: Event) -> None:
        self._phase = TRANSITIONS[self._phase][event]

    # The mapping.

    def _read(self) -> dict[str, Any]:
        self._accessed = True
        if self._phase is UNLOADED:
            raise SessionNotLoaded(self._why_unloaded)
        draft = self._draft
        if draft.view is not None:
            draft.view.sync(draft.data)
        return draft.data

    def _whole(self) -> dict[str, Any]:
        self._read()
        return self._draft.whole()

    def _write(self) -> dict[str, Any]:
        if self._reach is not OPEN:
            if self._reach is CLOSED:
                raise RuntimeError(
                    "the response is finished: too late to change the session. "
                    + _SOONER
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

    def _refuse_sealed_data(self) -> None:
        # The mapping refuses it at once, but an object of the schema cannot.
        if self._manager.codec.schema is not None and self._draft:
            raise SessionError(
                "the headers have left: too late to begin a session, since its cookie "
                "could not be sent"
            )

    def __getitem__(self, key: str) -> Any:
        value = self._read()[key]
        return value if type(value) is not Raw else self._draft.value(key, value)

    def __setitem__(self, key: str, value: Any) -> None:
        if type(key) is not str:
            raise _no_text(key)
        if type(value) is Raw:
            raise _encoded_already(key)
        self._write()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._write()[key]

    def __iter__(self) -> Iterator[str]:
        data = self._read()
        # Each access makes data and object equal, which may add a key.
        return iter(data if self._draft.view is None else list(data))

    def __len__(self) -> int:
        return len(self._read())

    def __contains__(self, key: object) -> bool:
        return key in self._read()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Session):
            return self._whole() == other._whole()
        if isinstance(other, Mapping):
            return self._whole() == dict(other)
        return NotImplemented

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return self._whole() | dict(other)

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return dict(other) | self._whole()

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        self.update(other)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of ``key``, or ``default``."""
        value = self._read().get(key, default)
        return value if type(value) is not Raw else self._draft.value(key, value)

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove ``key`` and return its value, or ``default`` if given."""
        data = self._write()
        value = data.pop(key) if default is _MISSING else data.pop(key, default)
        return value if type(value) is not Raw else self._draft.value(key, value)

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the pair that was added last."""
        key, value = self._write().popitem()
        return key, (value if type(value) is not Raw else self._draft.value(key, value))

    def clear(self) -> None:
        """Remove all keys that this request sees; the session itself stays."""
        self._write().clear()

    def copy(self) -> dict[str, Any]:
        """Return the data as a new dict."""
        return dict(self._whole())

    def replace(self, data: Mapping[str, Any]) -> None:
        """Put ``data`` in place of all keys that this request sees."""
        if not isinstance(data, Mapping):
            raise type_error("session", data, "a mapping or None")
        items = dict(data)
        for key, value in items.items():
            if type(key) is not str:
                raise _no_text(key)
            if type(value) is Raw:
                raise _encoded_already(key)
        kept = self._write()
        kept.clear()
        kept.update(items)

    def typed(self, schema: type[_T]) -> _T:
        """Return the data as an object of the ``schema`` setting, which is this one.

        A struct or a dataclass is the same object for the whole request. What is
        changed in it is changed in the mapping, and the other way round. A TypedDict
        is the data itself. Raises `TypeError` for another schema.
        """
        self._read()
        typed: _T = self._draft.typed(schema)
        return typed

    def __repr__(self) -> str:
        words = {
            UNLOADED: "not loaded",
            UNAVAILABLE: "unavailable",
            ENDED: "ended",
        }
        word = words.get(self._phase) or ("new" if self._is_new else "loaded")
        closed = " closed" if self._reach is CLOSED else ""
        return f"<Session {word}{closed} keys={len(self._draft.data)}>"

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
        return None if self._stored is None else self._stored.id or None

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
        return bool(self._draft if self._stored is None else changes)

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
        return utc(self._started if record is None else record.created)

    @property
    def expires_at(self) -> datetime:
        """When the session ends, if no request renews it before, in UTC."""
        self._read()
        record, stored = self._as_it_would_be(), self._record
        if record is not stored and (
            self._draft.options or self._changes_timeout(stored, record)
        ):
            now = self._manager.settings.clock()
            record = self._manager.lifetime.renewed(record, now)
        return utc(record.expires_at)

    @property
    def last_used(self) -> datetime:
        """When the session was last renewed, in UTC; by a login or a `touch`, too.

        Up to ``renew_after`` of the idle timeout before its last use: requests in
        between renew nothing. A session without an idle timeout is not renewed, and
        an open WebSocket does not move it.
        """
        self._read()
        record = self._record
        return utc(self._started if record is None else record.renewed_at)

    @property
    def idle_timeout(self) -> float | None:
        """The seconds without a request that end it, or `None` if there are none."""
        self._read()
        return self._manager.lifetime.idle_timeout_of(self._as_it_would_be())

    @property
    def principal(self) -> str | None:
        """The user who is logged in, as text, or `None`."""
        self._read()
        record = self._record
        return None if record is None else record.principal

    @property
    def impersonator(self) -> str | None:
        """The user who acts as `principal`, after `impersonate`; otherwise `None`."""
        self._read()
        aside = None if self._record is None else self._record.aside
        return None if aside is None else aside.principal

    @property
    def authenticated_at(self) -> datetime | None:
        """When `login` was last called for it, in UTC, or `None`."""
        self._read()
        record = self._record
        if record is None or record.authenticated_at is None:
            return None
        return utc(record.authenticated_at)

    @property
    def persistent(self) -> bool | None:
        """What `remember` chose; `None` if the setting of the cookie counts."""
        self._read()
        chosen = self._draft.options.get("persistent")
        if chosen is not None:
            return bool(chosen)
        return None if self._record is None else self._record.persistent

    def _handler_now(self) -> Any:
        """Return the request's handler; None outside a request."""
        return None if self._handler is None else self._handler()

    @property
    def _record(self) -> Record | None:
        return None if self._stored is None else self._stored.record

    @property
    def _handle(self) -> bytes | None:
        """What names the session in the list of its user's sessions."""
        return None if self._stored is None else self._stored.record.handle

    def _as_it_would_be(self) -> Record:
        """Return the record with what this request has set, renewed if it is new."""
        options, lifetime = self._draft.options, self._manager.lifetime
        if lifetime.choose is not None and self._reach is not CLOSED:
            encoded = self._draft.snapshot().encoded
            if encoded:
                options = {**options, "data": encoded}
        if self._stored is None:
            now = self._started
            record = Record(created=now, renewed_at=now, expires_at=now, data=b"")
            record = msgspec.structs.replace(record, **options)
            return lifetime.renewed(record, now)
        record = self._stored.record
        return msgspec.structs.replace(record, **options) if options else record

    # Messages for the next page, and the session's own timeouts.

    def flash(self, message: Any, category: str = "info") -> None:
        """Keep ``message`` until `flashes` is called.

        It is text, or anything else that a session can hold, as it is now. Kept
        beside the mapping. Messages of parallel requests are all kept. Raises
        `.EncodeError` for a message that would not come back as it was.
        """
        if isinstance(message, str):
            message = text("message", message)
        category = text("category", category)
        self._write()
        self._draft.flash(category, message)

    def flashes(self, category: str | None = None) -> list[tuple[str, Any]]:
        """Return and remove the messages, as ``(category, message)``, oldest first.

        With a ``category``, only those of it.
        """
        self._read()
        if self._reach is CLOSED:
            raise RuntimeError("the response is finished: too late to read messages")
        return self._draft.take_flashes(self._record, category)

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

        Requests do not postpone it. A time after the end of its lifetime counts as
        that end. `None` removes a fixed end.
        """
        if when is not None:
            if not isinstance(when, datetime):
                error = type_error("set_expiry", when, "an aware datetime or None")
                raise TypeError(f"{error}; for seconds there is set_idle_timeout()")
            if when.tzinfo is None or when.utcoffset() is None:
                raise ValueError(
                    "set_expiry needs an aware datetime, with a time zone, such as "
                    "datetime.now(UTC) + timedelta(hours=1)"
                )
        end = None if when is None else when.timestamp()
        self._set_option("set_expiry", "end", end)

    def _set_option(self, verb: str, name: str, value: object) -> None:
        self._write()
        if self._reach is not OPEN:
            self._refuse_sealed(verb)
        self._draft.options = {**self._draft.options, name: value}

    # What talks to the store.

    @_in_turn("save")
    async def save(self) -> None:
        """Save the changes now; stored when it returns.

        If nothing changes afterwards, there is no second save at the end of the
        request. A later server error does not undo it. Without changes nothing is
        written. It saves even if the handler says ``session_save = False``.
        Raises `.SessionGone` if another request ended the session.
        """
        self._refuse_ended()
        changes, renew = self._changes(), self._may_renew()
        if changes and self._manager.settings.before_save is not None:
            await self._look_before_saving()
            changes = self._changes()
        if changes or self._reach is not DETACHED:
            await self._store(changes, renew=renew)
        elif renew and self._renewal_is_due():
            await self._renew(must=True)

    @_in_turn("reload")
    async def reload(self) -> None:
        """Drop the changes of this request and take what is stored.

        Raises `.SessionGone` if nothing is stored any more.
        """
        self._refuse_ended()
        snapshot = self._draft.snapshot()
        if self._stored is None:
            self._draft.become({}, snapshot)
            return
        found = await self._manager.lookup.find(self._stored.id)
        if found.stored is None:
            raise self._is_gone()
        self._became(found.stored, snapshot, found.values)

    @_in_turn("touch")
    async def touch(self) -> None:
        """Renew the session now, as a request that uses it does from time to time.

        Nothing happens if no session is stored. An open WebSocket keeps its
        session alive by this; the cookie is not sent there.
        """
        self._refuse_ended()
        if self._stored is not None:
            await self._renew(must=True)

    @overload
    async def transact(self, fn: Callable[[dict[str, Any]], Awaitable[_T]]) -> _T: ...
    @overload
    async def transact(self, fn: Callable[[dict[str, Any]], _T]) -> _T: ...
    @_in_turn("transact")
    async def transact(self, fn: Callable[[dict[str, Any]], Any]) -> Any:
        """Change the stored data by ``fn``, as if no other request were there.

        ``fn`` gets a dict: what is stored, with this request's changes applied. It
        changes the dict in place. The dict is saved, and the result of ``fn`` is
        returned. If another request saved in between, ``fn`` is called again, so it
        must have no other effects. It may be ``async``. If it raises, nothing is
        saved. ::

            def vote(data):
                data["votes"] = data.get("votes", 0) + 1
            await self.session.transact(vote)
        """
        self._refuse_ended()
        await self._look_before_saving()
        changes = self._changes()
        codec = self._manager.codec
        transaction = Transaction(codec, fn)
        if self._stored is None:
            self._refuse_sealed("begin a session")
            encoded = transaction.run(codec.serializer.loads(changes.encoded))
            if not isinstance(encoded, bytes):
                encoded = await encoded
            values = codec.serializer.loads(encoded)
            if values or changes.flashed:
                await self._create(changes, data=encoded)
            else:
                self._draft.become(values, changes)
            return transaction.result

        async def edited(record: Record, data: Awaitable[bytes]) -> Record:
            return changes.edited(record, codec, await data)

        def edit(stored: Stored) -> Record | Awaitable[Record]:
            values = codec.values(stored.record)
            data = transaction.run(changes.made_to(values, codec.serializer))
            if isinstance(data, bytes):
                return changes.edited(stored.record, codec, data)
            return edited(stored.record, data)

        await self._update(changes, edit, renew=self._may_renew())
        return transaction.result

    @_in_turn("regenerate", to_its_end=True)
    async def regenerate(
        self, keep: bool = True, *, grace: float | timedelta = 0
    ) -> None:
        """Give the session a new id; the old one is dead when it returns.

        With the same data, or empty with ``keep=False``. Call it when the user's
        rights change; `login` does it by itself. Raises `.SessionGone` if
        another request ended the session.

        With ``grace``, requests already in flight with the old id keep working for so
        many seconds (60 at most). They do not get the new id. Use it if you change
        ids regularly, and not after a change of rights.
        """
        allowance = seconds("grace", grace) if grace else 0.0
        if allowance is None or allowance > MAX_GRACE:
            raise ValueError(f"grace must be from 0 to {MAX_GRACE:g} seconds")
        self._refuse_sealed("give the session a new id")
        self._refuse_ended()
        await self._look_before_saving()
        changes = self._changes()
        if self._stored is None:
            if keep:
                await self._store(changes)
            else:
                self._draft.become(
                    {}, changes if self._before is None else self._before
                )
            return
        now, codec = self._manager.settings.clock(), self._manager.codec

        def edit(record: Record) -> Record:
            edited = (changes.edited if keep else changes.emptied)(record, codec)
            return self._manager.lifetime.renewed(edited, now)

        await self._move(changes, edit, ids.digest_of(self._stored.id), allowance)

    @_in_turn("log in", to_its_end=True)
    async def login(self, principal: str | int, *, label: str = "") -> None:
        """Remember that ``principal`` is logged in, under a new id.

        Stored when it returns. A number is kept as text: after ``login(7)``,
        `principal` is ``"7"``. The data is kept if nobody was logged in, or the
        same principal; another one starts empty. The lifetime begins anew.

        With the setting ``track_sessions``, `.SessionManager.sessions` lists the
        session with its ``label``, for example the name of the device. What is
        longer than 100 characters is cut off.
        """
        who = principal_name(principal)
        name = text("label", label) if label else ""
        self._refuse_sealed("log in")
        await self._look_before_saving()
        changes = self._changes()
        manager, revocation = self._manager, self._manager.revocation
        at = self._stored if self._phase is STORED else None
        if at is None:
            await manager.admit(self)
        codec, now = manager.codec, manager.settings.clock()
        blank = msgspec.structs.replace(
            changes.first(now, changes.encoded), principal=who
        )
        until = manager.lifetime.renewed(blank, now).expires_at
        identity = revocation.like(who)

        def edit(record: Record) -> Record:
            kept = record.principal in (None, who) and record.aside is None
            edited = (changes.edited if kept else changes.emptied)(record, codec)
            return self._logged_in(edited, changes, identity, now)

        before = self._record
        is_theirs = before is not None and (
            before.principal not in (None, who) or before.aside is not None
        )
        # What can be refused is refused before another session is ended for it.
        new_id = await manager.mint(self, identity.digest)
        if identity.handle is not None:
            if at is not None:
                record = edit(at.record)
            else:
                record = changes.first(now, changes.alone(codec.serializer))
                if is_theirs:
                    record = changes.emptied(record, codec)
                record = self._logged_in(record, changes, identity, now)
            manager.records.check(new_id, record)
        own = None if at is None else at.record.handle
        identity = await self._identify(who, until, name, own)
        try:
            if at is not None:
                try:
                    await self._move(changes, edit, identity.digest, new_id=new_id)
                    return
                except SessionGone:
                    # Another request came first: this login stands for itself.
                    await manager.admit(self)
                    new_id = await manager.mint(self, identity.digest)
                if own is not None and identity.handle is not None:
                    # The session under its newer id may be alive, and counts.
                    await revocation.take_back(identity.digest, identity.handle)
                    identity = await self._identify(who, until, name)
            data = changes.alone(codec.serializer)
            await self._create(
                changes, identity, data, emptied=is_theirs, new_id=new_id
            )
        except Exception:
            if identity.handle is not None and identity.handle != self._handle:
                await revocation.take_back(identity.digest, identity.handle)
            raise

    async def _identify(
        self, who: str, until: float, label: str, instead_of: bytes | None = None
    ) -> Identity:
        """Return what makes a session that of ``who``, and tell what was ended."""
        identity = await self._manager.revocation.identify(
            who, until, label=label, instead_of=instead_of
        )
        for _ in range(identity.ended):
            self._manager.report_end("revoked", who, self)
        return identity

    def _logged_in(
        self, record: Record, changes: Changes, identity: Identity, now: float
    ) -> Record:
        handle = identity.handle
        edited = msgspec.structs.replace(
            record,
            created=now,
            end=changes.options.get("end"),
            principal=identity.principal,
            authenticated_at=now,
            marker=identity.marker,
            login=None if handle is None else Login(now, handle),
        )
        return self._manager.lifetime.renewed(edited, now)

    @_in_turn("act as another user", to_its_end=True)
    async def impersonate(self, principal: str | int) -> None:
        """Act as ``principal``, under a new id, until `stop_impersonating`.

        `principal` is then the other user, and `impersonator` the one who logged in.
        The data and the messages until then are set aside, and the session starts
        empty. The lifetime, the timeouts and `authenticated_at` stay as they
        are. `.SessionManager.revoke` of either user ends the session. A logout ends
        it, and a `login` begins another: nothing comes back then. Check in your
        application whether the user may do this.

        Raises `RuntimeError` if nobody is logged in, or the user acts as another
        one already; `ValueError` for the user's own name; and `.SessionGone` if
        another request ended the session.
        """
        who = principal_name(principal)
        self._refuse_sealed("act as another user")
        self._refuse_ended()
        at = self._stored
        own = None if at is None else at.record
        if at is None or own is None or own.principal is None or own.marker is None:
            raise RuntimeError("nobody is logged in, who could act as another user")
        if own.aside is not None:
            raise RuntimeError(
                "the user acts as another one already: await stop_impersonating() first"
            )
        if who == own.principal:
            raise ValueError("a user cannot act as themselves")
        aside = Aside(own.principal, ids.digest_of(at.id), own.marker, b"")
        await self._look_before_saving()
        changes = self._changes()
        codec, now = self._manager.codec, self._manager.settings.clock()
        until = self._put_off(own).expires_at
        identity = await self._manager.revocation.identify(who, until)

        def edit(record: Record) -> Record:
            own = changes.edited(record, codec)
            left = msgspec.structs.replace(aside, data=own.data, flashes=own.flashes)
            acting = msgspec.structs.replace(
                own,
                data=codec.empty(),
                flashes=(),
                principal=identity.principal,
                marker=identity.marker,
                login=Login(own.authenticated_at, own.handle, left),
            )
            return self._manager.lifetime.renewed(acting, now)

        await self._move(changes, edit, identity.digest)

    @_in_turn("stop acting as another user", to_its_end=True)
    async def stop_impersonating(self) -> None:
        """Return to the user who called `impersonate`, under a new id.

        That user's data and messages come back. What was written while acting is
        dropped, except what is written after this call. Raises `RuntimeError` if
        the user acts as nobody else, and `.SessionGone` if another request ended
        the session.
        """
        self._refuse_sealed("stop acting as another user")
        self._refuse_ended()
        at = self._stored
        aside = None if at is None else at.record.aside
        if at is None or aside is None:
            raise RuntimeError("the user does not act as another one")
        await self._look_before_saving()
        changes, now = self._changes(), self._manager.settings.clock()
        data = aside.data
        back = msgspec.structs.replace(at.record, data=data)
        if not self._manager.records.is_readable(Stored(at.id, at.key, back)):
            data = self._manager.codec.empty()  # somebody has altered it

        def edit(record: Record) -> Record:
            handle, since = record.handle, record.authenticated_at
            own = msgspec.structs.replace(
                record,
                data=data,
                flashes=aside.flashes,
                principal=aside.principal,
                marker=aside.marker,
                login=None if handle is None else Login(since, handle),
                **changes.options,
            )
            return self._manager.lifetime.renewed(own, now)

        await self._move(changes, edit, aside.digest)

    @_in_turn("revoke the other sessions", to_its_end=True)
    async def revoke_others(self) -> None:
        """End all other sessions of the principal, on whatever device.

        For a changed password, or a user who asks for it. None of them can be used
        any more when it returns, and this one has a new id. Costs the same however
        many there are. Raises `RuntimeError` if nobody is logged in, and
        `.SessionGone` if another request ended this session; then nothing was
        done. With `.StoreError` nothing may have been ended, or all: this one too.
        """
        self._refuse_sealed("give the session a new id")
        self._refuse_ended()
        record = self._record
        if record is None or record.principal is None or record.marker is None:
            raise RuntimeError("nobody is logged in, whose sessions could be ended")
        await self._look_before_saving()
        changes = self._changes()
        codec, now = self._manager.codec, self._manager.settings.clock()
        marker = self._manager.revocation.next_value(record)

        def edit(record: Record) -> Record:
            edited = changes.edited(record, codec)
            edited = msgspec.structs.replace(edited, marker=marker)
            return self._manager.lifetime.renewed(edited, now)

        # The marker is set last: until then nothing was done to the others, and this
        # session is alive before and after.
        assert self._stored is not None
        await self._move(changes, edit, ids.digest_of(self._stored.id))
        moved = self._stored
        try:
            await self._manager.revocation.replace(moved.id, moved.record)
        except SessionGone:
            self._delivery = Delivery.NOTHING
            raise self._is_gone() from None
        self._manager.report_end("revoked", record.principal, self)

    async def logout(self) -> None:
        """End the session; the same as `destroy`."""
        await self.destroy()

    @_in_turn("destroy", to_its_end=True)
    async def destroy(self) -> None:
        """End the session; it is dead when this returns.

        Whatever the request presented is ended, loaded or not. What is written
        afterwards in this request starts a new session. Raises `.SessionGone`
        if somebody has logged in since under a newer id: the older id cannot
        end that. Raises `.StoreError` if the end cannot be confirmed; the
        response then clears the cookie all the same, and the manager tries again.
        """
        snapshot = self._draft.snapshot() if self._before is None else self._before
        doomed, self._doomed = (*self._doomed, *self._ids_to_end()), ()
        self._end_failed = True  # then nothing of it is saved or renewed any more
        await self._end(doomed)
        self._end_failed = False
        self._forget(snapshot)

    # What the verbs do, and the end of a request.

    async def _store(
        self,
        changes: Changes,
        *,
        always: bool = False,
        renew: bool = True,
        attempt: Attempt | None = None,
    ) -> None:
        """Create or update the session; nothing where nothing was changed.

        With ``always`` an existing one is written all the same. A renewal that is
        due goes along. ``attempt`` is the first try, where it is under way.
        """
        if self._stored is None:
            if self._draft or (always and self._manager.settings.allow_empty):
                self._refuse_sealed("begin a session")
                await self._create(changes)
        elif changes or always:
            codec = self._manager.codec
            await self._update(
                changes,
                lambda stored: changes.edited(stored.record, codec),
                renew=renew,
                attempt=attempt,
            )

    async def _create(
        self,
        changes: Changes,
        identity: Identity | None = None,
        data: bytes | None = None,
        *,
        emptied: bool = False,
        new_id: str | None = None,
    ) -> None:
        """Store a session for the first time, with ``data`` instead of the own.

        With ``emptied`` nothing that the request had before goes along: it was
        another user's. That of an ``identity`` was admitted before, and ``new_id`` is
        for it. Whatever else the request presented is ended, so that one session is
        left. An end that cannot be confirmed is tried again later.
        """
        manager = self._manager
        if identity is None:
            await manager.admit(self)
        now = manager.settings.clock()
        record = changes.first(now, changes.encoded if data is None else data)
        if emptied:
            record = changes.emptied(record, manager.codec)
        if identity is None:
            record = manager.lifetime.renewed(record, now)
        else:
            record = self._logged_in(record, changes, identity, now)
        for _ in range(ID_ATTEMPTS):
            if new_id is None:
                digest = identity.digest if identity else ""
                new_id = await manager.mint(self, digest)
            stored = await manager.records.create(new_id, record)
            if stored is not None:
                break
            new_id = None
        else:
            raise StoreRejected(
                "save", "", f"{ID_ATTEMPTS} new ids in a row were taken"
            )
        others, self._others = self._others, ()
        self._became(stored, changes, before=self._before if emptied else None)
        self._delivery = Delivery.SEND
        manager.counts["saves"] += 1
        manager.report_begin(record.principal, self)
        for session_id in others:
            try:
                await manager.end_session(session_id, by=self)
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
        set an option, or the ``idle_timeout`` function returns another time now.
        """
        renews = bool(changes.options) or (renew and self._renewal_is_due())
        chooses = self._manager.lifetime.choose is not None

        def put_off(before: Record, edited: Record) -> Record:
            nonlocal renews
            renews = renews or self._changes_timeout(before, edited)
            return self._put_off(edited) if renews else edited

        async def when_edited(before: Record, edited: Awaitable[Record]) -> Record:
            return put_off(before, await edited)

        def renewing(stored: Stored) -> Record | Awaitable[Record]:
            edited = edit(stored)
            if isinstance(edited, Record):
                return put_off(stored.record, edited)
            return when_edited(stored.record, edited)

        stored = await self._change(renewing if renews or chooses else edit, attempt)
        self._became(stored, changes)
        self._manager.counts["saves"] += 1
        if renews and (rest := self._renewed(stored)):
            await rest

    async def _change(self, edit: Edit, attempt: Attempt | None = None) -> Stored:
        assert self._stored is not None
        records = self._manager.records
        try:
            return await records.change(self._stored, edit, attempt=attempt)
        except SessionGone:
            raise self._is_gone() from None

    async def _renew(
        self, *, must: bool = False, attempt: Attempt | None = None
    ) -> None:
        """Put off the session's end.

        Where another request came in between, it is left at that, unless it
        ``must`` be done. ``attempt`` is the try, where it is under way.
        """
        at, records = self._stored, self._manager.records
        assert at is not None
        if must:
            stored = await self._change(lambda found: self._put_off(found.record))
            # What others saved meanwhile is taken in: it is no change of this request.
            self._became(stored, Changes.none(at.record.data))
        else:
            loop = asyncio.get_running_loop()
            if attempt is None:
                if at.token is None or records.is_over(at.record):
                    return
                attempt = records.begin(at, self._put_off(at.record), loop)
            if attempt is None:
                return
            try:
                result = await records.operations.answer(attempt.answer)
            finally:
                stored = records.done(attempt, loop)
            if result is not CasResult.STORED:
                return
        self._stored = stored
        self._manager.counts["renewals"] += 1
        if rest := self._renewed(stored):
            await rest

    def _renewal_is_due(self) -> bool:
        stored = self._stored
        return stored is not None and self._manager.lifetime.renewal_due(
            stored.record, self._manager.settings.clock()
        )

    def _changes_timeout(self, before: Record | None, record: Record) -> bool:
        """Return whether the ``idle_timeout`` function tells two records apart."""
        lifetime = self._manager.lifetime
        if lifetime.choose is None or before is None or before.data == record.data:
            return False
        return lifetime.idle_timeout_of(before) != lifetime.idle_timeout_of(record)

    def _put_off(self, record: Record) -> Record:
        now = self._manager.settings.clock()
        cookie = self._sends_cookie()
        return self._manager.lifetime.renewed(record, now, cookie=cookie)

    def _sends_cookie(self) -> bool:
        # A job has no response, and a stream's headers may have left.
        return self._handler is not None and self._reach in (OPEN, CLOSED)

    def _renewed(self, stored: Stored) -> Coroutine[Any, Any, None] | None:
        """Note that the cookie is due; return what else is to be done, if anything."""
        if self._sends_cookie():
            self._delivery = Delivery.SEND
        if stored.record.principal is None:
            return None
        return self._manager.revocation.keep(stored.id, stored.record)

    async def _move(
        self,
        changes: Changes,
        edit: Callable[[Record], Record],
        digest: str,
        grace: float = 0.0,
        *,
        new_id: str | None = None,
    ) -> None:
        """Put ``edit(record)`` under a new id with this ``digest``, if any.

        What was written since the verb was called stays, also where the data does
        not go along.
        """
        at, manager = self._stored, self._manager
        assert at is not None
        if new_id is None:
            new_id = await manager.mint(self, digest)
        is_new = True
        try:
            moved = await manager.rotation.move(at, new_id, edit, grace)
        except Replaced:
            if not grace:
                raise self._is_gone() from None
            # Another request has just given it a new id, which serves for both.
            moved = Moved(await self._change(lambda stored: edit(stored.record)))
            is_new = False
        except SessionGone:
            raise self._is_gone() from None
        self._became(moved.stored, changes, before=self._before)
        self._delivery = Delivery.SEND
        manager.counts["saves"] += 1
        if is_new:
            manager.report_end("rotated", at.record.principal, self)
        if moved.stored.record.login is not None:
            await manager.revocation.keep(moved.stored.id, moved.stored.record)
        if moved.failure is not None:
            raise moved.failure

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
                await self._manager.end_session(session_id, at, self)
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
            self._draft.become({}, snapshot)
        else:
            self._draft.drop()
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

    def _entered(self, verb: str) -> Turn:
        """Return the turn that ``verb`` must take. Raises where it cannot begin."""
        self._accessed = True
        if self._reach is CLOSED:
            raise RuntimeError(
                f"the response is finished: too late to {verb}. {_SOONER}"
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

    def _own_turn(self) -> Turn:
        if self._turn is None:
            self._turn = Turn()
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
        found = None if self._before is None else self._draft.snapshot()
        try:
            await self._manager.before_save(self)
        finally:
            self._reach = reach
        if self._before is not None and found is not None:
            # What it wrote belongs to the data of before: where that does not go along
            # with a login, neither does this.
            self._before = self._draft.with_changes(self._before, found)

    # Loading.

    def _loaded(self, found: Found) -> None:
        """Stand for what was found under the ids that the request presented."""
        self._presented = found.presented
        stored = found.stored
        if stored is not None:
            self._stored = stored
            self._draft.data = found.values
            self._is_new = False
            self._presented_ids = ()
            self._had_principal = stored.record.principal is not None
            self._phase = TRANSITIONS[self._phase][Event.FOUND]
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
        self._stored, self._is_new = None, True
        self._draft = Draft(self._manager.codec)
        self._advance(Event.NOT_FOUND)

    def _failed(self) -> None:
        """Go on without the store: what is written is for this request only."""
        self._advance(Event.FAILED)

    # What was changed.

    def _changed(self) -> Changes | None:
        """Return the `_changes`; `None` if the stored record says what is here."""
        if self._stored is None:
            return self._draft.changes(None)
        return self._draft.changed(self._stored.record, accessed=self._accessed)

    def _changes(self) -> Changes:
        """Return what was changed since the session was loaded or saved."""
        return self._draft.changes(self._record, accessed=self._accessed)

    def _became(
        self,
        stored: Stored,
        seen: Changes,
        values: dict[str, Any] | None = None,
        before: Changes | None = None,
    ) -> None:
        """Stand for ``stored``; what was changed since ``seen`` stays changed."""
        self._draft.saved_as(stored.record, seen, values, before)
        self._stored = stored
        self._presented_ids = ()
        if stored.record.principal is not None:
            self._had_principal = True
        if self._phase is not STORED:
            self._advance(Event.SAVED)


class WatchedSession(Session):
    """A session whose manager looks at it when it is dropped: `.Unsaved`.

    ``owner`` is the class of its handler, or the line of code that got it by its id.
    """

    _is_watched = True

    def __init__(
        self,
        manager: SessionManager,
        handler: Any = None,
        session_ids: tuple[str, ...] = (),
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        owner: type | str,
    ) -> None:
        super().__init__(manager, handler, session_ids, loop)
        self._owner = owner

    def __del__(self) -> None:
        if not sys.is_finalizing():
            with suppress(Exception):  # nobody could catch it
                self._manager.unsaved.dropped(self, self._owner)


_SOONER = (
    "Change it before finish(), not in on_finish(); a background task, or other code "
    "outside a request, uses await manager.get(session_id)"
)
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
    "new": "session.is_new",
    "session_id": "session.id",
    "session_key": "session.id",
    "permanent": "session.remember(True)",
    "rotate": "await session.regenerate()",
    "max_age": "session.set_idle_timeout(seconds)",
}


def _no_text(key: object) -> EncodeError:
    name = type(key).__name__
    return EncodeError("session", "mapping", f"with a key that is no text: {name}")


def _encoded_already(key: str) -> EncodeError:
    # The draft uses this type for values that it has not decoded yet.
    return EncodeError(f"session[{key!r}]", "Raw", "that would not come back as it was")
