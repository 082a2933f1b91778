"""A memcached as docs/security.md starts it: it serves sessions, and little else."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import ssl
from pathlib import Path

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from tornado_mcsession import (
    MemcachedStore,
    SessionManager,
    SessionMixin,
    StoreRejected,
    StoreUnavailable,
)
from tornado_mcsession.__main__ import main
from tornado_mcsession.testing.contract import (
    OPERATIONS,
    LoopContract,
    ValueContract,
)

from ..support.browser import Browser
from ..support.memcached import Memcached
from ..support.pages import text_of
from ..support.tls import Certificates

pytestmark = pytest.mark.integration

DOCUMENT = text_of("security.md")
(COMMAND,) = re.findall(r"```sh\n(memcached .*?)```", DOCUMENT, re.S)
(URL,) = re.findall(r"```text\n(memcacheds:.*?)\n```", DOCUMENT, re.S)
# What differs between a machine of the documentation and this one.
ADDRESS = ["-l", "10.0.0.5", "-p", "11211"]
FILES = "/etc/memcached"

USER, PASSWORD = "web", "p@55word"
FORBIDDEN = {
    "metadump": b"lru_crawler metadump all",
    "cachedump": b"stats cachedump 2 100",
    "watch": b"watch fetchers mutations evictions",
    "flush": b"flush_all",
}
BINARY_FLUSH = b"\x80\x08" + bytes(22)


class HardenedMemcached(Memcached):
    """The memcached of docs/security.md, with its files in ``directory``."""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        for file in (
            certificates.ca,
            certificates.server.cert,
            certificates.server.key,
            certificates.client.cert,
            certificates.client.key,
        ):
            shutil.copy(file, directory)
        (directory / "users").write_text(f"{USER}:{PASSWORD}\n")
        self._directory = directory
        self._context = ssl.create_default_context(cafile=certificates.ca)
        name, *arguments = shlex.split(
            COMMAND.replace("\\\n", "").replace(FILES, str(directory))
        )
        assert (name, arguments[:4]) == ("memcached", ADDRESS)
        super().__init__(*arguments[4:])

    @property
    def url(self) -> str:
        """The URL of docs/security.md, as it is here."""
        here = URL.replace(FILES, str(self._directory))
        return here.replace("10.0.0.5:11211", f"127.0.0.1:{self.port}")

    @property
    def url_without_password(self) -> str:
        return re.sub(r"//.*@", "//", self.url)

    def connect(self, *, certificate: bool = True, password: bool = True):
        """A connection of somebody who has these of the application's secrets."""
        context = ssl.create_default_context(cafile=self._directory / "ca.pem")
        if certificate:
            pair = (self._directory / "client.pem", self._directory / "client.key")
            context.load_cert_chain(*pair)
        raw = socket.create_connection(self.server, 5)
        connection = context.wrap_socket(raw, server_hostname="127.0.0.1")
        if password:
            credentials = f"{USER} {PASSWORD}".encode()
            asked = b"set auth 0 0 %d\r\n%b\r\n" % (len(credentials), credentials)
            connection.sendall(asked)
            assert connection.recv(100) == b"STORED\r\n"
        return connection

    _connect = connect


@pytest.fixture
def hardened(tmp_path, certificates):
    """A memcached of a test's own, started by the command of docs/security.md."""
    server = HardenedMemcached(tmp_path, certificates)
    yield server
    server.close()


def first_answer(connection: socket.socket, command: bytes) -> bytes:
    """The first line that is sent back for ``command``."""
    with connection:
        connection.sendall(command)
        connection.settimeout(5)
        return connection.recv(1000).partition(b"\r\n")[0]


class TestHardenedStore(ValueContract, LoopContract):
    """A real memcached with all of it switched on keeps the contract of every store."""

    @pytest.fixture(autouse=True)
    def _servers(self, hardened):
        self.url = hardened.url + "&timeout=10"

    def make_store(self):
        return MemcachedStore.from_url(self.url)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_who_is_let_in_cannot_list_or_drop_sessions(hardened, memcached, name):
    """What an ordinary memcached does for everybody is refused to the application."""
    hardened.set("victim", b"1")
    command = FORBIDDEN[name] + b"\r\n"
    refused = first_answer(hardened.connect(), command)
    assert re.fullmatch(rb"(CLIENT_)?ERROR .*not allowed", refused)
    assert hardened.get("victim") == b"1"
    memcached.set("victim", b"1")
    ordinary = socket.create_connection(memcached.server, 5)
    assert b"not allowed" not in first_answer(ordinary, command)


def test_the_binary_protocol_is_off(hardened, memcached):
    """Its flush is neither obeyed nor answered, by which nobody passes the password."""
    hardened.set("victim", b"1")
    with hardened.connect(password=False) as connection:
        connection.sendall(BINARY_FLUSH)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(100)
    assert hardened.get("victim") == b"1"
    memcached.set("victim", b"1")
    ordinary = socket.create_connection(memcached.server, 5)
    assert first_answer(ordinary, BINARY_FLUSH).startswith(b"\x81\x08")
    assert memcached.get("victim") is None


@pytest.mark.parametrize(
    "command", [b"get victim", b"delete victim", b"stats", b"mn", b"cache_memlimit 8"]
)
def test_without_the_password_nothing_is_told(hardened, command):
    """A certificate alone reads, removes and changes nothing."""
    hardened.set("victim", b"1")
    told = first_answer(hardened.connect(password=False), command + b"\r\n")
    assert told == b"CLIENT_ERROR unauthenticated"
    assert hardened.get("victim") == b"1"


def test_without_the_certificate_nobody_is_asked_for_a_password(hardened):
    """A stranger's connection ends before anything is said."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        # TLS 1.3 tells the client only when it reads.
        first_answer(hardened.connect(certificate=False, password=False), b"mn\r\n")


def test_nothing_listens_on_udp(hardened):
    """A datagram to the port is answered by nobody, so it amplifies no attack."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.connect(hardened.server)
        stranger.send(b"\0\1\0\0\0\1\0\0stats\r\n")
        stranger.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            stranger.recv(1000)


@pytest.mark.gen_test
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_the_store_without_the_password_is_told_so(hardened, connect, operation):
    """A wrong URL is an error that says what is wrong; never a miss."""
    store = connect(hardened.url_without_password)
    with pytest.raises(StoreRejected, match="authentication"):
        await OPERATIONS[operation](store, "key")


@pytest.mark.gen_test
async def test_the_store_without_tls_is_told_so(hardened, connect):
    """Nor is an application that was not told of TLS shown an empty store."""
    store = connect(f"memcached://{USER}:p%4055word@127.0.0.1:{hardened.port}")
    with pytest.raises(StoreUnavailable):
        await store.get("key")


def test_the_doctor_is_content(hardened, capsys):
    """It can keep sessions, and there is nothing that everybody may do."""
    assert main(["doctor", hardened.url, "--json"]) == 0
    (node,) = json.loads(capsys.readouterr().out)["nodes"]
    assert node["authentication"] == "accepted"
    assert node["tls"]["protocol"] == "TLSv1.3"
    # The tests' own certificates end soon; nothing else is to be said.
    assert {remark["code"] for remark in node["remarks"]} == {"certificate-ends"}


# A whole site on it.


class Page(SessionMixin, RequestHandler):
    """Shows the session."""

    def get(self):
        self.write({"who": self.session.principal, **self.session})


class Change(Page):
    """Does to the session what the form says."""

    async def post(self, verb):
        session = self.session
        if verb == "buy":
            session.setdefault("cart", []).append(self.get_body_argument("item"))
        elif verb == "count":
            await session.transact(lambda data: data.update(n=data.get("n", 0) + 1))
        elif verb == "login":
            await session.login("ann")
        else:
            await getattr(session, verb)()
        self.redirect("/")


class RevokeAll(Page):
    """Logs a principal out everywhere."""

    async def post(self):
        await self.settings["session_manager"].revoke("ann")


@pytest.fixture
def app(hardened, io_loop):
    app = Application(
        [("/", Page), ("/all", RevokeAll), ("/(.+)", Change)], cookie_secret="s" * 43
    )
    manager = SessionManager(
        app,
        store=hardened.url + "&timeout=10",
        cookie={"name": "__Host-session"},
        encryption_keys=[b"k" * 32],
    )
    yield app
    io_loop.run_sync(manager.close)


@pytest.fixture
def behind_https(app):
    """The port of the site as a proxy that speaks https sees it."""
    server = HTTPServer(app, xheaders=True)
    listener, port = bind_unused_port()
    server.add_socket(listener)
    yield port
    server.stop()


def as_owner_of(cookie: str) -> dict[str, str]:
    return {"Cookie": f"__Host-session={cookie}"}


@pytest.mark.gen_test
async def test_a_whole_site_runs_on_it(behind_https, hardened):
    """Anonymous, counted, logged in, moved and logged out: each old id is dead."""
    browser = Browser(behind_https, secure=True)
    used = []
    for verb in ("buy", "count", "count", "login", "regenerate"):
        answer = await browser.post(f"/{verb}", form={"item": "book"}, follow=True)
        assert answer.status == 200
        used.append(browser.cookie("__Host-session").value)
    assert answer.json() == {"who": "ann", "cart": ["book"], "n": 2}
    assert len(dict.fromkeys(used)) == 3
    await browser.post("/logout")
    assert browser.cookie("__Host-session") is None
    for cookie in used:
        stolen = await browser.get("/", headers=as_owner_of(cookie))
        assert stolen.json() == {"who": None}


@pytest.mark.gen_test
async def test_a_principal_is_logged_out_everywhere_on_it(behind_https):
    """Two browsers of one principal are logged out by one call, and nobody else is."""
    ann, too, other = (Browser(behind_https, secure=True) for _ in range(3))
    await other.post("/buy", form={"item": "book"})
    for browser in (ann, too):
        await browser.post("/login", form={})
        assert (await browser.get("/")).json() == {"who": "ann"}
    assert (await other.post("/all", form={})).status == 200
    for browser in (ann, too):
        assert (await browser.get("/")).json() == {"who": None}
    assert (await other.get("/")).json() == {"who": None, "cart": ["book"]}
