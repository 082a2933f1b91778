"""The settings of a `.SessionManager`: their defaults, checks and messages."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import inspect
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .checks import known, one_of, positive_int, seconds, type_error
from .sessions.serializers import JSONSerializer, MsgpackSerializer, Serializer
from .stores.base import Store
from .stores.memcached import MemcachedStore
from .stores.memory import MemoryStore
from .web.cookie import CookieOptions

__all__ = ["Settings", "build_serializer", "build_store"]

DAY = 86_400.0
KEY_LENGTH = 32  # AES-256
_HOOKS = ("generate_id", "allow_new", "validate", "before_save")
_HEADER = re.compile(r"header:[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# The rest of memcached's 250 bytes is for 24 characters of digest and 64 of SHA-256.
# No braces: they would decide the placing.
_PREFIX = re.compile(r"[\x21-\x7a|~]{0,160}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What applies to all sessions of one manager. Durations are in seconds."""

    store: Any = dataclasses.field(default="memory://", repr=False)
    """A URL, or a `.Store`."""
    idle_timeout: float | None = DAY
    """A session ends without a request for this long; `None`: it does not."""
    lifetime: float | None = 30 * DAY
    """A session ends this long after it began; `None`: it does not."""
    anonymous_timeout: float | None = None
    """The idle timeout while nobody is logged in; `None`: ``idle_timeout``."""
    renew_after: float | None = 0.1
    """The share of the idle timeout after which using a session renews it."""
    cookie: CookieOptions | Callable[..., Mapping[str, Any]] = dataclasses.field(
        default_factory=CookieOptions
    )
    """The cookie's attributes, or a callable of the handler, or of the handler and
    the session (`None` where there is none), that returns them."""
    signed: bool | None = None
    """`None`: where the application has a ``cookie_secret``."""
    transport: Any = "cookie"
    """``"cookie"``, ``"header:Name"``, an object with ``read``, ``write`` and
    ``clear``, or a list of these: the first that carries an id is the request's."""
    cross_site: str = "withhold"
    """Whether a request that the browser sent from another site without the cookie
    may begin a session by itself: ``"withhold"`` or ``"allow"``."""
    no_store: bool = False
    """Whether responses that used a logged-in session get ``no-store``."""
    allow_empty: bool = False
    """Whether a session begins when it is first used, even without data."""
    key_prefix: str = "mcsession:"
    serializer: Any = "msgpack"
    """``"msgpack"``, ``"json"``, or an object with ``dumps`` and ``loads``."""
    encryption_keys: Sequence[Any] = dataclasses.field(default=(), repr=False)
    """Each 32 bytes, or their URL-safe base64 text; the first one writes."""
    max_size: int = 900 * 1024
    """The largest encoded session, in bytes."""
    persist: str = "before_response"
    """Or ``"on_finish"``: responses of mere updates do not wait for the store."""
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
        """Return the settings that ``options`` describe.

        ``name`` is the manager's: the default of the cookie's name, and part of the
        default prefix. Raises `ValueError` or `TypeError` naming the key.
        """
        known(options, (field.name for field in dataclasses.fields(cls)), "session")
        options = dict(options)
        options.setdefault(
            "key_prefix", "mcsession:" if name == "session" else f"mcsession:{name}:"
        )
        cookie = options.get("cookie", {})
        if not callable(cookie) and not isinstance(cookie, CookieOptions):
            options["cookie"] = CookieOptions.build(cookie, name=name)
        if "idle_timeout" not in options:
            _clamp_idle(options)
        return cls(**options)

    def __post_init__(self) -> None:
        for name in ("idle_timeout", "lifetime", "anonymous_timeout"):
            object.__setattr__(self, name, seconds(name, getattr(self, name)))
        self._check_durations()
        if not isinstance(self.key_prefix, str):
            raise type_error("key_prefix", self.key_prefix, "text")
        if not _PREFIX.fullmatch(self.key_prefix):
            raise ValueError(
                "key_prefix must be at most 160 printable ASCII characters "
                "without spaces and braces"
            )
        keys = _encryption_keys(self.encryption_keys)
        object.__setattr__(self, "encryption_keys", keys)
        positive_int("max_size", self.max_size)
        one_of("persist", self.persist, ("before_response", "on_finish"))
        one_of("cross_site", self.cross_site, ("withhold", "allow"))
        if not callable(self.on_error):
            one_of("on_error", self.on_error, ("raise", "degrade"))
        elif inspect.iscoroutinefunction(self.on_error):
            raise TypeError(
                "on_error must be a plain function, not async: nobody awaits it"
            )
        if self.signed is not None and not isinstance(self.signed, bool):
            raise type_error("signed", self.signed, "True, False or None")
        for name in ("save_on_server_error", "no_store", "allow_empty"):
            if not isinstance(getattr(self, name), bool):
                raise type_error(name, getattr(self, name), "True or False")
        for name in _HOOKS:
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise type_error(name, getattr(self, name), "a callable or None")
        if not callable(self.clock):
            raise type_error("clock", self.clock, "a callable")
        _check_transport(self.transport)
        if isinstance(self.serializer, str):
            one_of("serializer", self.serializer, ("msgpack", "json"))
        elif not all(hasattr(self.serializer, m) for m in ("dumps", "loads")):
            raise type_error(
                "serializer",
                self.serializer,
                "'msgpack', 'json', or have dumps and loads",
            )

    def _check_durations(self) -> None:
        idle, lifetime = self.idle_timeout, self.lifetime
        if idle is None and lifetime is None:
            raise ValueError(
                "idle_timeout and lifetime are both None, so that no session would "
                "ever end; set one of them"
            )
        if idle is not None and lifetime is not None and idle > lifetime:
            raise ValueError(
                "idle_timeout must not be longer than lifetime, which is 30 days "
                "where it is not set"
            )
        anonymous = self.anonymous_timeout
        if anonymous is not None and lifetime is not None and anonymous > lifetime:
            raise ValueError("anonymous_timeout must not be longer than lifetime")
        renew = self.renew_after
        if renew is None:
            return
        if isinstance(renew, bool) or not isinstance(renew, int | float):
            raise type_error("renew_after", renew, "a share from 0 to 1, or None")
        if not 0 <= renew <= 1:
            raise ValueError("renew_after must be a share from 0 to 1, or None")


def _clamp_idle(options: dict[str, Any]) -> None:
    lifetime = options.get("lifetime")
    if isinstance(lifetime, timedelta):
        lifetime = lifetime.total_seconds()
    if isinstance(lifetime, int | float) and not isinstance(lifetime, bool):
        # A wrong lifetime is left for the check that names it.
        if 0 < lifetime < DAY:
            options["idle_timeout"] = lifetime


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
    elif not all(hasattr(transport, m) for m in ("read", "write", "clear")):
        raise type_error("transport", transport, "text, or have read, write and clear")


def _encryption_keys(value: object) -> tuple[bytes, ...]:
    """Return the keys of the setting, checked.

    Each is 32 bytes, or their URL-safe base64 text.
    """
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
        except (ValueError, binascii.Error):
            raise ValueError(
                f"{name} must be the URL-safe base64 text of 32 bytes"
            ) from None
    if not isinstance(key, bytes):
        raise type_error(name, key, "32 bytes, or their URL-safe base64 text")
    if len(key) != KEY_LENGTH:
        raise ValueError(f"{name} must be 32 bytes long, not {len(key)}")
    return key


def build_store(settings: Settings) -> Store:
    """Return the store that the ``store`` setting names, or is."""
    store = settings.store
    if isinstance(store, Store):
        return store
    if not isinstance(store, str):
        raise type_error("store", store, "a URL or a Store")
    if store.startswith("memory:"):
        if store not in ("memory:", "memory://"):
            raise ValueError("store URL memory:// takes nothing behind it")
        return MemoryStore(clock=settings.clock)
    return MemcachedStore.from_url(store)


def build_serializer(settings: Settings) -> Serializer:
    """Return the serializer that the setting names, or is; tried out."""
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
