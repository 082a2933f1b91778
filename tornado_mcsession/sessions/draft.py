"""What one request changes in a session, and how it is merged with others' changes."""

from __future__ import annotations

import inspect
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from ..exceptions import DecodeError, EncodeError
from .codec import Codec
from .record import Flash, Record
from .schema import View
from .serializers import (
    Serializer,
    check_items,
    check_value,
    encoded_values,
    is_too_deep,
    split_values,
    values_of,
)

__all__ = ["NO_OPTIONS", "Changes", "Draft", "Transaction"]

logger: logging.Logger = logging.getLogger("tornado_mcsession")

_DECODING = threading.Lock()
_NO_KEYS: frozenset[Any] = frozenset()
NO_OPTIONS: Mapping[str, Any] = {}
"""What most requests set of `Changes.options`: one object, so that ``is`` tells."""


class Changes(msgspec.Struct, frozen=True, gc=False):
    """What a request did to its session: ``encoded`` is the whole data as it sees it.

    ``changed`` and ``deleted`` are keys of that data, compared with ``base``, the
    data that it started from. ``options`` are fields of the `Record` that it set.
    """

    changed: frozenset[str]
    deleted: frozenset[str]
    base: bytes
    encoded: bytes
    flashed: tuple[Flash, ...]
    read: frozenset[bytes]
    options: Mapping[str, Any]

    def __bool__(self) -> bool:
        return bool(
            self.changed or self.deleted or self.flashed or self.read or self.options
        )

    @classmethod
    def none(cls, data: bytes) -> Changes:
        """Return what a request did that left the encoded ``data`` as it is."""
        return cls(_NO_KEYS, _NO_KEYS, data, data, (), _NO_KEYS, NO_OPTIONS)

    def made_to(self, theirs: dict[str, Any], serializer: Serializer) -> dict[str, Any]:
        """Return the data of a newer state with these changes made to it.

        A three-way merge: keys that this request left alone are as in ``theirs``,
        at any depth of nested mappings. For the same key this request wins. Values of
        ``theirs`` may be `Raw`.
        """
        merged = {key: theirs[key] for key in theirs if key not in self.deleted}
        if self.changed:
            base = values_of(serializer, self.base, self.changed)
            mine = values_of(serializer, self.encoded, self.changed)
            for key, value in mine.items():
                their = theirs.get(key)
                if type(their) is Raw:
                    their = serializer.loads(their)
                merged[key] = _merged(base.get(key), value, their, serializer.dumps)
        return merged

    def flashes(self, theirs: tuple[Flash, ...]) -> tuple[Flash, ...]:
        """Return the messages of a newer state with these changes made to them."""
        # A message of this request is there already where an earlier save of it
        # was stored, but its response was lost.
        gone = self.read | {flash.id for flash in self.flashed}
        return tuple(flash for flash in theirs if flash.id not in gone) + self.flashed

    def edited(self, record: Record, codec: Codec, data: bytes | None = None) -> Record:
        """Return ``record`` with these changes made to it, or with other ``data``."""
        if data is None:
            if record.data == self.base:
                data = self.encoded
            else:
                serializer = codec.serializer
                merged = self.made_to(codec.values(record, lazily=True), serializer)
                if codec.schema is not None:
                    codec.schema.check(merged)
                data = serializer.dumps(merged)
        flashes = record.flashes
        if self.flashed or self.read:
            flashes = self.flashes(flashes)
        return msgspec.structs.replace(
            record, data=data, flashes=flashes, **self.options
        )

    def emptied(self, record: Record, codec: Codec) -> Record:
        """Return ``record`` without data, messages and options.

        Only the options that this request set stay.
        """
        own = {"idle_timeout": None, "end": None, "persistent": None, **self.options}
        return msgspec.structs.replace(record, data=codec.empty(), flashes=(), **own)

    def first(self, now: float, data: bytes) -> Record:
        """Return the record of a session that begins ``now`` with ``data``."""
        return Record(
            created=now,
            renewed_at=now,
            expires_at=now,
            data=data,
            flashes=self.flashed,
            **self.options,
        )

    def alone(self, serializer: Serializer) -> bytes:
        """Return the data that these changes make of an empty session, encoded."""
        if not self.base:
            return self.encoded
        return serializer.dumps(self.made_to({}, serializer))


class Draft:
    """The session as one request sees and changes it, until that is saved.

    The ``record`` that its methods compare it with is the one that it was loaded
    from, or saved as; None: nothing is stored.
    """

    # What most requests leave as it is.
    flashed: tuple[Flash, ...] = ()
    """Messages that this request added."""
    flashes_read: frozenset[bytes] = _NO_KEYS
    """The ids of stored messages that this request has read."""
    options: Mapping[str, Any] = NO_OPTIONS
    """The fields of the record that this request has set."""
    view: View | None = None
    """The data as an object of the schema's type, if the request asked for it."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.data: dict[str, Any] = {}
        """The session's mapping. A value that nobody has asked for may be `Raw`, which
        is encoded as it is. So code that compares encoded values need not decode it;
        code that looks at values calls `value` or `whole`."""

    def __bool__(self) -> bool:
        if self.view is not None:
            self.view.sync(self.data)
            if self.view.deleted() is not None:
                return True  # the save will tell
        return bool(self.data or self.flashed)

    def value(self, key: str, raw: Any) -> Any:
        """Return the ``raw`` value of ``key`` decoded, and keep it so."""
        if type(raw) is not Raw:
            return raw
        decoded = self._plain(raw)
        with _DECODING:
            # Another thread may have decoded it, and changed what it got.
            known = self.data.get(key, raw)
            if known is raw and key in self.data:
                self.data[key] = decoded
        return decoded if known is raw else known

    def _plain(self, value: Any) -> Any:
        if type(value) is not Raw:
            return value
        try:
            return self._codec.serializer.loads(value)
        except Exception as error:
            # Somebody has forged a record, checksum included.
            name = type(error).__name__
            raise DecodeError(f"with data the serializer refuses ({name})") from None

    def whole(self) -> dict[str, Any]:
        """Return the mapping with all of its values decoded."""
        for key, value in list(self.data.items()):
            self.value(key, value)
        return self.data

    def typed(self, type: type[Any]) -> Any:
        """Return the data as an object of the schema's ``type``, or as that mapping."""
        schema = self._codec.schema
        if schema is None or schema.type is not type:
            name = getattr(type, "__name__", "this")
            raise TypeError(
                f"{name} is not the schema of these sessions: set "
                f"session={{'schema': {name}}}"
            )
        if schema.is_mapping:
            return self.data
        if self.view is None:
            self.view = View(schema, self.data)
        return self.view.object

    def drop(self) -> None:
        """Drop all that it holds."""
        self.data.clear()
        if self.view is not None:
            self.view.reset(self.data)
        self.flashed, self.flashes_read, self.options = (), _NO_KEYS, NO_OPTIONS

    # Messages for the next page.

    def flash(self, category: str, message: Any) -> None:
        """Add a message. Raises `.EncodeError` for one that cannot be stored."""
        words, value = message, None
        if not isinstance(message, str):
            serializer = self._codec.serializer
            check_value(serializer, message, "the flash message")
            words, value = "", serializer.dumps(message)
        self.flashed += (Flash(secrets.token_bytes(6), category, words, value),)

    def take_flashes(
        self, record: Record | None, category: str | None
    ) -> list[tuple[str, Any]]:
        """Return and remove the messages of ``category``; None: all of them."""
        stored = () if record is None else record.flashes
        waiting = [flash for flash in stored if flash.id not in self.flashes_read]
        found = [
            flash
            for flash in (*waiting, *self.flashed)
            if category is None or flash.category == category
        ]
        mine = {flash.id for flash in self.flashed}
        self.flashes_read |= {flash.id for flash in found if flash.id not in mine}
        self.flashed = tuple(flash for flash in self.flashed if flash not in found)
        messages: list[tuple[str, Any]] = []
        for flash in found:
            # A serializer may raise anything for a value that it did not encode. Such
            # a message is dropped, as a record would be.
            try:
                messages.append((flash.category, self._message(flash)))
            except Exception as error:
                name = type(error).__name__
                logger.warning("a flash message could not be read (%s)", name)
        return messages

    def _message(self, flash: Flash) -> Any:
        if flash.value is None:
            return flash.message
        serializer = self._codec.serializer
        message = serializer.loads(flash.value)
        if is_too_deep(serializer, flash.value, [message]):
            raise DecodeError("with a message nested too deep")
        return message

    # What was changed.

    def changed(self, record: Record, *, accessed: bool) -> Changes | None:
        """Return the `changes`; None where ``record`` says what is here.

        Most requests change nothing: for them this is all that is asked. Data that
        was not ``accessed`` is unchanged.
        """
        if self.flashed or self.flashes_read or self.options is not NO_OPTIONS:
            return self.changes(record, accessed=accessed)
        if not accessed:
            return None
        if self.view is not None:
            self.view.sync(self.data)
            self.view.check()
        try:
            encoded = self._codec.serializer.dumps(self.data)
        except Exception as error:
            raise self._refused(error) from None
        return None if encoded == record.data else self._compared(record, encoded)

    def changes(self, record: Record | None, *, accessed: bool = True) -> Changes:
        """Return what was changed.

        The encoded form decides. Raises `.EncodeError` for a value that would not
        come back as it was.
        """
        if record is not None and not accessed:
            return self._as_changes(_NO_KEYS, _NO_KEYS, record.data, record.data)
        if self.view is not None:
            self.view.sync(self.data)
            self.view.check()
        codec, serializer = self._codec, self._codec.serializer
        try:
            encoded = serializer.dumps(self.data)
        except Exception as error:
            raise self._refused(error) from None
        if record is not None:
            return self._compared(record, encoded)
        check_items(serializer, self.whole(), encoded=True)
        if codec.schema is not None:
            codec.schema.check(self.data)
        return self._as_changes(frozenset(self.data), _NO_KEYS, b"", encoded)

    def _refused(self, error: Exception) -> EncodeError:
        try:
            check_items(self._codec.serializer, self.whole())
        except EncodeError as named:
            return named
        name = type(error).__name__
        return EncodeError("session", "mapping", f"that cannot be encoded ({name})")

    def _compared(self, record: Record, encoded: bytes) -> Changes:
        base = record.data
        if encoded == base:
            return self._as_changes(_NO_KEYS, _NO_KEYS, base, base)
        serializer, data = self._codec.serializer, self.data
        # The bytes also differ where another serializer wrote them, or where the keys
        # stand in another order.
        stored = encoded_values(serializer, base)
        try:
            current = encoded_values(serializer, encoded, data)
        except RecursionError:
            check_items(serializer, self.whole())  # names what is too deep
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
        if self._codec.schema is not None:
            self._codec.schema.check(data)
        deleted = frozenset(stored.keys() - data.keys())
        if not changed and not deleted:
            encoded = base
        return self._as_changes(frozenset(changed), deleted, base, encoded)

    def snapshot(self) -> Changes:
        """Return the present state, whether it can be encoded or not.

        What is written later differs from it, and so is found again.
        """
        try:
            if self.view is not None:
                self.view.sync(self.data)
            encoded = self._codec.serializer.dumps(self.data)
        except Exception:
            encoded = b""
        return self._as_changes(_NO_KEYS, _NO_KEYS, b"", encoded)

    def with_changes(self, earlier: Changes, found: Changes) -> Changes:
        """Return the snapshot ``earlier`` with what was changed since ``found``."""
        now = self.snapshot()
        encoded = earlier.encoded
        if found.encoded and now.encoded and encoded:
            serializer = self._codec.serializer
            base, mine, theirs = map(
                serializer.loads, (found.encoded, now.encoded, encoded)
            )
            encoded = serializer.dumps(merge(base, mine, theirs, self._comparable))
        added = [each for each in now.flashed if each not in found.flashed]
        options = {
            name: value
            for name, value in now.options.items()
            if found.options.get(name, self) != value
        }
        return msgspec.structs.replace(
            earlier,
            encoded=encoded,
            flashed=(*earlier.flashed, *added),
            read=earlier.read | (now.read - found.read),
            options={**earlier.options, **options} or NO_OPTIONS,
        )

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
            self.flashed,
            self.flashes_read,
            self.options,
        )

    # What others changed.

    def saved_as(
        self,
        record: Record,
        seen: Changes,
        values: dict[str, Any] | None = None,
        before: Changes | None = None,
    ) -> None:
        """Follow ``record``, which ``seen`` was saved in.

        What was changed since ``seen`` stays changed; since ``before``, where that
        is given. Values that are stored as they are here keep their objects.
        """
        if record.data != seen.encoded:
            if values is None:
                values = self._codec.values(record, lazily=True)
            self._merge(values, seen if before is None else before)
        if before is not None and self.flashed:
            # A message that was added meanwhile may have been dropped with the data.
            kept = {flash.id for flash in record.flashes}
            added = [flash for flash in seen.flashed if flash not in before.flashed]
            lost = {flash.id for flash in added} - kept
            found = tuple(flash for flash in seen.flashed if flash.id not in lost)
            seen = msgspec.structs.replace(seen, flashed=found)
        if self.flashed or self.flashes_read or self.options:
            self._drop_seen(seen)

    def become(self, values: dict[str, Any], seen: Changes) -> None:
        """Hold ``values``; what was changed since ``seen`` stays changed."""
        self._merge(values, seen)
        self._drop_seen(seen)

    def _merge(self, values: dict[str, Any], seen: Changes) -> None:
        if self.view is not None:
            self.view.sync(self.data)
        serializer, data = self._codec.serializer, self.data
        before: Mapping[str, Any]
        if not seen.encoded:
            before = dict(self.whole())
        elif (split := split_values(serializer, seen.encoded)) is not None:
            before = split
        else:
            before = serializer.loads(seen.encoded)
        # What nobody else has changed is as it is here, and need not be decoded.
        same = {
            key
            for key, value in values.items()
            if type(value) is Raw and type(before.get(key)) is Raw
            if value == before[key]
        }
        merged = merge(
            {key: self._plain(before[key]) for key in before.keys() - same},
            {key: self.value(key, data[key]) for key in data if key not in same},
            {key: self._plain(values[key]) for key in values if key not in same},
            self._comparable,
        )
        merged.update((key, data[key]) for key in same & data.keys())
        replace_values(data, merged, self._comparable)
        if self.view is not None:
            self.view.sync(self.data)

    def _comparable(self, value: Any) -> object:
        try:
            return self._codec.serializer.dumps(value)
        except Exception:
            return object()  # equal to nothing: the next save will tell

    def _drop_seen(self, seen: Changes) -> None:
        self.flashed = tuple(each for each in self.flashed if each not in seen.flashed)
        self.flashes_read -= seen.read
        left = {
            name: value
            for name, value in self.options.items()
            if name not in seen.options or seen.options[name] != value
        }
        self.options = left or NO_OPTIONS


class Transaction:
    """Runs ``fn`` for `.Session.transact`; ``result`` is what it last returned."""

    def __init__(self, codec: Codec, fn: Callable[[dict[str, Any]], Any]) -> None:
        self._serializer = codec.serializer
        self._schema = codec.schema
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
        if self._schema is not None:
            self._schema.check(draft)
        return after


def merge(
    base: Mapping[str, Any],
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    dumps: Callable[[Any], object],
) -> dict[str, Any]:
    """Return ``theirs`` with what leads from ``base`` to ``mine`` done to it.

    Values are compared as ``dumps`` encodes them. Mappings are merged key by key
    at any depth; for lists and other values ``mine`` wins where it differs from
    ``base``.
    """
    merged = {}
    for key, value in theirs.items():
        if key not in mine:
            if key not in base:
                merged[key] = value
        elif key in base and dumps(base[key]) == dumps(mine[key]):
            merged[key] = value
        else:
            merged[key] = _merged(base.get(key), mine[key], value, dumps)
    for key, value in mine.items():
        if key not in theirs and not (key in base and dumps(base[key]) == dumps(value)):
            merged[key] = value
    return merged


def _merged(base: Any, mine: Any, theirs: Any, dumps: Callable[[Any], object]) -> Any:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return merge(base if isinstance(base, dict) else {}, mine, theirs, dumps)
    return mine


def replace_values(
    live: dict[str, Any], new: Mapping[str, Any], dumps: Callable[[Any], object]
) -> None:
    """Make ``live`` equal to ``new``, in place.

    Values that do not change keep their objects, and so do nested mappings, since
    a handler may hold references to them.
    """
    for key in [key for key in live if key not in new]:
        del live[key]
    for key, value in new.items():
        if key in live:
            old = live[key]
            if old is value or dumps(old) == dumps(value):
                continue
            if type(old) is dict and isinstance(value, dict):
                replace_values(old, value, dumps)
                continue
        live[key] = value
