"""Server-side sessions for Tornado, kept in memcached.

The way of a request::

    SessionMixin.prepare()   mixin.py        asks the manager for the session
      Transport.present()    web/transport.py    which ids the cookie carries
      Lookup.find()          sessions/lookup.py  reads the record and its marker
        Store.get()          stores/             one node of memcached, or memory
    the handler uses self.session   session.py   a mapping, and verbs
    RequestHandler.finish()
      HeldResponse           web/response.py     holds what the handler wrote
      SessionMixin.on_finish()
        RequestSession       web/request.py      what is there to save?
          Repository.change()  sessions/repository.py  by cas, until it is stored
      HeldResponse           sends the cookie, then the response

Three floors, each importing only downwards: the modules here at the top know
everything, `web` knows Tornado, `sessions` knows sessions but no server and no store,
`stores` knows bytes under keys.
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
from .mixin import SessionMixin, SessionStatusHandler
from .session import Session
from .sessions.revocation import UserSession
from .sessions.serializers import JSONSerializer, MsgpackSerializer
from .settings import SessionSettings
from .stores.base import CasResult, Entry, Store
from .stores.memcached import MemcachedStore
from .stores.memory import MemoryStore
from .web.access_log import access_log
from .web.cookie import CookieSettings

__all__ = [
    "CasResult",
    "CookieSettings",
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
    "SessionSettings",
    "SessionStatusHandler",
    "SessionTooLarge",
    "Store",
    "StoreError",
    "StoreRejected",
    "StoreUnavailable",
    "UserSession",
    "access_log",
]
__version__ = "0.2.0"
