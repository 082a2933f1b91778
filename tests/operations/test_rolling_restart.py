"""The files of demo/deploy keep their promises: nginx in front of two processes."""

from __future__ import annotations

import http.client
import os
import ssl
import sys
import time
from contextlib import closing

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from ..support.memcached import Memcached
from ..support.processes import Process, free_port
from ..support.tls import Certificates
from .deployed import DEPLOY, Shop, Visitor, asked, visitors

pytestmark = [pytest.mark.integration, pytest.mark.end_to_end]


def response(
    port: int, certificates: Certificates, path: str = "/"
) -> tuple[http.client.HTTPResponse, bytes]:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=20, context=context
    )
    with closing(connection):
        connection.request("GET", path)
        found = connection.getresponse()
        return found, found.read()


def test_a_rolling_restart_loses_nothing(
    shops: tuple[Shop, Shop], balancer: Process, certificates: Certificates
) -> None:
    """Under load, both processes restart; no request fails, and each cart is exact."""
    with visitors(6, balancer.port, certificates) as people:
        for shop in shops:
            shop.restart()
        go_on(people)
    assert [each.failures for each in people] == [[]] * 6
    assert set().union(*(each.ports for each in people)) == {
        str(shop.port) for shop in shops
    }


def test_a_process_that_ends_still_serves(own_memcached: Memcached) -> None:
    """It is not ready any more, and each response closes its connection."""
    shop = Shop(own_memcached.url, linger=4)
    connection = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=10)
    with closing(shop), closing(connection):
        connection.request("GET", "/")
        connection.getresponse().read()
        kept_open = connection.sock
        assert kept_open is not None
        shop.ask_to_end()
        while asked(shop.port, "/readyz")[0] == 200:
            pass  # the signal is on its way
        connection.request("GET", "/")
        last = connection.getresponse()
        assert (last.status, last.headers["Connection"]) == (200, "close")
        assert b"0 in your cart" in last.read()
        assert asked(shop.port, "/readyz")[0] == 503
        assert shop.wait() == 0


def test_without_systemd_the_shop_opens_a_socket(own_memcached: Memcached) -> None:
    """As in a container: where ADDRESS and PORT say."""
    port = free_port()
    environment = {"STORE": own_memcached.url, "COOKIE_SECRET": "of these tests"}
    process = Process(
        [sys.executable, str(DEPLOY / "shop.py")],
        port,
        env={**os.environ, **environment, "PORT": str(port), "LINGER": "0"},
    )
    assert asked(port, "/readyz")[0] == 200
    assert process.terminate() == 0


def test_a_process_that_is_killed_logs_nobody_out(
    shops: tuple[Shop, Shop], balancer: Process, certificates: Certificates
) -> None:
    """Each visitor loses at most the request under way, and has the same cart."""
    with visitors(4, balancer.port, certificates) as people:
        go_on(people)
        shops[0].kill()
        shops[0].start()
        shops[0].wait_until_ready()
        go_on(people)
    assert all(len(each.failures) <= 1 for each in people), people[0].failures
    assert not any("items, not" in line for each in people for line in each.failures)


@pytest.mark.gen_test
async def test_pages_and_sockets_know_that_they_came_by_https(
    shops: tuple[Shop, Shop], balancer: Process, certificates: Certificates
) -> None:
    """The session's cookie is Secure, and a WebSocket has the visitor's session."""
    with visitors(1, balancer.port, certificates) as (visitor,):
        go_on([visitor])
    (line,) = [x for x in visitor.set_cookies if x.startswith("session=")]
    assert "secure" in line.lower().split("; ")
    request = HTTPRequest(
        f"wss://127.0.0.1:{balancer.port}/news",
        ca_certs=str(certificates.ca),
        headers={"Cookie": visitor.cookie},
    )
    news = await websocket_connect(request)
    assert await news.read_message() == f"{visitor.items} in your cart"
    news.close()


def test_nobody_outside_sees_the_probes(
    shops: tuple[Shop, Shop], balancer: Process, certificates: Certificates
) -> None:
    """They are there for this machine, and a 404 through nginx."""
    for path in ("/healthz", "/readyz"):
        assert response(balancer.port, certificates, path)[0].status == 404
        assert asked(shops[0].port, path)[0] == 200


def test_a_site_that_is_down_is_not_remembered(
    shops: tuple[Shop, Shop], balancer: Process, certificates: Certificates
) -> None:
    """nginx's own error page is a 503 that nothing may store."""
    for shop in shops:
        shop.close()
    page, body = response(balancer.port, certificates)
    assert page.status == 503
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Retry-After"] == "5"
    assert body == b"Please try again in a moment.\n"


@pytest.mark.parametrize("store_timeout", [0.5])
def test_an_outage_of_memcached_takes_no_process_out(
    shops: tuple[Shop, Shop],
    balancer: Process,
    certificates: Certificates,
    own_memcached: Memcached,
) -> None:
    """It is a 503 of the shop; the process is alive, and not ready."""
    with visitors(1, balancer.port, certificates) as (visitor,):
        go_on([visitor])
        own_memcached.hang()
        failed = len(visitor.failures)
        while len(visitor.failures) < failed + 6:
            visitor.join(0.01)
        assert asked(shops[0].port, "/healthz")[0] == 200
        assert asked(shops[0].port, "/readyz")[0] == 503
        own_memcached.resume()
        shops[0].wait_until_ready()
        shops[1].wait_until_ready()
        failed = len(visitor.failures)
        go_on([visitor])
    assert visitor.failures[failed + 1 :] == []
    assert all(" 503 " in line for line in visitor.failures), visitor.failures


def go_on(people: list[Visitor]) -> None:
    """Wait until each has made twenty more requests."""
    marks = [each.requests + 20 for each in people]
    deadline = time.monotonic() + 20
    while any(each.requests < mark for each, mark in zip(people, marks, strict=True)):
        assert time.monotonic() < deadline, [each.failures for each in people]
        people[0].join(0.01)
