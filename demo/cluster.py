"""The workers of the demo, which share one port, and the parent that watches them.

python -m demo --processes 2 --store memcached://127.0.0.1:11211
curl -c jar -b jar -X POST http://127.0.0.1:8888/api/counter
curl -c jar -b jar -X POST http://127.0.0.1:8888/api/counter
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess  # nosec B404 # starts this program again
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from demo.control import LINE_LIMIT, Setup
from demo.memcached import OwnMemcached

__all__ = ["SETUP_VARIABLE", "Cluster"]

SETUP_VARIABLE = "DEMO_SETUP"
STOP_SECONDS = 10
AWAY_SECONDS = 10.0  # memcached
END_AFTER = 0.3  # so that the response of who asked still leaves
RESTART_AFTER = 3.0
LIVED_SECONDS = 5.0  # a process that ends sooner would end again


@dataclass
class Worker:
    """A process, its end of the line, and whether it was ended on purpose."""

    process: asyncio.subprocess.Process
    writer: asyncio.StreamWriter
    began: float = field(default_factory=time.monotonic)
    is_ending: bool = False


class Cluster:
    """Starts the workers, passes on what they say, and does what they ask for."""

    def __init__(
        self,
        setup: Setup,
        sockets: Sequence[socket.socket],
        memcached: OwnMemcached | None,
    ) -> None:
        self._setup = setup
        self._sockets = sockets
        self._memcached = memcached
        self._is_away = False
        self._workers: list[Worker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[str] | None = None

    async def run(self, stop: asyncio.Event) -> int:
        """Run until ``stop`` is set, or until a worker ends as soon as it has begun.

        The sockets are bound already, so a port in use was noticed before. Return
        the exit status: 0 after ``stop``, else 1.
        """
        self._failed = asyncio.get_running_loop().create_future()
        stopping = asyncio.create_task(stop.wait())
        try:
            for _ in range(self._setup.processes):
                await self._start()
            ends: list[asyncio.Future[Any]] = [stopping, self._failed]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                return 0
            print(f"{self._failed.result()}; the demo ends.", file=sys.stderr)
            return 1
        finally:
            for task in [stopping, *self._tasks]:
                task.cancel()
            # Else no worker could save what is under way.
            if self._memcached is not None and self._is_away:
                self._memcached.resume()
            await asyncio.gather(*(_end(worker.process) for worker in self._workers))

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        numbers = [theirs.fileno(), *(each.fileno() for each in self._sockets)]
        # What is secret goes through the environment: arguments can be read by every
        # user of the machine. The pipe tells the worker when the parent is gone; the
        # session of its own keeps a Ctrl-C in the terminal for the parent, which
        # passes it on.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "demo", "--worker", ",".join(map(str, numbers))),
            env=os.environ | {SETUP_VARIABLE: self._setup.to_json()},
            pass_fds=numbers,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
        worker = Worker(process, writer)
        self._workers.append(worker)
        self._do(self._listen(worker, reader))
        self._do(self._watch(worker))

    def _do(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, worker: Worker) -> None:
        status = await worker.process.wait()
        self._workers.remove(worker)
        worker.writer.close()
        told = f"The process {worker.process.pid} ended with status {status}"
        has_lived = time.monotonic() - worker.began > LIVED_SECONDS
        if not worker.is_ending and has_lived:
            print(f"{told}; a new one starts in its place.", file=sys.stderr)
        if worker.is_ending or has_lived:
            await asyncio.sleep(RESTART_AFTER)
            await self._start()
        elif self._failed is not None and not self._failed.done():
            self._failed.set_result(told)

    async def _listen(self, worker: Worker, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):  # it has ended
            while line := await reader.readline():
                said = json.loads(line)
                if "trace" in said:
                    for other in self._workers:
                        if other is not worker:
                            _send(other, said)
                else:
                    refused = self._asked(worker, said["ask"])
                    _send(worker, {"number": said["number"], "refused": refused})

    def _asked(self, worker: Worker, what: str) -> str:
        """Do what a worker asks for; return why not, or an empty text."""
        if what == "pause":
            return self._setup.no_pause or self._pause()
        return self._setup.no_end or self._end_soon(worker)

    def _pause(self) -> str:
        if self._is_away or self._memcached is None:
            return "memcached is away already."
        self._is_away = True
        self._memcached.pause()
        self._do(self._resume_later(self._memcached))
        return ""

    async def _resume_later(self, memcached: OwnMemcached) -> None:
        await asyncio.sleep(AWAY_SECONDS)
        memcached.resume()
        self._is_away = False

    def _end_soon(self, worker: Worker) -> str:
        going_on = [each for each in self._workers if not each.is_ending]
        if len(going_on) < 2 or worker.is_ending:
            return "The other process is still starting. Try again in a moment."
        worker.is_ending = True
        self._do(self._kill_later(worker))
        return ""

    async def _kill_later(self, worker: Worker) -> None:
        await asyncio.sleep(END_AFTER)
        with suppress(ProcessLookupError):
            worker.process.kill()


def _send(worker: Worker, said: dict[str, Any]) -> None:
    worker.writer.write(json.dumps(said).encode() + b"\n")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a worker politely; one that does not go in time is killed."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
