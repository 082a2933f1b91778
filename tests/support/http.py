"""An HTTP/1.1 client that sends exactly the bytes a test asks for."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

# Much longer than any answer takes, and shorter than a test's own limit.
TIMEOUT = 20.0


@dataclass(frozen=True)
class Response:
    """An answer as it came over the wire."""

    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The value of a header that comes at most once."""
        values = self.all_headers(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    def all_headers(self, name: str) -> list[str]:
        """Each line of a header that may come more than once (Set-Cookie)."""
        return self.headers.get_all(name) or []


class RawConnection:
    """One connection to 127.0.0.1, for keep-alive, pipelining and odd requests.

    Each call ends with a TimeoutError rather than hanging::

        async with await RawConnection.open(http_port) as connection:
            await connection.send(b"GET / HTTP/1.0\\r\\n\\r\\n")
            response = await connection.receive()
            assert await connection.is_closed()
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> RawConnection:
        async with asyncio.timeout(TIMEOUT):
            return cls(*await asyncio.open_connection(host, port))

    async def __aenter__(self) -> RawConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.abort()

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """Send a request and return its whole answer."""
        await self.send(encode_request(method, path, headers, body))
        return await self.receive(method)

    async def receive(self, method: str = "GET") -> Response:
        """Read one whole answer to a request with ``method``."""
        head = await self.receive_head()
        if method == "HEAD" or head.status in (101, 204, 304):
            return head
        body = b"".join([chunk async for chunk in self.receive_body(head)])
        return Response(head.status, head.reason, head.headers, body)

    async def receive_head(self) -> Response:
        """Read the status line and headers of the next final answer, no body."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                data = await self._reader.readuntil(b"\r\n\r\n")
                status_line, _, fields = data.partition(b"\r\n")
                _, status, reason = (status_line + b" ").decode().split(" ", 2)
                if status != "100":
                    headers = http.client.parse_headers(io.BytesIO(fields))
                    return Response(int(status), reason.strip(), headers)

    async def receive_body(self, head: Response) -> AsyncIterator[bytes]:
        """Read the pieces of a body as the server has flushed them.

        A body that breaks off is an `asyncio.IncompleteReadError`.
        """
        length = head.header("Content-Length")
        if head.header("Transfer-Encoding") == "chunked":
            while size := int(await self._read_line(), 16):
                yield await self._read(size)
                await self._read_line()
            await self._read_line()
        elif length is not None:
            yield await self._read(int(length))
        else:
            async with asyncio.timeout(TIMEOUT):
                yield await self._reader.read()

    async def _read_line(self) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            return await self._reader.readuntil(b"\r\n")

    async def _read(self, size: int) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            return await self._reader.readexactly(size)

    async def is_closed(self, timeout: float = TIMEOUT) -> bool:
        """Whether the server closes, without sending more, within ``timeout``."""
        try:
            async with asyncio.timeout(timeout):
                return not await self._reader.read(1)
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def abort(self) -> None:
        """Leave at once, as a client does that lost its network or patience."""
        self._writer.transport.abort()


def encode_request(
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> bytes:
    """The bytes of an HTTP/1.1 request, with Host and Content-Length if needed."""
    fields = {"Host": "127.0.0.1", **(headers or {})}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")
