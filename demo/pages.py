"""The shop's pages: forms that post, handlers that change the session and redirect.

Every button works without JavaScript; ``static/shop.js`` only saves the reloads.

    python -m demo
    curl -c jar -b jar http://127.0.0.1:8888/
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from tornado.httputil import split_host_and_port
from tornado.template import Loader
from tornado.web import HTTPError, RequestHandler, authenticated

from demo import catalogue
from demo.control import Setup
from demo.panel import Process, describe, device_of
from demo.proofs import WORK_SECONDS
from demo.trace import Traced
from tornado_mcsession import SessionManager, SessionMixin, SessionStatusHandler

__all__ = ["ROUTES", "NotFound"]

REMEMBERED = timedelta(days=14)
SLOW_SECONDS = 3
RETRY_SECONDS = 5
POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)


class Page(Traced, SessionMixin, RequestHandler):
    """What all pages share: who the visitor is, error pages, safe headers."""

    outage = (
        "We cannot reach your session right now",
        "What you just did may not have been saved. Please try again in a few seconds.",
    )

    def set_default_headers(self) -> None:
        # So that going back after a log-out does not bring the cart to light again.
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("X-Content-Type-Options", "nosniff")

    def get_current_user(self) -> str | None:
        """Let ``current_user`` and ``@authenticated`` follow the session."""
        return self.session.principal

    @property
    def process(self) -> Process:
        process: Process = self.settings["process"]
        return process

    @property
    def wants_json(self) -> bool:
        return "application/json" in self.request.headers.get("Accept", "")

    @property
    def setup(self) -> Setup:
        setup: Setup = self.settings["setup"]
        return setup

    def get_template_namespace(self) -> dict[str, Any]:
        names = super().get_template_namespace()
        return names | {"process": self.process, "setup": self.setup, "price": price}

    @property
    def is_read(self) -> bool:
        return self.request.method in ("GET", "HEAD")

    def done(self, flash: str, category: str = "success", **answer: Any) -> None:
        """Answer a POST: JSON for a script; else say ``flash`` on the next page.

        A script gets no flash message: nobody would read it before the next page.
        """
        if self.wants_json:
            self.write(answer | {"process": self.process.name})
            return
        self.session.flash(flash, category)
        self.redirect("/", status=HTTPStatus.SEE_OTHER)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer an error; a session that could not be *loaded* comes here too."""
        if status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            self.set_header("Retry-After", RETRY_SECONDS)
        self.finish(self.error_body(status_code))

    def session_error(self, error: Exception) -> str | bytes | dict[str, Any]:
        """Make the answer for a session that could not be *saved*.

        The handler is finished by now, so this makes a body and writes nothing.
        """
        return self.error_body(getattr(error, "status", 500))

    def error_body(self, status: int) -> bytes | dict[str, Any]:
        away = status == HTTPStatus.SERVICE_UNAVAILABLE
        title, text = self.outage if away else explain(status)
        if self.wants_json:
            return {"error": title, "detail": text, "process": self.process.name}
        # `render_string` needs parts of the handler that are gone once it finished.
        loader: Loader = self.settings["template_loader"]
        return loader.load("error.html").generate(
            process=self.process,
            setup=self.setup,
            static_url=self.static_url,
            status=status,
            title=title,
            text=text,
            again=self.request.uri if away and self.is_read else None,
        )


class Shop(Page):
    """The proofs, the catalogue, the cart and the panel that shows the session."""

    async def get(self) -> None:
        cart = self.session.get("cart", {})
        devices = []
        if self.session.principal is not None:
            devices = await SessionManager.of(self).sessions(
                self.session.principal, current=self.session
            )
        self.render(
            "shop.html",
            products=catalogue.PRODUCTS.values(),
            lines=catalogue.lines(cart),
            total=catalogue.total(cart),
            # Asked for before the messages are read: reading them is a change,
            # and the panel is to tell what the visitor did, not what the page does.
            panel=describe(self.session, self.settings["fingerprint_key"]),
            devices=devices,
            second_window=self.second_window(),
            flashes=self.session.flashes(),
            logged_out=not self.session.exists
            and self.get_query_argument("logged-out", None) is not None,
            slow_seconds=SLOW_SECONDS,
            work_milliseconds=round(1000 * WORK_SECONDS),
            has_naive=self.settings["naive"] is not None,
        )

    def second_window(self) -> str | None:
        """Return an address of the login page for which the browser has no cookies.

        Cookies belong to a host, and this machine has two names for itself.
        """
        if not self.setup.is_local or self.session.principal is None:
            return None
        host, port = split_host_and_port(self.request.host)
        other = "127.0.0.1" if host == "localhost" else "localhost"
        query = urlencode({"name": self.session.principal})
        return f"{self.request.protocol}://{other}:{port or 80}/login?{query}"


class AddToCart(Page):
    """Put one thing, or one of each, into the cart.

    Parallel clicks change one key, ``cart``, so each is a transaction: it runs
    again on the newer cart when another request was faster, and nothing is lost.
    """

    async def post(self) -> None:
        sku = self.get_body_argument("sku")
        if sku != "all" and sku not in catalogue.PRODUCTS:
            raise HTTPError(HTTPStatus.BAD_REQUEST, "no such product")
        skus = list(catalogue.PRODUCTS) if sku == "all" else [sku]

        def put(data: dict[str, Any]) -> int:
            for each in skus:
                catalogue.add(data, each)
            return catalogue.count(data["cart"])

        items = await self.session.transact(put)
        names = "One of each" if sku == "all" else catalogue.PRODUCTS[sku].name
        self.done(f"{names}: in your cart.", items=items)


class ChangeCart(Page):
    """Change a line of the cart in place: nested changes are saved like any other."""

    def post(self) -> None:
        sku = self.get_body_argument("sku")
        cart = self.session.get("cart", {})
        if sku not in cart:
            self.done("That was no longer in your cart.", "info")
            return
        match self.get_body_argument("change"):
            case "more":
                catalogue.add(self.session, sku)
            case "less":
                catalogue.add(self.session, sku, -1)
            case "gift":
                cart[sku]["gift"] = not cart[sku]["gift"]
            case _:
                raise HTTPError(HTTPStatus.BAD_REQUEST, "no such change")
        self.redirect("/", status=HTTPStatus.SEE_OTHER)


class Login(Page):
    """Log in by any name: the session gets a new id and keeps the cart."""

    def get(self) -> None:
        self.show(self.get_query_argument("name", "")[:40])

    async def post(self) -> None:
        name = " ".join(self.get_body_argument("name", "").split())
        if not 0 < len(name) <= 40:
            self.set_status(HTTPStatus.BAD_REQUEST)
            self.show(name, "A name of one to forty characters, please.")
            return
        agent = self.request.headers.get("User-Agent", "")
        await self.session.login(name, label=device_of(agent))
        if self.get_body_argument("remember", None):
            self.session.remember(True)
            self.session.set_idle_timeout(REMEMBERED)
        else:
            self.session.remember(False)
            self.session.set_idle_timeout(None)
        self.session.flash(f"Welcome, {name}! Your session has a new id.", "success")
        self.redirect(self.next_page(), status=HTTPStatus.SEE_OTHER)

    def show(self, name: str = "", problem: str | None = None) -> None:
        self.render(
            "login.html",
            flashes=self.session.flashes(),
            name=name,
            problem=problem,
            next_page=self.next_page(),
            days=REMEMBERED.days,
        )

    def next_page(self) -> str:
        """Return where to go after the login: a path of this shop, nowhere else."""
        page = self.get_argument("next", "/")
        return page if re.fullmatch(r"/(?![/\\])[\x21-\x7e]*", page) else "/"


class Logout(Page):
    """Destroy the session: when the answer is there, it is gone from the store."""

    # Ending a session needs none of its data. Loaded first, it could not end while
    # the store is away; so the browser forgets it at once, whatever the store says.
    session_load = "lazy"
    outage = (
        "Your log-out could not be confirmed",
        "This browser is logged out. The session itself ends as soon as its store "
        "answers again.",
    )

    async def post(self) -> None:
        await self.session.logout()
        # A flash message would begin a new session only to say that the old is gone.
        self.redirect("/?logged-out=1", status=HTTPStatus.SEE_OTHER)


class EndDevice(Page):
    """End one of the user's other sessions, which the list on the page names."""

    @authenticated
    async def post(self) -> None:
        manager = SessionManager.of(self)
        ended = await manager.end(self.current_user, self.get_body_argument("handle"))
        self.done("That device is logged out." if ended else "It was logged out.")


class EndOtherDevices(Page):
    """End all of the user's sessions but this one, which gets a new id."""

    @authenticated
    async def post(self) -> None:
        await self.session.revoke_others()
        self.done("You are logged out everywhere else. This session has a new id.")


class Regenerate(Page):
    """Give the session a new id and keep its data; the old id is dead."""

    async def post(self) -> None:
        if self.session.id is None:
            self.done("There is no session yet. Put something into your cart.", "info")
            return
        await self.session.regenerate()
        self.done("Your session has a new id. The old one is not accepted any more.")


class Slow(Page):
    """Take three seconds, then change the session that others changed meanwhile."""

    async def post(self) -> None:
        before = self.session.get("slow_requests", 0)
        await asyncio.sleep(SLOW_SECONDS)
        # This request loaded the session three seconds ago. It saves only the key
        # it changed, so a cart filled in the meantime stays as it is.
        self.session["slow_requests"] = before + 1
        self.done("The slow request is done. What you did meanwhile is still here.")


class Orders(Page):
    """The orders of who is logged in."""

    @authenticated
    def get(self) -> None:
        self.render(
            "orders.html",
            orders=self.session.get("orders", []),
            count=catalogue.count,
            flashes=self.session.flashes(),
        )

    def post(self) -> None:
        """Turn the cart into an order; log in first, and the cart comes along."""
        if not self.current_user:
            self.session.flash("Log in to order. Your cart comes along.", "info")
            self.redirect("/login?" + urlencode({"next": "/"}), status=303)
            return
        cart = self.session.pop("cart", None)
        if not cart:
            self.done("Your cart is empty.", "info")
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        order = {"at": now, "cents": catalogue.total(cart), "cart": cart}
        self.session.setdefault("orders", []).append(order)
        del self.session["orders"][:-10]
        self.session.flash("Ordered. (Nothing will be sent: it is a demo.)", "success")
        self.redirect("/orders", status=HTTPStatus.SEE_OTHER)


class NotFound(Page):
    """Any other address. It asks for no session, so none is loaded."""

    session_load = "off"

    def check_xsrf_cookie(self) -> None:
        """Ask for no token: a POST to nowhere is a 404, too."""

    async def prepare(self) -> None:
        raise HTTPError(HTTPStatus.NOT_FOUND)


def price(cents: int) -> str:
    return f"€ {cents // 100}.{cents % 100:02}"


def explain(status: int) -> tuple[str, str]:
    """Say in a visitor's words what went wrong: a title and what to do."""
    if status == HTTPStatus.NOT_FOUND:
        return "There is no such page", "The shop is where it always was."
    if status == HTTPStatus.FORBIDDEN:
        return (
            "That form was not from here, or too old",
            "Nothing was changed. Go back to the shop and try again.",
        )
    if status == HTTPStatus.CONFLICT:
        return (
            "Your session was ended elsewhere",
            "Nothing was changed. Log in again, or begin a new session.",
        )
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return "We did not understand that", "Nothing was changed."
    return "Something broke", "What you just did was not saved. The log says why."


ROUTES = [
    (r"/", Shop),
    (r"/cart/add", AddToCart),
    (r"/cart/change", ChangeCart),
    (r"/login", Login),
    (r"/logout", Logout),
    (r"/devices/end", EndDevice),
    (r"/devices/end-others", EndOtherDevices),
    (r"/session/regenerate", Regenerate),
    (r"/session/status", SessionStatusHandler),
    (r"/slow", Slow),
    (r"/orders", Orders),
]
