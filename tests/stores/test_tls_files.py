"""The files and the context that MemcachedStore's TLS is made of."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tornado_mcsession import MemcachedStore

from ..support.tls import LOCAL, Authority, Pair, TLSMemcached, tls_url
from .test_tls import both_ways, outage

pytestmark = pytest.mark.integration


@pytest.mark.gen_test
async def test_key_and_certificate_may_share_a_file(
    tls_memcached_factory, certificates, connect, tmp_path
):
    """A tls_cert that holds its key as well needs no tls_key."""
    server = tls_memcached_factory(demands_client=True)
    pair = certificates.client
    both = tmp_path / "both.pem"
    both.write_bytes(pair.key.read_bytes() + pair.cert.read_bytes())
    await both_ways(connect(f"{server.url}&tls_cert={both}"))


@pytest.mark.gen_test
async def test_a_context_of_the_application_is_used_as_it_is(
    tls_memcached_factory, certificates
):
    """An SSLContext given as tls decides whom to trust and what to show."""
    server = tls_memcached_factory(demands_client=True)
    pair = certificates.client
    trusting = ssl.create_default_context(cafile=certificates.ca)
    store = MemcachedStore([server.server], tls=trusting)
    await outage(store.get("key"))
    await store.close()
    trusting.load_cert_chain(pair.cert, pair.key)
    store = MemcachedStore([server.server], tls=trusting)
    await both_ways(store)
    await store.close()
    strict = ssl.create_default_context(cafile=certificates.other_ca)
    store = MemcachedStore([server.server], tls=strict)
    error = await outage(store.get("key"))
    assert "certificate is not accepted" in error.reason
    await store.close()


def replace(target: Path, source: Path) -> None:
    """Put a file in the place of another one, as those who renew certificates do."""
    new = target.with_suffix(".new")
    shutil.copyfile(source, new)
    new.replace(target)


@pytest.mark.gen_test
async def test_a_renewed_authority_is_read(certificates, tmp_path, connect):
    """Its file and the server's are replaced, and the server restarted: no error."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    pairs = old.pair("server-1", LOCAL), new.pair("server-2", LOCAL)
    used = Pair(tmp_path / "used.pem", tmp_path / "used.key")
    trusted = tmp_path / "trusted.pem"
    replace(trusted, old.ca)
    replace(used.cert, pairs[0].cert)
    replace(used.key, pairs[0].key)
    server = TLSMemcached(certificates, pair=used)
    try:
        store = connect(tls_url(server.port, tls_ca=trusted, timeout=10))
        await both_ways(store)
        replace(trusted, new.ca)
        replace(used.cert, pairs[1].cert)
        replace(used.key, pairs[1].key)
        await both_ways(store)  # what is connected stays so
        server.restart()
        await both_ways(store)
    finally:
        server.close()


@pytest.mark.gen_test
async def test_a_renewed_certificate_is_shown(
    tls_memcached_factory, certificates, tmp_path, connect
):
    """A client's certificate and its key are read again for new connections."""
    server = tls_memcached_factory(demands_client=True)
    cert, key = tmp_path / "client.pem", tmp_path / "client.key"
    replace(cert, certificates.stranger.cert)
    replace(key, certificates.stranger.key)
    store = connect(f"{server.url}&tls_cert={cert}&tls_key={key}&timeout=10")
    await outage(store.get("key"))
    replace(cert, certificates.client.cert)
    replace(key, certificates.client.key)
    await both_ways(store)


@pytest.mark.gen_test
async def test_files_that_are_half_written_are_not_used(
    tls_memcached_factory, certificates, tmp_path, connect, caplog
):
    """The ones before are, with one warning; and the new ones when they are whole."""
    server = tls_memcached_factory(demands_client=True)
    cert, key = tmp_path / "client.pem", tmp_path / "client.key"
    replace(cert, certificates.client.cert)
    replace(key, certificates.client.key)
    store = connect(f"{server.url}&tls_cert={cert}&tls_key={key}&timeout=10")
    await both_ways(store)
    cert.write_text("-----BEGIN")
    for _ in range(2):
        server.restart()
        await both_ways(store)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "tls_cert" in warning
    assert "not used" in warning
    key.unlink()
    server.restart()
    await both_ways(store)
    replace(cert, certificates.stranger.cert)
    replace(key, certificates.stranger.key)
    server.restart()
    await outage(store.get("key"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tls_ca": "/no/such"}, r"tls_ca: .*No such file"),
        ({"tls_ca": "{directory}"}, r"tls_ca: .*directory"),
        ({"tls_ca": "{nonsense}"}, r"tls_ca: .*certificates, in PEM"),
        ({"tls_cert": "/no/such"}, r"tls_cert.*No such file"),
        ({"tls_cert": "{nonsense}"}, r"tls_cert.*in PEM"),
        ({"tls_cert": "{cert}"}, r"tls_cert, tls_key: .*with its key"),
        ({"tls_cert": "{cert}", "tls_key": "/no/such"}, r"tls_key.*No such file"),
        ({"tls_cert": "{cert}", "tls_key": "{others}"}, r"tls_key: .*with its key"),
        ({"tls_cert": "{cert}", "tls_key": "{locked}"}, r"tls_key: .*unencrypted"),
        ({"tls_key": "{key}"}, r"tls_key needs tls_cert"),
    ],
    ids=repr,
)
def test_files_that_cannot_be_used_are_told_at_once(
    certificates, tmp_path, options, message
):
    """A wrong file is a ValueError that names its option before anybody connects."""
    (tmp_path / "nonsense").write_text("nonsense")
    key = serialization.load_pem_private_key(certificates.client.key.read_bytes(), None)
    (tmp_path / "locked").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"x"),
        )
    )
    places = {
        "directory": tmp_path,
        "nonsense": tmp_path / "nonsense",
        "cert": certificates.client.cert,
        "key": certificates.client.key,
        "others": certificates.server.key,
        "locked": tmp_path / "locked",
    }
    given = {name: value.format(**places) for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        MemcachedStore("localhost", tls=True, **given)
    with pytest.raises(ValueError, match=message):
        MemcachedStore.from_url(tls_url(11211, **given))


@pytest.mark.parametrize("option", ["tls_ca", "tls_cert", "tls_key"])
def test_files_without_tls_are_refused(certificates, option):
    """A file for TLS where TLS is off is an error, not a plain connection."""
    path = str(certificates.ca)
    for tls in ({}, {"tls": False}):
        with pytest.raises(ValueError, match=f"{option} needs tls"):
            MemcachedStore("localhost", **tls, **{option: path})
    with pytest.raises(ValueError, match=f"{option} needs tls"):
        MemcachedStore.from_url(f"memcached://localhost/?{option}={path}")
    with pytest.raises(TypeError, match=option):
        MemcachedStore("localhost", tls=True, **{option: 5})


@pytest.mark.parametrize(
    "make",
    [
        lambda: MemcachedStore.from_url("memcacheds:///run/memcached.sock"),
        lambda: MemcachedStore.from_url("memcached:///run/memcached.sock?tls=1"),
        lambda: MemcachedStore("/run/memcached.sock", tls=True),
        lambda: MemcachedStore(["localhost", "/run/memcached.sock"], tls=True),
        lambda: MemcachedStore("/run/memcached.sock", tls=ssl.create_default_context()),
    ],
)
def test_a_unix_socket_has_no_tls(make):
    """TLS that is asked for on a Unix socket is an error, not left out in silence."""
    with pytest.raises(ValueError, match="Unix socket"):
        make()
