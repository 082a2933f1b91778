"""Serve one site, as a process of its own, until it is killed.

python -m benchmarks.sites ours.encrypted 8888 127.0.0.1:11211 [uvloop]
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys


async def main(site: str, port: int, memcached: str) -> None:
    module, _, name = site.partition(".")
    serve = getattr(importlib.import_module(f"benchmarks.sites.{module}"), name)
    await serve(port, memcached)
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    _, site, port, memcached, *loop = sys.argv
    # asyncio, or uvloop: each has a function that runs a coroutine.
    importlib.import_module(*loop or ["asyncio"]).run(main(site, int(port), memcached))
