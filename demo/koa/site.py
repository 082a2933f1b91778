"""The same site on Tornado, with the same pages, users and sessions.

python -m demo.koa
curl -i http://127.0.0.1:8880/cart
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tornado.escape import xhtml_escape
from tornado.web import Application, HTTPError, RequestHandler

from tornado_mcsession import SessionManager, SessionMixin
from tornado_mcsession.interop.koa import koa_session

__all__ = ["PAGES", "make_app"]

LAYOUT = (Path(__file__).parent / "layout.html").read_text("utf-8")
PRODUCTS = ["ink", "paper", "pen"]
PAGES = ["home", "cart", "account"]


def make_app(
    store: str, keys: Sequence[str], move: Callable[[str, str], Awaitable[None]]
) -> Application:
    """Return the site. ``move(page, to)`` lets the other application make a page."""
    app = Application(
        [
            ("/", Home),
            ("/cart", Cart),
            ("/cart/empty", EmptyCart),
            ("/account", Account),
            ("/account/login", Login),
            ("/account/logout", Logout),
            ("/move", Move),
        ],
        session=koa_session(store=store, keys=keys),
        move=move,
    )
    SessionManager(app)
    return app


class Page(SessionMixin, RequestHandler):
    """What all pages have in common."""

    def show(self, name: str, body: str) -> None:
        session = self.session
        messages = "".join(
            f'<p class="{xhtml_escape(category)}">{xhtml_escape(message)}</p>'
            for category, message in session.flashes()
        )
        parts: dict[str, Any] = {
            "by": "Python",
            "other": "Node",
            "name": name,
            "user": xhtml_escape(session.get("user", "nobody")),
            "count": sum(session.get("cart", {}).values()),
            "messages": messages,
            "body": body,
        }
        self.write(re.sub(r"{(\w+)}", lambda found: str(parts[found[1]]), LAYOUT))


def button(action: str, word: str, name: str = "", value: str = "") -> str:
    return (
        f'<form method="post" action="{action}">'
        f'<button name="{name}" value="{value}">{word}</button></form>'
    )


class Home(Page):
    def get(self) -> None:
        buttons = [button("/cart", f"Add {item}", "item", item) for item in PRODUCTS]
        self.show("home", "".join(buttons))


class Cart(Page):
    def get(self) -> None:
        lines = self.session.get("cart", {}).items()
        rows = "".join(f"<li>{n} × {xhtml_escape(item)}</li>" for item, n in lines)
        empty = "<p>Your cart is empty.</p>"
        full = f"<ul>{rows}</ul>{button('/cart/empty', 'Empty the cart')}"
        self.show("cart", full if rows else empty)

    def post(self) -> None:
        item = self.get_body_argument("item", "")
        if item in PRODUCTS:
            cart = self.session.setdefault("cart", {})
            cart[item] = cart.get(item, 0) + 1
            self.session.flash(f"Python added {item}.")
        self.redirect("/cart")


class EmptyCart(Page):
    def post(self) -> None:
        self.session.pop("cart", None)
        self.redirect("/cart")


class Account(Page):
    def get(self) -> None:
        if "user" in self.session:
            self.show("account", button("/account/logout", "Log out"))
        else:
            self.show(
                "account",
                '<form method="post" action="/account/login"><input name="user" '
                'required aria-label="Name"><button>Log in</button></form>',
            )


class Login(Page):
    async def post(self) -> None:
        user = self.get_body_argument("user")
        if not user:
            raise HTTPError(400)
        await self.session.login(user)  # a new id; the cart is kept
        self.session["user"] = user  # this is what koa's pages look at
        self.session.flash("Python logged you in.")
        self.redirect("/account")


class Logout(Page):
    async def post(self) -> None:
        await self.session.logout()
        self.redirect("/account")


class Move(RequestHandler):
    """Lets the other application make a page from now on."""

    async def post(self) -> None:
        if self.request.headers.get("Sec-Fetch-Site", "none") not in (
            "none",
            "same-origin",
        ):
            raise HTTPError(403)
        page, to = self.get_body_argument("page"), self.get_body_argument("to")
        if page not in PAGES or to not in ("Node", "Python"):
            raise HTTPError(400)
        await self.settings["move"](page, to)
        self.redirect("/" if page == "home" else f"/{page}")
