"""What a record becomes by what a request did. All pure."""

from __future__ import annotations

import msgspec

from . import _lifetime
from ._markers import Identity
from ._record import Changes, Options, Record
from .codec import Codec
from .config import SessionConfig

__all__ = ["applied", "emptied", "fresh"]


def fresh(
    config: SessionConfig,
    changes: Changes,
    now: float,
    identity: Identity | None = None,
) -> Record:
    """Return the first record of a session."""
    record = Record(
        created=now,
        renewed_at=now,
        expires_at=now,
        data=changes.encoded,
        flashes=changes.flashed,
        principal=identity and identity.principal,
        authenticated_at=identity and now,
        marker=identity and identity.marker,
        **changes.options.as_fields(),
    )
    return _lifetime.renewed(config, record, now)


def applied(
    codec: Codec, changes: Changes, record: Record, loaded: Record | None
) -> Record:
    """Return ``record`` with ``changes`` made to it.

    They were made to ``loaded``: where that is still what is stored, the whole
    data is encoded already.
    """
    if loaded is not None and record.data == loaded.data:
        data = changes.encoded
    else:
        data = codec.serializer.dumps(changes.made_to(codec.values(record)))
    return msgspec.structs.replace(
        record,
        data=data,
        flashes=changes.flashes(record.flashes),
        **changes.options.as_fields(),
    )


def emptied(codec: Codec, record: Record, options: Options) -> Record:
    """Return ``record`` without data and messages, and with these options alone."""
    own = {"idle_timeout": None, "end": None, "persistent": None}
    return msgspec.structs.replace(
        record,
        data=codec.serializer.dumps({}),
        flashes=(),
        **{**own, **options.as_fields()},
    )
