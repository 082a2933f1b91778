"""Server-side sessions for Tornado, kept in memcached."""

from __future__ import annotations

from .exceptions import (
    DecodeError,
    EncodeError,
    SessionConflict,
    SessionError,
    SessionGone,
    SessionNotLoaded,
    SessionTooLarge,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from .manager import SessionManager
from .mixin import SessionMixin
from .serializers import JSONSerializer, MsgpackSerializer
from .session import Session
from .stores.base import CasResult, Entry, Store
from .stores.memcached import MemcachedStore
from .stores.memory import MemoryStore

__all__ = [
    "CasResult",
    "DecodeError",
    "EncodeError",
    "Entry",
    "JSONSerializer",
    "MemcachedStore",
    "MemoryStore",
    "MsgpackSerializer",
    "Session",
    "SessionConflict",
    "SessionError",
    "SessionGone",
    "SessionManager",
    "SessionMixin",
    "SessionNotLoaded",
    "SessionTooLarge",
    "Store",
    "StoreError",
    "StoreRejected",
    "StoreUnavailable",
]
__version__ = "0.1.0"
