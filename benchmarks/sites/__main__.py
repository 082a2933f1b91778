"""Serve one site, as a process of its own, until it is killed.

python -m benchmarks.sites ours.encrypted 8888 127.0.0.1:11211
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
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
