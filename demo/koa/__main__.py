"""Start the koa site, the Tornado site and nginx, over one memcached.

python -m demo.koa
curl -i -c jar -b jar http://127.0.0.1:8880/
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import shutil
import socket
import subprocess  # nosec B404 # starts the other programs
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tornado.netutil import bind_sockets

from demo.koa.proxy import Proxy
from demo.koa.site import PAGES, make_app
from demo.preflight import silent_nodes
from demo.server import serve, stop_signal

HERE = Path(__file__).parent
KEYS_VARIABLE = "DEMO_KEYS"
# Debian keeps servers where a plain user's PATH does not look.
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def main() -> int:
    parser = make_parser()
    options = parser.parse_args()
    store = f"memcached://{options.memcached}" if options.memcached else ""
    for place, command in silent_nodes(store):
        parser.exit(1, f"demo: nothing responds at {place}. To start it: {command}\n")
    if not (HERE / "node_modules").is_dir():
        parser.exit(1, "demo: its npm packages are missing: npm ci --prefix demo/koa\n")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with tempfile.TemporaryDirectory(prefix="koa-demo") as directory:
        Path(directory).chmod(0o755)  # for nginx's workers
        try:
            asyncio.run(run(options, Path(directory)))
        except FileNotFoundError as error:
            parser.exit(1, f"demo: {error.filename} is needed. Please install it.\n")
    return 0


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="demo.koa", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--port", type=int, default=8880, help="where nginx listens (%(default)s)"
    )
    parser.add_argument(
        "--address", default="127.0.0.1", help="the address of nginx (%(default)s)"
    )
    parser.add_argument(
        "--memcached",
        default="",
        help="servers, separated by commas (without: one of the demo's own)",
    )
    parser.add_argument(
        "--moved",
        type=pages,
        default=[],
        help=f"pages that Python makes from the start: {','.join(PAGES)}",
    )
    return parser


def pages(text: str) -> list[str]:
    found = text.split(",")
    if not set(found) <= set(PAGES):
        raise argparse.ArgumentTypeError(f"{text} is not of {', '.join(PAGES)}")
    return found


async def run(options: argparse.Namespace, directory: Path) -> None:
    # Both applications sign the cookies, so both get the same keys.
    keys = os.environ.get(KEYS_VARIABLE) or json.dumps([secrets.token_hex(32)])
    sockets = bind_sockets(0, "127.0.0.1")
    with ExitStack() as ending:

        def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
            # A session of its own: a Ctrl-C in the terminal is for this process.
            process = subprocess.Popen(  # nosec B603 # no shell, own arguments
                [find(program), *arguments],
                env={**os.environ, KEYS_VARIABLE: keys},
                start_new_session=True,
            )
            ending.callback(process.wait)
            ending.callback(process.terminate)
            return process

        servers = options.memcached
        if not servers:
            servers = f"127.0.0.1:{free_port()}"
            port = servers.rpartition(":")[2]
            user = ["-u", "nobody"] if os.getuid() == 0 else []
            start("memcached", "-l", "127.0.0.1", "-p", port, "-U", "0", *user)
        node = free_port()
        start("node", str(HERE / "site.js"), str(node), servers)
        await until_it_listens(node)
        proxy = Proxy(
            directory,
            options.moved,
            address=options.address,
            port=options.port,
            node=node,
            python=sockets[0].getsockname()[1],
        )
        proxy.start(start)
        app = make_app(f"memcached://{servers}", json.loads(keys), proxy.move)
        print(f"Open http://{options.address}:{options.port}/", flush=True)
        print("Ctrl-C ends it.", flush=True)
        await serve(app, sockets, stop_signal())


def find(program: str) -> str:
    found = shutil.which(program, path=PLACES)
    if found is None:
        raise FileNotFoundError(None, "not installed", program)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_it_listens(port: int) -> None:
    for _ in range(100):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise TimeoutError("the koa site did not start")


if __name__ == "__main__":
    sys.exit(main())
