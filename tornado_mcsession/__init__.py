"""Server-side sessions for Tornado, kept in memcached.

The way of a request through the modules, each of which imports only from those
below it::

    mixin            SessionMixin: what Tornado calls, what handlers use
    _cycle  _gate    one request and its held answer
    manager          SessionManager: lives as long as the application
    _opening         what is loaded at the beginning of a request
    _finding         an id's record and marker, also behind an older id or key
    _policy          what is saved at its end
    _verbs           save, login, regenerate, transact, destroy ...
    _endings         a session destroyed, now or when the store answers again
    _saver           a session created, updated, renewed, moved
    _rotation        a new id, while the old one is closed
    _commit          add and cas loops: rebase, retry, recognise lost answers
    _record_store    records as bytes in a store, within the deadline
    _markers         what all sessions of one principal have in common
    codec  _record   what is stored of a session
    session  _state  what the request sees of it, and what it changed
    stores.memcached keys to nodes
    stores._node     one node: its queue and threads (_executor), whether it
                     answers (_breaker), its connections (_wire, _connection)
    stores.memory    the same contract in this process

Beside the way: `transport` (cookie or header), `serializers`, `config`,
`exceptions`, ``_merge`` (three-way), ``_lifetime`` (when a session ends),
``_routing`` (which node), ``_ids`` (session ids and store keys), ``_doctor``
(``python -m tornado_mcsession doctor URL``).
"""

from __future__ import annotations

from .exceptions import (
    DecodeError,
    EncodeError,
    SessionConflict,
    SessionError,
    SessionGone,
    SessionNotLoaded,
    SessionRefused,
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
    "SessionRefused",
    "SessionTooLarge",
    "Store",
    "StoreError",
    "StoreRejected",
    "StoreUnavailable",
]
__version__ = "0.1.0"
