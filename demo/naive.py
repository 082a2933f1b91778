"""Sessions by get–modify–set: what not to do, for comparison.

Many session libraries work like this. At the start of a request the whole session is
read. At its end the whole session is written back with a plain ``set``. Two requests
at the same time overwrite each other's changes, and a slow request brings back a
session that was ended meanwhile. Nothing in the shop uses this module.

python -m demo
curl http://127.0.0.1:8888/proof/naive/visitor
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any, Protocol
from urllib.parse import urlsplit

from pymemcache.client.base import PooledClient
from tornado.web import RequestHandler

from demo import trace

__all__ = ["Backend", "NaiveSession", "NaiveSessionMixin", "backend_for"]

COOKIE = "naive"
PREFIX = "demo-naive:"
SECONDS = 30 * 60
DEFAULT_PORT = 11211


class Backend(Protocol):
    """Where these sessions are kept."""

    def get(self, key: str) -> bytes | None: ...

    def set(self, key: str, data: bytes) -> None: ...

    def delete(self, key: str) -> None: ...


class InMemory:
    """A dict of this process, beside the embedded store."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self._data.get(key)

    def set(self, key: str, data: bytes) -> None:
        self._data[key] = data

    def delete(self, key: str) -> None:
        self._data.pop(key, None)


class InMemcached:
    """The memcached that the other sessions are kept in, too."""

    def __init__(self, host: str, port: int) -> None:
        self._client = PooledClient(
            (host, port), timeout=1, connect_timeout=1, max_pool_size=64
        )

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self._client.get(key)
        return found

    def set(self, key: str, data: bytes) -> None:
        self._client.set(key, data, expire=SECONDS)

    def delete(self, key: str) -> None:
        self._client.delete(key)


def backend_for(store: str) -> Backend | None:
    """Return a backend beside ``store``; None if this plain client cannot use it."""
    url = urlsplit(store)
    if url.scheme == "memory":
        return InMemory()
    if url.scheme != "memcached" or not url.netloc or "@" in url.netloc:
        return None
    first = urlsplit("//" + url.netloc.split(",")[0])
    return InMemcached(first.hostname or "127.0.0.1", first.port or DEFAULT_PORT)


class NaiveSession(dict[str, Any]):
    """The data of a session, and the id that it is kept under."""

    id: str | None = None
    ended = False


class NaiveSessionMixin(RequestHandler):
    """Reads the session in `prepare`, and writes it back with `save`."""

    naive: NaiveSession

    async def prepare(self) -> None:
        self.naive = NaiveSession()
        cookie = self.get_signed_cookie(COOKIE)
        if cookie is not None:
            data = await self._ask("get", PREFIX + cookie.decode())
            if data is not None:
                self.naive.update(json.loads(data))
                self.naive.id = cookie.decode()

    async def save(self) -> None:
        """Write all of it back, whatever is stored by now."""
        if self.naive.id is None:
            self.naive.id = secrets.token_urlsafe(32)
        data = json.dumps(self.naive).encode()
        await self._ask("set", PREFIX + self.naive.id, data)
        self.set_signed_cookie(
            COOKIE, self.naive.id, expires_days=None, httponly=True, samesite="Lax"
        )

    async def destroy(self) -> None:
        if self.naive.id is not None:
            await self._ask("delete", PREFIX + self.naive.id)
        self.naive = NaiveSession()
        self.clear_cookie(COOKIE)

    async def _ask(self, kind: str, *arguments: Any) -> Any:
        backend: Backend = self.settings["naive"]
        began = time.monotonic()
        # In a thread, since the client blocks.
        result = await asyncio.to_thread(getattr(backend, kind), *arguments)
        outcome = ""
        if kind == "get":
            outcome = "miss" if result is None else "hit"
        trace.note(kind, "", time.monotonic() - began, outcome)
        return result
