"""The blocking side of a node: its connections, and operations on them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pymemcache.client.base import PooledClient
from pymemcache.exceptions import MemcacheServerError

from .._calls import Call
from ..exceptions import StoreError, StoreRejected, StoreUnavailable
from ._breaker import Breaker
from ._client import StrictClient
from ._connection import LinkMaker, NotSent
from ._pipeline import MAX_BYTES, command, result
from ._reasons import STALE, is_silence, reason, translate
from .base import CasResult, Entry

__all__ = ["Wire"]

# Below the idle timeout that a server, or a firewall on the way, may have.
POOL_IDLE_TIMEOUT = 55

_CAS_RESULTS = {
    True: CasResult.STORED,
    False: CasResult.CONFLICT,
    None: CasResult.MISSING,
}


class Wire:
    """Runs operations on connections to one server, in the node's threads.

    Tells the ``breaker`` whether the server answers, and does not ask while the
    breaker is open.
    """

    def __init__(
        self,
        name: str,
        server: Any,
        links: LinkMaker,
        breaker: Breaker,
        *,
        timeout: float,
        threads: int,
    ) -> None:
        self._name = name
        self._links = links
        self._breaker = breaker
        self._timeout = timeout
        self._threads = threads
        self.reason = ""
        """Why the server did not answer, the last time that it did not."""
        self._client = PooledClient(
            server,
            socket_module=links,
            # The links keep the deadline; pymemcache's timeouts are per call.
            timeout=timeout,
            connect_timeout=timeout,
            no_delay=True,
            default_noreply=False,
            pool_idle_timeout=POOL_IDLE_TIMEOUT,
        )
        self._client.client_class = StrictClient

    def run(self, calls: Sequence[Call]) -> None:
        """Run ``calls``, each of which gets its outcome."""
        reads = [call for call in calls if call.kind == "get" and call.begin()]
        if reads:
            self._read(reads)
        writes: Sequence[Call] = [call for call in calls if call.kind != "get"]
        if len(writes) > 1:
            writes = self._write_together(writes)
        for call in writes:
            if call.begin():
                self._write(call)

    def close(self) -> None:
        """Close the connections that nobody uses just now."""
        self._client.close()

    def abandon(self) -> None:
        """Close the connections that a parent process uses, in its child.

        A socket shared over a fork mixes up answers. Closing the child's copies
        ends no connection. The pool's lock is left alone: a thread of the
        parent may have held it at the fork.
        """
        pool = self._client.client_pool
        for client in (*pool.used, *pool.free):
            client.close()

    def not_asked(self, kind: str) -> StoreUnavailable:
        """Return the error for an operation that the breaker refused."""
        return StoreUnavailable(kind, self._name, f"{self.reason}; breaker open")

    def _read(self, calls: Sequence[Call]) -> None:
        keys = list({key: None for call in calls for key in call.args})
        deadline = max(call.deadline for call in calls)
        try:
            found = self._ask(calls, deadline, self._client.gets_many, keys)
        except Exception as error:
            asked = {call.args: None for call in calls}
            if len(asked) == 1 or _is_for_all(error):
                self._fail(calls, error)
            else:
                # One of them may be what is not answered: the others are not to
                # blame. The breaker ends this where it is none of them.
                for keys_of_one in asked:
                    again = [call for call in calls if call.args == keys_of_one]
                    self._read_again(again)
            return
        for call in calls:
            self._found(call, found)

    def _read_again(self, calls: Sequence[Call]) -> None:
        begun = [call for call in calls if call.begin()]
        if begun:
            self._read(begun)

    def _found(self, call: Call, found: Mapping[str, tuple[bytes, bytes]]) -> None:
        """Give ``call`` what was found: under its key, or by each of its keys."""
        entries = {}
        for key in call.args:
            value = found.get(key)
            if value is None:
                continue
            if value[1] == b"0":
                # What a server answers that runs with -C: each cas would fail.
                call.error = StoreRejected(
                    "get", self._name, "cas is disabled (memcached runs with -C)"
                )
                return
            entries[key] = Entry(*value)
        call.result = entries if len(call.args) > 1 else entries.get(call.args[0])

    def _write_together(self, calls: Sequence[Call]) -> Sequence[Call]:
        """Send ``calls`` at once; return those that are to be done one by one.

        They are all where anything went wrong but a refusal: one of them may be
        the cause, and what was done already tells so the second time.
        """
        begun = [call for call in calls if call.begin()]
        if self._breaker.is_open or len(begun) < 2:
            return begun
        commands = [command(call.kind, call.args) for call in begun]
        if sum(map(len, commands)) > MAX_BYTES:
            return begun
        self._links.deadline = max(call.deadline for call in begun)
        began = time.monotonic()
        try:
            with self._client.client_pool.get_and_release(destroy_on_fail=True) as c:
                if c.sock is None:
                    return begun  # the first one connects
                for call, line in zip(begun, c.pipeline(commands), strict=True):
                    self._answered(call, line)
        except TimeoutError as error:
            self._heard_nothing(error, began)
            self._fail(begun, error)
            return []
        except Exception as error:
            for call in begun:
                call.result = call.error = None
            _note_sent(begun, error)
            return begun
        self._breaker.answered()
        return []

    def _answered(self, call: Call, line: bytes) -> None:
        try:
            call.result = result(call, line)
        except MemcacheServerError as error:
            call.error = translate(call.kind, self._name, error)

    def _write(self, call: Call) -> None:
        operation = self._operation(call.kind)
        try:
            call.result = self._ask([call], call.deadline, operation, *call.args)
        except Exception as error:
            self._fail([call], error)

    def _fail(self, calls: Sequence[Call], error: Exception) -> None:
        for call in calls:
            if isinstance(error, _NotAsked):
                failure: StoreError = self.not_asked(call.kind)
            else:
                failure = translate(call.kind, self._name, error)
            # Whatever the last try met: an earlier one may be done.
            call.error = failure.of_unknown_outcome() if call.sent else failure

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

    def _ask(
        self, calls: Sequence[Call], deadline: float, operation: Any, *args: Any
    ) -> Any:
        if self._breaker.is_open:
            raise _NotAsked
        self._links.deadline = deadline
        began = time.monotonic()
        try:
            answer = self._patiently(calls, operation, *args)
        except Exception as error:
            if is_silence(error):
                self._heard_nothing(error, began)
            else:
                self._breaker.refused()
            raise
        self._breaker.answered()
        return answer

    def _heard_nothing(self, error: Exception, began: float) -> None:
        if self._links.deadline - began < self._timeout / 2:
            return  # too little time was left to blame the node
        self.reason = reason(error)
        self._breaker.failed(time.monotonic() - began)

    def _patiently(self, calls: Sequence[Call], operation: Any, *args: Any) -> Any:
        # There are no more pooled connections than threads, so that as many
        # tries find a fresh one. A write that was done before the connection
        # broke answers otherwise the second time: its record shows it.
        for _ in range(self._threads):
            try:
                return operation(*args)
            except STALE as error:
                _note_sent(calls, error)
                if time.monotonic() >= self._links.deadline:
                    raise
        return operation(*args)


def _note_sent(calls: Sequence[Call], error: Exception) -> None:
    """Note that ``calls`` may have been done, unless ``error`` says otherwise."""
    for call in calls:
        call.sent |= call.kind != "get" and not isinstance(error, NotSent)


class _NotAsked(Exception):
    """The breaker is open."""


def _is_for_all(error: Exception) -> bool:
    """Return whether the keys that were asked for cannot be the cause."""
    if isinstance(error, STALE):
        return False
    return isinstance(error, OSError | _NotAsked)
