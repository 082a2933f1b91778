"""Start the koa site, the Tornado site and nginx, over one memcached.

memcached -u nobody -l 127.0.0.1 -p 11211 &
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
import signal
import socket
import subprocess  # nosec B404 # starts Node
import sys
import tempfile
from pathlib import Path

from tornado.netutil import bind_sockets

from demo.koa.proxy import Proxy
from demo.koa.site import PAGES, make_app
from demo.preflight import silent_nodes
from demo.server import serve, stop_signal

HERE = Path(__file__).parent
KEYS_VARIABLE = "DEMO_KEYS"


def main() -> int:
    parser = make_parser()
    options = parser.parse_args()
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules").is_dir():
        parser.exit(
            1,
            "demo: Node 20 and its packages are needed. Install Node and npm, then: "
            f"npm ci --prefix {HERE}\n",
        )
    for place, command in silent_nodes(f"memcached://{options.memcached}"):
        parser.exit(1, f"demo: nobody answers at {place}. To start it: {command}\n")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with tempfile.TemporaryDirectory(prefix="koa-demo") as directory:
        Path(directory).chmod(0o755)  # for nginx's workers
        return asyncio.run(run(options, node, Path(directory)))


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
        default="127.0.0.1:11211",
        help="the servers, separated by commas (%(default)s)",
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


async def run(options: argparse.Namespace, node: str, directory: Path) -> int:
    # Both applications sign the cookies, so both get the same keys.
    text = os.environ.get(KEYS_VARIABLE) or json.dumps([secrets.token_hex(32)])
    sockets = bind_sockets(0, "127.0.0.1")
    node_port = free_port()
    proxy = Proxy(
        directory,
        options.moved,
        address=options.address,
        port=options.port,
        node=node_port,
        python=sockets[0].getsockname()[1],
    )
    store = f"memcached://{options.memcached}"
    app = make_app(store, json.loads(text), proxy.move)
    koa = subprocess.Popen(  # noqa: ASYNC220 # nosec B603 # it starts at once
        [node, str(HERE / "site.js"), str(node_port), options.memcached],
        env={**os.environ, KEYS_VARIABLE: text},
        start_new_session=True,
    )
    try:
        await until_it_listens(node_port)
        proxy.start()
        print(f"Open http://{options.address}:{options.port}/", flush=True)
        print("Ctrl-C ends it.", flush=True)
        await serve(app, sockets, stop_signal())
    finally:
        proxy.end()
        koa.send_signal(signal.SIGTERM)
        koa.wait()
    return 0


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
