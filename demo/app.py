"""The shop's Tornado application: its routes, its settings, its session manager.

python -m demo
curl http://127.0.0.1:8888/healthz
"""

from __future__ import annotations

import logging
from pathlib import Path

from tornado.template import Loader
from tornado.web import Application, RequestHandler, StaticFileHandler

from demo import api, pages
from demo.panel import Process
from tornado_mcsession import SessionManager

__all__ = ["make_app"]

HERE = Path(__file__).parent


def make_app(store: str, cookie_secret: str, process: Process) -> Application:
    """Return the shop, with its sessions kept in ``store``.

    A setting that makes no sense is a ValueError here, not at the first request.
    """
    app = Application(
        [*pages.ROUTES, *api.ROUTES],
        default_handler_class=pages.NotFound,
        template_loader=Loader(str(HERE / "templates")),
        static_path=HERE / "static",
        login_url="/login",
        xsrf_cookies=True,
        xsrf_cookie_kwargs={"httponly": True, "samesite": "Lax"},
        cookie_secret=cookie_secret,
        process=process,
        log_function=log_request,
        # Half an hour without a visit, so that the countdown is worth watching.
        session={"store": store, "idle_timeout": 30 * 60},
    )
    SessionManager(app)
    return app


def log_request(handler: RequestHandler) -> None:
    """Log a line for each request but for pictures and style sheets."""
    status = handler.get_status()
    if isinstance(handler, StaticFileHandler) and status < 400:
        return
    level = logging.INFO if status < 400 else logging.WARNING
    milliseconds = 1000 * handler.request.request_time()
    request = f"{handler.request.method} {handler.request.uri}"
    logging.log(level, "%d %s  %.1f ms", status, request, milliseconds)
