"""The tests' own servers, network and browser do what other tests trust them to."""

from __future__ import annotations

import math
import socket
import time

import pytest
import tornado.web

from .browser import Browser, Cookie, CookieJar
from .http import RawConnection
from .nginx import Nginx
from .processes import free_port


class Echo(tornado.web.RequestHandler):
    async def get(self):
        if self.get_argument("stream", None):
            self.write("one")
            await self.flush()
            self.write("two")
            return
        self.write({"cookie": self.request.headers.get("Cookie", "")})

    def post(self):
        for line in self.get_arguments("cookie"):
            self.add_header("Set-Cookie", line)
        if self.get_argument("then", None):
            self.redirect(self.get_argument("then"))


@pytest.fixture
def app():
    """Answers with the cookies it got, and sets those it is told."""
    return tornado.web.Application([("/.*", Echo)])


@pytest.mark.integration
def test_memcached_shows_keys_values_and_time_left(memcached):
    """What was stored can be seen by key, with its value and its time left."""
    memcached.set("brief", b"1\r\nMN\r\n2", ttl=100)
    memcached.set("endless%", b"")
    assert memcached.keys() == ["brief", "endless%"]
    assert memcached.get("brief") == b"1\r\nMN\r\n2"
    assert memcached.get("endless%") == b""
    assert 98 <= memcached.ttl("brief") <= 100
    assert memcached.ttl("endless%") == math.inf
    assert memcached.ttl("missing") is None
    assert memcached.get("missing") is None
    assert memcached.delete("brief")
    assert not memcached.delete("brief")
    assert int(memcached.stats()["cmd_set"]) >= 2


@pytest.mark.integration
def test_memcached_is_empty_for_each_test(memcached):
    """A flushed item is neither listed nor found."""
    memcached.set("a", b"1")
    memcached.flush()
    assert memcached.keys() == []
    assert memcached.get("a") is None


@pytest.mark.integration
def test_own_memcached_can_hang_and_go_on(own_memcached):
    """While it is stopped it accepts and is silent; then it answers what came."""
    own_memcached.stop()
    with socket.create_connection(own_memcached.server, 5) as connection:
        connection.sendall(b"version\r\n")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        own_memcached.cont()
        connection.settimeout(5)
        assert connection.recv(100).startswith(b"VERSION")


@pytest.mark.integration
def test_own_memcached_can_die_and_come_back(own_memcached):
    """Killed, it refuses connections; restarted, it is empty on the same port."""
    own_memcached.set("a", b"1")
    own_memcached.kill()
    with pytest.raises(ConnectionRefusedError):
        own_memcached.command(b"version")
    own_memcached.restart()
    assert own_memcached.keys() == []


@pytest.mark.integration
def test_memcached_takes_arguments(memcached_factory):
    """Arguments of a test's own reach memcached."""
    server = memcached_factory("-C")
    assert b"cas_enabled no" in server.command(b"stats settings")


def ask(proxy, size=100, timeout=5.0):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout) as connection:
        connection.sendall(b"version\r\n")
        return connection.recv(size)


@pytest.mark.integration
def test_proxy_passes_delays_drips_and_lies(proxy):
    """Each fault does what its name says, and ends with the next."""
    assert ask(proxy).endswith(b"\r\n")
    proxy.delay(0.1)
    start = time.monotonic()
    assert ask(proxy).startswith(b"VERSION")
    assert time.monotonic() - start >= 0.1
    proxy.drip(1, 0.2)
    assert ask(proxy) in (b"V", b"VE", b"VER")
    proxy.garbage(b"\x00nonsense\r\n")
    assert ask(proxy) == b"\x00nonsense\r\n"
    proxy.cut_after(3)
    assert ask(proxy) == b"VER"
    proxy.pass_through()
    assert ask(proxy).startswith(b"VERSION")
    assert proxy.connections == 6


@pytest.mark.integration
def test_proxy_cuts_open_connections(proxy):
    """A cut ends what is open and what comes."""
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as connection:
        connection.sendall(b"version\r\n")
        assert connection.recv(100)
        proxy.cut()
        assert connection.recv(100) == b""
    try:
        assert ask(proxy) == b""
    except ConnectionError:
        pass


@pytest.mark.integration
def test_proxy_hangs_then_delivers(memcached, proxy):
    """What was sent into a hanging network arrives when it heals."""
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as connection:
        connection.sendall(b"set a 0 0 1\r\n1\r\n")
        assert connection.recv(100) == b"STORED\r\n"
        proxy.hang()
        connection.sendall(b"set a 0 0 1\r\n2\r\n")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        assert memcached.get("a") == b"1"
        proxy.pass_through()
        connection.settimeout(5)
        assert connection.recv(100) == b"STORED\r\n"
        assert memcached.get("a") == b"2"


@pytest.mark.integration
def test_proxy_loses_answers_not_requests(memcached, proxy):
    """A write whose answer is lost has been done."""
    proxy.lose_answers()
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as connection:
        connection.sendall(b"set a 0 0 1\r\n1\r\n")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(100)
    assert memcached.get("a") == b"1"


@pytest.mark.gen_test
async def test_raw_connection_pipelines(http_server, http_port):
    """Two requests in one packet give two answers on one connection."""
    async with await RawConnection.open(http_port) as connection:
        await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: n=1\r\n\r\n" * 2)
        for _ in range(2):
            response = await connection.receive()
            assert response.status == 200
            assert response.json() == {"cookie": "n=1"}
        assert not await connection.is_closed(timeout=0.05)


@pytest.mark.gen_test
async def test_raw_connection_reads_old_and_headless_answers(http_server, http_port):
    """HTTP/1.0 answers end with the connection, those to HEAD have no body."""
    async with await RawConnection.open(http_port) as connection:
        assert (await connection.request("HEAD", "/")).status == 405
        await connection.send(b"GET /?stream=1 HTTP/1.0\r\n\r\n")
        assert (await connection.receive()).body == b"onetwo"
        assert await connection.is_closed()


@pytest.mark.gen_test
async def test_raw_connection_sees_each_flushed_piece(http_server, http_port):
    """The pieces of a chunked answer arrive one by one."""
    async with await RawConnection.open(http_port) as connection:
        await connection.send(b"GET /?stream=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await connection.receive_head()
        pieces = [piece async for piece in connection.receive_body(head)]
        assert pieces == [b"one", b"two"]
        assert (await connection.request("GET", "/")).json() == {"cookie": ""}


@pytest.mark.gen_test
async def test_browser_keeps_cookies_over_redirects(browser):
    """A cookie set on the way of a redirect goes with the next request."""
    form = {"cookie": "a=1; Path=/; HttpOnly", "then": "/next?x=1"}
    response = await browser.post("/set", form=form, follow=True)
    assert response.json() == {"cookie": "a=1"}
    assert browser.cookie("a").attributes == {"path": "/", "httponly": ""}
    await browser.post("/set", form={"cookie": "a=; Path=/; Max-Age=0"})
    assert browser.cookie("a") is None
    assert (await browser.get("/")).json() == {"cookie": ""}


@pytest.mark.parametrize(
    ("line", "secure", "kept"),
    [
        ("a=1; Path=/", False, True),
        ("a=1; Path=/; Secure", False, False),
        ("a=1; Path=/; Secure", True, True),
        ("a=1; Path=/app", False, True),
        ("a=1; Path=/ap", False, False),
        ("a=1", False, True),
        ("a=1; Domain=example.test; Path=/", False, True),
        ("a=1; Domain=other.test; Path=/", False, False),
        ("a=1; Path=/; Max-Age=0", False, False),
        ("a=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", False, False),
        ("__Host-a=1; Path=/; Secure", True, True),
        ("__Host-a=1; Path=/app; Secure", True, False),
        ("__Host-a=1; Path=/; Secure; Domain=example.test", True, False),
        ("__Secure-a=1; Path=/", True, False),
        ("a=1; Path=/; SameSite=None", True, False),
        ("a=1; Path=/; SameSite=None; Secure", True, True),
    ],
)
def test_cookie_jar_keeps_what_a_browser_keeps(line, secure, kept):
    """Path, Domain, Secure, prefixes and expiry decide as in a browser."""
    jar = CookieJar()
    jar.store(line, "www.example.test", "/app/set", secure)
    found = jar.cookies("www.example.test", "/app/get", secure)
    assert found == ([Cookie.parse(line)] if kept else [])


def test_cookie_jar_forgets_in_time(clock):
    """Max-Age ends a cookie, a closed browser those without; deletion is exact."""
    jar = CookieJar(clock)
    jar.store("brief=1; Path=/; Max-Age=10", "h", "/", False)
    jar.store("session=1; Path=/", "h", "/", False)
    jar.store("long=1; Path=/; Max-Age=100", "h", "/", False)
    jar.store("long=; Path=/other; Max-Age=0", "h", "/", False)
    clock.advance(10)
    names = [cookie.name for cookie in jar.cookies("h", "/", False)]
    assert names == ["session", "long"]
    jar.forget_session_cookies()
    assert [cookie.name for cookie in jar.cookies("h", "/", False)] == ["long"]


@pytest.mark.integration
@pytest.mark.gen_test
async def test_nginx_asks_each_upstream_in_turn(
    memcached, http_port, browser, tmp_path
):
    """Of two upstreams each gets every other request; one that is down is a 502."""
    nginx = Nginx([http_port, free_port()], tmp_path)
    try:
        through = Browser(nginx.port)
        statuses = [(await through.get("/")).status for _ in range(4)]
    finally:
        nginx.terminate()
    assert statuses in ([200, 502, 200, 502], [502, 200, 502, 200])
