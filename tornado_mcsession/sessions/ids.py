"""Session ids, and the keys and digests that are made of them.

An id is 43 random characters. After a login, 22 more follow: a digest of the
principal. The store never sees an id, only its SHA-256 as a key. The key of a
logged-in session has the digest in braces before that. This places all records of one
principal on one node, where the principal's marker is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping, Sequence

from ..checks import type_error
from .record import Record

__all__ = [
    "CookieSecret",
    "check_id",
    "digest_of",
    "is_valid",
    "linking_keys",
    "marker_key",
    "new_id",
    "newest_secret",
    "principal_digest",
    "record_key",
    "seal",
    "successor_of",
    "with_digest",
]

RANDOM_LENGTH = 43  # 256 bits in the URL-safe base64 alphabet
DIGEST_LENGTH = 22  # 128 bits, likewise

# A ``generate_id`` hook may make ids of any length, and a separator precedes the
# digest. If such an id has no digest, but the length of one with a digest, it ends with
# the separator.
is_valid: Callable[[str], re.Match[str] | None] = re.compile(
    r"[A-Za-z0-9_-]{22,200}(?:\.(?:[A-Za-z0-9_-]{22})?)?"
).fullmatch
"""Returns a match if a text has the form of an id, else `None`."""
LONGEST_ID = 200 + 1 + DIGEST_LENGTH

CookieSecret = str | bytes | Mapping[int, str | bytes]


def new_id(digest: str = "") -> str:
    """Return a new random session id, with a principal's ``digest`` if any."""
    return secrets.token_urlsafe(32) + digest


def check_id(session_id: object) -> str:
    """Return ``session_id`` if it has the form of an id, else raise `ValueError`."""
    if not isinstance(session_id, str) or not is_valid(session_id):
        raise ValueError(
            "a session id must be 22 to 200 of A-Z, a-z, 0-9, _ and -; "
            "self.session.id is one, the value of a cookie is not"
        )
    return session_id


def with_digest(base: object, digest: str) -> str:
    """Return the id made of what a ``generate_id`` hook returned, and a digest.

    Raises `ValueError` for a base of another form.
    """
    if not isinstance(base, str) or not is_valid(base) or "." in base:
        raise ValueError(
            "generate_id must return 22 to 200 characters of A-Z, a-z, 0-9, _ and -"
        )
    if digest or len(base) == RANDOM_LENGTH + DIGEST_LENGTH:
        return f"{base}.{digest}"
    return base


def digest_of(session_id: str) -> str:
    """Return the digest of the principal in ``session_id``, or ``""``."""
    base, dot, digest = session_id.partition(".")
    if not dot and len(base) == RANDOM_LENGTH + DIGEST_LENGTH:
        return base[-DIGEST_LENGTH:]
    return digest


def record_key(prefix: str, session_id: str) -> str:
    """Return the store key of the record of ``session_id``."""
    hashed = hashlib.sha256(session_id.encode("ascii")).hexdigest()
    if len(session_id) == RANDOM_LENGTH or not (digest := digest_of(session_id)):
        return prefix + hashed
    return f"{prefix}{{{digest}}}{hashed}"


def marker_key(prefix: str, digest: str) -> str:
    """Return the store key of the marker of the principal with this digest."""
    return f"{prefix}{{{digest}}}"


def principal_digest(principal: str, key: bytes) -> str:
    """Return the 22 characters that stand for ``principal`` in an id."""
    mac = hmac.digest(key, principal.encode("utf-8", "surrogatepass"), "sha256")
    return base64.urlsafe_b64encode(mac[:16]).rstrip(b"=").decode("ascii")


def newest_secret(secret: CookieSecret | None, key_version: int | None) -> str | bytes:
    """Return the cookie secret that signs; an empty one if there is none."""
    if secret is None:
        return b""
    if isinstance(secret, Mapping):
        if key_version is None or key_version not in secret:
            raise ValueError(
                "a dict as cookie_secret needs the application setting key_version, "
                "one of its keys"
            )
        texts, newest = list(secret.values()), secret[key_version]
    else:
        texts, newest = [secret], secret
    for text in texts:
        if not isinstance(text, str | bytes):
            raise type_error("cookie_secret", text, "text or bytes")
    return newest


def linking_keys(
    keys: Sequence[bytes], secret: CookieSecret | None, key_version: int | None
) -> tuple[bytes, ...]:
    """Return the keys that make a principal's digest, the newest first.

    The first one is derived from the newest encryption key, else from the newest
    cookie secret, else from nothing. Without any secret, everybody who can list the
    store's keys and guesses a principal finds the principal's sessions. The other keys
    belong to older secrets: a session keeps its digest when secrets are rotated, or set
    for the first time.
    """
    newest = newest_secret(secret, key_version)
    older = secret.values() if isinstance(secret, Mapping) else ()
    texts = (newest, *older, b"") if newest else (b"",)
    secrets_ = [text.encode() if isinstance(text, str) else text for text in texts]
    return tuple(
        hmac.digest(root, b"tornado_mcsession principal", "sha256")
        for root in dict.fromkeys((*keys, *secrets_))
    )


_NONCE = 16


def seal(old_id: str, new_id: str) -> bytes:
    """Return ``new_id`` encrypted: only a holder of ``old_id`` can read it.

    It is kept in a tombstone. Others may read the store, but they know at most the
    digest in the old id.
    """
    nonce = secrets.token_bytes(_NONCE)
    return nonce + _masked(old_id, nonce, new_id.encode("ascii"))


def successor_of(old_id: str, record: Record) -> str | None:
    """Return the id that replaced ``old_id``, from its tombstone."""
    sealed = record.successor
    if sealed is None:
        return None
    new = _masked(old_id, sealed[:_NONCE], sealed[_NONCE:]).decode("latin-1")
    return new if is_valid(new) else None


def _masked(old_id: str, nonce: bytes, text: bytes) -> bytes:
    # Each tombstone has a nonce of its own, so a key stream is used once.
    stream = hashlib.shake_256(nonce + old_id.encode("ascii")).digest(len(text))
    masked = int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")
    return masked.to_bytes(len(text), "big")
