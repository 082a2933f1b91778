"""A session's record as bytes and flags under a key, and back."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from ..exceptions import DecodeError
from .ids import record_key
from .lifetime import EXPIRED_FOR
from .record import NewerRecord, Record
from .serializers import Serializer, is_too_deep, split_values

if TYPE_CHECKING:
    from .schema import Schema

__all__ = ["Codec", "Layout"]

_Plain = TypeVar("_Plain", bound=msgspec.Struct)

VERSION = b"\x01"
ENCRYPTED = b"\x02"
_NONCE = 12  # NIST SP 800-38D recommends 96 bits
_TAG = 16


class Layout(Generic[_Plain]):
    """An array-like struct as MessagePack, after a byte that names the version.

    A later release may add fields at the end without another version. ``newer`` is
    the struct of this release with a last field ``unknown`` for them. If this process
    writes the value again, it writes them back as they were.
    """

    def __init__(self, plain: type[_Plain], newer: type[_Plain]) -> None:
        self._newer = newer
        self._known = len(plain.__struct_fields__)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(plain).decode
        self._split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
        # Nearly all values were written by this release, and begin like this.
        self._head = VERSION + self._encode([None] * self._known)[: -self._known]

    def encode(self, value: _Plain) -> bytes:
        """Return the bytes of ``value``."""
        if type(value) is not self._newer:
            return VERSION + self._encode(value)
        *known, unknown = msgspec.structs.astuple(value)
        return VERSION + self._encode([*known, *unknown])

    def decode(self, data: bytes) -> _Plain:
        """Return the value in ``data``. Raises `.DecodeError`."""
        if not data.startswith(VERSION):
            raise DecodeError("of another version")
        plain = data[1:]
        try:
            value = self._decode(plain)
            if data.startswith(self._head):
                return value
            unknown = tuple(raw.copy() for raw in self._split(plain)[self._known :])
            if not unknown:
                return value
            return self._newer(**msgspec.structs.asdict(value), unknown=unknown)
        except (msgspec.DecodeError, RecursionError, ValueError, OverflowError):
            raise DecodeError("not a record") from None


class Codec:
    """Turns a record into the key, bytes and flags under which it is stored.

    An application whose sessions other programs read can replace it as a whole. This
    one writes a version byte and the record as MessagePack. ``encryption_keys`` encrypt
    the record by AES-256-GCM, with the store key as associated data: a record that was
    altered, or copied to another key, cannot be read. The first key encrypts, all of
    them decrypt. The cipher's key is derived for each store key, which makes it
    needless to count nonces.
    """

    schema: Schema | None = None
    """The shape of the data, if the application declares one."""
    flags = 0
    """The flags that memcached stores with a record."""
    tombstone_flags = 0
    """The flags that it stores with a tombstone."""
    expired_for = EXPIRED_FOR
    """How many seconds a record stays in the store after its end."""
    renewed_by_others = False
    """Whether other programs may put off the end of a session."""

    def __init__(
        self,
        serializer: Serializer,
        key_prefix: str,
        encryption_keys: Sequence[bytes] = (),
    ) -> None:
        self.serializer = serializer
        self.key_prefix = key_prefix
        self._keys = tuple(encryption_keys)
        self._layout = Layout[Record](Record, NewerRecord)
        if self._keys:
            try:
                from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            except ImportError as error:
                raise ImportError(
                    "encryption_keys needs the package cryptography: "
                    "pip install cryptography"
                ) from error
            self._cipher: Any = AESGCM

    def key(self, session_id: str) -> str:
        """Return the store key of the record of ``session_id``."""
        return record_key(self.key_prefix, session_id)

    def encode(self, record: Record, key: str) -> bytes:
        """Return the bytes to store for ``record`` under ``key``."""
        plain = self._layout.encode(record)
        return self.seal(plain, key) if self._keys else plain

    def seal(self, data: bytes, key: str) -> bytes:
        """Return ``data`` encrypted, if there are keys, to be stored under ``key``."""
        if not self._keys:
            return data
        nonce = secrets.token_bytes(_NONCE)
        name = key.encode("ascii")
        sealed = self._sealer(self._keys[0], name).encrypt(nonce, data, name)
        return b"".join((ENCRYPTED, nonce, sealed))

    def unseal(self, data: bytes, key: str) -> bytes:
        """Return what `seal` was given. Raises `.DecodeError`."""
        if self._keys:
            return self._open(data, key.encode("ascii"))
        if data[:1] == ENCRYPTED:
            raise DecodeError("encrypted, and no encryption_keys are set")
        return data

    def decode(self, data: bytes, flags: int, key: str) -> Record:
        """Return the record in ``data``, which was found under ``key``.

        Raises `.DecodeError` for bytes that `encode` did not make: foreign, damaged,
        or of another version.
        """
        if self._keys or data[:1] == ENCRYPTED:
            data = self.unseal(data, key)
        return self._layout.decode(data)

    def values(self, record: Record, *, lazily: bool = False) -> dict[str, Any]:
        """Return the session's mapping in ``record``, a new one at each call.

        If it is to be decoded ``lazily``, its values may be `msgspec.Raw`. Raises
        `.DecodeError` if the serializer cannot read it, or if it does not fit the
        schema.
        """
        is_checked = record.is_checked
        try:
            if lazily and is_checked and self.schema is None:
                split = split_values(self.serializer, record.data)
                if split is not None:
                    return split
            values = self.serializer.loads(record.data)
        except Exception as error:
            # A serializer may raise anything for foreign bytes. The error may quote
            # them, so it is not chained.
            name = type(error).__name__
            raise DecodeError(f"with data the serializer refuses ({name})") from None
        if not isinstance(values, dict) or not {str}.issuperset(map(type, values)):
            raise DecodeError("with data that is no mapping of text")
        if not is_checked and is_too_deep(self.serializer, record.data, values):
            raise DecodeError("with data nested too deep")
        return values if self.schema is None else self.schema.read(values)

    def empty(self) -> bytes:
        """Return the data of a session that holds nothing."""
        return self.serializer.dumps({})

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
