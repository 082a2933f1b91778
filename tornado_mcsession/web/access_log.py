"""Tornado's access log, with the status that was sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from tornado.web import RequestHandler

if TYPE_CHECKING:
    from ..mixin import SessionMixin

__all__ = ["access_log"]

logger = logging.getLogger("tornado.access")

Write = Callable[[RequestHandler, int], object]


def _usual(handler: RequestHandler, status: int) -> None:
    """Write a line as Tornado does."""
    if status < 400:
        level = logging.INFO
    else:
        level = logging.WARNING if status < 500 else logging.ERROR
    request = handler.request
    logger.log(
        level,
        "%d %s %s (%s) %.2fms",
        status,
        request.method,
        request.uri,
        request.remote_ip,
        1000.0 * request.request_time(),
    )


def access_log(write: Write = _usual) -> Callable[[RequestHandler], None]:
    """Return a ``log_function`` for a Tornado application.

    Tornado calls its log function while a response still waits for its session to
    be saved. If that fails, the client gets a 503, but the log has the handler's
    status. This one waits until the response is sent::

        Application(handlers, log_function=access_log())

    ``write(handler, status)`` writes the line, in your own format; by default it is
    Tornado's line. The request's time includes the save.
    """

    def log(handler: RequestHandler) -> None:
        if not hasattr(handler, "_until_response_is_sent"):
            write(handler, handler.get_status())
            return
        with_session = cast("SessionMixin", handler)
        sent = with_session._until_response_is_sent()
        if sent is None:
            write(handler, with_session._status_sent())
            return

        def finished(_: asyncio.Future[None]) -> None:
            write(handler, with_session._status_sent())

        sent.add_done_callback(finished)

    return log
