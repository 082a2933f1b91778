"""A session's record as the bytes that a store keeps, and back."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from ._lifetime import is_sound
from ._record import Record
from .exceptions import DecodeError
from .serializers import Serializer, is_too_deep, may_be_deep

__all__ = ["Codec"]

PLAIN = b"\x01"
ENCRYPTED = b"\x02"
_NONCE = 12  # NIST SP 800-38D recommends 96 bits
_TAG = 16


class Codec:
    """Turns records into bytes: a version byte, then the record as MessagePack.

    With ``encryption_keys`` the record is sealed by AES-256-GCM, under a key
    derived for each store key (so that no count of nonces is to be kept), with
    the store key as associated data: a record that was altered, or copied to
    another key, is foreign. The first key seals, all open.
    """

    def __init__(
        self, serializer: Serializer, encryption_keys: Sequence[bytes] = ()
    ) -> None:
        self.serializer = serializer
        self._keys = tuple(encryption_keys)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Record).decode
        if self._keys:
            try:
                from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            except ImportError as error:
                raise ImportError(
                    "encryption_keys needs the package cryptography: "
                    "pip install tornado-mcsession[encryption]"
                ) from error
            self._cipher: Any = AESGCM

    def encode(self, record: Record, key: str) -> bytes:
        """Return the bytes to store for ``record`` under ``key``."""
        plain = self._encode(record)
        if not self._keys:
            return PLAIN + plain
        nonce = secrets.token_bytes(_NONCE)
        name = key.encode("ascii")
        sealed = self._sealer(self._keys[0], name).encrypt(nonce, plain, name)
        return b"".join((ENCRYPTED, nonce, sealed))

    def decode(self, data: bytes, key: str) -> Record:
        """Return the record in ``data``, which was found under ``key``.

        Raises `.DecodeError` for whatever `encode` never made: foreign,
        damaged, or of another version.
        """
        if self._keys:
            plain = self._open(data, key.encode("ascii"))
        elif data[:1] == PLAIN:
            plain = data[1:]
        elif data[:1] == ENCRYPTED:
            raise DecodeError("encrypted, and no encryption_keys are set")
        else:
            raise DecodeError("of another version")
        try:
            record = self._decode(plain)
        except (msgspec.DecodeError, RecursionError, ValueError, OverflowError):
            raise DecodeError("not a record") from None
        if not is_sound(record):
            raise DecodeError("with times that are no times")
        return record

    def values(self, record: Record) -> dict[str, Any]:
        """Return the session's mapping in ``record``, new at each call.

        Raises `.DecodeError` where the serializer cannot read it.
        """
        try:
            values = self.serializer.loads(record.data)
        except Exception as error:
            # Whatever a serializer raises for foreign bytes, the answer is the
            # same; the error may quote them, so it is not chained.
            name = type(error).__name__
            raise DecodeError(f"with data the serializer refuses ({name})") from None
        if not isinstance(values, dict) or not {str}.issuperset(map(type, values)):
            raise DecodeError("with data that is no mapping of text")
        if may_be_deep(self.serializer, record.data) and is_too_deep(values):
            raise DecodeError("with data nested too deep")
        return values

    def _sealer(self, key: bytes, name: bytes) -> Any:
        return self._cipher(hmac.digest(key, name, "sha256"))

    def _open(self, data: bytes, name: bytes) -> bytes:
        if data[:1] != ENCRYPTED or len(data) < 1 + _NONCE + _TAG:
            raise DecodeError("not encrypted")
        nonce, sealed = data[1 : 1 + _NONCE], data[1 + _NONCE :]
        for key in self._keys:
            try:
                opened: bytes = self._sealer(key, name).decrypt(nonce, sealed, name)
            except Exception:  # nosec B112 # InvalidTag: another key's, or altered
                continue
            return opened
        raise DecodeError("sealed with another key, copied or altered")
