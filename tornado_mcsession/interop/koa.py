"""Sessions shared with koa: koa-generic-session 2.3 over koa-store-memcached 1.0."""

from __future__ import annotations

import base64
import functools
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..checks import type_error
from ..sessions import ids
from ..stores.base import Store
from ..web.cookie import MOST_IDS, CookieOptions, cookie_values
from ..web.transport import Carried, CookieTransport
from .node import (
    NodeCodec,
    attributes_of,
    build_store,
    checked_keys,
    checked_prefix,
)

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders
    from tornado.web import RequestHandler

__all__ = ["koa_session"]


def koa_session(
    *,
    store: str | Store,
    keys: Sequence[str | bytes] = (),
    signed: bool = True,
    algorithm: str = "sha1",
    prefix: str = "koa:sess:",
    cookie: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.time,
    **settings: Any,
) -> dict[str, Any]:
    """Return the settings with which an application shares its sessions with koa.

    ::

        Application(
            handlers,
            session=koa_session(
                store="memcached://10.0.0.1:11211", keys=["what app.keys has"]
            ),
        )

    Both applications then serve the same users from the same memcached servers.
    ``docs/guides/koa.md`` says which guarantees hold, and which do not hold while Node
    writes.

    Raises `ValueError` or `TypeError` for wrong arguments.

    Args:
        store: a ``memcached://`` URL with the servers that koa's store has, by the same
            names, or a `.Store`.
        keys: ``app.keys``. The first one signs, all of them are accepted.
        signed: koa's ``cookie.signed``.
        algorithm: the hash that koa signs with, if ``app.keys`` is a Keygrip object.
        prefix: koa's ``prefix``, behind the ``namespace`` of its store if there is one.
        cookie: the attributes of the cookie, as in the setting of that name. ``name``
            is koa's ``key``.
        clock: returns the seconds since 1970.
        settings: any other settings. ``idle_timeout`` is koa's ``cookie.maxAge``.
    """
    if not isinstance(signed, bool):
        raise type_error("signed", signed, "True or False")
    options = CookieOptions.build({} if cookie is None else cookie, name="koa.sid")
    codec = functools.partial(
        KoaCodec,
        key_prefix=checked_prefix(prefix),
        cookie={**attributes_of(options), "overwrite": True, "signed": signed},
        persistent=options.persistent,
    )
    signer = Keygrip(checked_keys("keys", keys), algorithm) if signed else None
    return {
        "store": build_store(store),
        "codec": codec,
        "transport": KoaCookies(options, signer, clock),
        "clock": clock,
        **settings,
    }


class KoaCodec(NodeCodec):
    """A record as koa-generic-session stores it."""

    age_name = "maxAge"
    # Without an age koa stores nothing, unless its option ttl is set.
    may_lack_age = False


class Keygrip:
    """Signs as the npm package keygrip does. ``keys`` are the newest first."""

    def __init__(self, keys: Sequence[bytes], algorithm: str) -> None:
        self._keys = keys
        self._algorithm = algorithm
        try:
            self.sign("")
        except (TypeError, ValueError):
            raise ValueError(
                "algorithm must be the name of a hash, such as 'sha256'"
            ) from None

    def sign(self, text: str) -> str:
        """Return the signature of ``text`` by the newest key."""
        return self._signed(self._keys[0], text)

    def verify(self, text: str, signature: str) -> bool:
        """Return whether any of the keys signed ``text``."""
        given = signature.encode("latin-1", "replace")
        return any(
            hmac.compare_digest(self._signed(key, text).encode("ascii"), given)
            for key in self._keys
        )

    def _signed(self, key: bytes, text: str) -> str:
        mac = hmac.digest(key, text.encode("latin-1"), self._algorithm)
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode("ascii")


class KoaCookies(CookieTransport):
    """The id in a cookie, and its signature in another one.

    The signature covers the cookie's name and the id.
    """

    def __init__(
        self,
        options: CookieOptions,
        keygrip: Keygrip | None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(options, default_name=options.name, signer=None, clock=clock)
        self._name_of_signature = f"{options.name}.sig"
        self._keygrip = keygrip

    def _read(self, headers: Sequence[str], name: str) -> Carried:
        values = cookie_values(headers, name)
        signatures = cookie_values(headers, self._name_of_signature)
        found = dict.fromkeys(
            value
            for value in values
            if ids.is_valid(value) and self._is_signed(f"{name}={value}", signatures)
        )
        return Carried(tuple(found)[:MOST_IDS], seen=bool(values))

    def _is_signed(self, text: str, signatures: Sequence[str]) -> bool:
        keygrip = self._keygrip
        if keygrip is None:
            return True
        return any(keygrip.verify(text, signature) for signature in signatures)

    def _set(self, handler: RequestHandler, headers: HTTPHeaders, line: str) -> None:
        super()._set(handler, headers, line)
        if self._keygrip is not None:
            pair, _, attributes = line.partition("; ")
            is_removed = pair.endswith("=")
            signature = "" if is_removed else self._keygrip.sign(pair)
            of_signature = f"{self._name_of_signature}={signature}; {attributes}"
            headers.add("Set-Cookie", of_signature)
