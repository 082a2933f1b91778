"""What a manager is made of, by its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._checks import type_error
from ._cookie import CookieOptions
from ._keys import CookieSecret
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
    if transport != "cookie":
        if isinstance(transport, str):
            return HeaderTransport(transport.removeprefix("header:"))
        chosen: Transport = transport
        return chosen
    signer = None
    if (config.signed is None and secret is not None) or config.signed:
        signer = _signer(config, secret, key_version)
    return CookieTransport(
        config.cookie, default_name=name, signer=signer, clock=config.clock
    )


def _signer(
    config: SessionConfig, secret: CookieSecret | None, key_version: int | None
) -> Signer:
    if not secret:
        raise ValueError(
            "signed=True needs the application setting cookie_secret, which is missing"
        )
    if isinstance(secret, Mapping) and key_version not in secret:
        raise ValueError(
            "a dict as cookie_secret needs the application setting key_version, one "
            "of its keys"
        )
    return Signer(secret, key_version, config.lifetime, config.clock)


def cookie_name(transport: Transport) -> str | None:
    """Return the name of the transport's cookie, if it is always the same."""
    options = getattr(transport, "fixed_options", None)
    return options.name if isinstance(options, CookieOptions) else None
