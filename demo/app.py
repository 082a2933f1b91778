"""The shop's Tornado application: its routes, its settings, its session manager.

python -m demo
curl http://127.0.0.1:8888/healthz
"""

from __future__ import annotations

import logging
from pathlib import Path

from tornado.template import Loader
from tornado.web import Application, RequestHandler, StaticFileHandler

from demo import api, pages, proofs, trace
from demo.control import Control, Setup
from demo.naive import backend_for
from demo.panel import Process
from tornado_mcsession import SessionManager, access_log

__all__ = ["make_app"]

HERE = Path(__file__).parent


def make_app(setup: Setup, control: Control) -> Application:
    """Return the shop and the proofs.

    A setting that makes no sense is a ValueError here, not at the first request.
    """
    process = Process(setup.port)

    def log(handler: RequestHandler, status: int) -> None:
        log_request(handler, status)
        if (traced := trace.finish(handler, status, process.name)) is not None:
            control.publish(traced)

    app = Application(
        [*pages.ROUTES, *proofs.ROUTES, *api.ROUTES],
        default_handler_class=pages.NotFound,
        template_loader=Loader(str(HERE / "templates")),
        static_path=HERE / "static",
        login_url="/login",
        xsrf_cookies=True,
        xsrf_cookie_kwargs={"httponly": True, "samesite": "Lax"},
        cookie_secret=setup.cookie_secret,
        process=process,
        setup=setup,
        control=control,
        fingerprint_key=bytes.fromhex(setup.fingerprint_key),
        naive=backend_for(setup.store),
        log_function=access_log(log),
        session={"idle_timeout": setup.idle_timeout},
    )
    shop = SessionManager(app, store=setup.store, track_sessions=True)
    proof = SessionManager(app, name=proofs.MANAGER, store=shop.store)
    for manager in (shop, proof):
        manager.observe(trace.note)
    return app


def log_request(handler: RequestHandler, status: int) -> None:
    """Log a line for each request but for pictures and style sheets."""
    if isinstance(handler, StaticFileHandler) and status < 400:
        return
    level = logging.INFO if status < 400 else logging.WARNING
    milliseconds = 1000 * handler.request.request_time()
    request = f"{handler.request.method} {handler.request.uri}"
    logging.log(level, "%d %s  %.1f ms", status, request, milliseconds)
