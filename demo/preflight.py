"""What is looked at before the shop opens: are the ports free, does memcached answer.

python -m demo --port 8888
curl http://127.0.0.1:8888/healthz
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from tornado.netutil import bind_sockets

__all__ = ["CannotListen", "listen", "silent_nodes"]

DEFAULT_PORT = 11211
TIMEOUT = 1.0


class CannotListen(Exception):
    """The demo cannot listen on a port; the message says why and what to do."""


def listen(address: str, port: int) -> list[socket.socket]:
    """Listen on ``port`` (0: any); a name may have several addresses."""
    try:
        return bind_sockets(port, address)
    except (OSError, OverflowError) as error:
        raise CannotListen(_reason(error, address, port)) from error


def _reason(error: Exception, address: str, port: int) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {address} is in use; choose another: --port {port + 100}"
        )
    return f"cannot listen on port {port} of {address}: {error}"


def silent_nodes(store: str) -> Iterator[tuple[str, str]]:
    """Yield each node of ``store`` that does not answer, with how to start one."""
    url = urlsplit(store)
    if url.scheme not in ("memcached", "memcacheds"):
        return
    if not url.netloc:
        if not _answers(url.path):
            yield url.path, f"memcached -s {url.path}"
        return
    for node in url.netloc.rpartition("@")[2].split(","):
        split = urlsplit(f"//{node}")
        host, port = split.hostname or "127.0.0.1", split.port or DEFAULT_PORT
        if not _answers((host, port)):
            yield f"{host}:{port}", f"memcached -u nobody -l {host} -p {port}"


def _answers(node: str | tuple[str, int]) -> bool:
    """Tell whether somebody takes a connection; what speaks there shows later."""
    try:
        if isinstance(node, tuple):
            socket.create_connection(node, TIMEOUT).close()
            return True
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(node)
    except OSError:
        return False
    return True
