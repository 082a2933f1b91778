"""How connections to memcached are made: TLS, credentials, time to connect."""

from __future__ import annotations

import ssl
from typing import Any

from ..checks import seconds, type_error
from ._connection import LinkMaker

__all__ = ["checked_address", "checked_seconds", "link_maker"]


def link_maker(
    *,
    connect_timeout: float = 0.5,
    username: str | None = None,
    password: str | None = None,
    tls: bool | ssl.SSLContext = False,
    tls_ca: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
) -> LinkMaker:
    """Return what makes connections by these arguments of `.MemcachedStore`.

    Raises `TypeError` or `ValueError`, which name the argument.
    """
    return LinkMaker(
        connect_timeout=checked_seconds("connect_timeout", connect_timeout),
        tls=_tls_context(tls, tls_ca, tls_cert, tls_key),
        credentials=_credentials(username, password),
    )


def checked_address(address: Any, links: LinkMaker) -> Any:
    """Return where a server listens, if ``links`` can reach it.

    Raises `ValueError` for TLS over a Unix socket.
    """
    if isinstance(address, str) and links.tls is not None:
        raise ValueError("tls: a Unix socket has none; use memcached:// for it")
    return address


def checked_seconds(name: str, value: object) -> float:
    """Return ``value`` as seconds, greater than 0."""
    checked = seconds(name, value)
    if checked is None:
        raise type_error(name, value, "seconds")
    return checked


def _credentials(username: str | None, password: str | None) -> tuple[str, str] | None:
    if username is None and password is None:
        return None
    for name, value in (("username", username), ("password", password)):
        if not isinstance(value, str):
            raise type_error(name, value, "text: give username and password, or none")
        if not value:
            raise ValueError(f"{name} is missing: give username and password, or none")
        if any(c.isspace() or not c.isprintable() for c in value):
            raise ValueError(f"{name} must be printable, without spaces")
    return str(username), str(password)


def _tls_context(
    tls: object, ca: str | None, cert: str | None, key: str | None
) -> ssl.SSLContext | None:
    files = {"tls_ca": ca, "tls_cert": cert, "tls_key": key}
    given = [name for name, path in files.items() if path is not None]
    for name in given:
        if not isinstance(files[name], str):
            raise type_error(name, files[name], "the path of a file")
        if not files[name]:
            raise ValueError(f"{name} must be the path of a file, not empty")
    if not isinstance(tls, bool | ssl.SSLContext):
        raise type_error("tls", tls, "True, False or an ssl.SSLContext")
    if given and tls is not True:
        raise ValueError(f"{given[0]} needs tls=True (in a URL: memcacheds://)")
    if isinstance(tls, ssl.SSLContext):
        return tls
    if not tls:
        return None
    if key is not None and cert is None:
        raise ValueError("tls_key needs tls_cert, the certificate that it belongs to")
    return _context(ca, cert, key)


def _context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ValueError(f"tls_ca: {_told(error, 'certificates')}") from None
    if cert is not None:
        try:
            # Without a password here, OpenSSL would ask for one at the terminal.
            context.load_cert_chain(cert, key, password=lambda: "")
        except OSError as error:
            what = "a certificate with its key, unencrypted"
            raise ValueError(f"tls_cert, tls_key: {_told(error, what)}") from None
    return context


def _told(error: OSError, what: str) -> str:
    if isinstance(error, ssl.SSLError):
        return f"the file must hold {what}, in PEM"
    return f"the file cannot be read ({error.strerror})"
