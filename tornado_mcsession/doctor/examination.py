"""Examines the nodes of a store URL: can they keep sessions, and how well?"""

from __future__ import annotations

import contextlib
import secrets
import ssl
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from multiprocessing.pool import ThreadPool
from socket import gaierror
from types import SimpleNamespace
from typing import Any

from pymemcache import exceptions as pymemcache

from ..stores import memcached
from ..stores.base import CasResult
from ..stores.memcached import errors, protocol
from ..stores.memcached.connection import Access, Connector
from ..stores.memcached.protocol import Client
from .findings import Clock, Connections, Encryption, Findings, Memory, RoundTrip

__all__ = ["DIAGNOSES", "Doctor"]

# If each response comes just in time, the examination of a node ends after this many
# times the timeout of one response.
_TIMEOUTS = 20
_WORKERS = 16
_READS = 20
_FRESH = 8
# If the doctor's item cannot be deleted, it expires after this many seconds.
_EXPIRE = 30
# As large as many sessions are. memcached keeps items of different sizes in different
# memory, and only some of it may be full.
_VALUE = b"x" * 300
_MAX_NUMBER = 2**64  # memcached's counters have 64 bits
_MAX_TEXT = 40

# Options of a URL that have nothing to do with a single connection.
_POOL_OPTIONS = {"timeout", "threads", "max_pending", "weights", "reconnect_timeout"}
# For each setting of memcached: the value that opens the node, what everybody can then
# do, and the option that prevents it.
_OPEN = {
    "flush_enabled": (b"yes", "end all sessions at once by flush_all", "-F"),
    "dump_enabled": (b"yes", "list the store's keys, which are no session ids", "-X"),
    "shutdown_command": (b"yes", "stop memcached", "no -A"),
}


class Doctor:
    """Examines the nodes that a ``store`` setting names.

    Raises `ValueError` for a URL that `.MemcachedStore` would refuse. The doctor
    changes nothing in a node but an item of its own, which it deletes again.
    """

    def __init__(self, url: str) -> None:
        if url.startswith("memory:"):
            raise ValueError(
                "memory:// keeps sessions in the application itself: there is no "
                "node to examine"
            )
        self._timeout = memcached.MemcachedStore.from_url(url).timeout
        names, options = memcached.parse_url(url)
        self._servers = memcached.parse_servers(names)
        self._access = {k: options[k] for k in options if k not in _POOL_OPTIONS}
        weights = memcached.parse_weights(self._servers, options.get("weights"))
        self._shares = memcached.Router(weights).shares()

    @property
    def names(self) -> list[str]:
        """The nodes' names, in the order of the URL."""
        return [server.name for server in self._servers]

    def examine(self) -> Iterator[Findings]:
        """Yield the findings about each node as soon as they are complete."""
        # The pool's threads are daemons: Ctrl-C does not wait for a node.
        with ThreadPool(min(_WORKERS, len(self._servers))) as pool:
            yield from pool.imap_unordered(self._examine, self._servers)

    def _examine(self, server: memcached.Server) -> Findings:
        findings = Findings(name=server.name, share=self._shares[server.name])
        _Examination(server, self._access, self._timeout, findings).run()
        findings.judge()
        return findings


class _Examination:
    """Asks one node one thing after another, and notes what it finds.

    Each response has ``timeout`` seconds. The examination as a whole has a limit, too.
    """

    def __init__(
        self,
        server: memcached.Server,
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
        """Examine the node."""
        findings = self._findings
        try:
            self._try_commands()
            if findings.commands["gets"]:
                self._measure_reads()
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

        An exception closes the connection: what arrives on it later could belong to
        the call that failed.
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

    def _read(self, key: str, client: Client | None = None) -> Any:
        return self._ask(lambda client: client.read([key]), client)

    def _write(self, command: str, request: bytes) -> Any:
        call: Any = SimpleNamespace(kind=command, request=request)
        (result,) = self._ask(lambda client: client.write([call]))
        if isinstance(result, Exception):
            raise result
        return result

    # The commands that sessions need, tried with an item of the doctor's own.

    def _try_commands(self) -> None:
        """Use each command as sessions do. Stop at the first that does not work."""
        key, findings = self._key, self._findings
        add = protocol.add(key, _VALUE, _EXPIRE, 0)
        try:
            self._try("gets", lambda: self._read(key), {})
            self._try("add", lambda: self._write("add", add), True)
            self._try("add", lambda: self._write("add", add), False)
            found = self._try("gets", lambda: self._read(key))
            self._try_new_connections()
            token = found[key].token if key in found else b"1"
            cas = protocol.cas(key, _VALUE, _EXPIRE, token, 0)
            self._try("cas", lambda: self._write("cas", cas), CasResult.STORED)
            self._try("cas", lambda: self._write("cas", cas), CasResult.CONFLICT)
        except _Unusable:
            pass  # it is among the findings
        finally:
            findings.cas = findings.commands["cas"]
            if findings.commands["gets"] is not None:
                with contextlib.suppress(Exception):
                    self._write("delete", protocol.delete(key))

    def _try(self, command: str, call: Callable[[], Any], expected: Any = None) -> Any:
        """Return what ``call`` returns. Raise `_Unusable` if ``command`` fails."""
        findings = self._findings
        try:
            result = call()
            if expected is not None and result != expected:
                if command == "cas":
                    # The node refuses each cas, or takes any token.
                    raise errors.CasDisabled
                raise pymemcache.MemcacheUnknownError
        except Exception as error:
            if _is_final(error):
                raise
            code, text, advice = _diagnosis(error)
            if isinstance(error, errors.CasDisabled):
                command = "cas"
            elif command != "gets" or findings.commands["add"]:
                text = f"sessions need {command}: {text}"
                advice += " Does a proxy in front let it through?"
            findings.commands[command] = False
            findings.problem(code, text, advice)
            raise _Unusable from error
        findings.commands[command] = True
        return result

    def _try_new_connections(self) -> None:
        """Check that each new connection leads to the same server."""
        if isinstance(self._server.address, str):
            return
        client = self._new_client(self._access)
        for _ in range(_FRESH):
            try:
                found = self._read(self._key, client)
            finally:
                client.close()
            self._findings.same_server = bool(found)
            if not found:
                self._findings.problem(
                    "several-servers",
                    "an item written on one connection is not found on another: this "
                    "name or address leads to different servers",
                    "List the nodes one by one in the URL, each by its own address.",
                )
                return

    def _measure_reads(self) -> None:
        """Measure reads of different keys: a proxy sends them to different nodes."""
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
        trip = RoundTrip(statistics.median(times), max(times), len(times))
        self._findings.round_trip = trip
        if trip.worst > self._timeout / 2:
            self._findings.warn(
                "slow",
                f"one of the reads took more than half of the {self._timeout:g} s that "
                "an operation has: requests will fail",
                "Is the node, the network or this machine overloaded? A longer "
                "timeout in the URL lets requests wait.",
            )

    # What the node says about itself. What it does not say stays `None`.

    def _read_statistics(self) -> None:
        findings = self._findings
        findings.version = _printable(self._try_to_ask(lambda client: client.version()))
        began = time.time()
        stats = self._try_to_ask(lambda client: client.stats()) or {}
        ended = time.time()
        settings = self._try_to_ask(lambda client: client.stats("settings")) or {}
        findings.uptime = _number(stats, "uptime")
        findings.item_size_max = _number(settings, "item_size_max")
        used, limit = _number(stats, "bytes"), _number(stats, "limit_maxbytes")
        if used is not None and limit is not None:
            evicts = {b"on": True, b"off": False}.get(settings.get(b"evictions", b""))
            evictions = _number(stats, "evictions") or 0
            refused = _number(stats, "store_no_memory") or 0
            findings.memory = Memory(used, limit, evicts, evictions, refused)
        now, most = (
            _number(stats, "curr_connections"),
            _number(stats, "max_connections"),
        )
        if now is not None and most is not None:
            refused = _number(stats, "rejected_connections") or 0
            findings.connections = Connections(now, most, refused)
        clock = _number(stats, "time")
        if clock is not None:
            # memcached adds whole seconds of uptime to the whole second of its start.
            # So its time is between 0 and 2 s behind its clock.
            findings.clock = Clock(
                difference=clock + 1 - (began + ended) / 2,
                uncertainty=1 + (ended - began) / 2,
            )
        if findings.memory is None:
            findings.warn(
                "proxy",
                "the node does not show its statistics: is it a proxy, such as "
                "twemproxy?",
                "Its auto_eject_hosts must be false, or sessions move to other servers "
                "and logouts come undone. Run doctor on each memcached behind it, too.",
            )
        elif findings.item_size_max is None:
            findings.note(
                "settings",
                "the node does not show its settings, as some managed servers do not: "
                "its item size is not known",
                "Look up its largest item, and set max_size below it.",
            )
        if is_open := [
            (what, option)
            for name, (value, what, option) in _OPEN.items()
            if settings.get(name.encode()) == value
        ]:
            actions, options = zip(*is_open, strict=True)
            findings.note(
                "open",
                f"everybody who can connect can {', '.join(actions)}",
                f"These options of memcached prevent it: {' '.join(options)}.",
            )

    def _try_to_ask(self, call: Callable[[Any], Any]) -> Any:
        try:
            return self._ask(call)
        except Exception:
            return None  # twemproxy, for one, closes the connection

    def _try_without_credentials(self) -> None:
        findings = self._findings
        if "username" not in self._access:
            findings.authentication = "none"
            return
        access = dict(self._access)
        del access["username"], access["password"]
        client = self._new_client(access)
        try:
            self._read(_own_key(), client)
        except Exception as error:
            if _wants_credentials(error):
                findings.authentication = "accepted"
        else:
            findings.authentication = "not asked for"
            findings.warn(
                "authentication",
                "the node asks for no password: everybody who can connect can read and "
                "change all sessions",
                "Start memcached with -Y and a file of user:password lines.",
            )
        finally:
            client.close()


class _Unusable(Exception):
    """A command does not work; the findings say why."""


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


def _number(stats: Mapping[bytes, Any], name: str) -> int | None:
    value = stats.get(name.encode())
    is_number = isinstance(value, int) and 0 <= value < _MAX_NUMBER
    return value if is_number else None


def _printable(value: object) -> str | None:
    # The text goes to a terminal: no control characters, and not too much of it.
    if not isinstance(value, bytes):
        return None
    text = value[:_MAX_TEXT].decode("ascii", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


# What errors mean, and what to do.


def _wants_credentials(error: Exception) -> bool:
    """Return whether the node refuses the client, and not the command."""
    if isinstance(error, pymemcache.MemcacheClientError):
        return b"auth" in errors.said(error)
    return isinstance(error, errors.AuthenticationFailed)


def _is_final(error: Exception) -> bool:
    """Return whether another command would fail in the same way.

    A proxy may close the connection, or send an error, for one command only.
    """
    if isinstance(error, errors.STALE):
        return False
    return isinstance(error, OSError) or _wants_credentials(error)


def _diagnosis(error: Exception) -> tuple[str, str, str]:
    """Return a code, what happened, and what to do. No text quotes a response."""
    if isinstance(error, errors.NotConnected) and isinstance(
        error.__cause__, Exception
    ):
        error = error.__cause__
    for fits, code, text, advice in DIAGNOSES:
        if isinstance(error, fits) if isinstance(fits, type | tuple) else fits(error):
            return code, text or errors.reason(error), advice
    return "nonsense", errors.reason(error), "Does a memcached listen there?"


_LIMIT = "Is its connection limit (-c) reached?"
# The first that fits. An empty text stands for the one that applications see.
DIAGNOSES: list[tuple[Any, str, str, str]] = [
    (errors.AuthenticationFailed, "refused", "the user name or the password is refused",
     "Correct them in the URL, encoded as in memcached://user:p%40ss@host, or in the "
     "file that memcached's -Y names, and restart it."),
    (_wants_credentials, "credentials", "the node asks for a user name and a password",
     "Put them into the URL: memcached://user:password@host:port."),
    (errors.CasDisabled, "cas", "cas is off: no stored session could be changed",
     "Start memcached without -C."),
    (lambda error: b"out of memory" in errors.said(error), "full",
     "the node is out of memory",
     "Give it more (-m), or let it drop the oldest items (no -M)."),
    (errors.SeveralAddresses, "addresses", "",
     "Each may be another server, and only one of them would have a session."),
    (gaierror, "name", "", "Correct the URL, or the name service."),
    (TimeoutError, "silent", "no response in time",
     "Is the node overloaded or stopped? Does a firewall drop what is sent to it?"),
    ((ConnectionRefusedError, FileNotFoundError), "down", "nothing listens there",
     "Start memcached, or correct the URL."),
    (PermissionError, "permission", "this user may not connect",
     "Give the user access to the socket (memcached's -a), or run as another user."),
    (ssl.SSLCertVerificationError, "certificate", "",
     "Name the authority that signed it (tls_ca=/path in the URL), and the node by a "
     "name that the certificate holds. If it has expired, renew it."),
    (ssl.SSLError, "tls", "",
     "Without TLS the URL begins with memcached://. If the node asks for a client "
     "certificate, add tls_cert=/path and tls_key=/path to the URL."),
    (errors.STALE, "closed", "the node closes the connection without a response",
     f"If it expects TLS, the URL begins with memcacheds://. {_LIMIT} If it runs with "
     "SASL (-S), it needs -Y instead."),
    (pymemcache.MemcacheUnknownCommandError, "error", "the response is ERROR", _LIMIT),
    (pymemcache.MemcacheServerError, "error", "the response is an error",
     "Look into memcached's log. If there is a proxy in front, its servers may be "
     "down."),
    (ConnectionError, "error", "the node refuses the connection",
     f"{_LIMIT} Does a memcached listen there?"),
    (OSError, "network", "", "Correct the URL, or the route to that host."),
]  # fmt: skip
