"""What Node's session libraries over memcached have in common: records and placement.

They keep a session as JSON, with the cookie's attributes under ``cookie``. This package
keeps everything else that it knows of a session under ``mcsession``, which they leave
alone.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from ..checks import text, type_error
from ..exceptions import DecodeError, EncodeError
from ..sessions import ids
from ..sessions.codec import Codec
from ..sessions.lifetime import Lifetime
from ..sessions.record import AnyTime, Flash, Login, PastTime, Record, Span
from ..sessions.serializers import JSONSerializer
from ..stores.base import Store
from ..stores.memcached import MemcachedStore, Router
from ..web.cookie import CookieOptions

__all__ = [
    "NodeCodec",
    "NodeRouter",
    "attributes_of",
    "build_store",
    "checked_keys",
    "checked_prefix",
]

COOKIE = "cookie"
OWN = "mcsession"
# The flags by which the npm package memcached knows the kind of a value.
_JSON = 2
_NUMBER = 8
# Node's libraries pass a longer TTL on as it is, and memcached takes it for a date in
# 1970.
_MONTH = 30 * 86_400
_LONGEST_KEY = 250
_LONGEST_AGE = 1e15  # some 30,000 years


class Own(msgspec.Struct, omit_defaults=True, gc=False):
    """What is kept under ``mcsession``. All of it may be missing."""

    created: PastTime | None = None
    renewed_at: PastTime = 0.0
    expires_at: AnyTime = 0.0
    principal: str | None = None
    authenticated_at: PastTime | None = None
    flashes: tuple[tuple[Any, ...], ...] = ()
    """Category, message and id of each. Node's programs may leave out the id."""
    max_age: float | None = None
    """The cookie's age in milliseconds when Python last wrote the record."""
    idle_timeout: Span | None = None
    end: AnyTime | None = None
    persistent: bool | None = None
    marker: bytes | None = None
    login: Login | None = None
    writes: bytes = b""
    written: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


class NodeRecord(Record, frozen=True, kw_only=True, array_like=True, gc=False):
    """A session, and the attributes of its cookie as Node keeps them, in JSON."""

    cookie: bytes = b"{}"


class NodeCodec(Codec):
    """Writes records that Node's session libraries read, and reads theirs.

    The key is ``key_prefix`` followed by the session id. ``cookie`` are the attributes
    of a new session's cookie, and ``persistent`` says whether cookies usually outlive
    the browser.
    """

    flags = _JSON
    # Node's client reads a tombstone as a number and gets NaN. Its session libraries
    # take that for "no session".
    tombstone_flags = _NUMBER
    # For Node, a session ends when the store drops it.
    expired_for: float = 1.0
    renewed_by_others = True

    # A record that Python wrote last ends with a space. JSON allows it, and
    # JSON.stringify never writes it.
    _MARK = b" "

    age_name: str
    """The name of the cookie's property that holds its age in milliseconds."""
    may_lack_age: bool
    """Whether the library can save any session whose cookie has no age."""

    def __init__(
        self,
        clock: Callable[[], float],
        lifetime: Lifetime,
        *,
        key_prefix: str,
        cookie: Mapping[str, Any],
        persistent: bool,
    ) -> None:
        super().__init__(JSONSerializer(), key_prefix)
        self._clock = clock
        self._lifetime = lifetime
        self._cookie = msgspec.json.encode(cookie)
        self._persistent = persistent
        self._dumps = msgspec.json.Encoder().encode
        self._split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        self._own = msgspec.json.Decoder(Own).decode
        self._attributes = msgspec.json.Decoder(dict[str, Any]).decode

    def aged(
        self, cookie: dict[str, Any], max_age: int | None, expires_at: float
    ) -> None:
        """Put the age, in milliseconds, into the attributes of a ``cookie``."""
        cookie[self.age_name] = max_age

    def key(self, session_id: str) -> str:
        key = self.key_prefix + session_id
        if len(key) <= _LONGEST_KEY:
            return key
        return hashlib.md5(key.encode("ascii"), usedforsecurity=False).hexdigest()

    # Writing.

    def encode(self, record: Record, key: str) -> bytes:
        if record.retired:
            fields = {name: getattr(record, name) for name in _FIELDS}
            return base64.b64encode(super().encode(Record(**fields), key))
        data = record.data
        if b'"cookie":' in data or b'"mcsession":' in data:
            self._refuse_taken(data)
        template = record.cookie if isinstance(record, NodeRecord) else self._cookie
        cookie = self._attributes(template)
        max_age = self._max_age(record, cookie)
        self.aged(cookie, max_age, record.expires_at)
        own = Own(
            created=record.created,
            renewed_at=record.renewed_at,
            expires_at=record.expires_at,
            principal=record.principal,
            authenticated_at=record.authenticated_at,
            flashes=tuple(map(self._shown, record.flashes)),
            max_age=max_age,
            idle_timeout=record.idle_timeout,
            end=record.end,
            persistent=record.persistent,
            marker=record.marker,
            login=record.login,
            writes=record.writes,
            written=record.written,
        )
        return b"".join(
            (
                b'{"cookie":',
                self._dumps(cookie),
                b"," if len(data) > len(b"{}") else b"",
                data[1:-1],
                b',"mcsession":',
                self._dumps(own),
                b"}",
                self._MARK,
            )
        )

    def _shown(self, flash: Flash) -> tuple[Any, ...]:
        message = flash.message
        if flash.value is not None:
            message = self.serializer.loads(flash.value)
        return flash.category, message, flash.id.hex()

    def _refuse_taken(self, data: bytes) -> None:
        for name in self._split(data).keys() & {COOKIE, OWN}:
            reason = "under a name that is reserved in sessions shared with Node"
            raise EncodeError(f"session[{name!r}]", "value", reason)

    def _max_age(self, record: Record, cookie: Mapping[str, Any]) -> int | None:
        persistent = record.persistent
        if persistent is None:
            persistent = self._persistent
        if not persistent:
            if self.may_lack_age or not self._persistent:
                return None
            if cookie.get(self.age_name, 0) is None:
                return None  # Node itself has saved it without
        seconds = self._lifetime.idle_timeout_of(record)
        if seconds is None:
            seconds = record.expires_at - self._clock()
        return 1000 * min(max(math.ceil(seconds), 1), _MONTH)

    # Reading.

    def decode(self, data: bytes, flags: int, key: str) -> Record:
        if flags == _NUMBER:
            return self._tombstone(data, key)
        if flags != _JSON:
            raise DecodeError("with the flags of another kind of value")
        if b"\\ud" in data:
            data = _ESCAPE.sub(_whole, data)
        try:
            parts = self._split(data)
            cookie = bytes(parts.pop(COOKIE))
            attributes = self._attributes(cookie)
            own = self._own(parts.pop(OWN)) if OWN in parts else Own()
            flashes = self._flashes(own)
        except KeyError:
            raise DecodeError("without Node's cookie property") from None
        except (msgspec.DecodeError, RecursionError, TypeError, ValueError):
            raise DecodeError("not a session of Node's") from None
        values = self._dumps(parts)
        record = self._record(own, flashes, cookie, values, key)
        if data.endswith(self._MARK):
            return record
        return self._as_node_left_it(record, own, attributes)

    def _flashes(self, own: Own) -> tuple[Flash, ...]:
        """Return the messages. Those that Node's programs added get an id here.

        They get the same id at each reading, and equal messages get different ids.
        """
        taken = {bytes.fromhex(each[2]) for each in own.flashes if len(each) > 2}
        flashes: list[Flash] = []
        for category, message, *rest in own.flashes:
            if not isinstance(category, str):
                raise TypeError
            value = self._dumps(message)
            if rest:
                known = bytes.fromhex(rest[0])
            else:
                known = _digest(category.encode(), value)
                while known in taken:
                    known = _digest(known, value)
                taken.add(known)
            if isinstance(message, str):
                flashes.append(Flash(known, category, message))
            else:
                flashes.append(Flash(known, category, "", value))
        return tuple(flashes)

    def _tombstone(self, data: bytes, key: str) -> Record:
        try:
            plain = base64.b64decode(data, validate=True)
        except ValueError:
            raise DecodeError("a number, and no session") from None
        record = super().decode(plain, 0, key)
        if not record.retired:
            raise DecodeError("a session in the place of a tombstone")
        return record

    def _record(
        self,
        own: Own,
        flashes: tuple[Flash, ...],
        cookie: bytes,
        values: bytes,
        key: str,
    ) -> NodeRecord:
        # A Node program that regenerates a session may copy all properties into the
        # new one, these included. A login is only valid under its own id.
        prefix = self.key_prefix
        is_copy = key.startswith(prefix) and not ids.digest_of(key[len(prefix) :])
        return NodeRecord(
            created=self._clock() if own.created is None else own.created,
            renewed_at=own.renewed_at,
            expires_at=own.expires_at,
            data=values,
            writes=own.writes,
            flashes=flashes,
            principal=None if is_copy else own.principal,
            authenticated_at=None if is_copy else own.authenticated_at,
            marker=None if is_copy else own.marker,
            login=None if is_copy else own.login,
            idle_timeout=own.idle_timeout,
            end=own.end,
            persistent=own.persistent,
            written=own.written,
            cookie=cookie,
        )

    def _as_node_left_it(
        self, record: Record, own: Own, cookie: Mapping[str, Any]
    ) -> Record:
        """Return ``record`` as it is after Node has saved it.

        The save has put off its end, at an unknown time. A program may also have
        changed the age of the cookie.
        """
        max_age = cookie.get(self.age_name)
        if max_age is not None:
            if isinstance(max_age, bool) or not isinstance(max_age, int | float):
                raise DecodeError("with a cookie's age that is no number")
            max_age = min(max(max_age, 1000), _LONGEST_AGE)
        if own.created is None or max_age != own.max_age:
            persistent = max_age is not None
            idle = None if max_age is None else max_age / 1000
            lifetime = self._lifetime
            if own.created is None and lifetime.choose is not None:
                idle = None  # the setting is a function, which decides
            record = msgspec.structs.replace(
                record,
                persistent=None if persistent is self._persistent else persistent,
                idle_timeout=None if idle == lifetime.idle_timeout else idle,
            )
        return self._lifetime.renewed(record, self._clock(), cookie=False)


_FIELDS = Record.__struct_fields__

# A program that cuts a text may leave half of a surrogate pair, which JSON.stringify
# escapes. It is not Unicode, and no decoder here accepts it.
_ESCAPE = re.compile(rb"\\(?:ud[89ab]..\\ud[c-f]..|(?P<half>ud[89a-f]..)|.)")


def _whole(escape: re.Match[bytes]) -> bytes:
    return b"\xef\xbf\xbd" if escape["half"] else escape[0]  # U+FFFD


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"\0".join(parts)).digest()[:6]


class NodeRouter(Router):
    """Places keys on servers as the npm package memcached does.

    That is a hash ring with 160 points for each server, or more or fewer by its weight.
    The servers need the same names as in Node.
    """

    def __init__(self, nodes: Mapping[str, float]) -> None:
        if not nodes:
            raise ValueError("a store needs at least one node")
        total = sum(nodes.values())
        ring: list[tuple[int, str]] = []
        for name, weight in nodes.items():
            host, _, port = name.partition(":")
            label = host if port == "11211" else name
            for number in range(math.floor(weight / total * 40 * len(nodes))):
                digest = _md5(f"{label}-{number}")
                ring += [
                    (int.from_bytes(digest[at : at + 4], "little"), name)
                    for at in range(0, 16, 4)
                ]
        ring.sort(key=lambda point: point[0])
        self._names = list(nodes)
        self._points = [point for point, _ in ring]
        self._owners = [name for _, name in ring]

    def shares(self) -> dict[str, float]:
        shares = dict.fromkeys(self._names, 0.0)
        before = self._points[-1] - 2**32
        for point, owner in zip(self._points, self._owners, strict=True):
            shares[owner] += (point - before) / 2**32
            before = point
        return shares

    def node_for(self, key: str) -> str:
        point = int.from_bytes(_md5(key)[:4], "little")
        at = bisect.bisect_left(self._points, point)
        return self._owners[at % len(self._owners)]


def _md5(text: str) -> bytes:
    return hashlib.md5(text.encode("ascii"), usedforsecurity=False).digest()


# What `koa_session` and `express_session` have in common.


def build_store(store: str | Store) -> str | Store:
    """Return ``store``; that of a URL places keys as Node does.

    Raises `ValueError` for a `.MemcachedStore` that places them otherwise.
    """
    if isinstance(store, str) and not store.startswith("memory:"):
        return MemcachedStore.from_url(store, router=NodeRouter)
    if (
        isinstance(store, MemcachedStore)
        and len(store.router.shares()) > 1
        and not isinstance(store.router, NodeRouter)
    ):
        raise ValueError(
            "store places sessions on other servers than Node does: give a URL, or "
            "MemcachedStore(..., router=NodeRouter)"
        )
    return store


def attributes_of(options: CookieOptions) -> dict[str, Any]:
    """Return the attributes of a new session's cookie, by Node's names."""
    attributes: dict[str, Any] = {"httpOnly": options.httponly, "path": options.path}
    if options.domain is not None:
        attributes["domain"] = options.domain
    if options.samesite is not None:
        attributes["sameSite"] = options.samesite.lower()
    if options.secure is True:  # Node chooses by itself where this is "auto"
        attributes["secure"] = True
    if options.partitioned:
        attributes["partitioned"] = True
    if options.priority is not None:
        attributes["priority"] = options.priority.lower()
    return attributes


def checked_keys(name: str, keys: object) -> tuple[bytes, ...]:
    """Return the secrets that sign cookies, the newest first."""
    if isinstance(keys, str | bytes) or not isinstance(keys, Sequence):
        raise type_error(name, keys, "a list of text or bytes")
    checked = []
    for key in keys:
        if not isinstance(key, str | bytes):
            raise type_error(f"an item of {name}", key, "text or bytes")
        if not key:
            raise ValueError(f"an item of {name} is empty")
        checked.append(key.encode() if isinstance(key, str) else key)
    if not checked:
        raise ValueError(f"{name} must hold at least one")
    return tuple(checked)


def checked_prefix(prefix: object) -> str:
    """Return ``prefix`` if keys may begin with it."""
    if re.fullmatch(r"[\x21-\x7e]{0,150}", text("prefix", prefix)) is None:
        raise ValueError("prefix must be at most 150 printable ASCII characters")
    return str(prefix)
