"""What can go wrong with a session.

::

    SessionError
    ├─ SessionNotLoaded     the request never loaded its session
    ├─ SessionConflict      other requests kept changing it     503
    ├─ SessionGone          destroyed, expired or replaced meanwhile  409
    ├─ SessionRefused       ``allow_new`` wants no new one      429
    ├─ SessionTooLarge      larger than ``max_size``            500
    ├─ EncodeError          a value would not come back         500
    ├─ DecodeError          a record cannot be read
    └─ StoreError           the store did not do its work       503
       ├─ StoreUnavailable  it cannot be asked just now
       └─ StoreRejected     it answered, and refused

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
    """The root of this package's errors.

    ``status`` is the HTTP status of a request that ends with the error, and
    ``retry_after`` the seconds its ``Retry-After`` header asks for, if any.
    """

    status: int = 500
    retry_after: int | None = None


class SessionNotLoaded(SessionError):
    """A handler used a session that was never loaded; the message says why."""


class SessionConflict(SessionError):
    """Other requests changed the session each time this one tried to save.

    ``attempts`` is how often it tried. Nothing of this save was stored.
    """

    status = 503
    retry_after = 1

    def __init__(self, attempts: int) -> None:
        super().__init__(
            f"session was changed by other requests, {attempts} attempts to save it"
        )
        self.attempts = attempts


class SessionGone(SessionError):
    """The session was destroyed, expired or given a new id by another request.

    Raised by the awaited methods of `.Session`. At the end of a request the changes
    are dropped instead, and the response goes out as it is. Also raised where a
    logout carries an older id than that of a later login, which it must not end.
    """

    status = 409


class SessionRefused(SessionError):
    """The ``allow_new`` hook wanted no new session; nothing was stored."""

    status = 429

    def __init__(self) -> None:
        super().__init__("no new session is allowed to this client now")


class SessionTooLarge(SessionError):
    """The encoded session is larger than allowed; nothing was sent.

    ``size`` and ``limit`` are in bytes (``limit`` is `None` where the node's
    own limit was met). ``largest_keys`` names the session's largest keys with
    their sizes, largest first.
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
        self.largest_keys = tuple(largest_keys)


class EncodeError(SessionError):
    """A value would not come back from the store as it was.

    ``path`` names the session's key, as in ``session['cart']``, and ``depth`` tells
    how deep below it the value is; nested keys are users' data and not shown.
    ``type_name`` is the type that was found there.
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
    """A record is foreign or damaged; ``reason`` says how it was noticed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StoreError(SessionError):
    """The store did not do its work.

    ``operation`` is what was asked of it, ``node`` the name of the node that
    was asked (empty where no node was reached).
    """

    status = 503
    retry_after = 1

    def __init__(self, operation: str, node: str, reason: str) -> None:
        where = f" on {node}" if node else ""
        super().__init__(f"{operation}{where}: {reason}")
        self.operation = operation
        self.node = node
        self.reason = reason

    def of_unknown_outcome(self) -> StoreUnavailable:
        """Return this failure as one of a write that may have been done before."""
        told = StoreUnavailable(
            self.operation, self.node, self.reason, outcome_unknown=True
        )
        told.__cause__ = self.__cause__
        return told


class StoreUnavailable(StoreError):
    """The store cannot tell: it is down, too slow, overloaded or closed.

    ``outcome_unknown`` is true where a write was sent and no answer came, so
    that it may have been done, or may still be.
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
    """The store answered and refused.

    It is out of memory, wants another authentication, has cas disabled, or
    holds no item this large (``too_large``).
    """

    def __init__(
        self, operation: str, node: str, reason: str, *, too_large: bool = False
    ) -> None:
        super().__init__(operation, node, reason)
        self.too_large = too_large
