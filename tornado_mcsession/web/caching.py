"""What a session changes in a response's headers, for caches and for error pages."""

from __future__ import annotations

import re

from tornado.httputil import HTTPHeaders

__all__ = [
    "FOR_SHARED_CACHES",
    "add_vary",
    "drop_representation",
    "forbid_shared_caching",
    "forbid_storing",
]

# RFC 9111 5.2: directives may carry a quoted string, which may hold commas.
_DIRECTIVE = re.compile(r'\s*([^\s,="]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"]*))?\s*')
_NO_COOKIE = 'no-cache="Set-Cookie"'

# Headers that allow shared caches to keep a response, whatever Cache-Control says
# (RFC 9213, and the names that Fastly, Varnish, nginx and Akamai document). They are
# spelled as `~tornado.httputil.HTTPHeaders` does. A response that sets the session
# cookie must not have them.
FOR_SHARED_CACHES = {
    "Akamai-Cache-Control",
    "Cdn-Cache-Control",
    "Cloudflare-Cdn-Cache-Control",
    "Edge-Control",
    "Expires",
    "Fastly-Cache-Control",
    "Netlify-Cdn-Cache-Control",
    "Surrogate-Control",
    "Vercel-Cdn-Cache-Control",
    "X-Accel-Expires",
}
_OF_ONE_CDN = "-Cdn-Cache-Control"  # of others than those above

# What describes the body or target of the response that an error page replaces.
_REPRESENTATION = {
    "Cache-Control",
    "Etag",
    "Expires",
    "Last-Modified",
    "Location",
    "Transfer-Encoding",
}


def add_vary(headers: HTTPHeaders, name: str) -> None:
    """Append ``name`` to the Vary header, unless it is there."""
    values = headers.get_list("Vary")
    if not values:
        headers["Vary"] = name
        return
    present = [field.strip() for value in values for field in value.split(",")]
    if "*" in present or name.lower() in (field.lower() for field in present):
        return
    headers["Vary"] = ", ".join([*filter(None, present), name])


def forbid_shared_caching(headers: HTTPHeaders) -> bool:
    """Make the response private, and its cookie uncacheable.

    Returns whether the handler had allowed shared caches to keep it.
    """
    kept = []
    allowed = False
    for match in _DIRECTIVE.finditer(",".join(headers.get_list("Cache-Control"))):
        directive = match[1].lower()
        if directive in ("public", "s-maxage"):
            allowed = True
        elif directive != "private" and match[0].strip() != _NO_COOKIE:
            kept.append(match[0].strip())
    headers["Cache-Control"] = ", ".join([*kept, "private", _NO_COOKIE])
    return _drop_for_shared_caches(headers) or allowed


def forbid_storing(headers: HTTPHeaders) -> None:
    """Forbid every cache to keep the response, the browser's own included."""
    _drop_for_shared_caches(headers)
    headers["Cache-Control"] = "no-store"


def _drop_for_shared_caches(headers: HTTPHeaders) -> bool:
    dropped = False
    for name in list(headers):
        if name in FOR_SHARED_CACHES or name.endswith(_OF_ONE_CDN):
            dropped = dropped or name != "Expires"
            del headers[name]
    return dropped


def drop_representation(headers: HTTPHeaders) -> None:
    """Remove the headers that describe the replaced response; keep the others."""
    for name in list(headers):
        if name in _REPRESENTATION or name.startswith("Content-"):
            # A policy is about the site, not about this body.
            if not name.startswith("Content-Security-Policy"):
                del headers[name]
