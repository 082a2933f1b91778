"""What a manager is made of, by its settings."""

from __future__ import annotations

from typing import Any

from .checks import type_error
from ._keys import CookieSecret, newest_secret
from .codec import Codec
from .config import SessionConfig
from .serializers import JSONSerializer, MsgpackSerializer, Serializer
from .stores.base import Store
from .stores.memcached import MemcachedStore
from .stores.memory import MemoryStore
from .transport import CookieTransport, HeaderTransport, Signer, Transport

__all__ = ["build_codec", "build_store", "build_transport"]


def build_store(config: SessionConfig) -> Store:
    """Return the store that the ``store`` setting names, or is."""
    store = config.store
    if isinstance(store, Store):
        return store
    if not isinstance(store, str):
        raise type_error("store", store, "a URL or a Store")
    if store.startswith("memory:"):
        if store not in ("memory:", "memory://"):
            raise ValueError("store URL memory:// takes nothing behind it")
        return MemoryStore(clock=config.clock)
    return MemcachedStore.from_url(store)


def build_codec(config: SessionConfig) -> Codec:
    """Return the codec with the serializer and the keys of the settings."""
    serializer: Serializer = config.serializer
    if isinstance(config.serializer, str):
        msgpack = config.serializer == "msgpack"
        serializer = MsgpackSerializer() if msgpack else JSONSerializer()
    else:
        _try_out(serializer)
    return Codec(serializer, config.encryption_keys)


def _try_out(serializer: Serializer) -> None:
    probe = {"text": "\N{GREEK SMALL LETTER ALPHA}", "list": [1, None, True]}
    encoded = serializer.dumps(probe)
    if not isinstance(encoded, bytes):
        raise type_error("what serializer.dumps returns", encoded, "bytes")
    if serializer.loads(encoded) != probe:
        raise ValueError("serializer.loads must return what dumps was given")


def build_transport(
    config: SessionConfig,
    *,
    name: str,
    secret: CookieSecret | None,
    key_version: int | None,
) -> Transport:
    """Return the transport of the ``transport``, ``cookie`` and ``signed`` settings."""
    transport: Any = config.transport
    if config.signed and not newest_secret(secret, key_version):
        raise ValueError(
            "signed=True needs the application setting cookie_secret, which is missing"
        )
    if transport != "cookie":
        if isinstance(transport, str):
            return HeaderTransport(transport.removeprefix("header:"))
        chosen: Transport = transport
        return chosen
    signer = None
    if config.signed is not False and secret is not None:
        if not newest_secret(secret, key_version):
            raise ValueError("the application setting cookie_secret is empty")
        signer = Signer(secret, key_version, config.lifetime, config.clock)
    return CookieTransport(
        config.cookie, default_name=name, signer=signer, clock=config.clock
    )
