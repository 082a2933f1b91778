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
from dataclasses import dataclass
from typing import Any

from pymemcache.exceptions import MemcacheUnknownError

from ...checks import one_of, seconds, type_error
from .errors import AuthenticationFailed, NotConnected, NotSent, SeveralAddresses

__all__ = ["Access", "Connector", "Link", "checked_seconds"]

logger = logging.getLogger("tornado_mcsession")

# A firewall forgets a connection that is idle for some minutes, without telling it.
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 30, 10, 3
# How long connections are kept to the addresses that a host name had.
LOOKUP_EVERY = 30.0
# memcached's own limit for the line that answers an authentication is far
# shorter; more than this is not memcached.
_MAX_LINE = 1024
# More than memcached sends for a batch of 64 keys, each a session of the largest
# default size.
MAX_ANSWER = 128 * 1024 * 1024

Found = Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class Access:
    """How connections are made: arguments of `.MemcachedStore`, checked."""

    connect_timeout: float
    credentials: tuple[str, str] | None
    tls: TLS | None
    are_same: bool
    """Whether all addresses of a host name lead to the same sessions."""

    @classmethod
    def checked(
        cls,
        *,
        connect_timeout: float = 0.5,
        username: str | None = None,
        password: str | None = None,
        tls: bool | ssl.SSLContext = False,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        addresses: str | None = None,
    ) -> Access:
        """Raise `TypeError` or `ValueError`, which name the argument."""
        if addresses is not None:
            one_of("addresses", addresses, ["same"])
        return cls(
            connect_timeout=checked_seconds("connect_timeout", connect_timeout),
            credentials=_credentials(username, password),
            tls=_tls(tls, tls_ca, tls_cert, tls_key),
            are_same=addresses is not None,
        )


def checked_seconds(name: str, value: object) -> float:
    """Return ``value`` as seconds, greater than 0."""
    checked = seconds(name, value)
    if checked is None:
        raise type_error(name, value, "seconds")
    return checked


def _credentials(username: str | None, password: str | None) -> tuple[str, str] | None:
    if username is None and password is None:
        return None
    for name, value in (("username", username), ("password", password)):
        if not isinstance(value, str):
            raise type_error(name, value, "text: give username and password, or none")
        if not value:
            raise ValueError(f"{name} is missing: give username and password, or none")
        if any(c.isspace() or not c.isprintable() for c in value):
            raise ValueError(f"{name} must be printable, without spaces")
    return str(username), str(password)


# TLS.


def _tls(tls: object, ca: str | None, cert: str | None, key: str | None) -> TLS | None:
    files = {"tls_ca": ca, "tls_cert": cert, "tls_key": key}
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
    if key is not None and cert is None:
        raise ValueError("tls_key needs tls_cert, the certificate that it belongs to")
    if isinstance(tls, ssl.SSLContext):
        return TLS(tls, None, None, None)
    return TLS(_context(ca, cert, key), ca, cert, key) if tls else None


class TLS:
    """The context of new connections, read again when one of its files has changed."""

    def __init__(
        self, context: ssl.SSLContext, ca: str | None, cert: str | None, key: str | None
    ) -> None:
        self._context = context
        self._files = ca, cert, key
        self._seen = self._versions()

    def context(self) -> ssl.SSLContext:
        """Return the context as the files say now, if they can be used."""
        versions = self._versions()
        if versions != self._seen:
            self._seen = versions
            try:
                self._context = _context(*self._files)
            except ValueError as error:
                # Half of them may be written: they are read once more when the rest is.
                logger.warning("TLS files have changed and are not used: %s", error)
        return self._context

    def _versions(self) -> list[tuple[int, int, int] | None]:
        return [_version(path) for path in self._files if path is not None]


def _version(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ValueError(f"tls_ca: {_told(error, 'certificates')}") from None
    if cert is not None:
        try:
            # Without a password here, OpenSSL would ask for one at the terminal.
            context.load_cert_chain(cert, key, password=lambda: "")
        except OSError as error:
            what = "a certificate with its key, unencrypted"
            raise ValueError(f"tls_cert, tls_key: {_told(error, what)}") from None
    return context


def _told(error: OSError, what: str) -> str:
    if isinstance(error, ssl.SSLError):
        return f"the file must hold {what}, in PEM"
    return f"the file cannot be read ({error.strerror})"


# Making connections.


class Connector:
    """Makes connections to one server, and tells which of them may still be used.

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
        limit = min(deadline, time.monotonic() + self._access.connect_timeout)
        try:
            if self._names is None:
                sock, peer = _connected_to_path(self._address, limit), ""
            else:
                sock, peer = self._connected(self._names, limit)
            link = Link(sock, peer, deadline)
            try:
                if self._access.credentials is not None:
                    link.authenticate(*self._access.credentials)
            except BaseException:
                link.close()
                raise
        except OSError as error:
            raise NotConnected from error
        return link

    def _connected(self, names: _Names, limit: float) -> tuple[socket.socket, str]:
        found = names.look_up(limit)
        if self._access.are_same:
            # Each has its share of the connections.
            self._made += 1
            turn = self._made % len(found) if found else 0
            found = [*found[turn:], *found[:turn]]
        sock = _connected_to_one_of(found, limit)
        peer: str = sock.getpeername()[0]
        if self._access.tls is None:
            return sock, peer
        try:
            sock.settimeout(_left(limit))
            context = self._access.tls.context()
            host = names.host.partition("%")[0]
            return context.wrap_socket(sock, server_hostname=host), peer
        except BaseException:
            sock.close()
            raise

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
    So each lookup has a thread of its own, which all who want the name wait for, for
    as long as they have time.
    """

    def __init__(self, host: str, port: int, *, are_same: bool) -> None:
        self.host = host
        self._port = port
        self._are_same = are_same
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
            found = future.result(limit - time.monotonic())
        except TimeoutError:
            if future.done():
                raise  # by getaddrinfo
            raise TimeoutError("resolving the host name took too long") from None
        self._check(found)
        return found

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
        try:
            found = self._found()
        except Exception as error:
            failure = error
        with self._lock:
            # First: who comes now must not get what was found before.
            self._running = None
            if failure is None:
                self.peers = {address[0] for *_, address in found}
        if failure is None:
            try:
                self._check(found)
            except SeveralAddresses:
                self.peers = set()
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
        if self._are_same or self.host == "localhost":
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


def _connected_to_path(path: Any, limit: float) -> socket.socket:
    return _connected(socket.AF_UNIX, socket.SOCK_STREAM, 0, path, _left(limit))


def _connected_to_one_of(found: Found, limit: float) -> socket.socket:
    """Return a connection to the first address that takes one before ``limit``.

    ``found`` is what `socket.getaddrinfo` returned: localhost is ::1 first on
    many hosts, where memcached often listens on 127.0.0.1 alone.
    """
    failure: OSError | None = None
    for tried, (family, kind, proto, _, address) in enumerate(found):
        try:
            # An address that swallows packets leaves time for those after it.
            share = _left(limit) / (len(found) - tried)
            return _connected(family, kind, proto, address, share)
        except OSError as error:
            failure = error
    raise failure or ConnectionError("the name has no address")


def _connected(
    family: int, kind: int, proto: int, address: Any, timeout: float
) -> socket.socket:
    sock = socket.socket(family, kind, proto)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
    except BaseException:
        sock.close()
        raise
    return sock


# The system's own times are hours. macOS has another name for the first.
_KEEPALIVE = [
    (getattr(socket, name), value)
    for name, value in [
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPALIVE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
    ]
    if hasattr(socket, name)
]


class Link:
    """An open connection, as far as pymemcache uses a socket.

    Whoever uses it sets ``deadline``, on the monotonic clock, before each operation.
    """

    def __init__(self, sock: socket.socket, peer: str, deadline: float) -> None:
        self.deadline = deadline
        self.made = time.monotonic()
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
        that nobody asked for: what comes next would be taken for the response to
        something else.
        """
        sock = self.socket
        try:
            sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        else:
            raise NotSent("closed, or out of step")
        self._received = 0
        if time.monotonic() >= self.deadline:
            raise TimeoutError("deadline passed")
        left = memoryview(data)
        while left:
            try:
                left = left[sock.send(left) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)

    def recv(self, size: int) -> bytes:
        """Return what has arrived, waiting for it until the deadline."""
        # Nothing has come yet, as a rule; TLS may hold what has.
        waits_for = None if self._is_tls else select.POLLIN
        while True:
            if waits_for is not None:
                self._wait(waits_for)
            try:
                data = self.socket.recv(size)
                break
            except (BlockingIOError, ssl.SSLWantReadError):
                waits_for = select.POLLIN
            except ssl.SSLWantWriteError:
                waits_for = select.POLLOUT
        self._received += len(data)
        if self._received > MAX_ANSWER:
            raise MemcacheUnknownError
        return data

    def _wait(self, event: int) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("deadline passed")
        poll = self._input
        if event != select.POLLIN:
            poll = select.poll()
            poll.register(self.socket, event)
        if not poll.poll(math.ceil(1000 * left)):
            raise TimeoutError("timed out")

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()
