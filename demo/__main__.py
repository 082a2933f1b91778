"""Start the shop: one process, or several that share their visitors' sessions.

python -m demo
python -m demo --processes 2 --store memcached://127.0.0.1:11211
curl -i -c jar -b jar -X POST http://127.0.0.1:8888/api/counter
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import socket
import sys

from demo.app import make_app
from demo.cluster import SECRET_VARIABLE, run_children
from demo.panel import Process
from demo.preflight import CannotListen, listen, silent_nodes
from demo.server import serve, stop_signal

MEMCACHED = "memcached://127.0.0.1:11211"


def main() -> int:
    parser = make_parser()
    options = parser.parse_args()
    if options.inherit:
        return asyncio.run(run_child(options))
    if options.processes > 1 and options.store.startswith("memory:"):
        parser.error(
            f"{options.store} lives inside one process, so {options.processes} "
            f"processes would not share a session; add --store {MEMCACHED}"
        )
    if options.port + options.processes > 65536:
        parser.error(f"--port {options.port} leaves no room for {options.processes}")
    try:
        make_app(options.store, "checked only", Process(0, [0]))
    except (ValueError, TypeError) as error:
        parser.error(f"--store {options.store}: {error}")
    try:
        listening = listen(options.address, options.port, options.processes)
    except CannotListen as error:
        parser.exit(1, f"demo: {error}\n")
    announce(options, list(listening))
    return asyncio.run(run_parent(options, listening))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--port", type=port, default=8888, help="the first port (%(default)s); 0: any"
    )
    parser.add_argument(
        "--address", default="127.0.0.1", help="where to listen (%(default)s)"
    )
    parser.add_argument(
        "--store",
        default="memory://",
        help=f"where sessions are kept (%(default)s), for example {MEMCACHED}",
    )
    parser.add_argument(
        "--processes",
        type=count,
        default=1,
        help="how many, each on a port of its own (%(default)s)",
    )
    # For the children that --processes starts.
    parser.add_argument("--inherit", type=numbers, help=argparse.SUPPRESS)
    parser.add_argument("--ports", type=numbers, help=argparse.SUPPRESS)
    return parser


def port(text: str) -> int:
    """Return a port; the system would quietly take 99999 for 34463."""
    if not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 65535")
    return int(text)


def count(text: str) -> int:
    if not 1 <= int(text) <= 16:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 16")
    return int(text)


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def cookie_secret() -> str:
    """Return the key that signs the cookies.

    A key in a public repository is no secret, so each start makes its own and
    hands it to its children. That ends the sessions of the start before. Set
    DEMO_COOKIE_SECRET to keep them over a restart, or to put processes that were
    started one by one behind one load balancer; a real shop does just that.
    """
    return os.environ.get(SECRET_VARIABLE) or secrets.token_hex(32)


def announce(options: argparse.Namespace, ports: list[int]) -> None:
    """Say where the shop is, and what it keeps its sessions in."""
    for node, command in silent_nodes(options.store):
        print(
            f"Nobody answers at {node}. The shop opens all the same, and shows what "
            f"visitors see\nwhile memcached is away. To start it: {command}\n",
            file=sys.stderr,
        )
    everywhere = "0.0.0.0"  # nosec B104 # compared with, not bound to
    host = options.address
    if host in ("", everywhere):
        host = "127.0.0.1"
    print("Open " + "  or  ".join(f"http://{host}:{port}/" for port in ports))
    if len(ports) > 1:
        print(f"{len(ports)} processes, one session: log in at one, go on at another.")
    print("Ctrl-C ends it.", flush=True)


async def run_parent(
    options: argparse.Namespace, listening: dict[int, list[socket.socket]]
) -> int:
    stop = stop_signal()
    if len(listening) > 1:
        return await run_children(listening, options.store, cookie_secret(), stop)
    ((port, sockets),) = listening.items()
    set_up_log(port)
    app = make_app(options.store, cookie_secret(), Process(port, [port]))
    await serve(app, sockets, stop)
    return 0


async def run_child(options: argparse.Namespace) -> int:
    sockets = [socket.socket(fileno=number) for number in options.inherit]
    port = sockets[0].getsockname()[1]
    set_up_log(port)
    app = make_app(options.store, cookie_secret(), Process(port, options.ports))
    await serve(app, sockets, stop_signal(with_parent=True))
    return 0


def set_up_log(port: int) -> None:
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s  port {port}  %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )


if __name__ == "__main__":
    sys.exit(main())
