"""What a worker knows of the demo around it, and its line to the parent.

The line is a socket with a JSON object on each line. A worker sends the traces of its
requests, which the parent passes on to the other workers, and asks for what only the
parent can do: stop memcached for a while, end a worker.

python -m demo
curl http://127.0.0.1:8888/proof/trace?action=0123456789abcdef
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from demo.trace import Trace, Traces

__all__ = ["LINE_LIMIT", "Control", "Setup", "is_loopback"]

ASK_SECONDS = 5
TRACE_SECONDS = 2.0
LINE_LIMIT = 1 << 20


@dataclass(frozen=True)
class Setup:
    """How the demo was started. The parent tells each worker."""

    store: str = field(repr=False)
    """The URL of the store, which may have a password."""
    kind: str
    """``"own"``: a memcached of the demo's own; ``"given"``: the ``--store`` option;
    ``"memory"``: the embedded store; ``"missing"``: the same, without memcached."""
    processes: int
    port: int
    is_local: bool
    """Whether only this machine can reach the demo."""
    idle_timeout: float
    cookie_secret: str = field(repr=False)
    fingerprint_key: str = field(repr=False)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Setup:
        return cls(**json.loads(text))

    @property
    def is_memory(self) -> bool:
        return self.kind in ("memory", "missing")

    @property
    def no_pause(self) -> str | None:
        """Why memcached cannot be taken away; None if it can."""
        if self.kind == "missing":
            return (
                "No memcached was found on this machine. Install it and start the "
                "demo again to see this."
            )
        if self.kind == "memory":
            return (
                "There is no memcached: sessions are kept in the memory of this "
                "process. Start scripts/demo without --store to see this."
            )
        if self.kind == "given":
            return (
                "The demo stops only a memcached that it started itself. Start "
                "scripts/demo without --store to see this."
            )
        return self._no_stranger

    @property
    def no_end(self) -> str | None:
        """Why no process can be ended; None if one can."""
        if self.is_memory:
            return (
                "The sessions are kept in the memory of the only process, so they "
                "would end with it. This needs memcached."
            )
        if self.processes == 1:
            return "The demo runs in one process. Start it with --processes 2."
        return self._no_stranger

    @property
    def _no_stranger(self) -> str | None:
        if self.is_local:
            return None
        return (
            "The demo can be reached from other machines, so this is off. Start it "
            "without --address."
        )


def is_loopback(host: str) -> bool:
    """Return whether a name or address always stands for this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Control:
    """A worker's end of the line."""

    def __init__(self, line: socket.socket | None = None) -> None:
        self.traces = Traces()
        self._line = line
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._asked: dict[int, asyncio.Future[str]] = {}

    async def open(self) -> None:
        if self._line is not None:
            reader, self._writer = await asyncio.open_connection(
                sock=self._line, limit=LINE_LIMIT
            )
            self._reader = asyncio.create_task(self._listen(reader))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            said = json.loads(line)
            if "trace" in said:
                self.traces.add(said["trace"])
            elif (asked := self._asked.pop(said["number"], None)) is not None:
                asked.set_result(said["refused"])

    def publish(self, trace: Trace) -> None:
        """Let every worker know the trace of a request."""
        self.traces.add(trace)
        self._send({"trace": trace})

    async def trace(self, action: str, count: int) -> list[Trace]:
        return await self.traces.wait(action, count, TRACE_SECONDS)

    async def ask(self, what: str) -> str:
        """Ask the parent to do something; return why it did not, or an empty text."""
        number = len(self._asked) + 1
        while number in self._asked:
            number += 1
        self._asked[number] = asyncio.get_running_loop().create_future()
        self._send({"ask": what, "number": number, "pid": os.getpid()})
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await self._asked[number]
        except TimeoutError:
            self._asked.pop(number, None)
            return "The demo did not answer."

    def _send(self, said: dict[str, Any]) -> None:
        if self._writer is not None:
            with suppress(OSError):
                self._writer.write(json.dumps(said).encode() + b"\n")

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        if self._writer is not None:
            self._writer.close()
