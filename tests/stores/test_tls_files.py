"""The files and the context that MemcachedStore's TLS is made of."""

from __future__ import annotations

import ssl

import pytest
from cryptography.hazmat.primitives import serialization

from tornado_mcsession import MemcachedStore

from ..support.tls import tls_url
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
