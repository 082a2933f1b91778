"""A cookie's attributes, its Set-Cookie line, and its values in a request."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..checks import known, of_types, one_of, type_error

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

__all__ = ["MAX_SIZE", "MOST_IDS", "CookieOptions", "cookie_values", "refusals"]

# RFC 6265bis 4.1.1: a name is an RFC 9110 token; attribute values end at ";".
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ATTRIBUTE = re.compile(r"[\x21-\x3a\x3c-\x7e]+")
# RFC 6265bis 5.6: browsers drop a cookie whose name and value are longer together, and
# ignore an attribute whose value is longer.
MAX_SIZE = 4096
MAX_ATTRIBUTE = 1024
# RFC 6265 5.2.3 ignores a leading dot.
_DOMAIN = re.compile(
    r"\.?(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*"
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
_EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"
_TYPES: dict[str, tuple[Any, str]] = {
    "name": (str, "text"),
    "path": (str, "text"),
    "domain": (str | None, "text or None"),
    "samesite": (str | None, "text or None"),
    "httponly": (bool, "True or False"),
    "partitioned": (bool, "True or False"),
    "persistent": (bool, "True or False"),
    "secure": (bool | str, "True, False or 'auto'"),
}


@dataclass(frozen=True, kw_only=True)
class CookieOptions:
    """The attributes of the session cookie; RFC 6265bis says what each does."""

    name: str = "session"
    path: str = "/"
    domain: str | None = None
    secure: bool | str = "auto"
    """``"auto"``: if the request came over https."""
    httponly: bool = True
    samesite: str | None = "Lax"
    partitioned: bool = False
    persistent: bool = True
    """Whether the cookie outlives the browser; `.Session.remember` overrides it."""

    @classmethod
    def build(cls, options: Mapping[str, Any], **defaults: Any) -> CookieOptions:
        """Return the options of a ``cookie`` setting, checked."""
        if not isinstance(options, Mapping):
            raise type_error("cookie", options, "a dict or a callable")
        known(options, (f.name for f in dataclasses.fields(cls)), "cookie")
        return cls(**{**defaults, **options})

    def __post_init__(self) -> None:
        of_types(self, _TYPES, "cookie ")
        if isinstance(self.secure, str) and self.secure != "auto":
            raise ValueError("cookie secure must be True, False or 'auto'")
        if not _TOKEN.fullmatch(self.name):
            raise ValueError("cookie name must be an RFC 9110 token")
        for attribute in ("path", "domain"):
            value = getattr(self, attribute)
            if value is not None and not _ATTRIBUTE.fullmatch(value):
                raise ValueError(
                    f"cookie {attribute} must be printable ASCII without ; or spaces"
                )
            if value is not None and len(value) > MAX_ATTRIBUTE:
                raise ValueError(
                    f"cookie {attribute} must not be longer than {MAX_ATTRIBUTE} "
                    "bytes: browsers would ignore it"
                )
        if not self.path.startswith("/"):
            raise ValueError("cookie path must begin with /")
        if self.domain is not None and not _DOMAIN.fullmatch(self.domain):
            raise ValueError(
                "cookie domain must be a host name such as 'example.com', without "
                "scheme, port or wildcard; browsers ignore a cookie with another one"
            )
        if self.samesite is not None:
            object.__setattr__(self, "samesite", self.samesite.capitalize())
            one_of("cookie samesite", self.samesite, ("Strict", "Lax", "None"))
        if self.samesite == "None" and self.secure is not True:
            raise ValueError("cookie samesite='None' needs secure=True")
        if self.partitioned and not self.secure:
            raise ValueError("cookie partitioned=True needs secure=True or 'auto'")
        if self.needs_https and not self.secure:
            raise ValueError(
                "a cookie name with __Host- or __Secure- needs secure=True or 'auto'"
            )
        if self.name.lower().startswith("__host-"):
            if self.domain is not None:
                raise ValueError("a cookie name with __Host- needs domain=None")
            if self.path != "/":
                raise ValueError("a cookie name with __Host- needs path='/'")

    @property
    def needs_https(self) -> bool:
        """Whether browsers take a cookie of this name over https alone."""
        return self.name.lower().startswith(("__host-", "__secure-"))

    def is_secure(self, protocol: str) -> bool:
        """Return whether the cookie carries ``Secure`` in a response."""
        if self.secure == "auto":
            return protocol == "https" or self.needs_https
        return bool(self.secure)

    def line(self, value: str, protocol: str, max_age: int | None) -> str:
        """Return the Set-Cookie line for ``value``.

        ``max_age`` `None` makes a cookie that ends with the browser, 0 removes
        it. Made here because ``SimpleCookie`` quotes signed values and, before
        Python 3.14, does not know ``Partitioned``.
        """
        parts = [f"{self.name}={value}", f"Path={self.path}"]
        if self.domain is not None:
            parts.append(f"Domain={self.domain}")
        if max_age is not None:
            parts.append(f"Max-Age={max_age}")
            if max_age == 0:
                parts.append(f"Expires={_EPOCH}")
        if self.httponly:
            parts.append("HttpOnly")
        secure = self.is_secure(protocol)
        if secure:
            parts.append("Secure")
        if self.samesite is not None:
            parts.append(f"SameSite={self.samesite}")
        if self.partitioned and secure:
            parts.append("Partitioned")
        return "; ".join(parts)


def refusals(options: CookieOptions, request: HTTPServerRequest) -> dict[str, str]:
    """Return why a browser would not send the cookie back to this request.

    As the request looks here: a proxy may have rewritten host, path or scheme, so
    these are reasons for a warning, not for an error.
    """
    reasons = {}
    host = request.host_name.lower()
    domain = (options.domain or "").lstrip(".").lower()
    if domain and host != domain and not host.endswith("." + domain):
        reasons["domain"] = (
            f"its domain is {domain!r}, and the request's Host is {host!r}"
        )
    path = options.path
    inside = path if path.endswith("/") else path + "/"
    if request.path != path and not request.path.startswith(inside):
        reasons["path"] = f"its path is {path!r}, and the request's is {request.path!r}"
    if options.secure is True and request.protocol != "https" and not _is_local(host):
        reasons["secure"] = (
            f"it has secure=True, and the request came over http to {host!r}"
        )
    return reasons


def _is_local(host: str) -> bool:
    # Browsers take a Secure cookie from these over http, too.
    return (
        host in ("localhost", "::1", "[::1]")
        or host.endswith(".localhost")
        or host.startswith("127.")
    )


# How many cookies of one name are looked at, and how many distinct ids of them are
# asked for. A browser has few; a header of 60 KB may hold thousands.
MOST_VALUES = 8
MOST_IDS = 4


@lru_cache(64)
def _pattern(name: str) -> re.Pattern[str]:
    # RFC 6265 knows SP and HTAB only. Other white space is part of a name: Chromium
    # sends a cookie "\xa0__Host-session", which a sibling host can set.
    return re.compile(rf"(?:^|;)[ \t]*{re.escape(name)}[ \t]*=[ \t]*([^;]*)")


def cookie_values(headers: Iterable[str], name: str) -> list[str]:
    """Return the values of the cookies called ``name``, the first eight.

    ``headers`` are the request's Cookie headers. A parser that makes a mapping
    keeps only the last of several cookies of one name.
    """
    values: list[str] = []
    for header in headers:
        if name not in header:
            continue
        if ";" not in header and header.startswith(name + "="):  # the usual one
            values.append(_unquoted(header[len(name) + 1 :]))
            if len(values) == MOST_VALUES:
                return values
            continue
        for match in _pattern(name).finditer(header):
            values.append(_unquoted(match[1]))
            if len(values) == MOST_VALUES:
                return values
    return values


def _unquoted(value: str) -> str:
    value = value.strip(" \t")
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value
