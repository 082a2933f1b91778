"""The site of demo/deploy as its files deploy it, with other ports and folders."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlencode

from ..support.nginx import whole
from ..support.pages import ROOT
from ..support.processes import Process, find_server, free_port
from ..support.tls import Certificates

DEPLOY = ROOT / "demo" / "deploy"
LINGER = 1.2  # seconds that a process serves after SIGTERM; nginx closes sooner


def text_of(name: str) -> str:
    """A file of demo/deploy."""
    return (DEPLOY / name).read_text(encoding="utf-8")


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """``text`` with one for the other; each must be there."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


class Shop:
    """A process of the shop, on a socket that outlives it, as systemd's do."""

    def __init__(self, store: str, linger: float = LINGER) -> None:
        self.port = free_port()
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self._environment = {
            "STORE": store,
            "COOKIE_SECRET": "of these tests",
            "LINGER": str(linger),
        }
        self.start()

    def start(self) -> None:
        """Start it as shop@.service does; requests wait until it accepts."""
        # systemd hands over the socket as number 3.
        script = 'exec 3<&"$0"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        number = str(self._socket.fileno())
        command = ["bash", "-c", script, number, sys.executable, DEPLOY / "shop.py"]
        self._process = Process(
            list(map(str, command)),
            self.port,
            pass_fds=[self._socket.fileno()],
            env={**os.environ, **self._environment},
        )

    def wait_until_ready(self) -> None:
        """Ask /readyz, which waits in the socket's queue until the process accepts."""
        deadline = time.monotonic() + 20
        while asked(self.port, "/readyz")[0] != 200:
            assert time.monotonic() < deadline, self._process.output()

    def ask_to_end(self) -> None:
        """Send SIGTERM, and do not wait."""
        os.kill(self._process.pid, signal.SIGTERM)

    def wait(self) -> int:
        """Wait for its end; return its exit status."""
        return self._process.terminate(timeout=15)

    def restart(self) -> None:
        """Do what ``systemctl restart`` does."""
        assert self._process.terminate(timeout=15) == 0
        self.start()
        self.wait_until_ready()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.kill()
        self._socket.close()


def asked(port: int, path: str) -> tuple[int, str]:
    """The status and the body of a response to a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def nginx(folder: Path, certificates: Certificates, ports: tuple[int, int]) -> Process:
    """nginx with demo/deploy/nginx.conf, on a port of this run's own."""
    port, plain = free_port(), free_port()
    configuration = replaced(
        text_of("nginx.conf"),
        ("    listen [::]:80;\n", ""),
        ("    listen [::]:443 ssl;\n", ""),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/shop/fullchain.pem", str(certificates.server.cert)),
        ("/etc/ssl/shop/key.pem", str(certificates.server.key)),
        ("127.0.0.1:8001", f"127.0.0.1:{ports[0]}"),
        ("127.0.0.1:8002", f"127.0.0.1:{ports[1]}"),
        ("keepalive_timeout 4s;", "keepalive_timeout 1s;"),
    )
    (folder / "shop.conf").write_text(configuration)
    around = whole(folder, f"include {folder}/shop.conf;")
    (folder / "nginx.conf").write_text(around)
    options = ["-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    return Process([find_server("nginx"), *options], port)


class Visitor(threading.Thread):
    """Fills a cart through nginx until told to stop, and keeps a record of it."""

    def __init__(self, port: int, certificates: Certificates) -> None:
        super().__init__()
        self.failures: list[str] = []
        self.requests = 0
        self.ports: set[str] = set()
        self.set_cookies: list[str] = []
        self.items: int | None = 0  # None: the response to a POST was lost
        self._cookies: dict[str, str] = {}
        self._end = threading.Event()
        context = ssl.create_default_context(cafile=str(certificates.ca))
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=20, context=context
        )

    def run(self) -> None:
        with closing(self._connection):
            while not self._end.is_set():
                self.visit()

    def stop(self) -> None:
        self._end.set()
        self.join()

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self._cookies.items())

    def visit(self) -> None:
        """Look at the cart, and put one thing into it."""
        if (page := self._ask("GET")) is None:
            return
        (token,) = re.findall(r'name="_xsrf" value="([^"]*)"', page)
        assert self.items is not None
        self.items += 1
        if self._ask("POST", urlencode({"_xsrf": token})) is None:
            self.items = None

    def _ask(self, method: str, body: str | None = None) -> str | None:
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self.requests += 1
        try:
            self._connection.request(method, "/", body, headers)
            response = self._connection.getresponse()
            page = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(f"{method}: {error!r}")
            self._connection.close()
            return None
        for line in response.headers.get_all("Set-Cookie") or []:
            self.set_cookies.append(line)
            name, _, value = line.partition(";")[0].partition("=")
            self._cookies[name] = value
        shown = re.match(r"<p>(\d+) in your cart, port (\d+)</p>", page)
        if response.status != 200 or shown is None:
            self.failures.append(f"{method}: {response.status} {page[:100]}")
            return None
        self.ports.add(shown[2])
        if self.items is None:
            # An empty cart would be another session: this visitor has filled one.
            self.items = int(shown[1]) or -1
        if int(shown[1]) != self.items:
            self.failures.append(f"{method}: {shown[1]} items, not {self.items}")
        return page


@contextmanager
def visitors(
    count: int, port: int, certificates: Certificates
) -> Iterator[list[Visitor]]:
    """So many people who use the site at the same time."""
    people = [Visitor(port, certificates) for _ in range(count)]
    for each in people:
        each.start()
    try:
        yield people
    finally:
        for each in people:
            each.stop()
