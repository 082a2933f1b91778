"""How session ids travel between client and server: in a cookie or in a header."""

from __future__ import annotations

import inspect
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from tornado.httputil import HTTPHeaders
from tornado.web import create_signed_value, decode_signed_value

from ..checks import type_error
from ..exceptions import SessionNotLoaded
from ..sessions import ids
from .caching import forbid_shared_caching, forbid_storing
from .cookie import MAX_SIZE, MOST_IDS, CookieOptions, cookie_values, refusals

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest
    from tornado.web import RequestHandler

    from ..session import Session
    from ..settings import Settings

__all__ = ["Carried", "Transport", "build_transport", "is_from_another_site"]

logger = logging.getLogger("tornado_mcsession")

# A page's requests carry the same cookie: checking a signature takes 10 µs,
# remembering it 1. So late may an old signature be noticed; the record has its own end.
REMEMBERED_SECONDS = 10.0
REMEMBERED = 1024


class Carried(NamedTuple):
    """The ids of good form that a request carries, and whether it carried anything."""

    ids: tuple[str, ...] = ()
    seen: bool = False


_NOTHING = Carried()


class OwnTransport(Protocol):
    """What a transport of a user's own has.

    What `read` returns is untrusted: the manager checks its form, and never adopts
    an id that the store does not know. ``vary``, if it has one, is the request
    header that responses depend on.
    """

    def read(self, handler: RequestHandler, /) -> str | None: ...
    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session, /
    ) -> None: ...
    def clear(self, handler: RequestHandler, headers: HTTPHeaders, /) -> None: ...


class Signer:
    """Signs cookie values, and tells which of them this application signed.

    Tornado's signed values, version 2 alone: with a dict of secrets, a value that
    looks like version 1 would be an AssertionError in Tornado. A value older than
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
        self._signed: dict[tuple[str, str], tuple[str, float]] = {}

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
        """Return the value that was signed, or `None` if it was not."""
        now = self._clock()
        known = self._signed.get((name, signed))
        if known is not None and 0 <= now - known[1] < REMEMBERED_SECONDS:
            return known[0]
        value = self._decode(name, signed)
        if value is not None:
            if len(self._signed) >= REMEMBERED:
                self._signed.clear()
            self._signed[name, signed] = value, now
        return value

    def _decode(self, name: str, signed: str) -> str | None:
        try:
            value = decode_signed_value(
                self._secret,
                name,
                signed,
                max_age_days=self._days,
                clock=self._clock,
                min_version=2,
            )
            return None if value is None else value.decode("ascii")
        except ValueError:
            return None


class Transport:
    """Reads ids from requests, and tells clients about them."""

    vary: tuple[str, ...] = ()
    """The request headers that responses depend on."""

    def present(self, handler: RequestHandler) -> Carried:
        """Return what the request carries."""
        raise NotImplementedError

    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session
    ) -> None:
        """Tell the client the id of ``session`` in the response's ``headers``."""
        raise NotImplementedError

    def clear(self, handler: RequestHandler, headers: HTTPHeaders) -> None:
        """Tell the client to forget its id."""
        raise NotImplementedError

    def of(self, handler: RequestHandler) -> Transport:
        """Return the transport that tells the client of this request."""
        return self


class CookieTransport(Transport):
    """The id in a cookie: the default.

    ``options`` are the cookie's attributes, or a callable that returns a dict of
    them for a handler, so that tenants may have names and domains of their own. A
    signature is made for its cookie's name: with a name of its own, a tenant
    refuses the signed cookie of another one, copied by hand.
    """

    vary = ("Cookie",)

    def __init__(
        self,
        options: CookieOptions | Callable[..., Mapping[str, Any]],
        *,
        default_name: str,
        signer: Signer | None,
        clock: Callable[[], float],
    ) -> None:
        self._signer = signer
        if isinstance(options, CookieOptions):
            self._check_size(options)
        else:
            self._takes_session = _takes_two(options)
        self._options = options
        self._default_name = default_name
        self._clock = clock
        self._built: dict[tuple[tuple[str, str], ...], CookieOptions] = {}
        self._warned: set[str] = set()
        self._secure_hosts: set[str] = set()

    def options(
        self, handler: RequestHandler, session: Session | None = None
    ) -> CookieOptions:
        """Return the cookie's attributes for a request and, if known, its session."""
        if isinstance(self._options, CookieOptions):
            return self._options
        arguments = (handler, session) if self._takes_session else (handler,)
        try:
            given = self._options(*arguments)
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
            if len(self._built) >= 1000:
                self._built.clear()
            built = CookieOptions.build(given, name=self._default_name)
            self._check_size(built)
            self._built[key] = built
        return built

    def _check_size(self, options: CookieOptions) -> None:
        longest = self._value(options.name, "x" * ids.LONGEST_ID)
        size = len(options.name) + len(longest)
        if size > MAX_SIZE:
            raise ValueError(
                f"cookie name is too long: with its value the cookie may have "
                f"{size} bytes, and browsers drop those of more than {MAX_SIZE}"
            )

    def _value(self, name: str, session_id: str) -> str:
        if self._signer is None:
            return session_id
        return self._signer.sign(name, session_id)

    def present(self, handler: RequestHandler) -> Carried:
        headers = handler.request.headers.get_list("Cookie")
        if not headers:
            # What is wrong with a callable's options, or its tenant, must show before
            # a session is stored whose cookie cannot be set.
            if not isinstance(self._options, CookieOptions):
                self.options(handler)
            return _NOTHING
        name = self.options(handler).name
        values = cookie_values(headers, name)
        if not values:
            return _NOTHING
        found: tuple[str, ...] = ()
        signer = self._signer
        for value in values:
            session_id = value if signer is None else signer.unsign(name, value)
            if session_id is not None and session_id not in found:
                if ids.is_valid(session_id):
                    found += (session_id,)
        return Carried(found[:MOST_IDS], True)

    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session
    ) -> None:
        options = self.options(handler, session)
        protocol = handler.request.protocol
        if not options.is_secure(protocol):
            self._look_at_proxy(handler.request)
        if options.needs_https and options.secure == "auto" and protocol != "https":
            self._warn(
                "prefix",
                f"cookie {options.name!r} is not sent over {protocol}: its name asks "
                "for https (behind a proxy, listen with xheaders=True)",
            )
            return
        session_id = session.id
        if session_id is None:
            return
        self._look_at_browser(options, handler.request)
        value = self._value(options.name, session_id)
        persistent = session.persistent
        if persistent is None:
            persistent = options.persistent
        max_age = None
        if persistent:
            left = session.expires_at.timestamp() - self._clock()
            max_age = max(1, math.ceil(left))
        headers.add("Set-Cookie", options.line(value, protocol, max_age))
        self._forbid_caching(handler, headers)

    def clear(self, handler: RequestHandler, headers: HTTPHeaders) -> None:
        """Remove the cookie, with the attributes that it was set with."""
        options = self.options(handler)
        line = options.line("", handler.request.protocol, 0)
        headers.add("Set-Cookie", line)
        self._forbid_caching(handler, headers)

    def _forbid_caching(self, handler: RequestHandler, headers: HTTPHeaders) -> None:
        if forbid_shared_caching(headers):
            kind = type(handler).__qualname__
            self._warn(
                kind,
                f"{kind} allows shared caches to keep a response that sets the session "
                "cookie; what allows it was removed from its headers",
            )

    def _look_at_proxy(self, request: HTTPServerRequest) -> None:
        if request.protocol != "http" or "proxy" in self._warned:
            return
        name = _header_that_says_https(request)
        if name is not None:
            self._warn(
                "proxy",
                f"{name} says that the client uses https, but the request counts as "
                "http, so that the session cookie is not Secure; listen with "
                "xheaders=True, or set secure=True",
            )

    def _look_at_browser(
        self, options: CookieOptions, request: HTTPServerRequest
    ) -> None:
        for kind, reason in refusals(options, request).items():
            if kind == "secure" and _header_that_says_https(request):
                continue
            self._warn(
                kind,
                f"a browser would not send the session cookie {options.name!r} back "
                f"here: {reason}",
            )
        if options.secure == "auto":
            host = request.host_name
            if request.protocol == "https":
                if len(self._secure_hosts) < 1000:
                    self._secure_hosts.add(host)
            elif host in self._secure_hosts:
                self._warn(
                    "leave",
                    f"the session cookie {options.name!r} is set over http at "
                    f"{host!r}, where it was set with Secure over https before: a "
                    "browser that has that one keeps it, and ignores this one. Serve "
                    "one scheme, or set secure=True",
                )

    def _warn(self, once: str, message: str) -> None:
        if once not in self._warned:
            self._warned.add(once)
            logger.warning("%s", message)


def _header_that_says_https(request: HTTPServerRequest) -> str | None:
    """Return the header by which a proxy says that the client uses https."""
    for name, pattern in _HTTPS.items():
        value = request.headers.get(name)
        if value is not None and pattern.search(value):
            return name
    return None


# Proxies tell by these that the client came over https. Tornado's xheaders=True looks
# at the first two, and takes the last value of a list.
_SCHEME = re.compile(r"\bhttps\b", re.IGNORECASE)
_ON = re.compile(r"^\s*(on|1|true|https)\b", re.IGNORECASE)
_HTTPS = {
    "X-Scheme": _SCHEME,
    "X-Forwarded-Proto": _SCHEME,
    "X-Forwarded-Protocol": _SCHEME,
    "X-Forwarded-Scheme": _SCHEME,
    "X-Url-Scheme": _SCHEME,
    "CloudFront-Forwarded-Proto": _SCHEME,
    "CF-Visitor": _SCHEME,
    "Forwarded": re.compile(r'\bproto\s*=\s*"?https\b', re.IGNORECASE),
    "X-Forwarded-Ssl": _ON,
    "Front-End-Https": _ON,
    "X-ARR-SSL": re.compile("."),  # of IIS: the certificate
}


class HeaderTransport(Transport):
    """The id in a header of requests and responses, for clients without cookies.

    The client sends the header back that it last got; an empty one tells it to
    forget its id. There is no protection against other sites to lose: browsers do
    not add such a header by themselves.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.vary = (name,)

    def present(self, handler: RequestHandler) -> Carried:
        values = set(handler.request.headers.get_list(self._name))
        if len(values) == 1 and ids.is_valid(value := values.pop()):
            return Carried((value,), seen=True)
        return Carried(seen=bool(values))

    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session
    ) -> None:
        """Put the id into the response, and forbid caches to keep it."""
        if session.id is not None:
            headers[self._name] = session.id
            forbid_storing(headers)

    def clear(self, handler: RequestHandler, headers: HTTPHeaders) -> None:
        """Put an empty header into the response."""
        headers[self._name] = ""
        forbid_storing(headers)


class _Checked(Transport):
    """A transport of a user's own; what it returns is checked, and named."""

    def __init__(self, own: OwnTransport) -> None:
        self._own: Any = own  # what it returns is not trusted
        vary = getattr(own, "vary", None)
        if vary is not None and not isinstance(vary, str):
            raise type_error(f"vary of {type(own).__name__}", vary, "text or None")
        self.vary = (vary,) if vary else ()

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


class _Several(Transport):
    """The first transport that carries an id of good form is the request's.

    It also tells the client. A new session of a request that carries none goes by
    the last one.
    """

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._transports = transports
        self.vary = tuple(dict.fromkeys(name for t in transports for name in t.vary))

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
    if settings.signed and not ids.newest_secret(secret, key_version):
        raise ValueError(
            "signed=True needs the application setting cookie_secret, which is missing"
        )

    def build(setting: Any) -> Transport:
        if setting == "cookie":
            return CookieTransport(
                settings.cookie,
                default_name=name,
                signer=_signer(settings, secret, key_version),
                clock=settings.clock,
            )
        if isinstance(setting, str):
            return HeaderTransport(setting.removeprefix("header:"))
        return _Checked(setting)

    setting = settings.transport
    if isinstance(setting, list | tuple):
        return _Several([build(one) for one in setting])
    return build(setting)


def _signer(
    settings: Settings, secret: ids.CookieSecret | None, key_version: int | None
) -> Signer | None:
    if settings.signed is False or secret is None:
        return None
    if not ids.newest_secret(secret, key_version):
        raise ValueError("the application setting cookie_secret is empty")
    return Signer(secret, key_version, settings.lifetime, settings.clock)


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
    """Return whether a browser sent the request from another site without its cookie.

    SameSite held it back: under Lax for all methods but GET and HEAD. A request
    that carries a cookie of the session's name is like any other.
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
    # A proxy may have rewritten Host. Siblings below one domain count as one site.
    forwarded = request.headers.get("X-Forwarded-Host", "").split(",")
    ours = [request.host_name, *(one.strip().partition(":")[0] for one in forwarded)]
    return not any(_is_one_site(host, one.lower()) for one in ours if one)


def _is_one_site(host: str, other: str) -> bool:
    if host == other or host.replace(".", "").isdigit():
        return host == other
    return "." in host and host.split(".")[-2:] == other.split(".")[-2:]
