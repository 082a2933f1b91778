"""Session ids, and the store keys that are derived from them.

An id is 43 random characters; that of a logged-in session is followed by 22
more, a digest of the principal. The store never sees an id: its key is the
SHA-256 of it, and that of a logged-in session has the digest in braces before
it, so that all records of one principal are placed on one node, beside the
principal's marker.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets

__all__ = [
    "digest_of",
    "is_valid",
    "keys_of",
    "marker_key",
    "new_id",
    "principal_digest",
    "record_key",
]

RANDOM_LENGTH = 43  # 256 bits in the URL-safe base64 alphabet
DIGEST_LENGTH = 22  # 128 bits, likewise

# An id made by a ``generate_id`` hook may have any length, so that its digest
# needs a separator, which is no character of the alphabet; so does the lack of
# one, where the length alone would speak of a digest.
_VALID = re.compile(r"[A-Za-z0-9_-]{22,200}(?:\.(?:[A-Za-z0-9_-]{22})?)?")


def new_id(digest: str = "") -> str:
    """Return a new random session id, with a principal's ``digest`` if any."""
    return secrets.token_urlsafe(32) + digest


def is_valid(session_id: str) -> bool:
    """Return whether ``session_id`` has the form of an id."""
    return _VALID.fullmatch(session_id) is not None


def with_digest(base: str, digest: str) -> str:
    """Return the id that a hook's ``base`` gives for a logged-in session."""
    if digest or len(base) == RANDOM_LENGTH + DIGEST_LENGTH:
        return f"{base}.{digest}"
    return base


def digest_of(session_id: str) -> str:
    """Return the digest of the principal in ``session_id``, or ``""``."""
    if len(session_id) == RANDOM_LENGTH:
        return ""
    base, dot, digest = session_id.partition(".")
    if not dot and len(base) == RANDOM_LENGTH + DIGEST_LENGTH:
        return base[-DIGEST_LENGTH:]
    return digest


def principal_digest(principal: str, key: bytes) -> str:
    """Return the 22 characters that stand for ``principal`` in an id."""
    mac = hmac.digest(key, principal.encode("utf-8", "surrogatepass"), "sha256")
    return base64.urlsafe_b64encode(mac[:16]).rstrip(b"=").decode("ascii")


def record_key(prefix: str, session_id: str) -> str:
    """Return the store key of the record of ``session_id``."""
    return keys_of(prefix, session_id)[0]


def keys_of(prefix: str, session_id: str) -> tuple[str, str, str]:
    """Return the keys of an id's record and of its marker, and its digest.

    The last two are empty where it has none.
    """
    hashed = hashlib.sha256(session_id.encode("ascii")).hexdigest()
    digest = digest_of(session_id)
    if not digest:
        return prefix + hashed, "", ""
    beside = f"{prefix}{{{digest}}}"
    return beside + hashed, beside, digest


def marker_key(prefix: str, digest: str) -> str:
    """Return the store key of the marker of the principal with this digest."""
    return f"{prefix}{{{digest}}}"
