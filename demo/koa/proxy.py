"""nginx before both applications, and which of them makes which page.

python -m demo.koa --moved cart
curl -i http://127.0.0.1:8880/cart
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess  # nosec B404 # for the type of a process
from collections.abc import Callable, Iterable
from pathlib import Path

from tornado.httpclient import AsyncHTTPClient, HTTPError

from demo.koa.site import PAGES

__all__ = ["Proxy"]

TEMPLATE = (Path(__file__).parent / "nginx.conf").read_text("utf-8")
PATTERNS = {"home": "/", "cart": "~^/cart(/|$)", "account": "~^/account(/|$)"}


TRIES, ENOUGH, PAUSE = 200, 5, 0.02


class Proxy:
    """nginx, with its files in ``directory``."""

    def __init__(
        self, directory: Path, moved: Iterable[str], **places: int | str
    ) -> None:
        self._configuration = directory / "nginx.conf"
        self._places = {"directory": directory, **places}
        self._moved = {page for page in PAGES if page in moved}
        self._process: subprocess.Popen[bytes] | None = None
        self._generation = 0

    def start(self, start: Callable[..., subprocess.Popen[bytes]]) -> None:
        """Start nginx by calling ``start`` with its name and arguments."""
        self._write()
        files = ["-p", str(self._places["directory"]), "-c", str(self._configuration)]
        self._process = start("nginx", *files, "-e", "stderr")

    async def move(self, page: str, to: str) -> None:
        """Let the application called ``to`` make ``page`` from now on.

        Returns when nginx does so, which takes some milliseconds.
        """
        if to == "Python":
            self._moved.add(page)
        else:
            self._moved.discard(page)
        self._generation += 1
        self._write()
        if self._process is None:
            return
        self._process.send_signal(signal.SIGHUP)
        url = f"http://127.0.0.1:{self._places['port']}/generation"
        seen = 0
        for _ in range(TRIES):
            with contextlib.suppress(OSError, HTTPError):
                response = await AsyncHTTPClient().fetch(url)
                # The old worker still takes connections for a moment.
                is_new = response.body == str(self._generation).encode()
                seen = seen + 1 if is_new else 0
                if seen == ENOUGH:
                    return
            await asyncio.sleep(PAUSE)

    def _write(self) -> None:
        lines = [f"        {PATTERNS[page]} Python;" for page in sorted(self._moved)]
        text = TEMPLATE.format(
            **self._places, generation=self._generation, moved="\n".join(lines)
        )
        self._configuration.write_text(text, "utf-8")
