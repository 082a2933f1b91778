"""Start the shop: two processes and a memcached that all visitors' sessions are in.

python -m demo
python -m demo --processes 2 --store memcached://127.0.0.1:11211
curl -i -c jar -b jar -X POST http://127.0.0.1:8888/api/counter
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import secrets
import socket
import sys

from demo.app import make_app
from demo.cluster import SETUP_VARIABLE, Cluster
from demo.control import Control, Setup, is_loopback
from demo.memcached import OwnMemcached, find_memcached
from demo.preflight import CannotListen, listen, silent_nodes
from demo.server import serve, stop_signal

MEMCACHED = "memcached://127.0.0.1:11211"
SECRET_VARIABLE = "DEMO_COOKIE_SECRET"  # nosec B105 # a name, not the secret
IDLE_TIMEOUT = 30 * 60


def main() -> int:
    parser = make_parser()
    options = parser.parse_args()
    if options.worker:
        return asyncio.run(run_worker(options.worker))
    program = None if options.store else find_memcached()
    kind = "own" if program else "missing"
    if options.store:
        kind = "memory" if options.store.startswith("memory:") else "given"
    if kind in ("memory", "missing") and (options.processes or 1) > 1:
        parser.error(
            "memory:// lives inside one process, so "
            f"{options.processes} processes would not share a session; "
            + (
                f"add --store {MEMCACHED}"
                if options.store
                else "install memcached, which was not found, or name one: --store URL"
            )
        )
    store = options.store or "memory://"
    setup = make_setup(options, store, kind, 0)
    try:
        make_app(setup, Control())
    except (ValueError, TypeError) as error:
        parser.error(f"--store: {error}")  # not the URL: it may have a password
    try:
        sockets = listen(options.address, options.port)
    except CannotListen as error:
        parser.exit(1, f"demo: {error}\n")
    memcached = None
    if program:
        try:
            memcached = OwnMemcached(program)
        except OSError as error:
            parser.exit(1, f"demo: {error}; name another store: --store memory://\n")
        store = memcached.url
    try:
        setup = make_setup(options, store, kind, sockets[0].getsockname()[1])
        announce(options.address, setup)
        return asyncio.run(run_parent(setup, sockets, memcached))
    finally:
        if memcached is not None:
            memcached.close()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--port", type=port, default=8888, help="where to listen (%(default)s); 0: any"
    )
    parser.add_argument(
        "--address", default="127.0.0.1", help="where to listen (%(default)s)"
    )
    parser.add_argument(
        "--store",
        help=f"where sessions are kept, for example {MEMCACHED} or memory://; by "
        "default a memcached of the demo's own, if the program is found",
    )
    parser.add_argument(
        "--processes",
        type=count,
        help="how many share the port (2 with the demo's own memcached, else 1)",
    )
    parser.add_argument(
        "--idle-timeout",
        type=duration,
        default=IDLE_TIMEOUT,
        metavar="SECONDS",
        help="how long a session lives without a visit (%(default)s)",
    )
    # For the workers that the demo starts.
    parser.add_argument("--worker", type=numbers, help=argparse.SUPPRESS)
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


def duration(text: str) -> float:
    """Return seconds; less than ten would end while somebody reads the page."""
    if not 10 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not 10 or more")
    return float(text)


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def make_setup(options: argparse.Namespace, store: str, kind: str, port: int) -> Setup:
    """Return what the workers have to know.

    A key in a public repository is no secret, so each start makes its own. That ends
    the sessions of the start before. Set DEMO_COOKIE_SECRET to keep them over a
    restart, or to put processes that were started one by one behind one load
    balancer; a real shop does just that.
    """
    return Setup(
        store=store,
        kind=kind,
        processes=options.processes or (2 if kind == "own" else 1),
        port=port,
        is_local=is_loopback(options.address),
        idle_timeout=options.idle_timeout,
        cookie_secret=os.environ.get(SECRET_VARIABLE) or secrets.token_hex(32),
        fingerprint_key=secrets.token_hex(32),
    )


def announce(address: str, setup: Setup) -> None:
    """Say where the shop is, and what it keeps its sessions in."""
    for node, command in silent_nodes(setup.store):
        print(
            f"Nobody answers at {node}. The shop opens all the same, and shows what "
            f"visitors see\nwhile memcached is away. To start it: {command}\n",
            file=sys.stderr,
        )
    everywhere = "0.0.0.0"  # nosec B104 # compared with, not bound to
    host = "127.0.0.1" if address in ("", everywhere) else address
    print(f"Open http://{host}:{setup.port}/")
    if setup.kind == "missing":
        print(
            "No memcached was found, so sessions are kept in the memory of one process."
            "\nInstall memcached to see all of the demo."
        )
    if setup.kind == "own":
        print("A memcached of its own keeps the sessions, and ends with the demo.")
    if setup.processes > 1:
        print(f"{setup.processes} processes share the port and the sessions.")
    print("Ctrl-C ends it.", flush=True)


async def run_parent(
    setup: Setup, sockets: list[socket.socket], memcached: OwnMemcached | None
) -> int:
    return await Cluster(setup, sockets, memcached).run(stop_signal())


async def run_worker(numbers: list[int]) -> int:
    setup = Setup.from_json(os.environ.pop(SETUP_VARIABLE))
    line, *sockets = [socket.socket(fileno=number) for number in numbers]
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s  pid {os.getpid()}  %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )
    control = Control(line)
    app = make_app(setup, control)
    stop = stop_signal(with_parent=True)
    await control.open()
    await serve(app, sockets, stop)
    await control.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
