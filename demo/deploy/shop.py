"""A site as it is deployed: settings from the environment, probes, and a clean end.

memcached -u nobody -l 127.0.0.1 -p 11211 &
COOKIE_SECRET=$(openssl rand -hex 32) python demo/deploy/shop.py
curl -i http://127.0.0.1:8000/readyz

    STORE          where sessions are kept (memcached://127.0.0.1:11211)
    COOKIE_SECRET  signs the cookies; the same in every process
    ADDRESS, PORT  where to listen (127.0.0.1, 8000), unless systemd hands over a socket
    LINGER         seconds to go on serving after SIGTERM (5), see main()
"""

import asyncio
import logging
import os
import signal
import socket
import weakref

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from tornado_mcsession import SessionManager, SessionMixin, access_log

LINGER = float(os.environ.get("LINGER", "5"))
HANDLERS_END, SAVES_END = 20, 5  # seconds that they get at the end


class Page(SessionMixin, RequestHandler):
    """What all pages of the site have in common."""

    async def prepare(self) -> None:
        self.settings["under_way"].add(self)
        if self.settings["ending"].is_set():
            self.set_header("Connection", "close")
        await super().prepare()

    def on_finish(self) -> None:
        self.settings["under_way"].discard(self)
        super().on_finish()


class Cart(Page):
    """Counts what is in a visitor's cart."""

    def get(self) -> None:
        self.show(self.session.get("items", 0))

    async def post(self) -> None:
        def add(data: dict) -> int:
            data["items"] = data.get("items", 0) + 1
            return data["items"]

        self.show(await self.session.transact(add))

    def show(self, items: int) -> None:
        self.write(f"<p>{items} in your cart, port {self.settings['port']}</p>")
        self.write(f"<form method=post>{self.xsrf_form_html()}<button>Add</button>")


class News(SessionMixin, WebSocketHandler):
    """A socket that knows whose it is."""

    def open(self) -> None:
        self.write_message(f"{self.session.get('items', 0)} in your cart")


class Alive(RequestHandler):
    """Says that the process is up. It asks nobody: memcached's fault is not its own."""

    def get(self) -> None:
        self.write("up\n")


class Ready(RequestHandler):
    """Says whether this process should get requests."""

    async def get(self) -> None:
        health = await SessionManager.of(self).health()
        if self.settings["ending"].is_set() or health["status"] == "down":
            self.set_status(503)
        self.set_header("Connection", "close")
        self.write(health)


def make_app(port: int) -> Application:
    """Return the site. Wrong settings are an error here, before anybody visits it."""
    app = Application(
        [("/", Cart), ("/news", News), ("/healthz", Alive), ("/readyz", Ready)],
        cookie_secret=os.environ["COOKIE_SECRET"],
        xsrf_cookies=True,
        log_function=access_log(),
        session={"store": os.environ.get("STORE", "memcached://127.0.0.1:11211")},
        port=port,
        ending=asyncio.Event(),
        under_way=weakref.WeakSet(),  # requests
    )
    SessionManager(app)
    return app


def listening() -> list[socket.socket]:
    """Return systemd's socket, which outlives this process, or one of our own."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        handed_over = socket.socket(fileno=3)
        handed_over.setblocking(False)
        return [handed_over]
    address = os.environ.get("ADDRESS", "127.0.0.1")
    return bind_sockets(int(os.environ.get("PORT", "8000")), address)


async def main() -> None:
    logging.basicConfig(level=logging.INFO)
    sockets = listening()
    app = make_app(sockets[0].getsockname()[1])
    server = HTTPServer(app, xheaders=True)  # behind a proxy alone
    server.add_sockets(sockets)
    ending = app.settings["ending"]
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    await ending.wait()
    # Go on serving while the load balancer finds out: /readyz is a 503 now, and each
    # response closes its connection. nginx closes those that nobody uses meanwhile.
    await asyncio.sleep(LINGER)
    server.stop()
    await finished(app)
    manager = SessionManager.of(app)
    if not await manager.drain(SAVES_END):
        logging.warning("some saves were not done within %d s", SAVES_END)
    await server.close_all_connections()
    await manager.close()


async def finished(app: Application) -> None:
    """Wait until no handler has been at work for a moment, with a deadline."""
    loop = asyncio.get_running_loop()
    end, idle_since = loop.time() + HANDLERS_END, loop.time()
    while loop.time() < min(end, idle_since + 0.2):
        await asyncio.sleep(0.05)
        if app.settings["under_way"]:
            idle_since = loop.time()


if __name__ == "__main__":
    asyncio.run(main())
