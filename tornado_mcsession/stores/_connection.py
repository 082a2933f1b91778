"""One connection to a memcached node, made by the rules of this package.

pymemcache takes a ``socket_module``, and asks it for sockets. The one here
gives links that do in ``connect`` what pymemcache leaves out: they try every
address of a host name, speak TLS with a deadline, and authenticate each new
connection. They bound an operation as a whole, where a socket's timeout starts
anew with each received byte. And they ask nothing on a connection that is
closed or out of step.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Any

from pymemcache.exceptions import MemcacheUnknownError

from ._resolver import Resolver

__all__ = [
    "AuthenticationFailed",
    "LinkMaker",
    "NotConnected",
    "NotSent",
    "connect_to_one_of",
]

# memcached's own limit for the line that answers an authentication is far
# shorter; more than this is not memcached.
_MAX_LINE = 1024
# As much of an answer's end as is looked at: the whole of a short one.
_TAIL = 32
# More than memcached answers to a batch of 64 keys, each a session of the largest
# default size; pymemcache would collect whatever comes until its time is over.
MAX_ANSWER = 128 * 1024 * 1024


class AuthenticationFailed(Exception):
    """The node refused the user name and password."""


class NotConnected(OSError):
    """No connection was made, and so nothing sent; the cause says why."""


class NotSent(ConnectionResetError):
    """The connection is closed, or out of step; nothing was sent on it."""


class LinkMaker:
    """Stands in for the module `socket` towards one pymemcache client pool.

    Each thread sets `deadline` before it calls the client.
    """

    AF_UNIX = getattr(socket, "AF_UNIX", None)
    AF_INET = socket.AF_INET
    AF_UNSPEC = socket.AF_UNSPEC
    SOCK_STREAM = socket.SOCK_STREAM
    IPPROTO_TCP = socket.IPPROTO_TCP
    TCP_NODELAY = socket.TCP_NODELAY

    def __init__(
        self,
        *,
        connect_timeout: float,
        tls: ssl.SSLContext | None = None,
        credentials: tuple[str, str] | None = None,
    ) -> None:
        self.connect_timeout = connect_timeout
        self.tls = tls
        self.credentials = credentials
        self._local = threading.local()
        self.forget()

    def forget(self) -> None:
        """Forget the lookups of a parent process: their threads stayed there."""
        self.resolver = Resolver()

    @property
    def deadline(self) -> float:
        """When the calls of this thread must end, on the monotonic clock."""
        at: float = self._local.deadline
        return at

    @deadline.setter
    def deadline(self, at: float) -> None:
        self._local.deadline = at

    def remaining(self) -> float:
        """Return the seconds that are left; raise `TimeoutError` if none are."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("deadline passed")
        return left

    def getaddrinfo(self, host: str, port: int, *_: Any) -> list[tuple[Any, ...]]:
        """Return one stand-in address: `Link.connect` looks up the real ones."""
        return [(self.AF_INET, self.SOCK_STREAM, 0, "", (host, port))]

    def socket(self, *_: Any) -> Link:
        """Return a link that is not connected yet."""
        return Link(self)


class Link:
    """A socket, as far as pymemcache uses one."""

    def __init__(self, maker: LinkMaker) -> None:
        self._maker = maker
        self._socket: socket.socket | None = None
        self.tail = b""
        """The end of what has come since something was sent."""
        self.received = 0
        """How many bytes that was."""

    def setsockopt(self, *_: Any) -> None:
        """Do nothing: `connect` sets what is wanted on the real socket."""

    def settimeout(self, _: float | None) -> None:
        """Do nothing: the deadline decides."""

    def connect(self, address: Any) -> None:
        """Connect to ``address``: host and port, or the path of a Unix socket."""
        maker = self._maker
        limit = time.monotonic() + min(maker.connect_timeout, maker.remaining())
        try:
            if isinstance(address, tuple):
                host, port = address
                found = maker.resolver.addresses(host, port, limit)
                self._socket = connect_to_one_of(found, limit)
                if maker.tls is not None:
                    self._socket.settimeout(_left(limit))
                    self._socket = maker.tls.wrap_socket(
                        self._socket, server_hostname=host
                    )
            else:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.settimeout(_left(limit))
                self._socket.connect(address)
            # With a timeout of its own, a socket would be asked twice for each
            # byte, and let other threads run in between.
            self._socket.setblocking(False)
            if maker.credentials is not None:
                self._authenticate(*maker.credentials)
        except OSError as error:
            self.close()
            raise NotConnected from error
        except BaseException:
            self.close()
            raise

    def _authenticate(self, username: str, password: str) -> None:
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
        that nobody asked for: what comes next would be taken as the answer to
        something else.
        """
        sock = self._socket
        assert sock is not None
        try:
            sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        else:
            raise NotSent("closed, or out of step")
        self.tail, self.received = b"", 0
        left = memoryview(data)
        while left:
            self._maker.remaining()
            try:
                left = left[sock.send(left) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(sock, select.POLLOUT)
            except ssl.SSLWantReadError:
                self._wait(sock, select.POLLIN)

    def recv(self, size: int) -> bytes:
        """Return what has arrived, waiting for it until the deadline."""
        sock = self._socket
        assert sock is not None
        if self._maker.tls is None:
            self._wait(sock, select.POLLIN)  # nothing has come yet, as a rule
        while True:
            self._maker.remaining()
            try:
                data = sock.recv(size)
                break
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(sock, select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(sock, select.POLLOUT)
        self.tail = (self.tail + data)[-_TAIL:]
        self.received += len(data)
        if self.received > MAX_ANSWER:
            raise MemcacheUnknownError
        return data

    def _wait(self, sock: socket.socket, event: int) -> None:
        poll = select.poll()
        poll.register(sock, event)
        if not poll.poll(math.ceil(1000 * self._maker.remaining())):
            raise TimeoutError("timed out")

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _left(limit: float) -> float:
    left = limit - time.monotonic()
    if left <= 0:
        raise TimeoutError("connecting took too long")
    return left


def connect_to_one_of(found: Sequence[tuple[Any, ...]], limit: float) -> socket.socket:
    """Return a connection to the first address that takes one before ``limit``.

    ``found`` is what `socket.getaddrinfo` returned: localhost is ::1 first on
    many hosts, where memcached often listens on 127.0.0.1 alone.
    """
    failure: OSError | None = None
    for tried, (family, kind, proto, _, address) in enumerate(found):
        try:
            # An address that swallows packets leaves time for those after it.
            share = _left(limit) / (len(found) - tried)
            return _connected(socket.socket(family, kind, proto), address, share)
        except OSError as error:
            failure = error
    raise failure or ConnectionError("the name has no address")


def _connected(sock: socket.socket, address: Any, timeout: float) -> socket.socket:
    try:
        sock.settimeout(timeout)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except BaseException:
        sock.close()
        raise
    return sock
