"""MemcachedStore where memcached speaks TLS: who is trusted, and who is let in."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import ssl

import pytest

from tornado_mcsession import MemcachedStore, StoreRejected, StoreUnavailable
from tornado_mcsession.testing.contract import (
    OPERATIONS,
    TTL,
    LoopContract,
    ValueContract,
)

from ..support.pages import page
from ..support.processes import LOOPBACKS, Process, find_server, free_port
from ..support.tls import tls_url
from .recording import RecordingProxy

pytestmark = pytest.mark.integration

DOCUMENT = page("tls.md")
SECRET = "pa55word"


class Wiretap(RecordingProxy):
    """Sees what passes to the server."""

    @property
    def seen(self) -> bytes:
        return b"".join(self._pieces)


def everything(error: BaseException | None) -> str:
    """All that an error and its causes say."""
    said = ""
    while error is not None:
        said += f"{error!r} {error} {vars(error)}"
        error = error.__cause__ or error.__context__
    return said


async def outage(awaitable) -> StoreUnavailable:
    """The outage that ``awaitable`` ends with, which shows nothing of a session."""
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable) as raised:
            await awaitable
    said = everything(raised.value)
    assert "key" not in said
    assert "value" not in said
    assert SECRET not in said
    return raised.value


async def both_ways(store: MemcachedStore) -> None:
    """The store works."""
    await store.delete("works")
    assert await store.add("works", b"1", TTL)
    assert (await store.get("works")).data == b"1"


class TestTLSStore(ValueContract, LoopContract):
    """One real memcached that speaks TLS keeps the contract of every store."""

    @pytest.fixture(autouse=True)
    def _servers(self, tls_memcached):
        self.url = tls_memcached.url + "&timeout=10"

    def make_store(self):
        return MemcachedStore.from_url(self.url)


@pytest.mark.gen_test
async def test_nobody_on_the_way_reads_along(
    tls_memcached, memcached, certificates, connect
):
    """Key, value and password pass a network in clear without TLS, and not with it."""
    for server, is_clear in ((memcached, True), (tls_memcached, False)):
        with Wiretap(server.port) as network:
            url = tls_url(
                network.port,
                tls_ca=certificates.ca,
                username="me",
                password=SECRET,
            )
            if is_clear:
                url = f"{network.url}?username=me&password={SECRET}"
            store = connect(url)
            assert await store.add("the-key", b"the-value", TTL)
            assert await store.delete("the-key")
            assert len(network.seen) > 50
            for secret in (b"the-key", b"the-value", SECRET.encode()):
                assert (secret in network.seen) == is_clear


@pytest.mark.gen_test
@pytest.mark.parametrize("host", ["localhost", *LOOPBACKS])
async def test_a_server_is_known_by_each_of_its_names(
    tls_memcached_factory, certificates, connect, host
):
    """A certificate for a host's name and its addresses serves all of them."""
    server = tls_memcached_factory(*(("-l", "::1") if host == "[::1]" else ()))
    await both_ways(connect(tls_url(server.port, host=host, tls_ca=certificates.ca)))


@pytest.mark.gen_test
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("shown", "trusted", "reason"),
    [
        ("server", "other_ca", "self-signed certificate in certificate chain"),
        ("server", None, "self-signed certificate in certificate chain"),
        ("expired", "ca", "certificate has expired"),
        ("elsewhere", "ca", "IP address mismatch"),
    ],
    ids=["other authority", "system's authorities", "expired", "other host"],
)
async def test_a_server_that_is_not_trusted_is_told_nothing(
    tls_memcached_factory, certificates, connect, operation, shown, trusted, reason
):
    """A certificate that does not fit is an outage that says why; nothing is sent."""
    server = tls_memcached_factory(pair=getattr(certificates, shown))
    options = {"username": "me", "password": SECRET, "timeout": 10}
    if trusted is not None:
        options["tls_ca"] = getattr(certificates, trusted)
    store = connect(tls_url(server.port, **options))
    error = await outage(OPERATIONS[operation](store, "key"))
    assert "certificate is not accepted" in error.reason
    assert reason in error.reason
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert not error.outcome_unknown
    counters = server.stats()
    assert {counters[name] for name in ("cmd_set", "cmd_get", "auth_cmds")} == {"0"}


@pytest.mark.gen_test
async def test_another_name_than_the_certificates_is_told(
    tls_memcached_factory, certificates, connect
):
    """A server that is asked for by a name its certificate lacks is not trusted."""
    server = tls_memcached_factory(pair=certificates.elsewhere)
    store = connect(tls_url(server.port, host="localhost", tls_ca=certificates.ca))
    error = await outage(store.get("key"))
    assert "not valid for 'localhost'" in error.reason


@pytest.mark.gen_test
async def test_tls_towards_a_plain_server_is_an_outage(
    memcached, certificates, connect
):
    """A server that speaks no TLS is told as such, and is sent no key."""
    store = connect(tls_url(memcached.port, tls_ca=certificates.ca))
    for operation in OPERATIONS.values():
        error = await outage(operation(store, "key"))
        assert not error.outcome_unknown
    await store.close()
    store = connect(tls_url(memcached.port, tls_ca=certificates.ca))
    error = await outage(store.add("key", b"value", TTL))
    assert "does the node speak TLS?" in error.reason
    assert memcached.keys() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("credentials", ["", f"me:{SECRET}@"])
async def test_no_tls_towards_a_server_with_tls_is_an_outage(
    tls_memcached, connect, credentials
):
    """A server that wants TLS closes a plain connection, which is never a miss."""
    for operation in OPERATIONS.values():
        store = connect(f"memcached://{credentials}127.0.0.1:{tls_memcached.port}")
        error = await outage(operation(store, "key"))
        assert "connection" in error.reason


@pytest.mark.gen_test
async def test_a_client_that_is_demanded_a_certificate_shows_it(
    tls_memcached_factory, certificates, connect
):
    """Where memcached demands a certificate, that of its authority is let in."""
    server = tls_memcached_factory(demands_client=True)
    pair = certificates.client
    store = connect(f"{server.url}&tls_cert={pair.cert}&tls_key={pair.key}")
    await both_ways(store)
    server.restart()
    await both_ways(store)


@pytest.mark.gen_test
@pytest.mark.parametrize("shown", [None, "stranger"])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_client_without_the_right_certificate_is_an_outage(
    tls_memcached_factory, certificates, connect, operation, shown
):
    """A client whom memcached refuses its TLS connection is told so, of TLS."""
    server = tls_memcached_factory(demands_client=True)
    url = server.url
    if shown is not None:
        pair = getattr(certificates, shown)
        url += f"&tls_cert={pair.cert}&tls_key={pair.key}"
    error = await outage(OPERATIONS[operation](connect(url), "key"))
    assert "TLS" in error.reason
    assert server.keys() == []


@pytest.mark.gen_test
async def test_a_password_over_tls(tls_memcached_factory, connect, tmp_path):
    """Each TLS connection authenticates; a wrong password is refused over TLS too."""
    users = tmp_path / "users"
    users.write_text(f"me:{SECRET}\n")
    server = tls_memcached_factory("-Y", str(users))
    store = connect(f"{server.url}&username=me&password={SECRET}")
    await both_ways(store)
    server.restart()
    await both_ways(store)
    for options in ("", "&username=me&password=wr0ng"):
        with pytest.raises(StoreRejected, match="authentication") as raised:
            await connect(server.url + options).get("key")
        assert "wr0ng" not in everything(raised.value)


@pytest.mark.gen_test
async def test_the_documentation_works_as_it_stands(certificates, connect, tmp_path):
    """The command of tls.md starts a server that its URL has sessions on."""
    text = DOCUMENT.read_text()
    (command,) = re.findall(r"```sh\n(.*?)```", text, re.S)
    (url,) = re.findall(r"```text\n(.*?)\n```", text, re.S)
    port = free_port()
    for place in (certificates.server, certificates.client):
        for file in (place.cert, place.key):
            shutil.copy(file, tmp_path)
    shutil.copy(certificates.ca, tmp_path)
    (tmp_path / "users").write_text("web:p@55word\n")
    places = {
        "/etc/memcached": str(tmp_path),
        "10.0.0.5": "127.0.0.1",
        "11211": str(port),
    }
    for usual, here in places.items():
        command, url = command.replace(usual, here), url.replace(usual, here)
    name, *arguments = shlex.split(command.replace("\\\n", ""))
    user = ["-u", "root"] if os.getuid() == 0 else []
    server = Process([find_server(name), *arguments, *user], port)
    try:
        await both_ways(connect(url))
    finally:
        server.kill()
