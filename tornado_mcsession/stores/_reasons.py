"""What the errors of the blocking client mean."""

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

from ..exceptions import StoreError, StoreRejected, StoreUnavailable
from ._connection import AuthenticationFailed, NotConnected, NotSent

__all__ = ["STALE", "is_silence", "reason", "translate"]

# A connection that was idle while the server restarted shows it on first use.
STALE = (MemcacheUnexpectedCloseError, BrokenPipeError, ConnectionResetError)


def is_silence(error: Exception) -> bool:
    """Return whether the node, or the network on the way, did not answer.

    Nonsense is an answer: it may be one session's, and the next one right.
    """
    return isinstance(error, OSError | MemcacheUnexpectedCloseError)


def translate(kind: str, node: str, error: Exception) -> StoreError:
    """Return the store's error for what the client raised."""
    failure = _meaning(kind, node, error)
    failure.__cause__ = _without_details(_cause(error))
    return failure


def _cause(error: Exception) -> Exception:
    cause = error.__cause__ if isinstance(error, NotConnected) else None
    return cause if isinstance(cause, Exception) else error


def _meaning(kind: str, node: str, error: Exception) -> StoreError:
    said = _said(error)
    if isinstance(error, AuthenticationFailed) or b"auth" in said:
        return StoreRejected(kind, node, "authentication is needed or was refused")
    if b"too large" in said:
        return StoreRejected(
            kind, node, "larger than the node's item size", too_large=True
        )
    if b"out of memory" in said:
        return StoreRejected(kind, node, "the node is out of memory")
    sent = not isinstance(error, NotConnected | RuntimeError)
    return StoreUnavailable(
        kind, node, reason(error), outcome_unknown=sent and kind != "get"
    )


def reason(error: Exception) -> str:
    """Return in words why there is no answer to believe."""
    if isinstance(error, NotConnected) and isinstance(error.__cause__, TimeoutError):
        return "no connection in time"
    error = _cause(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        # OpenSSL's name of the failure, such as TLSV13_ALERT_CERTIFICATE_REQUIRED.
        name = str(getattr(error, "reason", None) or "WRONG_VERSION")
        foreign = "WRONG_VERSION" in name
        return f"no TLS connection ({'does the node speak TLS?' if foreign else name})"
    if isinstance(error, socket.gaierror):
        return "the host name has no address"
    if isinstance(error, OSError) and not isinstance(error, NotSent):
        return f"connection failed ({type(error).__name__})"
    if isinstance(error, MemcacheUnexpectedCloseError | NotSent):
        return "connection closed by the node"
    if isinstance(error, MemcacheServerError):
        return "the node, or a proxy before it, reports an error"
    if isinstance(error, MemcacheUnknownCommandError):
        return "the node takes no commands (its connection limit?)"
    return "the node's answer makes no sense"


def _said(error: Exception) -> bytes:
    # What follows CLIENT_ERROR or SERVER_ERROR; other errors quote anything.
    if isinstance(error, MemcacheClientError | MemcacheServerError) and error.args:
        said = error.args[0]
        return said if isinstance(said, bytes) else b""
    return b""


def _without_details(error: Exception) -> Exception:
    # pymemcache quotes keys and answers in its messages, and its frames hold
    # them; the type is enough to find the cause. An errno tells nothing of a
    # session.
    if isinstance(error, OSError) or not error.args:
        error.__context__ = None
        return error.with_traceback(None)
    if isinstance(error, MemcacheError):
        withheld: Exception = type(error)("details withheld")
        return withheld
    return RuntimeError(type(error).__name__)
