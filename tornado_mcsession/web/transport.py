"""How session ids travel between client and server: in a cookie or in a header."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec
from tornado.httputil import HTTPHeaders
from tornado.web import create_signed_value, decode_signed_value

from ..checks import type_error
from ..exceptions import SessionNotLoaded
from ..sessions import ids
from .caching import forbid_shared_caching, forbid_storing
from .cookie import MAX_SIZE, MOST_IDS, CookieOptions, cookie_values, doubts

if TYPE_CHECKING:
    from tornado.web import RequestHandler

    from ..session import Session
    from ..settings import Settings

__all__ = [
    "Carried",
    "OwnTransport",
    "Transport",
    "build_transport",
    "is_from_another_site",
]

logger: logging.Logger = logging.getLogger("tornado_mcsession")

# The requests of a page carry the same cookies. Checking a signature takes 10 µs,
# remembering what a header says 1. A signature that is too old may be noticed this much
# later; the record has its own end.
REMEMBERED_SECONDS = 10.0
REMEMBERED = 1024
LONGEST_REMEMBERED = 4096  # characters
_MOST_TENANTS = 1000


class Carried(msgspec.Struct, frozen=True, gc=False):
    """The ids of good form that a request carries, and whether it carried anything."""

    ids: tuple[str, ...] = ()
    seen: bool = False


_NOTHING = Carried()


class OwnTransport(Protocol):
    """What a transport of an application must have.

    The manager does not trust what ``read`` returns: it checks its form, and never
    adopts an id that the store does not know. An optional ``vary`` is the name of the
    request header that responses depend on.
    """

    def read(self, handler: RequestHandler, /) -> str | None: ...
    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session, /
    ) -> None: ...
    def clear(self, handler: RequestHandler, headers: HTTPHeaders, /) -> None: ...


class CookieSigner(Protocol):
    """What a `CookieTransport` needs of a signer."""

    def sign(self, name: str, value: str, /) -> str: ...
    def unsign(self, name: str, signed: str, /) -> str | None: ...


class Signer:
    """Signs cookie values, and checks signatures, as Tornado does.

    Only version 2 is accepted: with a dict of secrets, Tornado raises an
    AssertionError for a value that looks like version 1. A value older than
    ``max_age`` seconds is refused.
    """

    def __init__(
        self,
        secret: ids.CookieSecret,
        key_version: int | None,
        max_age: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._secret: Any = secret
        self._key_version = key_version if isinstance(secret, Mapping) else None
        self._days = math.inf if max_age is None else (max_age + 1) / 86_400
        self._clock = clock

    def sign(self, name: str, value: str) -> str:
        """Return the value to send for ``value``."""
        return create_signed_value(
            self._secret,
            name,
            value,
            version=2,
            clock=self._clock,
            key_version=self._key_version,
        ).decode("ascii")

    def unsign(self, name: str, signed: str) -> str | None:
        """Return the value that was signed, or `None` for a wrong signature."""
        try:
            decoded = decode_signed_value(
                self._secret,
                name,
                signed,
                max_age_days=self._days,
                clock=self._clock,
                min_version=2,
            )
            return None if decoded is None else decoded.decode("ascii")
        except ValueError:
            return None


class Transport:
    """Reads ids from requests, and sends them to clients."""

    vary: tuple[str, ...] = ()
    """The request headers that responses depend on."""

    def present(self, handler: RequestHandler) -> Carried:
        """Return what the request carries."""
        raise NotImplementedError

    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session
    ) -> None:
        """Put the id of ``session`` into the response's ``headers``."""
        raise NotImplementedError

    def clear(self, handler: RequestHandler, headers: HTTPHeaders) -> None:
        """Tell the client to forget its id."""
        raise NotImplementedError

    def of(self, handler: RequestHandler) -> Transport:
        """Return the transport that is used for this request."""
        return self


class CookieTransport(Transport):
    """The id in a cookie: the default.

    ``options`` are the cookie's attributes, or a callable that returns a dict of
    them for a handler, so that each tenant can have its own name and domain. A
    signature covers the cookie's name: a tenant with its own name refuses a signed
    cookie that was copied from another tenant.
    """

    vary: tuple[str, ...] = ("Cookie",)

    def __init__(
        self,
        options: CookieOptions | Callable[..., Mapping[str, Any]],
        *,
        default_name: str,
        signer: CookieSigner | None,
        clock: Callable[[], float],
    ) -> None:
        self._signer = signer
        self._default_name = default_name
        self._clock = clock
        self._fixed: CookieOptions | None = None
        if isinstance(options, CookieOptions):
            self._fixed = self._checked(options)
        else:
            self._callable = options
            self._takes_session = _takes_two(options)
        self._built: dict[tuple[tuple[str, str], ...], CookieOptions] = {}
        self._known: dict[tuple[str, ...], tuple[Carried, float]] = {}
        self._warned: set[str] = set()
        self._secure_hosts: set[str] = set()

    def options(
        self, handler: RequestHandler, session: Session | None = None
    ) -> CookieOptions:
        """Return the cookie's attributes for a request and, if known, its session."""
        if self._fixed is not None:
            return self._fixed
        arguments = (handler, session) if self._takes_session else (handler,)
        try:
            given = self._callable(*arguments)
        except SessionNotLoaded as error:
            raise RuntimeError(
                "the cookie setting's callable used handler.session, which is not "
                "loaded yet: let it take two arguments, the handler and the session "
                "(None while the cookie is read)"
            ) from error
        if not isinstance(given, Mapping):
            raise type_error("what the cookie setting returns", given, "a dict")
        key = tuple(sorted((name, repr(value)) for name, value in given.items()))
        built = self._built.get(key)
        if built is None:
            if len(self._built) >= _MOST_TENANTS:
                self._built.clear()
            built = CookieOptions.build(given, name=self._default_name)
            self._built[key] = self._checked(built)
        return built

    def _checked(self, options: CookieOptions) -> CookieOptions:
        longest = "x" * ids.LONGEST_ID
        if self._signer is not None:
            longest = self._signer.sign(options.name, longest)
        size = len(options.name) + len(longest)
        if size > MAX_SIZE:
            raise ValueError(
                f"cookie name is too long: with its value the cookie may have "
                f"{size} bytes, and browsers drop those of more than {MAX_SIZE}"
            )
        return options

    def present(self, handler: RequestHandler) -> Carried:
        # A callable is called even if there is no cookie: it must fail before a session
        # is stored whose cookie cannot be set.
        options = self._fixed or self.options(handler)
        headers = handler.request.headers.get_list("Cookie")
        if not headers:
            return _NOTHING
        said, now = (options.name, *headers), self._clock()
        known = self._known.get(said)
        if known is not None and 0 <= now - known[1] < REMEMBERED_SECONDS:
            return known[0]
        carried = self._read(headers, options.name)
        if carried.ids and sum(map(len, headers)) <= LONGEST_REMEMBERED:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[said] = carried, now
        return carried

    def _read(self, headers: Sequence[str], name: str) -> Carried:
        values = cookie_values(headers, name)
        found: tuple[str, ...] = ()
        for value in values:
            session_id: str | None = value
            if self._signer is not None:
                session_id = self._signer.unsign(name, value)
            if session_id is not None and session_id not in found:
                if ids.is_valid(session_id):
                    found += (session_id,)
        return Carried(found[:MOST_IDS], seen=bool(values))

    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session
    ) -> None:
        options = self._fixed or self.options(handler, session)
        if self._fixed is None and self._takes_session:
            if options.place != self.options(handler).place:
                self._warn(
                    "place",
                    "the cookie setting's callable returns another name, domain, path "
                    "or partitioned with the session than without it: the cookie "
                    "cannot be found or removed again",
                )
        request = handler.request
        protocol = request.protocol
        if options.secure == "auto" and options.needs_https and protocol != "https":
            self._warn(
                "prefix",
                f"cookie {options.name!r} is not sent over {protocol}: its name needs "
                "https (behind a proxy, listen with xheaders=True)",
            )
            return
        value = session.id
        if value is None:
            return
        if self._signer is not None:
            value = self._signer.sign(options.name, value)
        for kind, doubt in doubts(options, request, self._secure_hosts):
            self._warn(kind, doubt)
        persistent = session.persistent
        if persistent is None:
            persistent = options.persistent
        max_age = None
        if persistent:
            left = session.expires_at.timestamp() - self._clock()
            max_age = max(1, math.ceil(left))
        self._set(handler, headers, options.line(value, protocol, max_age))

    def clear(self, handler: RequestHandler, headers: HTTPHeaders) -> None:
        """Remove the cookie, with the attributes that it was set with."""
        line = self.options(handler).line("", handler.request.protocol, 0)
        self._set(handler, headers, line)

    def _set(self, handler: RequestHandler, headers: HTTPHeaders, line: str) -> None:
        headers.add("Set-Cookie", line)
        if forbid_shared_caching(headers):
            kind = type(handler).__qualname__
            self._warn(
                kind,
                f"{kind} allows shared caches to keep a response that sets the session "
                "cookie; the headers that allow it were removed",
            )

    def _warn(self, once: str, message: str) -> None:
        if once not in self._warned:
            self._warned.add(once)
            logger.warning("%s", message)


class HeaderTransport:
    """The id in a header of requests and responses, for clients without cookies.

    The client sends back the header that it received last. An empty header tells it
    to forget its id. Another site cannot make a browser send such a header.
    """

    def __init__(self, name: str) -> None:
        self.vary = name

    def read(self, handler: RequestHandler) -> str | None:
        """Return the id; an empty one if the request has several different ones."""
        values = set(handler.request.headers.get_list(self.vary))
        return "" if len(values) > 1 else next(iter(values), None)

    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session
    ) -> None:
        """Put the id into the response, and forbid caches to store it."""
        if session.id is not None:
            headers[self.vary] = session.id
            forbid_storing(headers)

    def clear(self, handler: RequestHandler, headers: HTTPHeaders) -> None:
        """Put an empty header into the response."""
        headers[self.vary] = ""
        forbid_storing(headers)


class CheckedTransport(Transport):
    """An `OwnTransport`, or a header, whose ids are checked."""

    def __init__(self, own: OwnTransport) -> None:
        self._own: Any = own  # what it returns is not trusted
        vary = getattr(own, "vary", None)
        if vary is not None and not isinstance(vary, str):
            raise type_error(f"vary of {type(own).__name__}", vary, "text or None")
        self.vary: tuple[str, ...] = (vary,) if vary else ()

    def present(self, handler: RequestHandler) -> Carried:
        value = self._own.read(handler)
        if value is None:
            return _NOTHING
        if isinstance(value, bytes):  # as get_signed_cookie returns
            value = value.decode("latin-1")
        if not isinstance(value, str):
            raise type_error(
                f"what read of the transport {type(self._own).__name__} returns",
                value,
                "text, ASCII bytes or None",
            )
        return Carried((value,) if ids.is_valid(value) else (), seen=True)

    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session
    ) -> None:
        self._own.write(handler, headers, session)

    def clear(self, handler: RequestHandler, headers: HTTPHeaders) -> None:
        self._own.clear(handler, headers)


class SeveralTransports(Transport):
    """A list of transports. A request uses the first that carries an id of good form.

    A new session, whose request carries none, uses the last one.
    """

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._transports = transports
        self.vary: tuple[str, ...] = tuple(
            dict.fromkeys(name for t in transports for name in t.vary)
        )

    def of(self, handler: RequestHandler) -> Transport:
        for transport in self._transports:
            if transport.present(handler).ids:
                return transport
        return self._transports[-1]

    def present(self, handler: RequestHandler) -> Carried:
        seen = False
        for transport in self._transports:
            carried = transport.present(handler)
            if carried.ids:
                return carried
            seen = seen or carried.seen
        return Carried(seen=seen)

    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session
    ) -> None:
        self.of(handler).write(handler, headers, session)

    def clear(self, handler: RequestHandler, headers: HTTPHeaders) -> None:
        self.of(handler).clear(handler, headers)


def build_transport(
    settings: Settings,
    *,
    name: str,
    secret: ids.CookieSecret | None,
    key_version: int | None,
) -> Transport:
    """Return the transport of the ``transport``, ``cookie`` and ``signed`` settings."""
    newest = ids.newest_secret(secret, key_version)
    if settings.signed and not newest:
        raise ValueError(
            "signed=True needs the application setting cookie_secret, which is missing"
        )

    def build(setting: Any) -> Transport:
        if isinstance(setting, Transport):
            return setting
        if setting != "cookie":
            if isinstance(setting, str):
                setting = HeaderTransport(setting.removeprefix("header:"))
            return CheckedTransport(setting)
        signer = None
        if settings.signed is not False and secret is not None:
            if not newest:
                raise ValueError("the application setting cookie_secret is empty")
            signer = Signer(secret, key_version, settings.lifetime, settings.clock)
        return CookieTransport(
            settings.cookie, default_name=name, signer=signer, clock=settings.clock
        )

    setting = settings.transport
    if isinstance(setting, list | tuple):
        return SeveralTransports([build(one) for one in setting])
    return build(setting)


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [
        parameter
        for parameter in parameters
        if parameter.kind
        in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and (parameter.default is parameter.empty or parameter.name == "session")
    ]
    return len(needed) == 2


def is_from_another_site(handler: RequestHandler, transport: Transport) -> bool:
    """Return whether another site's page made the request, without the cookie.

    Browsers withhold a SameSite cookie from such requests; under Lax, GET and HEAD
    carry it. A request that carries a cookie of the session's name is like any other.
    """
    cookie = transport.of(handler)
    if not isinstance(cookie, CookieTransport):
        return False
    request = handler.request
    options = cookie.options(handler)
    strict = options.samesite == "Strict"
    if options.samesite == "None" or cookie_values(
        request.headers.get_list("Cookie"), options.name
    ):
        return False
    if not strict and request.method in ("GET", "HEAD"):
        return False
    site = request.headers.get("Sec-Fetch-Site", "").lower()
    if site:
        return site == "cross-site" or (strict and site == "same-site")
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    try:
        host = urlsplit(origin).hostname or ""
    except ValueError:
        return True
    # A proxy may have changed Host. Siblings below one domain count as one site.
    forwarded = request.headers.get("X-Forwarded-Host", "").split(",")
    ours = [request.host_name, *(one.strip().partition(":")[0] for one in forwarded)]
    return not any(_is_one_site(host, one.lower()) for one in ours if one)


def _is_one_site(host: str, other: str) -> bool:
    if host == other or host.replace(".", "").isdigit():
        return host == other
    return "." in host and host.split(".")[-2:] == other.split(".")[-2:]
