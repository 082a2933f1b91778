"""The settings of a `.SessionManager`: their defaults, checks and messages."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .checks import known, number, of_types, one_of, positive_int, seconds, type_error
from .sessions.codec import Codec
from .sessions.lifetime import Lifetime
from .sessions.marker import MOST_SESSIONS
from .sessions.repository import MAX_SIZE
from .sessions.serializers import JSONSerializer, MsgpackSerializer, Serializer
from .stores.base import Store
from .stores.memcached import MemcachedStore
from .stores.memory import MemoryStore
from .web.cookie import CookieOptions
from .web.transport import Transport

__all__ = ["Settings", "build_codec", "build_serializer", "build_store"]

DAY = 86_400.0
KEY_LENGTH = 32  # AES-256
_TYPES: dict[str, tuple[Any, str]] = {
    "key_prefix": (str, "text"),
    "signed": (bool | None, "True, False or None"),
    "save_on_server_error": (bool, "True or False"),
    "no_store": (bool, "True or False"),
    "allow_empty": (bool, "True or False"),
    "track_sessions": (bool, "True or False"),
    "codec": (Callable | None, "a callable or None"),
    "generate_id": (Callable | None, "a callable or None"),
    "allow_new": (Callable | None, "a callable or None"),
    "validate": (Callable | None, "a callable or None"),
    "before_save": (Callable | None, "a callable or None"),
    "clock": (Callable, "a callable"),
}
_HEADER = re.compile(r"header:[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# A key of memcached has at most 250 bytes: 24 of them are for the digest, 64 for the
# SHA-256. Braces would decide which node keeps a key.
_PREFIX = re.compile(r"[\x21-\x7a|~]{0,160}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of all sessions of one manager. Durations are in seconds."""

    store: Any = dataclasses.field(default="memory://", repr=False)
    """A URL, or a `.Store`."""
    idle_timeout: float | Callable[..., float | timedelta | None] | None = DAY
    """A session ends after this time without a request; `None`: it does not. A
    function gets the session, which it cannot change, and returns the time."""
    lifetime: float | None = 30 * DAY
    """A session ends this long after it began; `None`: it does not."""
    anonymous_timeout: float | None = None
    """The idle timeout while nobody is logged in; `None`: ``idle_timeout``."""
    renew_after: float | None = 0.1
    """A session is renewed when this share of its idle timeout has passed."""
    cookie: CookieOptions | Callable[..., Mapping[str, Any]] = dataclasses.field(
        default_factory=CookieOptions
    )
    """The cookie's attributes, or a callable that returns them. It takes the handler,
    or the handler and the session, which may be `None`."""
    signed: bool | None = None
    """`None`: if the application has a ``cookie_secret``."""
    transport: Any = "cookie"
    """``"cookie"``, ``"header:Name"``, an object with ``read``, ``write`` and
    ``clear``, or a list of these, of which a request uses the first with an id."""
    cross_site: str = "withhold"
    """``"withhold"`` or ``"allow"``: whether a request that another site's page made
    without the cookie may begin a session."""
    no_store: bool = False
    """Whether a response gets ``no-store`` if it used a logged-in session."""
    allow_empty: bool = False
    """Whether a session begins when it is first used, even without data."""
    track_sessions: bool = False
    """Whether the sessions of a user can be listed and ended one by one."""
    max_sessions: int | None = None
    """How many tracked sessions a user may have; a login ends the oldest."""
    key_prefix: str = "mcsession:"
    serializer: Any = "msgpack"
    """``"msgpack"``, ``"json"``, or an object with ``dumps`` and ``loads``."""
    codec: Callable[[Callable[[], float], Lifetime], Codec] | None = None
    """Returns what turns records into keys and bytes, given the clock and the lifetime
    rules; `None`: the package's own."""
    encryption_keys: Sequence[Any] = dataclasses.field(default=(), repr=False)
    """Each is 32 bytes, or their URL-safe base64 text; the first one encrypts."""
    max_size: int = MAX_SIZE
    """The largest encoded session, in bytes."""
    persist: str = "before_response"
    """``"on_finish"``: a response may leave before its session's update is saved."""
    on_error: str | Callable[..., str] = "raise"
    """``"raise"``, ``"degrade"``, or ``callable(phase, error, handler)``."""
    save_on_server_error: bool = False
    """Whether a request that ends in a 5xx keeps its changes."""
    generate_id: Callable[..., Any] | None = None
    allow_new: Callable[..., Any] | None = None
    validate: Callable[..., Any] | None = None
    before_save: Callable[..., Any] | None = None
    clock: Callable[[], float] = time.time
    """Returns the seconds since 1970."""

    @classmethod
    def build(cls, options: Mapping[str, Any], *, name: str) -> Settings:
        """Return the settings in ``options``.

        ``name`` is the manager's name. It is the default name of the cookie, and part
        of the default prefix. Raises `ValueError` or `TypeError`, which name the key.
        """
        known(options, (field.name for field in dataclasses.fields(cls)), "session")
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
        of_types(self, _TYPES)
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
        one_of("persist", self.persist, ("before_response", "on_finish"))
        one_of("cross_site", self.cross_site, ("withhold", "allow"))
        if not callable(self.on_error):
            one_of("on_error", self.on_error, ("raise", "degrade"))
        elif inspect.iscoroutinefunction(self.on_error):
            raise TypeError(
                "on_error must be a plain function, not async: nobody awaits it"
            )
        if self.codec is not None and (keys or self.serializer != "msgpack"):
            raise ValueError(
                "codec replaces serializer and encryption_keys: set none of them"
            )
        _check_transport(self.transport)
        if isinstance(self.serializer, str):
            one_of("serializer", self.serializer, ("msgpack", "json"))
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
    """Return what turns records into keys and bytes."""
    if settings.codec is not None:
        return settings.codec(settings.clock, lifetime)
    serializer = build_serializer(settings)
    return Codec(serializer, settings.key_prefix, settings.encryption_keys)


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
