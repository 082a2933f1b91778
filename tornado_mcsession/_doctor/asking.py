"""The doctor's connection to one node, and what it means when it fails."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from socket import gaierror
from typing import Any

from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownCommandError,
)

from ..stores._client import StrictClient
from ..stores._connection import AuthenticationFailed, LinkMaker, NotConnected
from ..stores._reasons import reason
from ..stores._servers import Server
from .findings import Encryption

__all__ = ["Asker", "diagnosis", "is_final", "wants_credentials"]

_CLOSED = (ConnectionResetError, BrokenPipeError, MemcacheUnexpectedCloseError)


class Asker:
    """Asks one node, one thing after another.

    Each answer has ``timeout`` seconds, and all together end by ``limit`` on the
    monotonic clock.
    """

    def __init__(
        self, server: Server, links: LinkMaker, *, timeout: float, limit: float
    ) -> None:
        self._links = links
        self._timeout = timeout
        self._limit = limit
        self.encryption: Encryption | None = None
        if links.tls is not None:
            links.tls.sslsocket_class = self._witness()
        self._client = StrictClient(
            server.address,
            socket_module=links,
            no_delay=True,
            default_noreply=False,
        )

    def ask(self, call: Callable[[Any], Any]) -> Any:
        """Return what ``call`` returns for the client.

        After an exception the next call gets a new connection: what comes on the
        old one may belong to what failed.
        """
        self._links.deadline = min(time.monotonic() + self._timeout, self._limit)
        try:
            return call(self._client)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._client.close()

    def _witness(self) -> type[ssl.SSLSocket]:
        asker = self

        class Witness(ssl.SSLSocket):
            def do_handshake(self, block: bool = False) -> None:
                super().do_handshake(block)
                asker.encryption = _encryption(self)

        return Witness


def _encryption(connection: ssl.SSLSocket) -> Encryption:
    cipher = connection.cipher()
    certificate: dict[str, Any] = connection.getpeercert() or {}
    ends = ssl.cert_time_to_seconds(certificate["notAfter"])
    return Encryption(
        protocol=connection.version() or "",
        cipher=cipher[0] if cipher else "",
        certificate_ends=datetime.fromtimestamp(ends, UTC).isoformat(),
        certificate_left=ends - time.time(),
    )


def wants_credentials(error: Exception) -> bool:
    """Return whether the node refuses who asks, not what is asked."""
    if isinstance(error, AuthenticationFailed):
        return True
    return isinstance(error, MemcacheClientError) and b"auth" in _said(error)


def is_final(error: Exception) -> bool:
    """Return whether there is no sense in asking the node for something else.

    A connection that is closed, or an answer that is an error, may be what a
    proxy does with one command.
    """
    if isinstance(error, _CLOSED):
        return False
    return isinstance(error, OSError) or wants_credentials(error)


def diagnosis(error: Exception) -> tuple[str, str, str]:
    """Return a code, what happened, and what to do: no part of keys or answers."""
    if wants_credentials(error):
        return _credentials_diagnosis(error)
    if b"out of memory" in _said(error):
        return (
            "full",
            "the node is out of memory",
            "Give it more (-m), or let the oldest items make room (no -M).",
        )
    if isinstance(error, NotConnected) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    for types, code, text, advice in DIAGNOSES:
        if isinstance(error, types):
            return code, text or reason(error), advice
    return "nonsense", reason(error), "Is it a memcached that listens there?"


def _credentials_diagnosis(error: Exception) -> tuple[str, str, str]:
    if isinstance(error, AuthenticationFailed):
        return (
            "refused",
            "the user name or the password is refused",
            "Correct them in the URL, encoded as in memcached://user:p%40ss@host, "
            "or in the file that memcached's -Y names, and restart it.",
        )
    return (
        "credentials",
        "a user name and a password are wanted",
        "Put them into the URL: memcached://user:password@host:port.",
    )


def _said(error: Exception) -> bytes:
    if isinstance(error, MemcacheClientError | MemcacheServerError) and error.args:
        said = error.args[0]
        return said if isinstance(said, bytes) else b""
    return b""


# The first that fits. Without a text: the one that applications see.
DIAGNOSES: list[tuple[Any, str, str, str]] = [
    (gaierror, "name", "", "Correct the URL, or the name service."),
    (
        TimeoutError,
        "silent",
        "no answer in time",
        "Is it overloaded or stopped? Does a firewall swallow what is sent to it?",
    ),
    (
        (ConnectionRefusedError, FileNotFoundError),
        "down",
        "nothing listens there",
        "Start memcached, or correct the URL.",
    ),
    (
        PermissionError,
        "permission",
        "this user may not connect",
        "Give it the right to the socket (memcached's -a), or ask as another user.",
    ),
    (
        ssl.SSLCertVerificationError,
        "certificate",
        "",
        "Name the authority that signed it (tls_ca=/path in the URL), and the node "
        "by a name that is in it; renew it where it has expired.",
    ),
    (
        ssl.SSLError,
        "tls",
        "",
        "Without TLS the URL begins with memcached://. Where the node wants a "
        "client's certificate, give tls_cert=/path and tls_key=/path in the URL.",
    ),
    (
        _CLOSED,
        "closed",
        "the connection is closed without an answer",
        "If it wants TLS, the URL begins with memcacheds://. Is its connection limit "
        "(-c) reached? If it runs with SASL (-S), it needs -Y instead.",
    ),
    (
        MemcacheUnknownCommandError,
        "error",
        "the answer is ERROR",
        "Is its connection limit (-c) reached?",
    ),
    (
        MemcacheServerError,
        "error",
        "the answer is an error",
        "memcached's own log may tell more; where a proxy is in front, its servers "
        "may be down.",
    ),
    (
        ConnectionError,
        "error",
        "the connection is not taken",
        "Is its connection limit (-c) reached? Is it a memcached that listens there?",
    ),
    (OSError, "network", "", "Correct the URL, or the way to that host."),
]
