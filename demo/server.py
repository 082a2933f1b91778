"""One process of the shop: serves until it is told to stop, and stops cleanly.

python -m demo
curl http://127.0.0.1:8888/healthz
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Iterable

from tornado.httpserver import HTTPServer
from tornado.web import Application

from tornado_mcsession import SessionManager

__all__ = ["serve", "stop_signal"]

DRAIN_SECONDS = 5


def stop_signal(*, with_parent: bool = False) -> asyncio.Event:
    """Return an event that is set by SIGTERM or SIGINT.

    ``with_parent``: also when standard input ends, which is a pipe from the
    parent. It closes however the parent ended, so that no child stays behind.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if with_parent:
        pipe = sys.stdin.fileno()

        def parent_is_gone() -> None:
            loop.remove_reader(pipe)
            stop.set()

        loop.add_reader(pipe, parent_is_gone)
    return stop


async def serve(
    app: Application, sockets: Iterable[socket.socket], stop: asyncio.Event
) -> None:
    """Serve ``app`` on ``sockets`` until ``stop`` is set."""
    server = HTTPServer(app)
    server.add_sockets(sockets)
    await stop.wait()
    # The order matters: no new requests, then every save under way, then the
    # connections that wait for those saves, then the store.
    server.stop()
    manager = SessionManager.of(app)
    if not await manager.drain(DRAIN_SECONDS):
        logging.warning("some saves were not done within %d s", DRAIN_SECONDS)
    await server.close_all_connections()
    await manager.close()
