"""How much memory sessions and connections take in memcached.

    python -m benchmarks.size

Fills a memcached of its own for each size of the data, by the package, and prints
what a session takes: its item, the chunk of memory that memcached keeps it in (this is
what its option -m counts), and how much larger the process became. Then it does the
same for connections. Needs Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
from contextlib import ExitStack, closing
from pathlib import Path

from tests.support.memcached import Memcached
from tornado_mcsession import SessionManager

WRITERS = 32
CONNECTIONS = 1000
DATA = ("data", "item", "chunk", "process", "1 million in -m")


def resident(pid: int) -> int:
    """Return how many bytes of memory a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(re.findall(r"VmRSS:\s+(\d+)", status)[0])


def pid_of(server: Memcached) -> int:
    return int(server.stats()["pid"])


def chunk_of(server: Memcached, items: int) -> int:
    """Return the size of the chunks that most items are in."""
    lines = server.command(b"stats slabs").decode().splitlines()
    told = {}
    for line in lines[:-1]:
        name, value = line.split(" ")[1:3]
        told[name] = value
    classes = {name.split(":")[0] for name in told if name.endswith(":chunk_size")}
    largest = max(classes, key=lambda each: int(told[f"{each}:used_chunks"]))
    if int(told[f"{largest}:used_chunks"]) < items * 0.9:
        raise RuntimeError("the sessions are in chunks of several sizes")
    return int(told[f"{largest}:chunk_size"])


async def fill(url: str, count: int, size: int) -> None:
    """Store so many sessions, each with so many bytes of data."""
    manager = SessionManager(store=f"{url}/?timeout=10")
    numbers = iter(range(count))

    async def write() -> None:
        for number in numbers:
            # 8 bytes for the key and the length in front of the text.
            await manager.set(f"{number:043}", {"text": "x" * (size - 8)})

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    await manager.close()


def session_row(count: int, size: int) -> str:
    with closing(Memcached("-m", "4096")) as server:
        before = resident(pid_of(server))
        asyncio.run(fill(server.url, count, size))
        item = int(server.stats()["bytes"]) / count
        chunk = chunk_of(server, count)
        process = (resident(pid_of(server)) - before) / count
        # A page of 1 MiB holds whole chunks only.
        pages = -(-1_000_000 // (2**20 // chunk))
    return f"| {size} B | {item:.0f} B | {chunk} B | {process:.0f} B | {pages} MiB |"


def connection_bytes() -> float:
    """Return what a connection takes in memcached's process."""
    with ExitStack() as stack:
        server = stack.enter_context(closing(Memcached("-c", "4096")))
        before = resident(pid_of(server))
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(server.server, 5)
            stack.enter_context(connection)
            connection.sendall(b"mn\r\n")
            connection.recv(100)
        return (resident(pid_of(server)) - before) / CONNECTIONS


async def connections(server: Memcached) -> int:
    """Return how many connections a busy process has to a node."""
    before = int(server.stats()["curr_connections"])
    manager = SessionManager(store=server.url)
    for _ in range(5):
        await asyncio.gather(*(manager.set(f"{n:043}", {"n": n}) for n in range(500)))
    after = int(server.stats()["curr_connections"])
    await manager.close()
    return after - before


def main(options: argparse.Namespace) -> None:
    print(f"| {' | '.join(DATA)} |")
    print("|---" * len(DATA) + "|")
    for size in options.bytes:
        print(session_row(options.sessions, size), flush=True)
    print(f"\na connection: {connection_bytes():.0f} B in memcached")
    with closing(Memcached()) as server:
        busy = asyncio.run(connections(server))
    print(f"connections of a busy process to each node: {busy}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=100_000, help="(%(default)s)")
    parser.add_argument(
        "--bytes", type=int, nargs="+", default=(100, 300, 1000, 4000), help="of data"
    )
    main(parser.parse_args())
