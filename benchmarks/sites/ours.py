"""Tornado with the library, over several stores and with several settings."""

from __future__ import annotations

from typing import Any

from tornado.web import Application, RequestHandler

from tornado_mcsession import SessionManager, SessionMixin

from . import BACKLOG, BARE, SECRET, first_data, shown


class Make(SessionMixin, RequestHandler):
    async def get(self) -> None:
        user = int(self.get_argument("user"))
        self.session.update(first_data(user, int(self.get_argument("size", "0"))))
        if self.get_argument("login", ""):
            await self.session.login(user)


class Read(SessionMixin, RequestHandler):
    def get(self) -> None:
        self.write(shown(self.session))


class Write(SessionMixin, RequestHandler):
    def get(self) -> None:
        self.session["n"] += 1
        self.write(shown(self.session))


class Login(SessionMixin, RequestHandler):
    """Logs the user of the session in. Its id is a new one afterwards."""

    async def get(self) -> None:
        await self.session.login(self.session["user"])
        self.write(shown(self.session))


class Untouched(SessionMixin, RequestHandler):
    """Could use its session, and does not."""

    def get(self) -> None:
        self.write(BARE)


PAGES = [("/make", Make), ("/read", Read), ("/write", Write), ("/login", Login)]


def make_app(**session: Any) -> Application:
    """Return the application; ``session`` are its settings."""
    app = Application([*PAGES, ("/untouched", Untouched)], cookie_secret=SECRET)
    SessionManager(app, **session)
    return app


def serve(port: int, **session: Any) -> None:
    make_app(**session).listen(port, "127.0.0.1", backlog=BACKLOG)


async def memcached(port: int, memcached: str) -> None:
    serve(port, store=f"memcached://{memcached}")


async def encrypted(port: int, memcached: str) -> None:
    serve(port, store=f"memcached://{memcached}", encryption_keys=[b"k" * 32])


async def renewing(port: int, memcached: str) -> None:
    """Each request renews its session: what one that is due costs."""
    serve(port, store=f"memcached://{memcached}", renew_after=0)


async def over_emcache(port: int, memcached: str) -> None:
    from .clients import EmcacheStore

    serve(port, store=await EmcacheStore.connected(memcached))


async def over_aiomcache(port: int, memcached: str) -> None:
    from .clients import AiomcacheStore

    serve(port, store=AiomcacheStore(memcached))
