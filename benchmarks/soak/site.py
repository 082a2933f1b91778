"""The site under test: one process of it.

    python -m benchmarks.soak.site '{"port": 8888, "session": {...}, "plant": ""}'

Each page returns what was in the session when its request came, and then does what
its name says. What an operator would see is printed, one JSON object a line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from demo.server import serve, stop_signal
from tornado_mcsession import (
    Session,
    SessionError,
    SessionGone,
    SessionManager,
    SessionMixin,
)

from .planted import ENDING, PlantedStore

MARKS = 40
"""How many marks of increments a session keeps."""


def shown(session: Session) -> dict[str, Any]:
    """Return what a page shows of its session."""
    return {
        "owner": session.get("owner"),
        "principal": session.principal,
        "available": session.available,
        "n": session.get("n", 0),
        "marks": list(session.get("marks", [])),
        "slots": {key: session[key] for key in session if key.startswith("slot")},
        "nest": dict(session.get("nest", {})),
    }


def put(session: Session, slot: str, value: int) -> None:
    """Write to a key of the session, or of the mapping in it."""
    place, _, name = slot.partition(".")
    if name:
        session.setdefault(place, {})[name] = value
    else:
        session[slot] = value


async def count(session: Session, owner: str, mark: str) -> int:
    """Count one up, leave ``mark``, and return the new number."""

    def increment(data: dict[str, Any]) -> int:
        data["owner"] = owner
        data["n"] = data.get("n", 0) + 1
        data["marks"] = [*data.get("marks", []), mark][-MARKS:]
        return int(data["n"])

    return int(await session.transact(increment))


class Page(SessionMixin, RequestHandler):
    """A page: shows the session, then does something with it."""

    async def post(self) -> None:
        told = shown(self.session)
        await asyncio.sleep(float(self.get_argument("wait", "0")))
        try:
            told["result"] = await self.act()
        except SessionGone:
            self.send_error(409)
        else:
            self.write(told)

    async def act(self) -> Any:
        raise NotImplementedError


class Read(Page):
    async def act(self) -> None:
        pass


class Slot(Page):
    async def act(self) -> None:
        self.session["owner"] = self.get_argument("owner")
        put(self.session, self.get_argument("slot"), int(self.get_argument("value")))
        if size := int(self.get_argument("size", "0")):
            self.session["large"] = "x" * size


class Count(Page):
    async def act(self) -> int:
        owner, mark = self.get_argument("owner"), self.get_argument("mark")
        return await count(self.session, owner, mark)


class Flash(Page):
    async def act(self) -> None:
        self.session.flash(self.get_argument("text"))


class Flashes(Page):
    async def act(self) -> list[str]:
        return [text for _, text in self.session.flashes()]


class Login(Page):
    async def act(self) -> None:
        self.session["owner"] = self.get_argument("owner")
        await self.session.login(self.get_argument("principal"))


class Regenerate(Page):
    async def act(self) -> None:
        await self.session.regenerate()


class Revoke(Page):
    async def act(self) -> None:
        manager: SessionManager = self.settings["session_manager"]
        await manager.revoke(self.get_argument("principal"))


class Logout(SessionMixin, RequestHandler):
    """Ends the session without looking at it."""

    session_load = "lazy"

    def post(self) -> None:
        ENDING.set(True)
        self.session = None
        self.write({})


class Destroy(SessionMixin, RequestHandler):
    """Ends the session, and waits until it is ended."""

    session_load = "lazy"

    async def post(self) -> None:
        ENDING.set(True)
        await self.session.destroy()
        self.write({})


class Socket(SessionMixin, WebSocketHandler):
    """Does the same as the pages, over one connection."""

    def open(self, *args: str, **kwargs: str) -> None:
        self.tell(200, **shown(self.session))

    async def on_message(self, message: str | bytes) -> None:
        asked, result = json.loads(message), None
        try:
            if "mark" in asked:
                result = await count(self.session, asked["owner"], asked["mark"])
            else:
                put(self.session, asked["slot"], asked["value"])
                await self.session.save()
        except SessionGone:
            self.tell(409)
        except SessionError as error:
            self.tell(error.status, text=type(error).__name__)
        else:
            self.tell(200, result=result)

    def tell(self, status: int, **facts: Any) -> None:
        # Who has left hears nothing.
        if self.ws_connection is not None and not self.ws_connection.is_closing():
            self.write_message({"status": status, **facts})


class Facts(RequestHandler):
    """What a metrics page and a readiness check would ask for."""

    async def get(self) -> None:
        manager: SessionManager = self.settings["session_manager"]
        self.write({"stats": manager.stats(), "health": await manager.health()})


def print_line(**fact: Any) -> None:
    print(json.dumps(fact), flush=True)


class Printer(logging.Handler):
    """Prints what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        # Tornado's access log has a line for each request, with or without us.
        if record.name != "tornado.access":
            exception = record.exc_info and record.exc_info[1]
            print_line(
                logger=record.name,
                line=record.getMessage(),
                exception=repr(exception) if exception else "",
            )


PAGES = (Read, Slot, Count, Flash, Flashes, Login, Regenerate, Revoke, Logout, Destroy)


async def main(port: int, session: dict[str, Any], plant: str) -> None:
    """Serve until told to stop, or until the parent is gone."""
    if plant:
        session["store"] = PlantedStore.with_fault(session["store"], plant)
    app = Application(
        [
            *((f"/{page.__name__.lower()}", page) for page in PAGES),
            ("/socket", Socket),
            ("/facts", Facts),
        ]
    )
    manager = SessionManager(app, **session)
    manager.on_connect(lambda node: print_line(event="on_connect", node=node))
    manager.on_disconnect(lambda node: print_line(event="on_disconnect", node=node))
    stop = stop_signal(with_parent=True)
    await serve(app, bind_sockets(port, "127.0.0.1"), stop)


if __name__ == "__main__":
    logging.captureWarnings(True)
    logging.getLogger().addHandler(Printer(logging.WARNING))
    asyncio.run(main(**json.loads(sys.argv[1])))
