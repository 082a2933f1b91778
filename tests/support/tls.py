"""Certificates to throw away, and memcached processes that speak TLS with them."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socket
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .memcached import Memcached

LOCAL = ("localhost", "127.0.0.1", "::1")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its private key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; its own is the file ``ca``."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.ca = directory / f"{name}.pem"
        certificate = (
            _certificate(self._name, self._name, self._key.public_key(), DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(_identifier(self._key), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def pair(
        self, name: str, hosts: Sequence[str] = (), *, ends_in: timedelta = DAY
    ) -> Pair:
        """Make a certificate for ``hosts``, or for a client where there are none."""
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _certificate(_named(name), self._name, key.public_key(), ends_in)
        if hosts:
            purpose = ExtendedKeyUsageOID.SERVER_AUTH
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        # Python 3.13 takes no certificate without these.
        certificate = (
            builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(_identifier(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    self._key.public_key()
                ),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair


class Certificates:
    """All that the tests need, as PEM files in ``directory``."""

    def __init__(self, directory: Path) -> None:
        authority = Authority(directory, "ca")
        other = Authority(directory, "other-ca")
        self.ca = authority.ca
        """The authority that signed all pairs but `stranger`."""
        self.other_ca = other.ca
        """An authority that has nothing to do with these."""
        self.server = authority.pair("server", LOCAL)
        self.expired = authority.pair("expired", LOCAL, ends_in=-DAY)
        self.elsewhere = authority.pair("elsewhere", ["memcached.example"])
        """For a host that is not this one."""
        self.client = authority.pair("client")
        self.stranger = other.pair("stranger")
        """A client of the other authority."""


class TLSMemcached(Memcached):
    """A memcached on a free port of 127.0.0.1 that speaks TLS alone.

    ``pair`` is its certificate, by default that for this host. With
    ``demands_client`` it takes only clients with a certificate of ``ca``.
    """

    def __init__(
        self,
        certificates: Certificates,
        *args: str,
        pair: Pair | None = None,
        demands_client: bool = False,
    ) -> None:
        pair = pair or certificates.server
        options = {
            "ssl_chain_cert": pair.cert,
            "ssl_key": pair.key,
            "ssl_ca_cert": certificates.ca,
            "ssl_verify_mode": 2 if demands_client else 0,
        }
        extended = ",".join(f"{name}={value}" for name, value in options.items())
        # The tests look into it as a client that is let in, whom it does not check.
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.load_cert_chain(certificates.client.cert, certificates.client.key)
        self._ca = certificates.ca
        super().__init__("-Z", "-o", extended, *args)

    @property
    def url(self) -> str:
        """A store URL that trusts its authority; ``&timeout=1`` may follow."""
        return tls_url(self.port, tls_ca=self._ca)

    def _connect(self) -> socket:
        connection = super()._connect()
        try:
            return self._context.wrap_socket(connection)
        except BaseException:
            connection.close()
            raise


def tls_url(port: int, *, host: str = "127.0.0.1", **options: object) -> str:
    """A store URL with these options for a port that speaks TLS."""
    return f"memcacheds://{host}:{port}/?{urlencode(options)}"


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _identifier(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    ends_in: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + ends_in)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
