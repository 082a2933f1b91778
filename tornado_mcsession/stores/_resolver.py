"""The addresses of a host name, within a deadline."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future
from typing import Any

__all__ = ["Resolver"]


class Resolver:
    """Looks up host names, and leaves a lookup that takes too long.

    `socket.getaddrinfo` has no timeout: with name servers that do not answer it
    takes half a minute. Each lookup has a thread of its own for that, which all
    who want the same name wait for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], Future[Any]] = {}

    def addresses(self, host: str, port: int, limit: float) -> list[tuple[Any, ...]]:
        """Return what `socket.getaddrinfo` does for a stream.

        Raises `TimeoutError` when it is ``limit`` on the monotonic clock, and
        `OSError` where there is no such host.
        """
        try:
            return _lookup(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass  # a name
        future = self._started(host, port)
        try:
            found: list[tuple[Any, ...]] = future.result(limit - time.monotonic())
        except TimeoutError:
            if future.done():
                raise  # by getaddrinfo
            raise TimeoutError("resolving the host name took too long") from None
        return found

    def _started(self, host: str, port: int) -> Future[Any]:
        with self._lock:
            future = self._running.get((host, port))
            if future is None:
                future = self._running[host, port] = Future()
                # A daemon: the process may end while a name server does not answer.
                threading.Thread(
                    target=self._resolve,
                    args=(host, port, future),
                    name="mcsession-resolver",
                    daemon=True,
                ).start()
            return future

    def _resolve(self, host: str, port: int, future: Future[Any]) -> None:
        found: Any = None
        failure: Exception | None = None
        try:
            found = _lookup(host, port)
        except Exception as error:
            failure = error
        with self._lock:
            # First: who comes now must not get what was found before.
            del self._running[host, port]
        if failure is None:
            future.set_result(found)
        else:
            future.set_exception(failure)


def _lookup(host: str, port: int, flags: int = 0) -> list[tuple[Any, ...]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
