"""The secrets of the settings, and the keys derived from them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from .checks import type_error

__all__ = [
    "CookieSecret",
    "cookie_secret",
    "encryption_keys",
    "linking_keys",
    "newest_secret",
]

KEY_LENGTH = 32  # AES-256

CookieSecret = str | bytes | Mapping[int, str | bytes]


def encryption_keys(value: object) -> tuple[bytes, ...]:
    """Return the checked keys of an ``encryption_keys`` setting.

    Each is 32 bytes, or their URL-safe base64 text.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise type_error("encryption_keys", value, "a list of keys")
    keys = tuple(_encryption_key(index, key) for index, key in enumerate(value))
    if len(set(keys)) != len(keys):
        raise ValueError("encryption_keys must differ from each other")
    return keys


def _encryption_key(index: int, key: object) -> bytes:
    name = f"encryption_keys[{index}]"
    if isinstance(key, str):
        try:
            key = base64.b64decode(
                key + "=" * (-len(key) % 4), altchars=b"-_", validate=True
            )
        except (ValueError, binascii.Error):
            raise ValueError(
                f"{name} must be the URL-safe base64 text of 32 bytes"
            ) from None
    if not isinstance(key, bytes):
        raise type_error(name, key, "32 bytes, or their URL-safe base64 text")
    if len(key) != KEY_LENGTH:
        raise ValueError(f"{name} must be 32 bytes long, not {len(key)}")
    return key


def cookie_secret(
    settings: Mapping[str, Any] | None,
    secret: CookieSecret | None,
    key_version: int | None,
) -> tuple[CookieSecret | None, int | None]:
    """Return the secret and its newest version: an application's, or those given."""
    if settings is None:
        return secret, key_version
    if secret is not None or key_version is not None:
        raise ValueError(
            "cookie_secret and key_version are settings of the application; as "
            "arguments they are for a SessionManager without one"
        )
    return settings.get("cookie_secret"), settings.get("key_version")


def newest_secret(secret: CookieSecret | None, key_version: int | None) -> str | bytes:
    """Return the secret that signs, checked; an empty one where there is none."""
    if secret is None:
        return b""
    if not isinstance(secret, Mapping):
        return _text("cookie_secret", secret)
    if key_version is None or key_version not in secret:
        raise ValueError(
            "a dict as cookie_secret needs the application setting key_version, one "
            "of its keys"
        )
    for value in secret.values():
        _text("each cookie_secret", value)
    return secret[key_version]


def _text(name: str, value: object) -> str | bytes:
    if not isinstance(value, str | bytes):
        raise type_error(name, value, "text or bytes")
    return value


def linking_keys(
    keys: Sequence[bytes], secret: CookieSecret | None, key_version: int | None
) -> tuple[bytes, ...]:
    """Return the keys under which a principal's digest is, or was, made.

    The first one makes it: derived from the newest encryption key, else from
    the newest cookie secret, else from nothing. Then who can list the store's
    keys, and guesses a principal, can tell which of them are that principal's.
    The others are those of all other secrets, since sessions keep the digest
    that they were made with while secrets are rotated or set for the first time.
    """
    newest = newest_secret(secret, key_version)
    older = secret.values() if isinstance(secret, Mapping) else ()
    texts = (newest, *older, b"")
    secrets = [text.encode() if isinstance(text, str) else text for text in texts]
    if not newest:
        secrets = [b""]
    roots = dict.fromkeys((*keys, *secrets))
    return tuple(
        hmac.digest(root, b"tornado_mcsession principal", hashlib.sha256)
        for root in roots
    )
