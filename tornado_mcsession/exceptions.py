"""What can go wrong with a session.

::

    SessionError
    ├─ SessionNotLoaded     the request never loaded its session
    ├─ SessionConflict      other requests kept changing it     503
    ├─ SessionGone          another request ended or replaced it  409
    ├─ SessionRefused       ``allow_new`` allows no new one     429
    ├─ SessionTooLarge      larger than ``max_size``            500
    ├─ EncodeError          a value would not come back         500
    ├─ DecodeError          a record cannot be read
    └─ StoreError           the store failed                    503
       ├─ StoreUnavailable  it did not respond
       └─ StoreRejected     it responded, and refused

Wrong arguments are `ValueError` or `TypeError`. No message and no attribute
holds a session id, a store key, a session value or a credential.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "DecodeError",
    "EncodeError",
    "SessionConflict",
    "SessionError",
    "SessionGone",
    "SessionNotLoaded",
    "SessionRefused",
    "SessionTooLarge",
    "StoreError",
    "StoreRejected",
    "StoreUnavailable",
]


class SessionError(Exception):
    """The base class of this package's errors.

    ``status`` is the HTTP status of a response that the error causes. ``retry_after``
    is the value of its ``Retry-After`` header in seconds, or `None`.
    """

    status: int = 500
    retry_after: int | None = None


class SessionNotLoaded(SessionError):
    """A handler used a session that was not loaded; the message says why."""


class SessionConflict(SessionError):
    """Other requests changed the session each time this one tried to save.

    ``attempts`` is the number of attempts. None of the changes were stored.
    """

    status = 503
    retry_after: int | None = 1

    def __init__(self, attempts: int) -> None:
        super().__init__(
            f"other requests kept changing the session: {attempts} attempts to save it"
        )
        self.attempts = attempts


class SessionGone(SessionError):
    """The session has expired, or another request destroyed it or gave it a new id.

    The awaited methods of `.Session` raise it. At the end of a request the changes are
    dropped instead, and the response is sent as it is. A logout raises it, too, if its
    request has an older id than a later login: it must not end that login.
    """

    status = 409


class SessionRefused(SessionError):
    """The ``allow_new`` hook allowed no new session; nothing was stored."""

    status = 429

    def __init__(self) -> None:
        super().__init__("this client may not begin a new session now")


class SessionTooLarge(SessionError):
    """The encoded session is larger than allowed; nothing was stored.

    ``size`` and ``limit`` are in bytes; ``limit`` is `None` if it is the node's own.
    ``largest_keys`` are the session's largest keys and their sizes, largest first.
    """

    def __init__(
        self,
        size: int,
        limit: int | None,
        largest_keys: Sequence[tuple[str, int]] = (),
    ) -> None:
        allowed = "the node's item size" if limit is None else f"max_size {limit}"
        keys = ", ".join(f"{name!r} {length}" for name, length in largest_keys)
        super().__init__(
            f"session of {size} bytes exceeds {allowed}"
            + (f"; largest keys: {keys}" if keys else "")
        )
        self.size = size
        self.limit = limit
        self.largest_keys: tuple[tuple[str, int], ...] = tuple(largest_keys)


class EncodeError(SessionError):
    """A value would not come back from the store as it was.

    ``path`` names the session's key, as in ``session['cart']``. ``depth`` is how deep
    below it the value is: nested keys are users' data and not shown. ``type_name`` is
    the type of the value.
    """

    def __init__(
        self, path: str, type_name: str, reason: str, *, depth: int = 0
    ) -> None:
        below = f", {depth} level{'s'[: depth > 1]} down," if depth else ""
        super().__init__(f"{path}{below} holds a {type_name} {reason}")
        self.path = path
        self.depth = depth
        self.type_name = type_name


class DecodeError(SessionError):
    """A record is foreign or damaged; ``reason`` says what is wrong with it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StoreError(SessionError):
    """The store failed.

    ``operation`` is the name of the operation, and ``node`` the name of the node; it is
    empty if no node was reached.
    """

    status = 503
    retry_after: int | None = 1

    def __init__(self, operation: str, node: str, reason: str) -> None:
        where = f" on {node}" if node else ""
        super().__init__(f"{operation}{where}: {reason}")
        self.operation = operation
        self.node = node
        self.reason = reason

    def of_unknown_outcome(self) -> StoreUnavailable:
        """Return the error for a write that an earlier attempt may have done."""
        error = StoreUnavailable(
            self.operation, self.node, self.reason, outcome_unknown=True
        )
        error.__cause__ = self.__cause__
        return error


class StoreUnavailable(StoreError):
    """The store did not respond: it is down, too slow, overloaded or closed.

    ``outcome_unknown`` is true if a write was sent and no response came. The store may
    have done it, or may still do it.
    """

    def __init__(
        self,
        operation: str,
        node: str,
        reason: str,
        *,
        outcome_unknown: bool = False,
    ) -> None:
        super().__init__(operation, node, reason)
        self.outcome_unknown = outcome_unknown


class StoreRejected(StoreError):
    """The store responded, and refused.

    It is out of memory, asks for another authentication, has cas disabled, or stores no
    item as large as this one (``too_large``).
    """

    def __init__(
        self, operation: str, node: str, reason: str, *, too_large: bool = False
    ) -> None:
        super().__init__(operation, node, reason)
        self.too_large = too_large
