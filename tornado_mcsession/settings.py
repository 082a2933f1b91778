"""The settings of a `.SessionManager`: their defaults, checks and messages."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from .checks import (
    kind_of,
    kinds_of,
    known,
    number,
    positive_int,
    seconds,
    type_error,
)
from .exceptions import SessionError
from .sessions.codec import Codec
from .sessions.lifetime import Lifetime
from .sessions.marker import MOST_SESSIONS
from .sessions.repository import MAX_SIZE
from .sessions.schema import Schema, Upgrade
from .sessions.serializers import JSONSerializer, MsgpackSerializer, Serializer
from .stores.base import Store
from .stores.memcached import MemcachedStore
from .stores.memory import MemoryStore
from .web.cookie import CookieOptions, CookieSettings
from .web.transport import OwnTransport, Transport

if TYPE_CHECKING:
    from .session import Session

__all__ = [
    "SessionSettings",
    "Settings",
    "build_codec",
    "build_serializer",
    "build_store",
]

DAY = 86_400.0
KEY_LENGTH = 32  # AES-256
_SERIALIZERS = kind_of(Literal["msgpack", "json"])
_HEADER = re.compile(r"header:[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# A key of memcached has at most 250 bytes: 24 of them are for the digest, 64 for the
# SHA-256. Braces would decide which node keeps a key.
_PREFIX = re.compile(r"[\x21-\x7a|~]{0,160}")


Seconds = float | timedelta
OneTransport = str | OwnTransport | Transport
Phase = Literal["load", "save", "renew", "destroy"]
Decision = Literal["raise", "degrade"]


class SessionSettings(TypedDict, total=False):
    """The settings of a `.SessionManager`.

    They are its keyword arguments, and the keys of ``Application(session={...})``.
    Durations are in seconds, or timedeltas.
    """

    store: str | Store
    """Where sessions are kept: a URL, or a `.Store`. ``"memory://"`` keeps them in
    this process alone."""
    idle_timeout: Seconds | Callable[[Session], Seconds | None] | None
    """A session ends after this time without a request; `None`: it does not. A
    function gets the session, which it cannot change, and returns the time."""
    lifetime: Seconds | None
    """A session ends this long after it began; `None`: it does not."""
    anonymous_timeout: Seconds | None
    """The idle timeout while nobody is logged in; `None`: ``idle_timeout``."""
    renew_after: float | None
    """A session is renewed when this share of its idle timeout has passed, from 0 to
    1; `None`: never."""
    cookie: (
        CookieSettings
        | Callable[[Any], Mapping[str, Any]]
        | Callable[[Any, Session | None], Mapping[str, Any]]
    )
    """The cookie's attributes, or a callable that returns them. It takes the handler,
    or the handler and the session, which may be `None`."""
    signed: bool | None
    """Whether the cookie is signed; `None`: if the application has a
    ``cookie_secret``."""
    transport: OneTransport | Sequence[OneTransport]
    """``"cookie"``, ``"header:Name"``, an object with ``read``, ``write`` and
    ``clear``, or a list of these, of which a request uses the first with an id."""
    schema: type[Any] | None
    """The shape of the sessions' data: a `msgspec.Struct`, a dataclass or a TypedDict.
    It is checked when a session is loaded and saved."""
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] | None
    """Takes the data of a session that was loaded, and returns it in the shape of
    today's ``schema``."""
    key_prefix: str
    """What the store's keys begin with."""
    serializer: Literal["msgpack", "json"] | Serializer
    """``"msgpack"``, ``"json"``, or an object with ``dumps`` and ``loads``."""
    codec: Callable[[Callable[[], float], Lifetime], Codec] | None
    """Returns what turns records into keys and bytes, given the clock and the lifetime
    rules; `None`: the package's own."""
    encryption_keys: Sequence[bytes | str]
    """Each is 32 bytes, or their URL-safe base64 text; the first one encrypts."""
    max_size: int
    """The largest encoded session, in bytes."""
    persist: Literal["before_response", "on_finish"]
    """``"on_finish"``: a response may leave before its session's update is saved."""
    on_error: Decision | Callable[[Phase, SessionError, Any], Decision]
    """What to do if the store fails: ``"raise"``, ``"degrade"``, or a function of the
    phase, the error and the handler that returns one of them."""
    save_on_server_error: bool
    """Whether a request that ends in a 5xx keeps its changes."""
    generate_id: Callable[[Any], str | Awaitable[str]] | None
    """Takes the handler, and returns the id of a new session."""
    allow_new: Callable[[Any], bool | Awaitable[bool]] | None
    """Takes the handler, and returns whether it may begin a session."""
    cross_site: Literal["withhold", "allow"]
    """Whether a request that another site's page made without the cookie may begin a
    session."""
    no_store: bool
    """Whether a response gets ``no-store`` if it used a logged-in session."""
    allow_empty: bool
    """Whether a session begins when it is first used, even without data."""
    track_sessions: bool
    """Whether the sessions of a user can be listed and ended one by one."""
    max_sessions: int | None
    """How many tracked sessions a user may have; a login ends the oldest."""
    validate: Callable[[Any, Session], bool | Awaitable[bool]] | None
    """Takes the handler and the session that was loaded, and returns whether to
    accept it."""
    before_save: Callable[[Any, Session], object] | None
    """Takes the handler and the session, which it may change before it is saved."""
    clock: Callable[[], float]
    """Returns the seconds since 1970."""


_KINDS = kinds_of(SessionSettings, Session=object)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`SessionSettings`, checked, with a value for each. Durations are in seconds."""

    store: str | Store = dataclasses.field(default="memory://", repr=False)
    idle_timeout: float | Callable[[Session], Seconds | None] | None = DAY
    lifetime: float | None = 30 * DAY
    anonymous_timeout: float | None = None
    renew_after: float | None = 0.1
    cookie: CookieOptions | Callable[..., Mapping[str, Any]] = dataclasses.field(
        default_factory=CookieOptions
    )
    signed: bool | None = None
    transport: OneTransport | Sequence[OneTransport] = "cookie"
    schema: type[Any] | None = None
    upgrade: Upgrade | None = None
    key_prefix: str = "mcsession:"
    serializer: str | Serializer = "msgpack"
    codec: Callable[[Callable[[], float], Lifetime], Codec] | None = None
    encryption_keys: Sequence[bytes] = dataclasses.field(default=(), repr=False)
    max_size: int = MAX_SIZE
    persist: str = "before_response"
    on_error: Decision | Callable[[Phase, SessionError, Any], Decision] = "raise"
    save_on_server_error: bool = False
    generate_id: Callable[[Any], str | Awaitable[str]] | None = None
    allow_new: Callable[[Any], bool | Awaitable[bool]] | None = None
    cross_site: str = "withhold"
    no_store: bool = False
    allow_empty: bool = False
    track_sessions: bool = False
    max_sessions: int | None = None
    validate: Callable[[Any, Session], bool | Awaitable[bool]] | None = None
    before_save: Callable[[Any, Session], object] | None = None
    clock: Callable[[], float] = time.time

    @classmethod
    def build(cls, options: Mapping[str, Any], *, name: str) -> Settings:
        """Return the settings in ``options``.

        ``name`` is the manager's name. It is the default name of the cookie, and part
        of the default prefix. Raises `ValueError` or `TypeError`, which name the key.
        """
        known(options, _KINDS, "session")
        prefix = "mcsession:" if name == "session" else f"mcsession:{name}:"
        options = {"key_prefix": prefix, "cookie": {}, **options}
        cookie = options["cookie"]
        if not callable(cookie) and not isinstance(cookie, CookieOptions):
            options["cookie"] = CookieOptions.build(cookie, name=name)
        lifetime = seconds("lifetime", options.get("lifetime"))
        if lifetime is not None and lifetime < DAY:
            options.setdefault("idle_timeout", lifetime)
        return cls(**options)

    def __post_init__(self) -> None:
        for name in ("idle_timeout", "lifetime", "anonymous_timeout"):
            value = getattr(self, name)
            if name != "idle_timeout" or not callable(value):
                object.__setattr__(self, name, seconds(name, value))
        self._check_durations()
        for name, kind in _KINDS.items():
            kind.check(name, getattr(self, name))
        if not _PREFIX.fullmatch(self.key_prefix):
            raise ValueError(
                "key_prefix must be at most 160 printable ASCII characters "
                "without spaces and braces"
            )
        keys = _encryption_keys(self.encryption_keys)
        object.__setattr__(self, "encryption_keys", keys)
        positive_int("max_size", self.max_size)
        if self.max_sessions is not None:
            self._check_max_sessions(self.max_sessions)
        if self.upgrade is not None:
            if self.schema is None:
                raise ValueError("upgrade needs schema, which is None")
            if inspect.iscoroutinefunction(self.upgrade):
                raise TypeError("upgrade must be a plain function, not async")
        if inspect.iscoroutinefunction(self.on_error):
            raise TypeError(
                "on_error must be a plain function, not async: nobody awaits it"
            )
        if self.codec is not None and (keys or self.serializer != "msgpack"):
            raise ValueError(
                "codec replaces serializer and encryption_keys: set none of them"
            )
        _check_transport(self.transport)
        if isinstance(self.serializer, str):
            _SERIALIZERS.check("serializer", self.serializer)
        elif not all(hasattr(self.serializer, m) for m in ("dumps", "loads")):
            raise type_error(
                "serializer",
                self.serializer,
                "'msgpack', 'json', or have dumps and loads",
            )

    @property
    def most_sessions(self) -> int:
        """How many sessions of a user are listed; 0: none."""
        return (self.max_sessions or MOST_SESSIONS) if self.track_sessions else 0

    def _check_max_sessions(self, most: object) -> None:
        positive_int("max_sessions", most)
        if not self.track_sessions:
            raise ValueError("max_sessions needs track_sessions=True")
        if self.most_sessions > MOST_SESSIONS:
            raise ValueError(f"max_sessions must be at most {MOST_SESSIONS}")

    def _check_durations(self) -> None:
        idle, lifetime = self.idle_timeout, self.lifetime
        anonymous = self.anonymous_timeout
        if callable(idle):
            if inspect.iscoroutinefunction(idle):
                raise TypeError(
                    "idle_timeout must be a plain function, not async: nobody awaits it"
                )
            if anonymous is not None:
                raise ValueError(
                    "anonymous_timeout must be None where idle_timeout is a function: "
                    "it can look at session.principal"
                )
        elif idle is None and lifetime is None:
            raise ValueError(
                "idle_timeout and lifetime are both None, and sessions would never "
                "end; set one of them"
            )
        elif idle is not None and lifetime is not None and idle > lifetime:
            raise ValueError(
                "idle_timeout must not be longer than lifetime, which is 30 days by "
                "default"
            )
        if anonymous is not None and lifetime is not None and anonymous > lifetime:
            raise ValueError("anonymous_timeout must not be longer than lifetime")
        if self.renew_after is not None:
            allowed = "a share from 0 to 1, or None"
            if not 0 <= number("renew_after", self.renew_after, allowed) <= 1:
                raise ValueError(f"renew_after must be {allowed}")


def _check_transport(transport: Any) -> None:
    if isinstance(transport, list | tuple):
        if not transport:
            raise ValueError("transport must not be an empty list")
        for one in transport:
            if isinstance(one, list | tuple):
                raise type_error("an item of transport", one, "no list itself")
            _check_transport(one)
    elif isinstance(transport, str):
        if transport != "cookie" and not _HEADER.fullmatch(transport):
            raise ValueError("transport must be 'cookie' or 'header:<Header-Name>'")
    elif not isinstance(transport, Transport) and not all(
        hasattr(transport, m) for m in ("read", "write", "clear")
    ):
        raise type_error("transport", transport, "text, or have read, write and clear")


def _encryption_keys(value: object) -> tuple[bytes, ...]:
    """Return the keys in the setting as bytes."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise type_error("encryption_keys", value, "a list of keys")
    keys = tuple(_encryption_key(index, key) for index, key in enumerate(value))
    if len(set(keys)) != len(keys):
        raise ValueError("encryption_keys must differ from each other")
    return keys


def _encryption_key(index: int, key: object) -> bytes:
    name = f"encryption_keys[{index}]"
    if isinstance(key, str):
        try:
            key = base64.b64decode(
                key + "=" * (-len(key) % 4), altchars=b"-_", validate=True
            )
        except ValueError:
            raise ValueError(
                f"{name} must be the URL-safe base64 text of 32 bytes"
            ) from None
    if not isinstance(key, bytes):
        raise type_error(name, key, "32 bytes, or their URL-safe base64 text")
    if len(key) != KEY_LENGTH:
        raise ValueError(f"{name} must be 32 bytes long, not {len(key)}")
    return key


def build_store(settings: Settings) -> Store:
    """Return the store in the ``store`` setting, which may be a URL."""
    store = settings.store
    if isinstance(store, Store):
        return store
    if not isinstance(store, str):
        raise type_error("store", store, "a URL or a Store")
    if store.startswith("memory:"):
        if store not in ("memory:", "memory://"):
            raise ValueError("store URL memory:// takes nothing after it")
        return MemoryStore(clock=settings.clock)
    return MemcachedStore.from_url(store)


def build_codec(settings: Settings, lifetime: Lifetime) -> Codec:
    """Return what turns records into keys and bytes, with the schema of the data."""
    if settings.codec is not None:
        codec = settings.codec(settings.clock, lifetime)
    else:
        serializer = build_serializer(settings)
        codec = Codec(serializer, settings.key_prefix, settings.encryption_keys)
    if settings.schema is not None:
        codec.schema = Schema(settings.schema, codec.serializer, settings.upgrade)
    return codec


def build_serializer(settings: Settings) -> Serializer:
    """Return the serializer in the setting, after a trial."""
    serializer = settings.serializer
    if isinstance(serializer, str):
        return MsgpackSerializer() if serializer == "msgpack" else JSONSerializer()
    probe = {"text": "\N{GREEK SMALL LETTER ALPHA}", "list": [1, None, True]}
    encoded = serializer.dumps(probe)
    if not isinstance(encoded, bytes):
        raise type_error("what serializer.dumps returns", encoded, "bytes")
    if serializer.loads(encoded) != probe:
        raise ValueError("serializer.loads must return what dumps was given")
    own: Serializer = serializer
    return own
