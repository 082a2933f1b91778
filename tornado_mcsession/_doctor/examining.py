"""Examines the nodes of a store URL: can they keep sessions, and how well?"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from .._routing import Router
from ..stores._access import link_maker
from ..stores._servers import Server, parse_servers, parse_url, parse_weights
from ..stores.memcached import MemcachedStore
from .asking import Asker, diagnosis, wants_credentials
from .findings import Findings
from .judging import judge
from .reading import read_all
from .trials import own_key, try_commands, try_reads

__all__ = ["Doctor"]

# A node that answers everything just in time is examined for this many times as
# long as one answer may take.
_TIMEOUTS = 20
_WORKERS = 16

_LINK_OPTIONS = (
    "connect_timeout",
    "username",
    "password",
    "tls",
    "tls_ca",
    "tls_cert",
    "tls_key",
)


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
        self._links = {name: options[name] for name in _LINK_OPTIONS if name in options}
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
        for _ in range(min(_WORKERS, len(self._servers))):
            # Daemons: Ctrl-C ends the program without waiting for a node.
            threading.Thread(
                target=self._work, args=(waiting, done), daemon=True
            ).start()
        for _ in self._servers:
            found = done.get()
            if isinstance(found, Exception):
                raise found
            yield found

    def _work(
        self,
        waiting: queue.SimpleQueue[Server],
        done: queue.SimpleQueue[Findings | Exception],
    ) -> None:
        while True:
            try:
                server = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put(self._examine(server))
            except Exception as error:
                done.put(error)

    def _examine(self, server: Server) -> Findings:
        findings = Findings(name=server.name, share=self._shares[server.name])
        limit = time.monotonic() + _TIMEOUTS * self._timeout
        asker = self._asker(server, self._links, limit)
        try:
            try_commands(asker, findings)
            if findings.commands["gets"]:
                try_reads(asker, findings, self._timeout)
            if any(findings.commands.values()):
                read_all(asker, findings)
                self._try_without_credentials(server, findings, limit)
        except Exception as error:
            self._give_up(findings, error)
        finally:
            asker.close()
        findings.tls = asker.encryption
        judge(findings)
        findings.sort()
        return findings

    def _asker(self, server: Server, links: dict[str, Any], limit: float) -> Asker:
        # A maker of its own: it keeps what is seen of TLS apart.
        return Asker(server, link_maker(**links), timeout=self._timeout, limit=limit)

    def _give_up(self, findings: Findings, error: Exception) -> None:
        if wants_credentials(error):
            findings.authentication = (
                "refused" if "username" in self._links else "missing"
            )
        findings.problem(*diagnosis(error))

    def _try_without_credentials(
        self, server: Server, findings: Findings, limit: float
    ) -> None:
        if "username" not in self._links:
            findings.authentication = "none"
            return
        links = dict(self._links)
        del links["username"], links["password"]
        asker = self._asker(server, links, limit)
        try:
            asker.ask(lambda client: client.gets_many([own_key()]))
        except Exception as error:
            if wants_credentials(error):
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
            asker.close()
