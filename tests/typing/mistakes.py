"""Mistakes that type checkers find: an ignore that is not needed fails the check."""

from __future__ import annotations

import msgspec
from tornado.web import RequestHandler

from tornado_mcsession import CookieSettings, SessionManager, SessionMixin

SessionManager(idle_timout=60)  # type: ignore[call-arg]
SessionManager(idle_timeout="60")  # type: ignore[arg-type]
SessionManager(persist="onfinish")  # type: ignore[arg-type]
SessionManager(serializer="pickle")  # type: ignore[arg-type]
SessionManager(cookie={"http_only": True})  # type: ignore[arg-type]
SessionManager(on_error=lambda phase, error: "raise")  # type: ignore[arg-type, misc]
LAX: CookieSettings = {"samesite": "loose"}  # type: ignore[typeddict-item]


class Cart(msgspec.Struct):
    items: list[str] = []


class Page(SessionMixin, RequestHandler):
    session_load = "lasy"  # type: ignore[assignment]

    async def get(self) -> None:
        self.session = ["data"]  # type: ignore[assignment]
        self.session.set_expiry(3600)  # type: ignore[arg-type]
        self.session.set("a", 1)  # type: ignore[attr-defined]
        self.session[1] = "a"  # type: ignore[index]
        self.session.typed(Cart).items.append(1)  # type: ignore[arg-type]
        self.session.typed(Cart).itms.clear()  # type: ignore[attr-defined]
        SessionManager.of("admin")  # type: ignore[arg-type]
