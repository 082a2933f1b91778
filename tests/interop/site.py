"""A Tornado application with the pages of the Node applications beside it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tornado.web import Application, RequestHandler

from tornado_mcsession import SessionMixin


class Page(SessionMixin, RequestHandler):
    """Does with the session what the page of the same name in pages.js does."""

    async def post(self, act: str) -> None:
        given = json.loads(self.request.body or b"{}")
        self.write(await getattr(self, f"do_{act}")(given))

    def data(self) -> dict[str, Any]:
        return self.session.copy()

    async def do_read(self, given: dict[str, Any]) -> dict[str, Any]:
        return self.data()

    async def do_about(self, given: dict[str, Any]) -> dict[str, Any]:
        session = self.session
        return {
            "id": session.id,
            "presented": session.presented,
            "principal": session.principal,
            "idle_timeout": session.idle_timeout,
            "expires_at": session.expires_at.timestamp(),
            "created": session.created.timestamp(),
            "persistent": session.persistent,
        }

    async def do_change(self, given: dict[str, Any]) -> dict[str, Any]:
        for key, value in given.items():
            if value is None:
                del self.session[key]
            else:
                self.session[key] = value
        return self.data()

    async def do_slowly(self, given: dict[str, Any]) -> dict[str, Any]:
        self.session.update(given)
        entered, opened = self.settings["gate"]
        entered.set()
        await opened.wait()
        return self.data()

    async def do_count(self, given: dict[str, Any]) -> dict[str, Any]:
        def count(data: dict[str, Any]) -> None:
            data["n"] = data.get("n", 0) + 1

        await self.session.transact(count)
        return self.data()

    async def do_age(self, given: dict[str, Any]) -> dict[str, Any]:
        self.session.set_idle_timeout(given["seconds"])
        return self.data()

    async def do_remember(self, given: dict[str, Any]) -> dict[str, Any]:
        self.session.remember(given["persistent"])
        return self.data()

    async def do_others(self, given: dict[str, Any]) -> dict[str, Any]:
        await self.session.revoke_others()
        return self.data()

    async def do_regenerate(self, given: dict[str, Any]) -> dict[str, Any]:
        await self.session.regenerate()
        return self.data()

    async def do_login(self, given: dict[str, Any]) -> dict[str, Any]:
        await self.session.login(given["user"])
        self.session["user"] = given["user"]
        return self.data()

    async def do_impersonate(self, given: dict[str, Any]) -> dict[str, Any]:
        await self.session.impersonate(given["user"])
        return self.data()

    async def do_stop(self, given: dict[str, Any]) -> dict[str, Any]:
        await self.session.stop_impersonating()
        return self.data()

    async def do_logout(self, given: dict[str, Any]) -> dict[str, Any]:
        await self.session.logout()
        return self.data()

    async def do_flash(self, given: dict[str, Any]) -> dict[str, Any]:
        self.session.flash(given["message"], given["category"])
        return {}

    async def do_flashes(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"flashes": self.session.flashes()}


class QuietPage(Page):
    """As `Page`, but using it does not renew the session."""

    session_renew = False


def make_app(settings: dict[str, Any]) -> Application:
    """The application, with the session as in ``settings``."""
    gate = asyncio.Event(), asyncio.Event()
    routes = [(r"/quiet/(\w+)", QuietPage), (r"/(\w+)", Page)]
    return Application(routes, session=settings, gate=gate)
