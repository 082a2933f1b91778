"""A cookie's attributes, its Set-Cookie line, and its values in a request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ..checks import kinds_of, known, type_error

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

__all__ = [
    "MAX_SIZE",
    "MOST_IDS",
    "CookieOptions",
    "CookieSettings",
    "cookie_values",
    "doubts",
]

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


class CookieSettings(TypedDict, total=False):
    """The attributes of the session cookie; RFC 6265bis says what each does."""

    name: str
    """The name; by default that of the manager, ``"session"``."""
    path: str
    """The path below which it is sent: ``"/"``."""
    domain: str | None
    """A host name: the cookie is sent to its subdomains, too. `None`: to this host."""
    secure: bool | Literal["auto"]
    """Whether it is sent over https only; ``"auto"``: if this request was."""
    httponly: bool
    """Whether scripts of the page cannot read it: `True`."""
    samesite: Literal["Strict", "Lax", "None"] | None
    """Which requests of other sites carry it; ``"Lax"``: links that are followed."""
    partitioned: bool
    """Whether it belongs to the site that frames this one: `False`."""
    persistent: bool
    """Whether it outlives the browser: `True`. `.Session.remember` overrides it."""
    priority: Literal["Low", "Medium", "High"] | None
    """Which cookies Chromium drops last, if a site has too many. Other browsers
    ignore it."""


_KINDS = kinds_of(CookieSettings)


@dataclass(frozen=True, kw_only=True)
class CookieOptions:
    """`CookieSettings`, checked, with a value for each."""

    name: str = "session"
    path: str = "/"
    domain: str | None = None
    secure: bool | Literal["auto"] = "auto"
    httponly: bool = True
    samesite: Literal["Strict", "Lax", "None"] | None = "Lax"
    partitioned: bool = False
    persistent: bool = True
    priority: Literal["Low", "Medium", "High"] | None = None

    @classmethod
    def build(cls, options: Mapping[str, Any], **defaults: Any) -> CookieOptions:
        """Return the options of a ``cookie`` setting, checked."""
        if not isinstance(options, Mapping):
            raise type_error("cookie", options, "a dict or a callable")
        known(options, _KINDS, "cookie")
        return cls(**{**defaults, **options})

    def __post_init__(self) -> None:
        for name in ("samesite", "priority"):
            word = getattr(self, name)
            if isinstance(word, str):
                object.__setattr__(self, name, word.capitalize())
        for name, kind in _KINDS.items():
            kind.check(f"cookie {name}", getattr(self, name))
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
    def place(self) -> tuple[object, ...]:
        """What tells the cookie from another one in a browser."""
        return self.name, self.domain, self.path, self.partitioned

    @cached_property
    def needs_https(self) -> bool:
        """Whether browsers accept a cookie of this name only over https."""
        return self.name.lower().startswith(("__host-", "__secure-"))

    def line(self, value: str, protocol: str, max_age: int | None) -> str:
        """Return the Set-Cookie line for ``value``.

        Without ``max_age`` the cookie ends with the browser; 0 removes it.
        ``SimpleCookie`` cannot make the line: it quotes signed values and, before
        Python 3.14, does not know ``Partitioned``.
        """
        secure = self.secure
        if secure == "auto":
            secure = protocol == "https" or self.needs_https
        parts = [f"{self.name}={value}", f"Path={self.path}"]
        if self.domain is not None:
            parts.append(f"Domain={self.domain}")
        if max_age is not None:
            parts.append(f"Max-Age={max_age}")
            if max_age == 0:
                parts.append(f"Expires={_EPOCH}")
        if self.httponly:
            parts.append("HttpOnly")
        if secure:
            parts.append("Secure")
        if self.samesite is not None:
            parts.append(f"SameSite={self.samesite}")
        if self.partitioned and secure:
            parts.append("Partitioned")
        if self.priority is not None:
            parts.append(f"Priority={self.priority}")
        return "; ".join(parts)


# Whether a browser will send the cookie back.

# The headers by which proxies say that the client uses https. With xheaders=True,
# Tornado looks at the first two, and takes the last value of a list.
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
    "X-ARR-SSL": re.compile("."),  # IIS sends the certificate
}
MOST_HOSTS = 1000
# Browsers accept a Secure cookie from these hosts over http, too. Chromium does not if
# the cookie's name has a prefix.
_LOCAL = re.compile(r"localhost|.*\.localhost|127\..*|::1|\[::1\]")


def doubts(
    options: CookieOptions, request: HTTPServerRequest, secure_hosts: set[str]
) -> Iterator[tuple[str, str]]:
    """Yield why a browser may lose the cookie: the kind of the reason, and a text.

    A proxy may have changed the request's host, path or scheme. So these are reasons
    for a warning, not for an error. ``secure_hosts`` are the hosts that have got the
    cookie over https; this one is added to them.
    """
    unsent = f"a browser would not send the session cookie {options.name!r} back here"
    host = request.host_name.lower()
    domain = (options.domain or "").lstrip(".").lower()
    if domain and host != domain and not host.endswith("." + domain):
        yield (
            "domain",
            f"{unsent}: its domain is {domain!r}, and the request's Host is {host!r}",
        )
    path = options.path
    if request.path != path and not request.path.startswith(
        path.removesuffix("/") + "/"
    ):
        yield (
            "path",
            f"{unsent}: its path is {path!r}, and the request's is {request.path!r}",
        )
    if request.protocol != "http":
        if options.secure == "auto" and len(secure_hosts) < MOST_HOSTS:
            secure_hosts.add(host)
        return
    if options.secure == "auto" and host in secure_hosts:
        yield (
            "leave",
            f"the session cookie {options.name!r} is set over http at {host!r}, where "
            "it was set with Secure over https before: a browser that has the Secure "
            "one ignores this one. Use one scheme, or set secure=True",
        )
    for name, pattern in _HTTPS.items():
        value = request.headers.get(name)
        if value is not None and pattern.search(value):
            if options.secure is not True:
                yield (
                    "proxy",
                    f"{name} says that the client uses https, but the request counts "
                    "as http, and the session cookie is not Secure; listen with "
                    "xheaders=True, or set secure=True",
                )
            return
    if options.secure is True and (options.needs_https or not _LOCAL.fullmatch(host)):
        yield (
            "secure",
            f"{unsent}: it has secure=True, and the request came over http to {host!r}",
        )


# How many values of one name are read, and how many distinct ids are looked up. A
# browser sends few; a header of 60 KB may hold thousands.
MOST_VALUES = 8
MOST_IDS = 4


def cookie_values(headers: Iterable[str], name: str) -> list[str]:
    """Return the values of the cookies called ``name``, the first eight.

    ``headers`` are the request's Cookie headers. A parser that makes a mapping
    keeps only the last of several cookies of one name.
    """
    values: list[str] = []
    for header in headers:
        if name not in header:
            continue
        for pair in header.split(";"):
            key, equals, value = pair.partition("=")
            # RFC 6265 knows SP and HTAB only. Other white space is part of a name:
            # Chromium sends "\xa0__Host-session", which a sibling host can set.
            if not equals or key.strip(" \t") != name:
                continue
            value = value.strip(" \t")
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            values.append(value)
            if len(values) == MOST_VALUES:
                return values
    return values
