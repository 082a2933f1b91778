"""A network between the application and one memcached node, with faults."""

from __future__ import annotations

import asyncio
import contextlib
import random

__all__ = ["Network"]

CHUNK = 65536


class Network:
    """Forwards a free port of 127.0.0.1 to ``target``.

    `fault` puts one fault in force and ends the one before; ``""`` ends it.
    """

    def __init__(self, target: int, chance: random.Random) -> None:
        self.port = 0
        self._target = target
        self._chance = chance
        self._fault = ""
        self._passes = asyncio.Event()
        self._passes.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def fault(self, kind: str) -> None:
        """Begin a fault.

        "hold back": nothing passes, and all that was sent arrives in the end,
        though nobody may wait for it any more. "black hole": it never arrives.
        "lose responses": commands arrive, and one response in ten does not; its
        connection breaks a little later, when others may have written. "delay":
        responses are 50 to 300 ms late.
        """
        if self._fault == "black hole" or kind == "break connections":
            self._break_all()
        self._fault = kind
        if kind in ("hold back", "black hole"):
            self._passes.clear()
        else:
            self._passes.set()

    def _break_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        target: asyncio.StreamWriter | None = None
        try:
            if self._fault == "break connections":
                return
            responses, target = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(target)
            back = asyncio.create_task(self._return(responses, writer))
            try:
                await self._forward(reader, target)
            finally:
                back.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for each in filter(None, (writer, target)):
                self._writers.discard(each)
                each.close()
            self._tasks.discard(task)

    async def _forward(
        self, reader: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(CHUNK):
            await self._passes.wait()
            target.write(data)
            await target.drain()

    async def _return(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if self._fault == "delay":
                    await asyncio.sleep(self._chance.uniform(0.05, 0.3))
                await self._passes.wait()
                if self._fault == "lose responses" and self._chance.random() < 0.1:
                    await asyncio.sleep(self._chance.uniform(0.0, 0.4))
                    break
                writer.write(data)
                await writer.drain()
        # Both sides see it: the node closed, or the connection broke.
        writer.transport.abort()
