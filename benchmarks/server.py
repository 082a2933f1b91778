"""Serves one site that is measured, as a process of its own.

python -m benchmarks.server ours.encrypted 8888 127.0.0.1:11211
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys


async def main(site: str, port: int, memcached: str) -> None:
    """Serve until killed."""
    module, _, name = site.partition(".")
    serve = getattr(importlib.import_module(f"benchmarks.sites.{module}"), name)
    await serve(port, memcached)
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
