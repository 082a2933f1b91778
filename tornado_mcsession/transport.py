"""How the session id travels between client and server."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tornado.httputil import HTTPHeaders
from tornado.web import create_signed_value, decode_signed_value

from . import _headers, _ids
from .checks import type_error
from ._cookie import MAX_SIZE, CookieOptions, cookie_values
from ._keys import CookieSecret
from .session import Session

if TYPE_CHECKING:
    from tornado.web import RequestHandler

__all__ = ["CookieTransport", "HeaderTransport", "Signer", "Transport"]

logger = logging.getLogger("tornado_mcsession")


# A page's requests carry the same cookie: checking it takes 10 µs, remembering
# it 1. So late may an old signature be noticed; the record has its own end.
REMEMBERED_SECONDS = 10.0
REMEMBERED = 1024

# The longest id: what a hook may make, and a principal's digest behind a dot.
LONGEST_ID = 200 + 1 + 22


class Transport(Protocol):
    """Reads a session id from a request, and tells the client about it.

    What `read` returns is untrusted: the manager checks its form, and never
    adopts an id that the store does not know.
    """

    vary: str | None
    """The request header that answers depend on, if any."""

    def read(self, handler: RequestHandler, /) -> str | None:
        """Return the id that the request carries, or `None`."""

    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session, /
    ) -> None:
        """Tell the client the id of ``session`` in the answer's ``headers``."""

    def clear(self, handler: RequestHandler, headers: HTTPHeaders, /) -> None:
        """Tell the client to forget its id."""


class Signer:
    """Signs cookie values, and tells which of them this application signed.

    Tornado's signed values, version 2 alone: with a dict of secrets, a value
    that looks like version 1 would be an AssertionError in Tornado. A value
    older than ``max_age`` seconds is refused.
    """

    def __init__(
        self,
        secret: CookieSecret,
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


class CookieTransport:
    """The id in a cookie: the default.

    ``options`` are the cookie's attributes, or a callable that gives a dict of
    them for a handler, so that tenants may have names and domains of their own.
    A signature is made for its cookie's name: with a name of its own, a tenant
    refuses the signed cookie of another one, copied by hand.
    """

    vary: str | None = "Cookie"

    def __init__(
        self,
        options: CookieOptions | Callable[[RequestHandler], Mapping[str, Any]],
        *,
        default_name: str,
        signer: Signer | None,
        clock: Callable[[], float],
    ) -> None:
        self._signer = signer
        if isinstance(options, CookieOptions):
            self._check_size(options)
        self._options = options
        self._default_name = default_name
        self._clock = clock
        self._built: dict[tuple[tuple[str, str], ...], CookieOptions] = {}
        self._warned: set[str] = set()

    def options(self, handler: RequestHandler) -> CookieOptions:
        """Return the cookie's attributes for the request of ``handler``."""
        if isinstance(self._options, CookieOptions):
            return self._options
        given = self._options(handler)
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
        longest = len(options.name) + len(self._value(options.name, "x" * LONGEST_ID))
        if longest > MAX_SIZE:
            raise ValueError(
                f"cookie name is too long: with its value the cookie may have "
                f"{longest} bytes, and browsers drop those of more than {MAX_SIZE}"
            )

    def _value(self, name: str, session_id: str) -> str:
        if self._signer is None:
            return session_id
        return self._signer.sign(name, session_id)

    def read(self, handler: RequestHandler) -> str | None:
        """Return the id in the request's cookie, if there is exactly one."""
        headers = handler.request.headers.get_list("Cookie")
        if not headers:
            # What is wrong with a callable's options, or its tenant, must show
            # before a session is stored whose cookie cannot be set.
            if not isinstance(self._options, CookieOptions):
                self.options(handler)
            return None
        name = self.options(handler).name
        found: str | None = None
        for value in cookie_values(headers, name):
            signer = self._signer
            session_id = value if signer is None else signer.unsign(name, value)
            if session_id is None or not _ids.is_valid(session_id):
                continue
            if found is not None and found != session_id:
                # One may be of this path and one of another, or one that
                # somebody else planted: neither is to be trusted.
                return None
            found = session_id
        return found

    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session
    ) -> None:
        """Add the cookie, and forbid shared caches to keep the answer."""
        options = self.options(handler)
        protocol = handler.request.protocol
        self._look_at_proxy(handler)
        if options.needs_https and options.secure == "auto" and protocol != "https":
            self._warn(
                "prefix",
                f"cookie {options.name!r} is not sent over {protocol}: its name asks "
                "for https (behind a proxy, listen with xheaders=True)",
            )
            return
        if session.id is None:
            return
        value = self._value(options.name, session.id)
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
        if _headers.forbid_shared_caching(headers):
            kind = type(handler).__qualname__
            self._warn(
                kind,
                f"{kind} allows shared caches to keep an answer that sets the session "
                "cookie; public and s-maxage were removed from its Cache-Control",
            )

    def _look_at_proxy(self, handler: RequestHandler) -> None:
        request = handler.request
        if request.protocol == "http" and (
            request.headers.get("X-Forwarded-Proto", "").lower() == "https"
        ):
            self._warn(
                "proxy",
                "X-Forwarded-Proto says https, but the request counts as http, so that "
                "the session cookie is not Secure; listen with xheaders=True",
            )

    def _warn(self, once: str, message: str) -> None:
        if once not in self._warned:
            self._warned.add(once)
            logger.warning("%s", message)


class HeaderTransport:
    """The id in a header of requests and answers, for clients without cookies.

    The client sends the header back that it last got; an empty one tells it to
    forget its id. There is no protection against other sites to lose: browsers
    do not add such a header by themselves.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.vary: str | None = name

    def read(self, handler: RequestHandler) -> str | None:
        """Return the id in the request's header, if there is exactly one."""
        values = set(handler.request.headers.get_list(self._name))
        return values.pop() if len(values) == 1 else None

    def write(
        self, handler: RequestHandler, headers: HTTPHeaders, session: Session
    ) -> None:
        """Put the id into the answer, and forbid caches to keep it."""
        if session.id is not None:
            headers[self._name] = session.id
            headers["Cache-Control"] = "no-store"

    def clear(self, handler: RequestHandler, headers: HTTPHeaders) -> None:
        """Put an empty header into the answer."""
        headers[self._name] = ""
        headers["Cache-Control"] = "no-store"
