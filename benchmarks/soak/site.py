"""The site under test: one process of it.

    python -m benchmarks.soak.site '{"port": 8888, "servers": "...", "plant": ""}'

Each page returns what was in the session when its request came, and then does what
its name says.
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

LIMITS = {"timeout": 0.5, "connect_timeout": 0.25}
MARKS = 40
"""How many marks of increments a session keeps."""


def shown(session: Session) -> dict[str, Any]:
    """Return what a page shows of its session."""
    return {
        "owner": session.get("owner"),
        "principal": session.principal,
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
    """What the manager's counters say."""

    def get(self) -> None:
        self.write(self.settings["session_manager"].stats())


PAGES = (Read, Slot, Count, Flash, Flashes, Login, Regenerate, Revoke, Logout, Destroy)


async def main(port: int, servers: str, plant: str) -> None:
    """Serve until told to stop, or until the parent is gone."""
    app = Application(
        [
            *((f"/{page.__name__.lower()}", page) for page in PAGES),
            ("/socket", Socket),
            ("/facts", Facts),
        ]
    )
    SessionManager(
        app,
        store=PlantedStore(servers, plant, **LIMITS),
        # Short enough for renewals, long enough that none ends in a run.
        idle_timeout=3600,
        renew_after=0.001,
    )
    stop = stop_signal(with_parent=True)
    await serve(app, bind_sockets(port, "127.0.0.1"), stop)


if __name__ == "__main__":
    logging.captureWarnings(True)
    logging.basicConfig(level=logging.WARNING)
    # A line for each 503 would fill the disk.
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    asyncio.run(main(**json.loads(sys.argv[1])))
