"""Sessions shared with express: express-session 1.19 over connect-memcached 3.0."""

from __future__ import annotations

import base64
import functools
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from ..sessions.lifetime import utc
from ..stores.base import Store
from ..web.cookie import CookieOptions
from ..web.transport import CookieTransport
from .node import (
    NodeCodec,
    attributes_of,
    build_store,
    checked_keys,
    checked_prefix,
)

__all__ = ["express_session"]


def express_session(
    *,
    store: str | Store,
    secret: str | bytes | Sequence[str | bytes],
    prefix: str = "",
    cookie: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.time,
    **settings: Any,
) -> dict[str, Any]:
    """Return the settings with which an application shares its sessions with express.

    ::

        Application(
            handlers,
            session=express_session(
                store="memcached://10.0.0.1:11211", secret="what express has"
            ),
        )

    Both applications then serve the same users from the same memcached servers.
    ``docs/guides/koa.md`` says which guarantees hold, and which do not hold while Node
    writes.

    Raises `ValueError` or `TypeError` for wrong arguments.

    Args:
        store: a ``memcached://`` URL with the servers that express's store has, by the
            same names, or a `.Store`.
        secret: express's ``secret``. The first one of a list signs, all of them are
            accepted.
        prefix: the ``prefix`` of express's store, behind its ``namespace`` if there is
            one.
        cookie: the attributes of the cookie, as in the setting of that name, but with
            ``persistent=False`` as default, as in express. ``name`` is express's
            ``name``.
        clock: returns the seconds since 1970.
        settings: any other settings. ``idle_timeout`` is express's ``cookie.maxAge``,
            or the ``ttl`` of its store.
    """
    is_one = isinstance(secret, str | bytes)
    secrets = checked_keys("secret", [secret] if is_one else secret)
    given = {"name": "connect.sid", "persistent": False}
    options = CookieOptions.build({} if cookie is None else cookie, **given)
    codec = functools.partial(
        ExpressCodec,
        key_prefix=checked_prefix(prefix),
        cookie={"originalMaxAge": None, "expires": None, **attributes_of(options)},
        persistent=options.persistent,
    )
    transport = CookieTransport(
        options,
        default_name=options.name,
        signer=ExpressSigner(secrets),
        clock=clock,
    )
    return {
        "store": build_store(store),
        "codec": codec,
        "transport": transport,
        "clock": clock,
        **settings,
    }


class ExpressCodec(NodeCodec):
    """A record as express-session stores it."""

    age_name = "originalMaxAge"
    may_lack_age = True

    def aged(
        self, cookie: dict[str, Any], max_age: int | None, expires_at: float
    ) -> None:
        super().aged(cookie, max_age, expires_at)
        cookie["expires"] = None if max_age is None else _iso(expires_at)


def _iso(timestamp: float) -> str:
    """Return a time as JavaScript's Date.toISOString writes it, with four digits."""
    when = utc(timestamp).replace(tzinfo=None)
    return when.isoformat(timespec="milliseconds") + "Z"


class ExpressSigner:
    """Signs as the npm package cookie-signature does. ``secrets`` are newest first."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets

    def sign(self, name: str, value: str) -> str:
        """Return the cookie's value for the id ``value``; ``name`` is not signed."""
        return quote(f"s:{value}.{self._signature(self._secrets[0], value)}", safe="")

    def unsign(self, name: str, signed: str) -> str | None:
        """Return the id that was signed, or `None` for a wrong signature."""
        kind, _, rest = unquote(signed).partition(":")
        value, _, signature = rest.rpartition(".")
        if kind != "s" or not (value.isascii() and signature.isascii()):
            return None
        signatures = (self._signature(secret, value) for secret in self._secrets)
        is_signed = any(hmac.compare_digest(own, signature) for own in signatures)
        return value if is_signed else None

    def _signature(self, secret: bytes, value: str) -> str:
        mac = hmac.digest(secret, value.encode(), "sha256")
        return base64.b64encode(mac).rstrip(b"=").decode("ascii")
