"""A proxy that knows memcached's commands, as twemproxy does and others do."""

from __future__ import annotations

from collections.abc import Callable

from ..support.proxy import FaultProxy, Link


class Middleman(FaultProxy):
    """Forwards what a test does not tell it to answer itself, or to change."""

    def __init__(self, target_port: int) -> None:
        self.sent: list[bytes] = []
        """What clients have sent, a command each."""
        self._answers: dict[bytes, bytes] = {}
        self._hangs_up_on: set[bytes] = set()
        super().__init__(target_port)

    def answer(self, command: bytes, data: bytes) -> None:
        """Answer ``command`` with ``data``, if any; the target does not see it."""
        self._answers[command] = data

    def hang_up(self, command: bytes) -> None:
        """Close the connection that ``command`` comes on, as twemproxy does."""
        self._hangs_up_on.add(command)

    def answer_line(self, line: bytes, data: bytes) -> None:
        """Answer this very line with ``data``."""
        self._answers[line] = data

    def hang_up_line(self, line: bytes) -> None:
        """Close the connection that this very line comes on."""
        self._hangs_up_on.add(line)

    def change(self, change: Callable[[bytes], bytes]) -> None:
        """Let answers arrive as ``change`` returns them."""

        async def answer(link: Link, data: bytes) -> None:
            await link.send(change(data))

        self._use(answer)

    async def _forward_requests(self, link: Link) -> None:
        forward = link.ask

        async def ask(data: bytes) -> None:
            self.sent.append(data)
            command, line = data.split()[0], data.removesuffix(b"\r\n")
            answer = self._answers.get(command, self._answers.get(line))
            if {command, line} & self._hangs_up_on:
                link.close()
            elif answer is None:
                await forward(data)
            elif answer:
                await link.send(answer)

        link.ask = ask  # type: ignore[method-assign]
        await super()._forward_requests(link)
