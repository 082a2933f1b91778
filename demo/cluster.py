"""Several processes of the shop, each on a port of its own, watched by a parent.

python -m demo --processes 2 --store memcached://127.0.0.1:11211
curl -c jar -b jar -X POST http://127.0.0.1:8888/api/counter
curl -c jar -b jar -X POST http://127.0.0.1:8889/api/counter
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess  # nosec B404 # starts this program again
import sys
from collections.abc import Mapping, Sequence

__all__ = ["SECRET_VARIABLE", "run_children"]

SECRET_VARIABLE = "DEMO_COOKIE_SECRET"  # nosec B105 # a name, not the secret
STOP_SECONDS = 10

Sockets = Sequence[socket.socket]


async def run_children(
    listening: Mapping[int, Sockets],
    store: str,
    cookie_secret: str,
    stop: asyncio.Event,
) -> int:
    """Run one child for each port until ``stop`` is set or one of them ends.

    The parent has bound the sockets, so a port in use was noticed before any
    child began. Return the exit status: 0 after ``stop``, else 1.
    """
    ports = list(listening)
    children = []
    try:
        for sockets in listening.values():
            children.append(await _start(sockets, ports, store, cookie_secret))
            for each in sockets:
                each.close()
        return await _watch(dict(zip(ports, children, strict=True)), stop)
    finally:
        await asyncio.gather(*map(_end, children))


async def _start(
    sockets: Sockets, ports: list[int], store: str, cookie_secret: str
) -> asyncio.subprocess.Process:
    descriptors = [each.fileno() for each in sockets]
    # The secret goes through the environment: arguments can be read by every user
    # of the machine. The pipe tells the child when the parent is gone; the session
    # of its own keeps a Ctrl-C in the terminal for the parent, which passes it on.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "demo", "--store", store),
        *("--inherit", ",".join(map(str, descriptors))),
        *("--ports", ",".join(map(str, ports))),
        env=os.environ | {SECRET_VARIABLE: cookie_secret},
        pass_fds=descriptors,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


async def _watch(
    children: dict[int, asyncio.subprocess.Process], stop: asyncio.Event
) -> int:
    ended = {
        asyncio.create_task(child.wait()): (port, child)
        for port, child in children.items()
    }
    stopping = asyncio.create_task(stop.wait())
    done, pending = await asyncio.wait(
        [*ended, stopping], return_when=asyncio.FIRST_COMPLETED
    )
    for task in pending:
        task.cancel()
    if stopping in done:
        return 0
    for task in done:
        port, child = ended[task]
        print(
            f"The process on port {port} (pid {child.pid}) ended with status "
            f"{child.returncode}; the demo ends.",
            file=sys.stderr,
        )
    return 1


async def _end(child: asyncio.subprocess.Process) -> None:
    """End a child politely; one that does not go in time is killed."""
    if child.returncode is None:
        child.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
