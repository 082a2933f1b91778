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
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
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
