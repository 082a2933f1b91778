"""One memcached node: its connections, its threads, and what its errors mean."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from pymemcache.client.base import PooledClient
from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownCommandError,
)

from .._calls import Call, TimedOut
from .._executor import CoalescingExecutor, Overloaded, Stopped
from ..exceptions import StoreError, StoreRejected, StoreUnavailable
from ._connection import AuthenticationFailed, LinkMaker, StrictClient
from .base import CasResult, Entry

__all__ = ["Node"]

# Below the idle timeout that a server, or a firewall on the way, may have.
POOL_IDLE_TIMEOUT = 55

_CAS_RESULTS = {
    True: CasResult.STORED,
    False: CasResult.CONFLICT,
    None: CasResult.MISSING,
}
# A connection that was idle while the server restarted shows it on first use.
_STALE = (MemcacheUnexpectedCloseError, BrokenPipeError, ConnectionResetError)


class Node:
    """A memcached server, asked through connections and threads of its own.

    ``server`` is host and port, or the path of a Unix socket. All methods of
    the blocking client run in the node's threads; results and errors come back
    as the store's.
    """

    def __init__(
        self,
        name: str,
        server: Any,
        links: LinkMaker,
        *,
        timeout: float,
        threads: int,
        max_pending: int,
        executor: Executor | None = None,
    ) -> None:
        self.name = name
        self.connected: bool | None = None
        self._server = server
        self._links = links
        self._timeout = timeout
        self._threads = threads
        self._executor = CoalescingExecutor(
            self._run,
            timeout=timeout,
            threads=threads,
            max_pending=max_pending,
            executor=executor,
        )
        self._make_client()

    def _make_client(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._client = PooledClient(
            self._server,
            socket_module=self._links,
            # The links keep the deadline; pymemcache's timeouts are per call.
            timeout=self._timeout,
            connect_timeout=self._timeout,
            no_delay=True,
            default_noreply=False,
            pool_idle_timeout=POOL_IDLE_TIMEOUT,
        )
        self._client.client_class = StrictClient

    def _leave_parent(self) -> None:
        # A socket shared over a fork mixes up answers. The parent's are closed
        # here, which ends no connection, and without the pool's lock, which a
        # thread of the parent may have held at the fork.
        pool = self._client.client_pool
        for client in (*pool.used, *pool.free):
            client.close()
        self._make_client()

    @property
    def pending(self) -> int:
        """How many operations are waiting or running."""
        return self._executor.pending

    def submit(self, kind: str, *args: Any) -> asyncio.Future[Any]:
        """Hand an operation to the threads; `answer` tells what came of it."""
        if os.getpid() != self._pid:
            self._leave_parent()
        try:
            return self._executor.submit(kind, args)
        except Overloaded:
            raise self._unavailable(kind, "too many operations are waiting") from None
        except Stopped as error:
            raise self._unavailable(kind, str(error)) from None

    async def answer(self, kind: str, future: asyncio.Future[Any]) -> Any:
        """Return the answer to an operation, or raise a `.StoreError`."""
        try:
            return await future
        except TimedOut as error:
            raise self._unavailable(
                kind,
                f"no answer within {self._timeout:g} s",
                outcome_unknown=error.started and kind != "get",
            ) from error
        except Stopped as error:
            raise self._unavailable(kind, str(error)) from error

    def is_news(self, connected: bool) -> bool:
        """Note whether the node answers; return whether it did not before.

        Only one of several threads is told.
        """
        with self._lock:
            news = self.connected is not connected
            self.connected = connected
            return news

    def _unavailable(
        self, kind: str, reason: str, *, outcome_unknown: bool = False
    ) -> StoreUnavailable:
        return StoreUnavailable(
            kind, self.name, reason, outcome_unknown=outcome_unknown
        )

    async def close(self) -> None:
        """Wait for the threads, then close the connections."""
        if os.getpid() != self._pid:
            self._leave_parent()
        await self._executor.stop()
        self._client.close()

    # From here on in one of the node's threads.

    def _run(self, calls: Sequence[Call]) -> None:
        reads = [call for call in calls if call.kind == "get" and call.begin()]
        if reads:
            self._read(reads)
        for call in calls:
            if call.kind != "get" and call.begin():
                self._write(call)

    def _read(self, calls: Sequence[Call]) -> None:
        self._links.deadline = max(call.deadline for call in calls)
        keys = list({call.args[0]: None for call in calls})
        try:
            found = self._patiently(self._client.gets_many, keys)
        except Exception as error:
            for call in calls:
                call.error = self._failure("get", error)
            return
        for call in calls:
            value = found.get(call.args[0])
            if value is None:
                continue
            if value[1] == b"0":
                # What a server answers that runs with -C: each cas would fail.
                call.error = StoreRejected(
                    "get", self.name, "cas is disabled (memcached runs with -C)"
                )
            else:
                call.result = Entry(*value)

    def _write(self, call: Call) -> None:
        self._links.deadline = call.deadline
        try:
            call.result = self._patiently(self._operation(call.kind), *call.args)
        except Exception as error:
            call.error = self._failure(call.kind, error)

    def _operation(self, kind: str) -> Any:
        client = self._client
        if kind == "cas":
            return lambda key, data, expire, token: _CAS_RESULTS[
                client.cas(key, data, token, expire=expire, noreply=False)
            ]
        if kind == "add":
            return lambda key, data, expire: client.add(
                key, data, expire=expire, noreply=False
            )
        if kind == "touch":
            return lambda key, expire: client.touch(key, expire=expire, noreply=False)
        return lambda key: client.delete(key, noreply=False)

    def _patiently(self, operation: Any, *args: Any) -> Any:
        # There are no more pooled connections than threads, so that as many
        # tries find a fresh one. A write that was done before the connection
        # broke answers otherwise the second time: its record shows it.
        for _ in range(self._threads):
            try:
                return operation(*args)
            except _STALE:
                if time.monotonic() >= self._links.deadline:
                    raise
        return operation(*args)

    def _failure(self, kind: str, error: Exception) -> StoreError:
        failure = _translate(kind, self.name, error)
        failure.__cause__ = _without_details(error)
        return failure


def _translate(kind: str, node: str, error: Exception) -> StoreError:
    said = _said(error)
    if isinstance(error, AuthenticationFailed) or b"auth" in said:
        return StoreRejected(kind, node, "authentication is needed or was refused")
    if b"too large" in said:
        return StoreRejected(
            kind, node, "larger than the node's item size", too_large=True
        )
    if b"out of memory" in said:
        return StoreRejected(kind, node, "the node is out of memory")
    sent = not isinstance(error, ConnectionRefusedError | RuntimeError)
    if isinstance(error, TimeoutError):
        reason = "timed out"
    elif isinstance(error, OSError):
        reason = f"connection failed ({type(error).__name__})"
    elif isinstance(error, MemcacheUnexpectedCloseError):
        reason = "connection closed by the node"
    elif isinstance(error, MemcacheServerError):
        reason = "the node reports an error"
    elif isinstance(error, MemcacheUnknownCommandError):
        reason = "the node takes no commands (its connection limit?)"
    else:
        reason = "the node's answer makes no sense"
    return StoreUnavailable(kind, node, reason, outcome_unknown=sent and kind != "get")


def _said(error: Exception) -> bytes:
    # What follows CLIENT_ERROR or SERVER_ERROR; other errors quote anything.
    if isinstance(error, MemcacheClientError | MemcacheServerError) and error.args:
        said = error.args[0]
        return said if isinstance(said, bytes) else b""
    return b""


def _without_details(error: Exception) -> Exception:
    # pymemcache quotes keys and answers in its messages, and its frames hold
    # them; the type is enough to find the cause. An errno tells nothing of a
    # session.
    if isinstance(error, OSError) or not error.args:
        error.__context__ = None
        return error.with_traceback(None)
    if isinstance(error, MemcacheError):
        withheld: Exception = type(error)("details withheld")
        return withheld
    return RuntimeError(type(error).__name__)
