"""The application that the faults hit: a process of its own.

    python -m benchmarks.faults.site '{"port": 8888, "session": {...}}'

Prints what an operator would be told, one JSON object a line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from demo.server import serve, stop_signal
from tornado_mcsession import Session, SessionGone, SessionManager, SessionMixin

__all__ = ["make_app"]


def shown(session: Session) -> dict[str, Any]:
    """Return what a page tells of its session."""
    return {
        "owner": session.get("owner"),
        "principal": session.principal,
        "n": session.get("n", 0),
        "count": session.get("count", 0),
        "available": session.available,
    }


class Read(SessionMixin, RequestHandler):
    """Tells what is in the session."""

    def get(self) -> None:
        self.write(shown(self.session))


class Write(SessionMixin, RequestHandler):
    """Changes the session, and tells what was in it before."""

    def post(self) -> None:
        self.write(shown(self.session))
        self.session["owner"] = self.get_argument("owner")
        self.session["n"] = int(self.get_argument("n"))
        if size := int(self.get_argument("size", "0")):
            self.session["large"] = "x" * size


class Count(SessionMixin, RequestHandler):
    """Counts one up by `transact`, and tells what was there before."""

    async def post(self) -> None:
        self.write(shown(self.session))
        owner = self.get_argument("owner")

        def count(data: dict[str, Any]) -> None:
            data.update(owner=owner, count=data.get("count", 0) + 1)

        try:
            await self.session.transact(count)
        except SessionGone:
            self.send_error(409)


class Login(SessionMixin, RequestHandler):
    """Logs the user in, and tells what was in the session before."""

    async def post(self) -> None:
        self.write(shown(self.session))
        self.session["owner"] = owner = self.get_argument("owner")
        self.session["n"] = int(self.get_argument("n"))
        await self.session.login(owner)


class Rotate(SessionMixin, RequestHandler):
    """Gives the session a new id, and tells what is in it."""

    async def post(self) -> None:
        self.write(shown(self.session))
        try:
            await self.session.regenerate()
        except SessionGone:
            self.send_error(409)


class Logout(SessionMixin, RequestHandler):
    """Ends the session, whatever is in it."""

    session_load = "lazy"

    def post(self) -> None:
        self.session = None
        self.write({})


class Operator(RequestHandler):
    """Tells what a readiness check and a metrics page would ask for."""

    async def get(self) -> None:
        manager = self.settings["session_manager"]
        self.write({"stats": manager.stats(), "health": await manager.health()})


def make_app(**session: Any) -> Application:
    """Return the application; ``session`` are its settings."""
    pages = [("/read", Read), ("/write", Write), ("/count", Count)]
    verbs = [("/login", Login), ("/rotate", Rotate), ("/logout", Logout)]
    app = Application([*pages, *verbs, ("/operator", Operator)])
    SessionManager(app, **session)
    return app


def tell(**fact: Any) -> None:
    """Tell the parent."""
    print(json.dumps(fact), flush=True)


class Teller(logging.Handler):
    """Tells what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        # Tornado's access log has a line for each request, with or without us.
        if record.name != "tornado.access":
            tell(
                logger=record.name,
                level=record.levelname,
                line=record.getMessage(),
                traceback=record.exc_info is not None,
            )


async def main(port: int, session: dict[str, Any]) -> None:
    """Serve until told to stop."""
    app = make_app(**session)
    manager = app.settings["session_manager"]
    manager.on_connect(lambda node: tell(event="on_connect", node=node))
    manager.on_disconnect(lambda node: tell(event="on_disconnect", node=node))
    await serve(app, bind_sockets(port, "127.0.0.1"), stop_signal())


if __name__ == "__main__":
    logging.captureWarnings(True)
    logging.getLogger().addHandler(Teller(logging.WARNING))
    asyncio.run(main(**json.loads(sys.argv[1])))
