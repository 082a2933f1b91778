"""A TCP proxy whose network a test can make slow, silent, broken or insane."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any

CHUNK = 65536


class FaultProxy:
    """Forwards a free port of 127.0.0.1 to ``target_port``, faithfully at first.

    The methods named after a fault put it in force for open and new connections,
    before they return; each one ends the one before. The loop runs in a thread of
    its own, so that a blocking client can be tested as well.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._answer: Callable[[Link, bytes], Coroutine[Any, Any, None]]
        self._answer = Link.send
        self._garbage: bytes | None = None
        self._is_refusing = False
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        """How many connections clients have made so far."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._is_open = self._run(self._make_event())

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"memcached://127.0.0.1:{self.port}"

    def pass_through(self) -> None:
        """Forward both ways; what `hang` held back goes on its way."""
        self._use()

    def delay(self, seconds: float) -> None:
        """Let each piece of an answer arrive ``seconds`` late."""

        async def answer(link: Link, data: bytes) -> None:
            await asyncio.sleep(seconds)
            await link.send(data)

        self._use(answer)

    def drip(self, size: int, seconds: float) -> None:
        """Let answers arrive ``size`` bytes at a time, ``seconds`` apart."""

        async def answer(link: Link, data: bytes) -> None:
            for start in range(0, len(data), size):
                await asyncio.sleep(seconds)
                await link.send(data[start : start + size])

        self._use(answer)

    def hang(self) -> None:
        """Accept connections, forward nothing, either way, until told otherwise."""
        self._use(hanging=True)

    def lose_answers(self) -> None:
        """Forward what clients send, and never an answer."""

        async def answer(link: Link, data: bytes) -> None:
            return

        self._use(answer)

    def garbage(self, data: bytes) -> None:
        """Answer whatever clients send with ``data``; the target gets nothing."""
        self._use(garbage=data)

    def cut(self) -> None:
        """Break open connections now, and each new one as soon as it is made."""
        self._use(refusing=True)

    def break_off(self) -> None:
        """Break open connections now; new ones are as good as before."""

        async def close() -> None:
            for link in self._links:
                link.close()

        self._run(close())

    def lose_confirmations(self) -> None:
        """Let each write be done, and its connection break before the answer."""

        async def answer(link: Link, data: bytes) -> None:
            if data.startswith((b"STORED", b"DELETED", b"TOUCHED")):
                link.close()
            else:
                await link.send(data)

        self._use(answer)

    def cut_after(self, size: int) -> None:
        """Break each connection when ``size`` more bytes of answers have passed."""
        left: dict[Link, int] = {}

        async def answer(link: Link, data: bytes) -> None:
            rest = left.get(link, size)
            left[link] = rest - len(data)
            await link.send(data[:rest])
            if len(data) >= rest:
                link.close()

        self._use(answer)

    def refuse_new(self) -> None:
        """Keep open connections as they are; the system refuses new ones."""

        async def refuse() -> None:
            self._server.close()

        self._run(refuse())

    def close(self) -> None:
        """End all; new connections are refused by the system."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _make_event(self) -> asyncio.Event:
        event = asyncio.Event()
        event.set()
        return event

    def _use(
        self,
        answer: Callable[[Link, bytes], Coroutine[Any, Any, None]] | None = None,
        *,
        hanging: bool = False,
        garbage: bytes | None = None,
        refusing: bool = False,
    ) -> None:
        async def use() -> None:
            self._answer = answer or Link.send
            self._garbage = garbage
            self._is_refusing = refusing
            if refusing:
                for link in self._links:
                    link.close()
            if hanging:
                self._is_open.clear()
            else:
                self._is_open.set()

        self._run(use())

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        link = Link(reader, writer)
        self._links.add(link)
        try:
            if not self._is_refusing:
                await self._serve(link)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            link.close()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _serve(self, link: Link) -> None:
        await link.connect(self._target_port)
        async with asyncio.TaskGroup() as group:
            requests = group.create_task(self._forward_requests(link))
            answers = group.create_task(self._forward_answers(link))
            # One side has closed: so does the other.
            await asyncio.wait([requests, answers], return_when="FIRST_COMPLETED")
            requests.cancel()
            answers.cancel()

    async def _forward_requests(self, link: Link) -> None:
        with contextlib.suppress(OSError):
            while data := await link.client_reader.read(CHUNK):
                await self._is_open.wait()
                if self._garbage is not None:
                    await link.send(self._garbage)
                else:
                    await link.ask(data)

    async def _forward_answers(self, link: Link) -> None:
        with contextlib.suppress(OSError):
            while data := await link.target_reader.read(CHUNK):
                await self._is_open.wait()
                await self._answer(link, data)

    async def _close(self) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class Link:
    """One client's connection and the one made to the target for it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.client_reader = reader
        self._client = writer
        self._target: asyncio.StreamWriter | None = None

    async def connect(self, port: int) -> None:
        self.target_reader, self._target = await asyncio.open_connection(
            "127.0.0.1", port
        )

    async def ask(self, data: bytes) -> None:
        assert self._target is not None
        self._target.write(data)
        await self._target.drain()

    async def send(self, data: bytes) -> None:
        self._client.write(data)
        await self._client.drain()

    def close(self) -> None:
        """Close both sides; what has been sent before still arrives."""
        self._client.close()
        if self._target is not None:
            self._target.close()
