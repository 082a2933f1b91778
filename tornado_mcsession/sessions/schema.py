"""The shape of a session's data, as the application declares it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, is_typeddict

import msgspec

from ..exceptions import DecodeError, EncodeError
from .serializers import MsgpackSerializer, Serializer

__all__ = ["Schema", "Upgrade", "View"]

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

# What msgspec says of a value that does not fit. Other messages may quote the value.
_TOLD = re.compile(r"(Expected `.*?|Object missing .*?)(?: - at `(.*)`)?")
_KEY = re.compile(r"\$\.(\w+)")


class Schema:
    """Says which keys a session has, and of which types their values are.

    ``type`` is a `msgspec.Struct`, a dataclass or a `~typing.TypedDict` with a default
    for each field, since a new session is empty. Other keys than its fields may be in
    the session, too. ``upgrade`` is called with all data that is loaded, and returns
    it in today's shape.

    Raises `TypeError` for another type.
    """

    def __init__(
        self, type: type[Any], serializer: Serializer, upgrade: Upgrade | None = None
    ) -> None:
        self.type = type
        self.serializer = serializer
        self.is_mapping: bool = is_typeddict(type)
        self.upgrade = upgrade
        # MessagePack carries these as they are; all else has a form as text.
        is_msgpack = isinstance(serializer, MsgpackSerializer)
        self._carried = (bytes, datetime) if is_msgpack else ()
        self.fields: dict[str, str] = self._fields()
        """The attribute for each key."""
        try:
            self.convert({})
        except msgspec.ValidationError:
            hint = "; write total=False" if self.is_mapping else ""
            raise TypeError(
                f"schema {self.name} must have a default for each field, since a new "
                f"session is empty{hint}"
            ) from None

    @property
    def name(self) -> str:
        """The name of the type."""
        return self.type.__name__

    def _fields(self) -> dict[str, str]:
        if self.is_mapping:
            return {}
        if not isinstance(self.type, type):
            raise TypeError(f"schema must be {_ALLOWED}, not {self.type!r}")
        if issubclass(self.type, msgspec.Struct):
            config = self.type.__struct_config__
            is_frozen, is_array = config.frozen, config.array_like
            fields = {f.encode_name: f.name for f in msgspec.structs.fields(self.type)}
        elif dataclasses.is_dataclass(self.type):
            described: Any = self.type
            is_frozen, is_array = described.__dataclass_params__.frozen, False
            fields = {field.name: field.name for field in dataclasses.fields(self.type)}
        else:
            raise TypeError(f"schema must be {_ALLOWED}, not {self.name}")
        if is_frozen or is_array:
            wrong = "frozen" if is_frozen else "array_like"
            raise TypeError(f"schema {self.name} must not be {wrong}")
        return fields

    def convert(self, values: Mapping[str, Any]) -> Any:
        """Return an object of the type. Raises `msgspec.ValidationError`."""
        return msgspec.convert(
            values, self.type, builtin_types=self._carried, str_keys=True
        )

    def encoded(self, item: Any) -> dict[str, object]:
        """Return each value of an object as it is stored, encoded.

        For one that cannot be stored, it is an object that equals no other.
        """
        encoded: dict[str, object] = {}
        for key, attribute in self.fields.items():
            try:
                value = getattr(item, attribute)
            except AttributeError:
                encoded[key] = object()
                continue
            if value is not msgspec.UNSET:
                encoded[key] = self.dumps(value)
        return encoded

    def dumps(self, value: Any) -> object:
        """Return a value as it is stored, or an object that equals no other."""
        try:
            plain = msgspec.to_builtins(
                value, builtin_types=self._carried, str_keys=True
            )
            return self.serializer.dumps(plain)
        except Exception:
            return object()

    def read(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return data that was loaded, in today's shape. Raises `.DecodeError`."""
        if self.upgrade is not None:
            upgraded: Any
            try:
                upgraded = self.upgrade(values)
            except Exception as error:
                # It may quote what it met, so it is not chained.
                name = type(error).__name__
                raise DecodeError(f"with data that upgrade refuses ({name})") from None
            if not isinstance(upgraded, dict) or not {str}.issuperset(
                map(type, upgraded)
            ):
                raise DecodeError("with data of which upgrade returned no dict of text")
            values = upgraded
        try:
            self.convert(values)
        except Exception as error:
            told, _ = _told(error)
            raise DecodeError(f"with data that is no {self.name}{told}") from None
        return values

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise `.EncodeError` for data that does not fit."""
        try:
            self.convert(values)
        except Exception as error:
            told, key = _told(error)
            if key is None or key not in values:
                path, name = "session", "mapping"
            else:
                path, name = f"session[{key!r}]", type(values[key]).__name__
            raise EncodeError(
                path, name, f"that is none of {self.name}{told}"
            ) from None


class View:
    """An object of a schema's type that follows a mapping, and is followed by it."""

    def __init__(self, schema: Schema, data: dict[str, Any]) -> None:
        self._schema = schema
        self._seen = self._encoded(data)
        schema.check(data)
        self.object: Any = schema.convert(self._copied(data, self._seen))
        self._was = schema.encoded(self.object)

    def sync(self, data: dict[str, Any]) -> None:
        """Make both equal; where both have changed, the object's change counts.

        A dict, list, set or nested object that changes is changed in place, since a
        handler may hold it: its next change must count as well. A value that cannot
        be stored is left to the save, which will tell.
        """
        schema, now, seen = self._schema, self._schema.encoded(self.object), self._seen
        for key, attribute in schema.fields.items():
            mine = now.get(key)
            if mine == self._was.get(key):
                continue
            if mine is None:
                data.pop(key, None)
                seen.pop(key, None)
                continue
            if isinstance(mine, bytes):
                value = getattr(self.object, attribute)
                data[key] = self._follow(
                    data.get(key), schema.serializer.loads(mine), value
                )
            elif hasattr(self.object, attribute):
                data[key] = getattr(self.object, attribute)
            else:
                continue
            seen[key] = mine
        self._was = now
        found = self._encoded(data)
        if found == seen:
            return
        try:
            fresh = schema.convert(self._copied(data, found))
        except Exception:
            return
        for key, attribute in schema.fields.items():
            if found.get(key) != seen.get(key):
                value = self._follow(
                    getattr(self.object, attribute, None),
                    getattr(fresh, attribute),
                    data.get(key),
                )
                setattr(self.object, attribute, value)
        self._seen, self._was = found, schema.encoded(self.object)

    def deleted(self) -> str | None:
        """Return the name of an attribute that was deleted from the object."""
        for attribute in self._schema.fields.values():
            if not hasattr(self.object, attribute):
                return attribute
        return None

    def check(self) -> None:
        """Raise `.EncodeError` if an attribute was deleted from the object."""
        name = self.deleted()
        if name is not None:
            raise EncodeError(
                "session", self._schema.name, f"whose field {name!r} was deleted"
            )

    def reset(self, data: dict[str, Any]) -> None:
        """Make the object equal to ``data``, whatever was changed in it."""
        fresh = self._schema.convert(data)
        for attribute in self._schema.fields.values():
            setattr(self.object, attribute, getattr(fresh, attribute))
        self._seen, self._was = self._encoded(data), self._schema.encoded(fresh)

    def _copied(
        self, data: Mapping[str, Any], encoded: Mapping[str, object]
    ) -> dict[str, Any]:
        # What is converted shares values of the type Any with what it is made of.
        loads = self._schema.serializer.loads
        return {
            key: loads(value) if isinstance(value, bytes) else data[key]
            for key, value in encoded.items()
        }

    def _follow(self, held: Any, new: Any, other: Any) -> Any:
        """Return ``held``, made equal to ``new`` in place, or else ``new``.

        ``other`` is the value on the other side: where a handler has put parts of
        one side into the other, nothing is changed in place.
        """
        return self._followed(held, new) if _are_apart(held, other) else new

    def _followed(self, held: Any, new: Any) -> Any:
        kind = type(held)
        if kind is not type(new):
            return new
        if kind is dict:
            for key in [key for key in held if key not in new]:
                del held[key]
            for key, value in new.items():
                held[key] = self._followed(held.get(key), value)
        elif kind is list:
            dumps = self._schema.dumps
            for at, (mine, value) in enumerate(zip(held, new, strict=False)):
                if dumps(mine) == dumps(value):
                    new[at] = mine
            held[:] = new
        elif kind is set:
            held.clear()
            held.update(new)
        elif names := _attributes(held):
            for name in names:
                if hasattr(new, name):  # nothing may have set a dataclass's field
                    value = getattr(new, name)
                    value = self._followed(getattr(held, name, None), value)
                    setattr(held, name, value)
        else:
            return new
        return held

    def _encoded(self, data: Mapping[str, Any]) -> dict[str, object]:
        return {
            key: self._dumps(data[key]) for key in self._schema.fields if key in data
        }

    def _dumps(self, value: Any) -> object:
        try:
            return self._schema.serializer.dumps(value)
        except Exception:
            return object()


def _attributes(value: Any) -> tuple[str, ...]:
    """Return the names of an object's fields, where they can be set."""
    kind = type(value)
    if issubclass(kind, msgspec.Struct):
        return () if kind.__struct_config__.frozen else kind.__struct_fields__
    if dataclasses.is_dataclass(kind):
        described: Any = kind
        if not described.__dataclass_params__.frozen:
            return tuple(field.name for field in dataclasses.fields(kind))
    return ()


def _are_apart(*values: Any) -> bool:
    """Return whether nothing that can be changed is in ``values`` twice."""
    waiting, met = list(values), set()
    while waiting:
        value = waiting.pop()
        names = _attributes(value)
        if names or isinstance(value, dict | list | set):
            if id(value) in met:
                return False
            met.add(id(value))
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
        else:
            waiting.extend(getattr(value, name, None) for name in names)
    return True


_ALLOWED = "a msgspec.Struct, a dataclass or a TypedDict"


def _told(error: Exception) -> tuple[str, str | None]:
    """Return what an error of msgspec says, without values, and the key it is about."""
    found = _TOLD.fullmatch(str(error))
    if found is None or not isinstance(error, msgspec.ValidationError):
        return "", None
    reason, place = found.groups()
    key = _KEY.search(place or "")
    at = "" if place is None else f" at {place.removeprefix('$.')}"
    return f": {reason[0].lower()}{reason[1:]}{at}", key and key[1]
