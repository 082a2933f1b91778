"""Examines the nodes of a store URL: can they keep sessions, and how well?"""

from __future__ import annotations

import contextlib
import queue
import secrets
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from socket import gaierror
from types import SimpleNamespace
from typing import Any

from pymemcache import exceptions as pymemcache

from ..stores.base import CasResult
from ..stores.memcached import (
    MemcachedStore,
    Router,
    Server,
    errors,
    parse_servers,
    parse_url,
    parse_weights,
    protocol,
)
from ..stores.memcached.connection import Access, Connector
from ..stores.memcached.protocol import Client
from .findings import Clock, Connections, Encryption, Findings, Memory, RoundTrip

__all__ = ["DIAGNOSES", "Doctor"]

# A node that answers everything just in time is examined for this many times as
# long as one answer may take.
_TIMEOUTS = 20
_WORKERS = 16
_READS = 20
_FRESH = 8
# If it cannot be deleted, the doctor's item is gone after this many seconds.
_EXPIRE = 30
# As large as many sessions are: memcached keeps each size in memory of its own,
# and that may be full where others are not.
_VALUE = b"x" * 300
# memcached's counters have 64 bits; what is larger is none of them.
_MAX_NUMBER = 2**64
_MAX_TEXT = 40
_ANYTHING = object()

_ACCESS = (
    "connect_timeout",
    "username",
    "password",
    "tls",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "addresses",
)
# By setting: the value that lets everybody who can connect do this, and the
# option that takes it away.
_OPEN = {
    "flush_enabled": (b"yes", "end all sessions at once by flush_all", "-F"),
    "dump_enabled": (b"yes", "list the store's keys, which are no session ids", "-X"),
    "shutdown_command": (b"yes", "stop memcached", "no -A"),
}


class Doctor:
    """Examines the nodes that a ``store`` setting names.

    Raises `ValueError` for a URL that `.MemcachedStore` would refuse. It changes
    nothing in a node but an item of its own, and takes that away again.
    """

    def __init__(self, url: str) -> None:
        if url.startswith("memory:"):
            raise ValueError(
                "memory:// keeps sessions in the application itself: there is no "
                "node to examine"
            )
        self._timeout = MemcachedStore.from_url(url).timeout
        names, options = parse_url(url)
        self._servers = parse_servers(names)
        self._access = {name: options[name] for name in _ACCESS if name in options}
        weights = parse_weights(self._servers, options.get("weights"))
        self._shares = Router(weights).shares()

    @property
    def names(self) -> list[str]:
        """The nodes' names, in the order of the URL."""
        return [server.name for server in self._servers]

    def examine(self) -> Iterator[Findings]:
        """Yield what is found out about each node, as soon as it is."""
        waiting: queue.SimpleQueue[Server] = queue.SimpleQueue()
        done: queue.SimpleQueue[Findings | Exception] = queue.SimpleQueue()
        for server in self._servers:
            waiting.put(server)

        def work() -> None:
            with contextlib.suppress(queue.Empty):
                while True:
                    server = waiting.get_nowait()
                    try:
                        done.put(self._examine(server))
                    except Exception as error:
                        done.put(error)

        for _ in range(min(_WORKERS, len(self._servers))):
            # Daemons: Ctrl-C ends the program without waiting for a node.
            threading.Thread(target=work, daemon=True).start()
        for _ in self._servers:
            found = done.get()
            if isinstance(found, Exception):
                raise found
            yield found

    def _examine(self, server: Server) -> Findings:
        findings = Findings(name=server.name, share=self._shares[server.name])
        _Examination(server, self._access, self._timeout, findings).run()
        findings.judge()
        return findings


class _Examination:
    """Asks one node, one thing after another, and notes what it finds.

    Each answer has ``timeout`` seconds, and all together have a limit.
    """

    def __init__(
        self,
        server: Server,
        access: dict[str, Any],
        timeout: float,
        findings: Findings,
    ) -> None:
        self._server = server
        self._access = access
        self._timeout = timeout
        self._limit = time.monotonic() + _TIMEOUTS * timeout
        self._findings = findings
        self._client = self._new_client(access)
        self._key = _own_key()

    def run(self) -> None:
        """Find out all there is to find out."""
        findings = self._findings
        try:
            self._try_commands()
            if findings.commands["gets"]:
                self._try_reads()
            if any(findings.commands.values()):
                self._read_statistics()
                self._try_without_credentials()
        except Exception as error:
            if _wants_credentials(error):
                given = "username" in self._access
                findings.authentication = "refused" if given else "missing"
            findings.problem(*_diagnosis(error))
        finally:
            self._client.close()

    def _new_client(self, access: Mapping[str, Any]) -> Client:
        address = self._server.address
        connector = Connector(address, Access(**access))
        return Client(address, socket_module=connector, default_noreply=False)

    def _ask(self, call: Callable[[Any], Any], client: Client | None = None) -> Any:
        """Return what ``call`` returns for a connected client.

        After an exception the next call gets a new connection: what comes on the
        old one may belong to what failed.
        """
        client = client or self._client
        deadline = min(time.monotonic() + self._timeout, self._limit)
        try:
            link = client.sock or client.connect(deadline)
            link.deadline = deadline
            if isinstance(link.socket, ssl.SSLSocket):
                self._findings.tls = _encryption(link.socket)
            return call(client)
        except BaseException:
            client.close()
            raise

    # What sessions need, tried with an item of the doctor's own.

    def _try_commands(self) -> None:
        """Do once what sessions do; stop where it fails."""
        findings = self._findings
        try:
            self._use_an_item()
        except errors.CasDisabled:
            findings.cas = False
            findings.problem(
                "cas",
                "cas is off: no session could be changed once it is stored",
                "Start memcached without -C.",
            )
        except _Fails as failure:
            code, text, advice = _diagnosis(failure.error)
            if failure.command != "gets" or findings.commands["add"]:
                text = f"sessions need {failure.command}: {text}"
                advice += " Does a proxy in front let it through?"
            findings.problem(code, text, advice)
        finally:
            if findings.commands["delete"] is None:
                with contextlib.suppress(Exception):
                    self._write("delete", protocol.delete(self._key))

    def _use_an_item(self) -> None:
        key, findings = self._key, self._findings
        adds = protocol.add(key, _VALUE, _EXPIRE, 0)
        self._try("gets", {}, self._read, key)
        self._try("add", True, self._write, "add", adds)
        self._try("add", False, self._write, "add", adds)
        found = self._try("gets", _ANYTHING, self._read, key)
        token = found[key].token if key in found else b"1"
        self._try_new_connections()
        changes = protocol.cas(key, _VALUE, _EXPIRE, token, 0)
        stored = self._try("cas", _ANYTHING, self._write, "cas", changes)
        if stored is not CasResult.STORED:
            # Each is refused, as if another request had been faster.
            raise errors.CasDisabled
        findings.cas = True
        self._try("cas", CasResult.CONFLICT, self._write, "cas", changes)
        self._try("touch", True, self._write, "touch", protocol.touch(key, _EXPIRE))
        self._try("delete", True, self._write, "delete", protocol.delete(key))
        self._try("gets", {}, self._read, key)

    def _try(
        self, command: str, expected: Any, ask: Callable[..., Any], *a: Any
    ) -> Any:
        """Return the result; raise `_Fails` if it does not work, or is another one."""
        try:
            result = ask(*a)
            if expected is not _ANYTHING and result != expected:
                raise _WrongAnswer
        except Exception as error:
            # The others end the examination.
            if isinstance(error, errors.CasDisabled) or _is_final(error):
                raise
            self._findings.commands[command] = False
            raise _Fails(command, error) from error
        self._findings.commands[command] = True
        return result

    def _try_new_connections(self) -> None:
        """Find out whether each new connection leads to the same server."""
        if isinstance(self._server.address, str):
            return
        client = self._new_client(self._access)
        for _ in range(_FRESH):
            try:
                found = self._ask(lambda client: client.read([self._key]), client)
            finally:
                client.close()
            self._findings.same_server = bool(found)
            if not found:
                self._findings.problem(
                    "several-servers",
                    "what is written on one connection is not found on another: this "
                    "name or address leads to different servers",
                    "List the nodes one by one in the URL, each by its own address.",
                )
                return

    def _read(self, key: str) -> Any:
        return self._ask(lambda client: client.read([key]))

    def _write(self, kind: str, command: bytes) -> Any:
        call: Any = SimpleNamespace(kind=kind, request=command)
        (result,) = self._ask(lambda client: client.write([call]))
        if isinstance(result, Exception):
            raise result
        return result

    def _try_reads(self) -> None:
        """Measure reads of different keys: behind a proxy they have different nodes."""
        times: list[float] = []
        failures: list[Exception] = []
        end = time.monotonic() + self._timeout
        while len(times) + len(failures) < _READS and time.monotonic() < end:
            began = time.perf_counter()
            try:
                self._read(_own_key())
            except Exception as error:
                if _is_final(error):
                    raise
                failures.append(error)
            else:
                times.append(time.perf_counter() - began)
        if failures:
            code, text, advice = _diagnosis(failures[0])
            some = f"{len(failures)} of {len(times) + len(failures)} reads fail: {text}"
            self._findings.problem(code, some, advice)
        if not times:
            return
        worst = max(times)
        self._findings.round_trip = RoundTrip(
            statistics.median(times), worst, len(times)
        )
        if worst > self._timeout / 2:
            self._findings.warn(
                "slow",
                f"one of the reads took more than half of the {self._timeout:g} s that "
                "an operation has: requests will fail",
                "Is the node, the network or this machine overloaded? A longer "
                "timeout in the URL lets requests wait.",
            )

    # What the node tells of itself; what it does not tell stays `None`.

    def _read_statistics(self) -> None:
        findings = self._findings
        findings.version = _plain(self._told(lambda client: client.version()))
        began = time.time()
        stats = self._told(lambda client: client.stats()) or {}
        ended = time.time()
        settings = self._told(lambda client: client.stats("settings")) or {}
        findings.uptime = _number(stats, "uptime")
        findings.item_size_max = _number(settings, "item_size_max")
        used, limit = _number(stats, "bytes"), _number(stats, "limit_maxbytes")
        if used is not None and limit is not None:
            evicts = {b"on": True, b"off": False}.get(settings.get(b"evictions", b""))
            evictions = _number(stats, "evictions") or 0
            refused = _number(stats, "store_no_memory") or 0
            findings.memory = Memory(used, limit, evicts, evictions, refused)
        now = _number(stats, "curr_connections")
        limit = _number(stats, "max_connections")
        if now is not None and limit is not None:
            refused = _number(stats, "rejected_connections") or 0
            findings.connections = Connections(now, limit, refused)
        told = _number(stats, "time")
        if told is not None:
            # memcached adds whole seconds of uptime to the whole second of its start:
            # it is between 0 and 2 s behind itself.
            findings.clock = Clock(
                difference=told + 1 - (began + ended) / 2,
                uncertainty=1 + (ended - began) / 2,
            )
        self._note_silence()
        self._note_openness(settings)

    def _told(self, call: Callable[[Any], Any]) -> Any:
        try:
            return self._ask(call)
        except Exception:
            return None  # twemproxy, for one, closes the connection

    def _note_silence(self) -> None:
        if self._findings.memory is None:
            self._findings.warn(
                "proxy",
                "the node does not tell its statistics: a proxy, such as twemproxy?",
                "Its auto_eject_hosts must be false, or sessions move to other servers "
                "and logouts come undone. Run doctor on each memcached behind it, too.",
            )
        elif self._findings.item_size_max is None:
            self._findings.note(
                "settings",
                "the node does not tell its settings, as some managed servers do not: "
                "its item size is not known",
                "Look up its largest item, and set max_size below it.",
            )

    def _note_openness(self, settings: Mapping[bytes, Any]) -> None:
        can, options = [], []
        for name, (value, what, option) in _OPEN.items():
            if settings.get(name.encode()) == value:
                can.append(what)
                options.append(option)
        if can:
            self._findings.note(
                "open",
                f"who can connect can {', '.join(can)}",
                f"memcached without it: {' '.join(options)}.",
            )

    def _try_without_credentials(self) -> None:
        findings = self._findings
        if "username" not in self._access:
            findings.authentication = "none"
            return
        access = dict(self._access)
        del access["username"], access["password"]
        client = self._new_client(access)
        try:
            self._ask(lambda client: client.read([_own_key()]), client)
        except Exception as error:
            if _wants_credentials(error):
                findings.authentication = "accepted"
        else:
            findings.authentication = "not asked for"
            findings.warn(
                "authentication",
                "the node asks for no password: who can connect can read and change "
                "all sessions",
                "Start memcached with -Y and a file of user:password lines.",
            )
        finally:
            client.close()


class _WrongAnswer(Exception):
    """The answer is well formed, and not what has to come."""


class _Fails(Exception):
    """A command does not work."""

    def __init__(self, command: str, error: Exception) -> None:
        super().__init__(command)
        self.command = command
        self.error = error


def _own_key() -> str:
    """Return a key that nothing else uses."""
    return f"mcsession:doctor:{secrets.token_hex(16)}"


def _encryption(connection: ssl.SSLSocket) -> Encryption:
    cipher = connection.cipher()
    certificate: dict[str, Any] = connection.getpeercert() or {}
    ends = ssl.cert_time_to_seconds(certificate["notAfter"])
    return Encryption(
        protocol=connection.version() or "",
        cipher=cipher[0] if cipher else "",
        certificate_ends=datetime.fromtimestamp(ends, UTC).isoformat(),
        certificate_left=ends - time.time(),
    )


def _number(told: Mapping[bytes, Any], name: str) -> int | None:
    value = told.get(name.encode())
    if isinstance(value, int) and 0 <= value < _MAX_NUMBER:
        return value
    return None


def _plain(value: object) -> str | None:
    # It goes to a terminal: no control characters, and no end of it.
    if not isinstance(value, bytes):
        return None
    text = value[:_MAX_TEXT].decode("ascii", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


# What errors mean, and what to do.


_CLOSED = (
    ConnectionResetError,
    BrokenPipeError,
    pymemcache.MemcacheUnexpectedCloseError,
)


def _wants_credentials(error: Exception) -> bool:
    """Return whether the node refuses who asks, not what is asked."""
    if isinstance(error, errors.AuthenticationFailed):
        return True
    return isinstance(error, pymemcache.MemcacheClientError) and b"auth" in errors.said(
        error
    )


def _has_no_memory(error: Exception) -> bool:
    return b"out of memory" in errors.said(error)


def _is_final(error: Exception) -> bool:
    """Return whether there is no sense in asking the node for something else.

    A connection that is closed, or an answer that is an error, may be what a
    proxy does with one command.
    """
    if isinstance(error, _CLOSED):
        return False
    return isinstance(error, OSError) or _wants_credentials(error)


def _diagnosis(error: Exception) -> tuple[str, str, str]:
    """Return a code, what happened, and what to do: no part of keys or answers."""
    if isinstance(error, errors.NotConnected) and isinstance(
        error.__cause__, Exception
    ):
        error = error.__cause__
    for fits, code, text, advice in DIAGNOSES:
        if isinstance(error, fits) if isinstance(fits, type | tuple) else fits(error):
            return code, text or errors.reason(error), advice
    return "nonsense", errors.reason(error), "Is it a memcached that listens there?"


_LIMIT = "Is its connection limit (-c) reached?"
# The first that fits. Without a text: the one that applications see.
DIAGNOSES: list[tuple[Any, str, str, str]] = [
    (errors.AuthenticationFailed, "refused", "the user name or the password is refused",
     "Correct them in the URL, encoded as in memcached://user:p%40ss@host, or in the "
     "file that memcached's -Y names, and restart it."),
    (_wants_credentials, "credentials", "a user name and a password are wanted",
     "Put them into the URL: memcached://user:password@host:port."),
    (_has_no_memory, "full", "the node is out of memory",
     "Give it more (-m), or let the oldest items make room (no -M)."),
    (errors.SeveralAddresses, "addresses", "",
     "Each may be another server, and a session would be found on one of them."),
    (gaierror, "name", "", "Correct the URL, or the name service."),
    (TimeoutError, "silent", "no answer in time",
     "Is it overloaded or stopped? Does a firewall swallow what is sent to it?"),
    ((ConnectionRefusedError, FileNotFoundError), "down", "nothing listens there",
     "Start memcached, or correct the URL."),
    (PermissionError, "permission", "this user may not connect",
     "Give it the right to the socket (memcached's -a), or ask as another user."),
    (ssl.SSLCertVerificationError, "certificate", "",
     "Name the authority that signed it (tls_ca=/path in the URL), and the node by a "
     "name that is in it; renew it where it has expired."),
    (ssl.SSLError, "tls", "",
     "Without TLS the URL begins with memcached://. Where the node wants a client's "
     "certificate, give tls_cert=/path and tls_key=/path in the URL."),
    (_CLOSED, "closed", "the connection is closed without an answer",
     f"If it wants TLS, the URL begins with memcacheds://. {_LIMIT} If it runs with "
     "SASL (-S), it needs -Y instead."),
    (pymemcache.MemcacheUnknownCommandError, "error", "the answer is ERROR", _LIMIT),
    (pymemcache.MemcacheServerError, "error", "the answer is an error",
     "memcached's own log may tell more; where a proxy is in front, its servers may be "
     "down."),
    (ConnectionError, "error", "the connection is not taken",
     f"{_LIMIT} Is it a memcached that listens there?"),
    (OSError, "network", "", "Correct the URL, or the way to that host."),
]  # fmt: skip
