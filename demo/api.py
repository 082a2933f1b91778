"""The endpoints for scripts and tests: JSON in and out, no pages, no forms.

python -m demo
curl -c jar -b jar -X POST http://127.0.0.1:8888/api/counter
curl -c jar -b jar http://127.0.0.1:8888/api/session
curl -i http://127.0.0.1:8888/readyz
"""

from __future__ import annotations

from http.client import responses
from typing import Any

from tornado.web import RequestHandler

from demo.panel import Process
from tornado_mcsession import SessionManager, SessionMixin

__all__ = ["ROUTES"]


class Endpoint(SessionMixin, RequestHandler):
    """Answers JSON, errors too, and says which process it was."""

    def answer(self, **values: Any) -> dict[str, Any]:
        process: Process = self.settings["process"]
        return values | {"process": process.name}

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if status_code == 503:
            self.set_header("Retry-After", 1)
        self.finish(self.answer(error=responses.get(status_code, "unknown")))

    def session_error(self, error: Exception) -> dict[str, Any]:
        return self.answer(error=type(error).__name__)


class Counter(Endpoint):
    """Counts how often it was called in this session.

    A read and a write, saved at the end of the request. Calls one after another
    are all counted, whichever process answers; parallel ones would want
    ``transact``, as the cart does it.
    """

    def check_xsrf_cookie(self) -> None:
        """Ask for no token, so that a single ``curl`` can count.

        Fine in a demo: another site's page can make a browser send this POST, but
        the session's cookie is SameSite=Lax and stays at home, so it would count
        in a session of its own. A real shop has no endpoint that changes a
        session without a token.
        """

    def post(self) -> None:
        self.session["counter"] = self.session.get("counter", 0) + 1
        self.write(self.answer(counter=self.session["counter"]))


class ReadSession(Endpoint):
    """Tells what is in the session. Reading creates none."""

    def get(self) -> None:
        self.write(
            self.answer(data=dict(self.session), principal=self.session.principal)
        )


class Health(RequestHandler):
    """Says that the process is up, without asking for a session."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/plain")
        self.write("ok\n")


class Ready(RequestHandler):
    """Says whether sessions can be kept, for a load balancer.

    Where some of several nodes are away it still is a 200: their visitors would
    fare no better at another process, and all others would lose this one.
    """

    async def get(self) -> None:
        manager = SessionManager.of(self)
        health = await manager.health()
        if health["status"] == "down":
            self.set_status(503)
        self.set_header("Cache-Control", "no-store")
        self.write(health)


ROUTES = [
    (r"/api/counter", Counter),
    (r"/api/session", ReadSession),
    (r"/healthz", Health),
    (r"/readyz", Ready),
]
