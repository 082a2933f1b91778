"""What the errors of a connection to memcached mean."""

from __future__ import annotations

import socket
import ssl

from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownCommandError,
)

from ...exceptions import StoreError, StoreRejected, StoreUnavailable

__all__ = [
    "STALE",
    "AuthenticationFailed",
    "CasDisabled",
    "NotConnected",
    "NotSent",
    "SeveralAddresses",
    "is_for_all",
    "is_silence",
    "reason",
    "said",
    "translate",
    "was_sent",
]


class AuthenticationFailed(Exception):
    """The node refused the user name and password."""


class CasDisabled(Exception):
    """A value has no token: the node runs with ``-C``, and each cas would fail."""


class NotConnected(OSError):
    """No connection was made, and so nothing sent; the cause says why."""


class NotSent(ConnectionResetError):
    """The connection is closed, or out of step; nothing was sent on it."""


class SeveralAddresses(OSError):
    """The host name has several addresses, and they may be several servers."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"the host name has {count} addresses, which may be different servers: "
            "list the nodes one by one, or put addresses=same into the URL"
        )


# A connection that was idle while the server restarted shows it on first use.
STALE: tuple[type[Exception], ...] = (
    MemcacheUnexpectedCloseError,
    BrokenPipeError,
    ConnectionResetError,
)


def is_silence(error: Exception) -> bool:
    """Return whether the node, or the network on the way, did not respond.

    Nonsense is a response: it may be one session's, and the next one right.
    """
    return isinstance(error, OSError | MemcacheUnexpectedCloseError)


def is_for_all(error: Exception) -> bool:
    """Return whether no single one of the operations can be the cause."""
    if isinstance(error, STALE):
        return False
    return isinstance(error, OSError | AuthenticationFailed)


def was_sent(error: Exception) -> bool:
    """Return whether what was asked may have reached the node."""
    return not isinstance(error, NotConnected | NotSent | AuthenticationFailed)


def translate(kind: str, node: str, error: Exception) -> StoreError:
    """Return the store's error for what was raised while a node was asked."""
    words = said(error)
    failure: StoreError
    if isinstance(error, AuthenticationFailed) or b"auth" in words:
        failure = StoreRejected(kind, node, "authentication is needed or was refused")
    elif isinstance(error, CasDisabled):
        failure = StoreRejected(kind, node, "cas is disabled (memcached runs with -C)")
    elif b"too large" in words:
        why = "larger than the node's item size"
        failure = StoreRejected(kind, node, why, too_large=True)
    elif b"out of memory" in words:
        failure = StoreRejected(kind, node, "the node is out of memory")
    else:
        unknown = was_sent(error) and kind != "get"
        failure = StoreUnavailable(kind, node, reason(error), outcome_unknown=unknown)
    failure.__cause__ = _without_details(_cause(error))
    return failure


def reason(error: Exception) -> str:
    """Return in words why there is no response to believe."""
    cause = _cause(error)
    match cause:
        case TimeoutError():
            return f"no {'answer' if cause is error else 'connection'} in time"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted ({cause.verify_message})"
        case ssl.SSLError():
            # OpenSSL's name of it, such as TLSV13_ALERT_CERTIFICATE_REQUIRED.
            name = str(getattr(cause, "reason", None) or "WRONG_VERSION")
            why = "does the node speak TLS?" if "WRONG_VERSION" in name else name
            return f"no TLS connection ({why})"
        case SeveralAddresses():
            return str(cause)
        case socket.gaierror():
            return "the host name has no address"
        case MemcacheUnexpectedCloseError() | NotSent():
            return "connection closed by the node"
        case OSError():
            return f"connection failed ({type(cause).__name__})"
        case MemcacheServerError():
            return "the node, or a proxy before it, reports an error"
        case MemcacheUnknownCommandError():
            return "the node takes no commands (its connection limit?)"
    return "the node's answer makes no sense"


def said(error: Exception) -> bytes:
    """Return what follows CLIENT_ERROR or SERVER_ERROR; other errors quote anything."""
    if isinstance(error, MemcacheClientError | MemcacheServerError) and error.args:
        words = error.args[0]
        return words if isinstance(words, bytes) else b""
    return b""


def _cause(error: Exception) -> Exception:
    cause = error.__cause__ if isinstance(error, NotConnected) else None
    return cause if isinstance(cause, Exception) else error


def _without_details(error: Exception) -> Exception:
    # pymemcache quotes keys and responses in its messages, and its frames hold
    # them; the type is enough to find the cause. An errno says nothing about
    # a session.
    if isinstance(error, OSError) or not error.args:
        error.__context__ = None
        return error.with_traceback(None)
    if isinstance(error, MemcacheError):
        withheld: Exception = type(error)("details withheld")
        return withheld
    return RuntimeError(type(error).__name__)
