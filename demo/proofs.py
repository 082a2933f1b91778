"""The endpoints of the proofs: the same acts with this library and without it.

Each proof has a session of its own, apart from the shop's, so that it can log out and
count without touching the visitor's cart.

python -m demo
curl -c jar -b jar http://127.0.0.1:8888/proof/library/visitor
curl -c jar -b jar http://127.0.0.1:8888/proof/naive/visitor
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from http.client import responses
from typing import Any

from tornado.web import HTTPError, RequestHandler

from demo.control import Control, is_loopback
from demo.fingerprint import fingerprint
from demo.naive import NaiveSession, NaiveSessionMixin
from demo.panel import Process
from demo.trace import Traced
from tornado_mcsession import SessionMixin

__all__ = ["MANAGER", "ROUTES", "SLOW_SECONDS", "WORK_SECONDS"]

MANAGER = "proof"
VISITOR = "Ada"
CART = 3
# What a handler waits for between reading its session and saving it, a database for
# example. Both sides wait for the same time.
WORK_SECONDS = 0.025
SLOW_SECONDS = 2.0


class Endpoint(Traced):
    """Answers JSON, errors too, and says which process it was."""

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    def answer(self, **values: Any) -> dict[str, Any]:
        process: Process = self.settings["process"]
        return values | {"process": process.pid}

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.finish(self.answer(error=responses.get(status_code, "unknown")))

    def session_error(self, error: Exception) -> dict[str, Any]:
        return self.answer(error=type(error).__name__)

    async def work(self) -> None:
        """Do what a handler does between reading its session and saving it.

        The next click comes over a new connection, so that any process may get it.
        """
        self.set_header("Connection", "close")
        await asyncio.sleep(WORK_SECONDS)


class Ours(Endpoint, SessionMixin, RequestHandler):
    """A session of this library."""

    session_manager_name = MANAGER

    def visitor(self) -> dict[str, Any]:
        key: bytes = self.settings["fingerprint_key"]
        shown = fingerprint(self.session.id, key)
        return self.answer(
            name=self.session.principal,
            clicks=self.session.get("clicks", 0),
            cart=self.session.get("cart", 0),
            fingerprint=None if shown is None else vars(shown),
        )


class OursBegin(Ours):
    async def post(self) -> None:
        await self.session.login(VISITOR)
        self.session.update(clicks=0, cart=CART)
        self.write(self.answer())


class OursClick(Ours):
    """Count a click in a transaction: it runs again if another click was faster."""

    async def post(self) -> None:
        await self.work()

        def click(data: dict[str, Any]) -> int:
            data["clicks"] = data.get("clicks", 0) + 1
            return int(data["clicks"])

        self.write(self.answer(clicks=await self.session.transact(click)))


class OursSlow(Ours):
    async def post(self) -> None:
        name = self.session.principal
        before = self.session.get("slow", 0)
        await asyncio.sleep(SLOW_SECONDS)
        self.session["slow"] = before + 1
        self.write(self.answer(name=name))  # who it was at the beginning


class OursLogout(Ours):
    async def post(self) -> None:
        await self.session.logout()
        self.write(self.answer())


class OursVisitor(Ours):
    def get(self) -> None:
        self.write(self.visitor())


class Naive(Endpoint, NaiveSessionMixin):
    """A session by get–modify–set; see `demo.naive`."""

    async def prepare(self) -> None:
        if self.settings["naive"] is None:
            raise HTTPError(HTTPStatus.NOT_FOUND)
        await super().prepare()


class NaiveBegin(Naive):
    async def post(self) -> None:
        await self.destroy()
        self.naive.update(name=VISITOR, clicks=0, cart=CART)
        await self.save()
        self.write(self.answer())


class NaiveClick(Naive):
    async def post(self) -> None:
        await self.work()
        self.naive["clicks"] = self.naive.get("clicks", 0) + 1
        await self.save()
        self.write(self.answer(clicks=self.naive["clicks"]))


class NaiveSlow(Naive):
    async def post(self) -> None:
        name = self.naive.get("name")
        before = self.naive.get("slow", 0)
        await asyncio.sleep(SLOW_SECONDS)
        self.naive["slow"] = before + 1
        await self.save()
        self.write(self.answer(name=name))


class NaiveLogout(Naive):
    async def post(self) -> None:
        await self.destroy()
        self.write(self.answer())


class NaiveVisitor(Naive):
    def get(self) -> None:
        session: NaiveSession = self.naive
        self.write(
            self.answer(
                name=session.get("name"),
                clicks=session.get("clicks", 0),
                cart=session.get("cart", 0),
            )
        )


class Ask(Endpoint):
    """Ask the demo's parent for something that a worker cannot do itself."""

    def initialize(self, what: str) -> None:
        self.what = what

    async def post(self) -> None:
        control: Control = self.settings["control"]
        # Anybody can let a name of their own lead to this machine. A page under that
        # name, in a browser here, then has a token of the shop, too.
        if is_loopback(self.request.host_name.lower()):
            refused = await control.ask(self.what)
        else:
            port = self.settings["setup"].port
            refused = f"Open http://127.0.0.1:{port}/ to do this."
        if refused:
            self.set_status(HTTPStatus.CONFLICT)
            self.write(self.answer(error=refused))
        else:
            self.write(self.answer())


class TraceOf(Endpoint):
    """What the store was asked for the requests of one action of a page."""

    async def get(self) -> None:
        control: Control = self.settings["control"]
        try:
            count = int(self.get_query_argument("count"))
        except ValueError:
            raise HTTPError(HTTPStatus.BAD_REQUEST) from None
        action = self.get_query_argument("action")
        self.write({"requests": await control.trace(action, count)})


ROUTES: list[Any] = [
    (r"/proof/library/begin", OursBegin),
    (r"/proof/library/click", OursClick),
    (r"/proof/library/slow", OursSlow),
    (r"/proof/library/logout", OursLogout),
    (r"/proof/library/visitor", OursVisitor),
    (r"/proof/naive/begin", NaiveBegin),
    (r"/proof/naive/click", NaiveClick),
    (r"/proof/naive/slow", NaiveSlow),
    (r"/proof/naive/logout", NaiveLogout),
    (r"/proof/naive/visitor", NaiveVisitor),
    (r"/proof/pause", Ask, {"what": "pause"}),
    (r"/proof/end-process", Ask, {"what": "end"}),
    (r"/proof/trace", TraceOf),
]
