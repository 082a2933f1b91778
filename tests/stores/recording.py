"""Servers that show what a store sends, and say what a test wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from ..support.proxy import FaultProxy, Link


class RecordingProxy(FaultProxy):
    """Remembers what clients have sent, each piece as it was read."""

    def __init__(self, target_port: int) -> None:
        self._pieces: list[bytes] = []
        super().__init__(target_port)

    @property
    def pieces(self) -> list[bytes]:
        """What clients have sent, each piece as it was read."""
        return self._pieces

    def commands(self, name: bytes) -> list[bytes]:
        """The command lines sent so far that begin with ``name``."""
        lines = b"".join(self._pieces).split(b"\r\n")
        return [line for line in lines if line.startswith(name + b" ")]

    async def _forward_requests(self, link: Link) -> None:
        ask = link.ask

        async def record(data: bytes) -> None:
            self._pieces.append(data)
            await ask(data)

        link.ask = record  # type: ignore[method-assign]
        await super()._forward_requests(link)


class SpoilingProxy(FaultProxy):
    """Gives one ``answer`` to whatever names ``key``; none means it hangs up."""

    def __init__(self, target_port: int, key: bytes, answer: bytes) -> None:
        self._key = key
        self._spoilt = answer
        super().__init__(target_port)

    async def _forward_requests(self, link: Link) -> None:
        ask = link.ask

        async def spoil(data: bytes) -> None:
            if self._key not in data:
                await ask(data)
            elif self._spoilt:
                await link.send(self._spoilt)
            else:
                link.close()

        link.ask = spoil  # type: ignore[method-assign]
        await super()._forward_requests(link)


class AnsweringProxy(FaultProxy):
    """Gives ``answer`` to the first piece that names ``what``, and passes it not on."""

    def __init__(self, target_port: int, what: bytes, answer: bytes) -> None:
        self._what: bytes | None = what
        self._given = answer
        super().__init__(target_port)

    async def _forward_requests(self, link: Link) -> None:
        ask = link.ask

        async def answer(data: bytes) -> None:
            if self._what is None or self._what not in data:
                await ask(data)
            else:
                self._what = None
                await link.send(self._given)

        link.ask = answer  # type: ignore[method-assign]
        await super()._forward_requests(link)


class ScriptedServer:
    """Gives its n-th connection to the n-th of ``scripts``, one after another."""

    def __init__(self, *scripts: Callable[[socket.socket], object]) -> None:
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.connections = 0

    @property
    def url(self) -> str:
        return f"memcached://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        self._thread.join(10)

    def hang_up(self) -> None:
        """Let nobody in any more."""
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _run(self) -> None:
        held = []
        for script in self._scripts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            self.connections += 1
            held.append(connection)
            connection.settimeout(10)
            script(connection)
        for connection in held:
            connection.close()


class ForgettingProxy(FaultProxy):
    """A firewall: it may forget connections, and then drops what comes on them."""

    def __init__(self, target_port: int) -> None:
        self._forgotten: set[Link] = set()
        super().__init__(target_port)

    def forget(self) -> None:
        """Drop all that comes on the connections there are; neither end is told."""

        async def forget() -> None:
            self._forgotten |= self._links

        self._run(forget())

    async def _forward_requests(self, link: Link) -> None:
        ask = link.ask

        async def drop_or_ask(data: bytes) -> None:
            if link not in self._forgotten:
                await ask(data)

        link.ask = drop_or_ask  # type: ignore[method-assign]
        await super()._forward_requests(link)


class LosingProxy(FaultProxy):
    """Loses the answer to the next piece that names ``what``, once it is told to.

    The connection breaks then, or is silent for ever.
    """

    def __init__(self, target_port: int, what: bytes, *, breaks: bool) -> None:
        self._what = what
        self._breaks = breaks
        self._is_on = False
        self._lost: set[Link] = set()
        self.then: Callable[[], object] = lambda: None
        """What to do when the answer is lost."""
        super().__init__(target_port)
        self._answer = self._lose

    def lose_one(self, what: bytes | None = None) -> None:
        """Lose the next answer; from now on, to what names ``what``."""
        self._what = self._what if what is None else what
        self._is_on = True

    async def _lose(self, link: Link, data: bytes) -> None:
        if link not in self._lost:
            await link.send(data)
            return
        self.then()
        if self._breaks:
            link.close()

    async def _forward_requests(self, link: Link) -> None:
        ask = link.ask

        async def watch(data: bytes) -> None:
            if self._is_on and self._what in data:
                self._is_on = False
                self._lost.add(link)
            await ask(data)

        link.ask = watch  # type: ignore[method-assign]
        await super()._forward_requests(link)


class DividingProxy(FaultProxy):
    """A balancer: each new connection leads to the next one of its targets."""

    def __init__(self, *ports: int) -> None:
        self._ports = ports
        self._turn = 0
        super().__init__(ports[0])

    async def _serve(self, link: Link) -> None:
        self._target_port = self._ports[self._turn % len(self._ports)]
        self._turn += 1
        await super()._serve(link)
