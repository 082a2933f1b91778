"""A connection to memcached: names, TLS, credentials, and a deadline for all of it.

A socket's own timeout begins anew with each byte that arrives, and
`socket.getaddrinfo` has none. Here one deadline bounds an operation as a whole. And
nothing is asked on a connection that is closed or out of step.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import select
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Literal

from pymemcache.exceptions import MemcacheUnknownError

from ...checks import kind_of, seconds, type_error
from .errors import AuthenticationFailed, NotConnected, NotSent, SeveralAddresses

__all__ = ["Access", "Connector", "Link", "checked_seconds"]

logger: logging.Logger = logging.getLogger("tornado_mcsession")

# A firewall forgets a connection that is idle for some minutes, without telling it.
# The system's own times are hours. macOS has another name for the first.
KEEPALIVE = {
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPALIVE": 30,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
}
# How long connections are kept to the addresses that a host name had.
LOOKUP_EVERY = 30.0
# memcached's own limit for the line that answers an authentication is far
# shorter; more than this is not memcached.
_MAX_LINE = 1024
# More than memcached sends for a batch of 64 keys, each a session of the largest
# default size.
MAX_ANSWER = 128 * 1024 * 1024

Addresses = Literal["same"]
_ADDRESSES = kind_of(Addresses | None)

Found = Sequence[tuple[Any, ...]]


def checked_seconds(name: str, value: object) -> float:
    """Return ``value`` as seconds, greater than 0."""
    checked = seconds(name, value)
    if checked is None:
        raise type_error(name, value, "seconds")
    return checked


class Access:
    """How connections are made: arguments of `.MemcachedStore`, checked.

    Raises `TypeError` or `ValueError`, which name the argument.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 0.5,
        username: str | None = None,
        password: str | None = None,
        tls: bool | ssl.SSLContext = False,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        addresses: Addresses | None = None,
    ) -> None:
        _ADDRESSES.check("addresses", addresses)
        self.are_same: bool = addresses is not None
        """Whether all addresses of a host name lead to the same sessions."""
        self.connect_timeout: float = checked_seconds(
            "connect_timeout", connect_timeout
        )
        self.credentials: tuple[str, str] | None = None
        if username is not None or password is not None:
            self.credentials = (
                _credential("username", username),
                _credential("password", password),
            )
        files = {"tls_ca": tls_ca, "tls_cert": tls_cert, "tls_key": tls_key}
        self.tls: TLS | None = TLS(tls, files) if _wants_tls(tls, files) else None


def _credential(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise type_error(name, value, "text: give username and password, or none")
    if not value:
        raise ValueError(f"{name} is missing: give username and password, or none")
    if any(c.isspace() or not c.isprintable() for c in value):
        raise ValueError(f"{name} must be printable, without spaces")
    return value


# TLS.


def _wants_tls(tls: object, files: dict[str, str | None]) -> bool:
    given = [name for name, path in files.items() if path is not None]
    for name in given:
        if not isinstance(files[name], str):
            raise type_error(name, files[name], "the path of a file")
        if not files[name]:
            raise ValueError(f"{name} must be the path of a file, not empty")
    if not isinstance(tls, bool | ssl.SSLContext):
        raise type_error("tls", tls, "True, False or an ssl.SSLContext")
    if given and tls is not True:
        raise ValueError(f"{given[0]} needs tls=True (in a URL: memcacheds://)")
    if "tls_key" in given and "tls_cert" not in given:
        raise ValueError("tls_key needs tls_cert, the certificate that it belongs to")
    return tls is not False


class TLS:
    """The context of new connections, read again when one of its files has changed."""

    def __init__(
        self, tls: bool | ssl.SSLContext, files: dict[str, str | None]
    ) -> None:
        self._files = files
        self._seen = self._versions()
        self._context = tls if isinstance(tls, ssl.SSLContext) else self._read()

    def context(self) -> ssl.SSLContext:
        """Return the context as the files say now, if they can be used."""
        versions = self._versions()
        if versions != self._seen:
            self._seen = versions
            try:
                self._context = self._read()
            except ValueError as error:
                # Half of them may be written: they are read once more when the rest is.
                logger.warning("TLS files have changed and are not used: %s", error)
        return self._context

    def _versions(self) -> list[tuple[int, int, int] | None]:
        versions: list[tuple[int, int, int] | None] = []
        for path in filter(None, self._files.values()):
            try:
                status = os.stat(path)
            except OSError:
                versions.append(None)
            else:
                versions.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return versions

    def _read(self) -> ssl.SSLContext:
        ca, cert, key = self._files.values()
        names, what = "tls_ca", "certificates"
        try:
            context = ssl.create_default_context(cafile=ca)
            if cert is not None:
                names = "tls_cert, tls_key"
                what = "a certificate with its key, unencrypted"
                # Without a password here, OpenSSL would ask for one at the terminal.
                context.load_cert_chain(cert, key, password=lambda: "")
        except ssl.SSLError:
            raise ValueError(f"{names}: the file must hold {what}, in PEM") from None
        except OSError as error:
            why = f"the file cannot be read ({error.strerror})"
            raise ValueError(f"{names}: {why}") from None
        return context


# Making connections.


class Connector:
    """Makes connections to one server, and knows which of them may still be used.

    ``address`` is host and port, or the path of a Unix socket.
    """

    def __init__(self, address: tuple[str, int] | str, access: Access) -> None:
        if isinstance(address, str) and access.tls is not None:
            raise ValueError("tls: a Unix socket has none; use memcached:// for it")
        self._address = address
        self._access = access
        self._made = secrets.randbelow(1000)  # processes begin with different ones
        self.forked()

    def forked(self) -> None:
        """Forget the lookup of a parent process: its thread stayed there."""
        self._distrusted = 0.0
        self._names: _Names | None = None
        if not isinstance(self._address, str):
            self._names = _Names(*self._address, are_same=self._access.are_same)

    def connect(self, deadline: float) -> Link:
        """Return a new connection, made before ``deadline`` on the monotonic clock."""
        access, names = self._access, self._names
        limit = min(deadline, time.monotonic() + access.connect_timeout)
        found: Found = [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", self._address)]
        try:
            if names is not None:
                found = names.look_up(limit)
            if access.are_same and found:
                # Each has its share of the connections.
                self._made += 1
                turn = self._made % len(found)
                found = [*found[turn:], *found[:turn]]
            sock = _connected(found, limit)
            try:
                peer = sock.getpeername()[0] if names is not None else ""
                if access.tls is not None and names is not None:
                    sock.settimeout(_left(limit))
                    host = names.host.partition("%")[0]
                    context = access.tls.context()
                    sock = context.wrap_socket(sock, server_hostname=host)
                link = Link(sock, peer, deadline)
                if access.credentials is not None:
                    link.authenticate(*access.credentials)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            raise NotConnected from error
        return link

    def distrust(self) -> None:
        """Let the connections that have been made until now not be used any more."""
        self._distrusted = time.monotonic()

    def trusts(self, link: Link) -> bool:
        """Return whether ``link`` may be used: its name still has its address."""
        if link.made <= self._distrusted:
            return False
        names = self._names
        return names is None or names.peers is None or names.has(link.peer)


class _Names:
    """The addresses of a host name.

    With name servers that do not respond, `socket.getaddrinfo` takes half a minute.
    So each lookup has a thread of its own. All callers that need the name wait for
    the same lookup, each until its own deadline.
    """

    def __init__(self, host: str, port: int, *, are_same: bool) -> None:
        self.host = host
        self._port = port
        # The system's own name for this host, of two addresses.
        self._are_same = are_same or host == "localhost"
        self._lock = threading.Lock()
        self._running: Future[Found] | None = None
        self._began = -math.inf
        self.peers: set[str] | None = None
        """Those of the last lookup. An address needs none, and has none here."""

    def look_up(self, limit: float) -> Found:
        """Return what `socket.getaddrinfo` does for a stream.

        Raises `TimeoutError` when it is ``limit`` on the monotonic clock, and
        `OSError` where there is no such host, or several servers may bear its name.
        """
        try:
            # An address needs no lookup, and is the same for ever.
            return self._found(socket.AI_NUMERICHOST)
        except socket.gaierror:
            future = self._begin()
        try:
            return future.result(limit - time.monotonic())
        except TimeoutError:
            if future.done():
                raise  # by getaddrinfo
            raise TimeoutError("resolving the host name took too long") from None

    def has(self, peer: str) -> bool:
        """Return whether ``peer`` is among the addresses, by the last lookup.

        The name is looked up again now and then, in the background. While that does
        not succeed, the addresses are those that were found before.
        """
        if time.monotonic() - self._began > LOOKUP_EVERY:
            self._begin()
        return self.peers is not None and peer in self.peers

    def _begin(self) -> Future[Found]:
        with self._lock:
            future = self._running
            if future is None:
                self._began = time.monotonic()
                future = self._running = Future()
                # A daemon: the process may end while a name server does not respond.
                threading.Thread(
                    target=self._resolve,
                    args=(future,),
                    name="mcsession-resolver",
                    daemon=True,
                ).start()
            return future

    def _resolve(self, future: Future[Found]) -> None:
        found: Found = ()
        failure: Exception | None = None
        peers = self.peers
        try:
            found = self._found()
            peers = set()  # of several servers none is trusted
            self._check(found)
            peers = {address[0] for *_, address in found}
        except Exception as error:
            failure = error
        with self._lock:
            # First: a caller that comes now must not get the earlier result.
            self._running, self.peers = None, peers
        if failure is None:
            future.set_result(found)
        else:
            future.set_exception(failure)

    def _found(self, flags: int = 0) -> Found:
        return socket.getaddrinfo(
            self.host, self._port, type=socket.SOCK_STREAM, flags=flags
        )

    def _check(self, found: Found) -> None:
        """Refuse several addresses of one family: any of them may be another server.

        Which of them a connection leads to changes. Then half of the sessions would
        not be found, and half of the logouts would not be done.
        """
        if self._are_same:
            return
        for family in {family for family, *_ in found}:
            same = {address for kind, *_, address in found if kind == family}
            if len(same) > 1:
                raise SeveralAddresses(len(same))


def _left(limit: float) -> float:
    left = limit - time.monotonic()
    if left <= 0:
        raise TimeoutError("connecting took too long")
    return left


def _connected(found: Found, limit: float) -> socket.socket:
    """Return a connection to the first address that takes one before ``limit``.

    ``found`` is what `socket.getaddrinfo` returned: localhost is ::1 first on
    many hosts, where memcached often listens on 127.0.0.1 alone.
    """
    failure: OSError | None = None
    for tried, (family, kind, proto, _, address) in enumerate(found):
        sock = None
        try:
            # An address that swallows packets leaves time for those after it.
            share = _left(limit) / (len(found) - tried)
            sock = socket.socket(family, kind, proto)
            sock.settimeout(share)
            sock.connect(address)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in KEEPALIVE.items():
                    if hasattr(socket, option):
                        number = getattr(socket, option)
                        sock.setsockopt(socket.IPPROTO_TCP, number, value)
            return sock
        except BaseException as error:
            if sock is not None:
                sock.close()
            if not isinstance(error, OSError):
                raise
            failure = error
    raise failure or ConnectionError("the name has no address")


class Link:
    """An open connection, as far as pymemcache uses a socket.

    Its user sets ``deadline``, on the monotonic clock, before each operation.
    """

    def __init__(self, sock: socket.socket, peer: str, deadline: float) -> None:
        self.deadline = deadline
        self.made: float = time.monotonic()
        self.peer = peer
        """The address that it leads to."""
        self.socket = sock
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._input = select.poll()
        self._input.register(sock, select.POLLIN)
        self._received = 0
        # With a timeout of its own, a socket would be asked twice for each
        # byte, and let other threads run in between.
        sock.setblocking(False)

    def authenticate(self, username: str, password: str) -> None:
        """Show the credentials; raise unless they are accepted."""
        # memcached's protocol.txt, "Authentication": a set whose key, flags and
        # exptime are ignored, with "username password" as its value. A server
        # that wants no authentication stores it: for no time, by this exptime.
        secret = f"{username} {password}".encode()
        self.sendall(b"set mcsession:auth 0 -1 %d\r\n%b\r\n" % (len(secret), secret))
        line = b""
        while not line.endswith(b"\r\n"):
            chunk = self.recv(_MAX_LINE)
            if not chunk or len(line) > _MAX_LINE:
                raise ConnectionResetError("closed while authenticating")
            line += chunk
        if line.startswith(b"CLIENT_ERROR"):
            raise AuthenticationFailed
        if line != b"STORED\r\n":  # "ERROR Too many open connections", for one
            raise ConnectionError("no answer to an authentication")

    def sendall(self, data: bytes) -> None:
        """Send all of ``data`` before the deadline.

        Raises `NotSent` where the connection has been closed, or holds bytes
        that were not asked for: they would be taken for the response to this
        command.
        """
        if self._is_tls or self._input.poll(0):
            try:
                self.socket.recv(1)
            except (BlockingIOError, ssl.SSLWantReadError):
                pass  # nothing, or what only TLS is about
            except ConnectionResetError as error:
                raise NotSent("reset") from error
            else:
                raise NotSent("closed, or out of step")
        self._received = 0
        if time.monotonic() >= self.deadline:
            raise TimeoutError("deadline passed")
        left = memoryview(data)
        while left:
            try:
                left = left[self.socket.send(left) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)

    def recv(self, size: int) -> bytes:
        """Return what has arrived, waiting for it until the deadline."""
        if not self._is_tls:
            # Nothing has come yet, as a rule. TLS may hold what has.
            left = self.deadline - time.monotonic()
            if left <= 0 or not self._input.poll(math.ceil(1000 * left)):
                raise TimeoutError("timed out")
        while True:
            try:
                data = self.socket.recv(size)
                break
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)
        self._received += len(data)
        if self._received > MAX_ANSWER:
            raise MemcacheUnknownError
        return data

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self.socket, event)
        left = self.deadline - time.monotonic()
        if left <= 0 or not poll.poll(math.ceil(1000 * left)):
            raise TimeoutError("timed out")

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()
