"""A real Chromium, driven by Playwright from a thread of its own.

Playwright's plain API keeps an event loop running in the thread that uses it. No other
test could run a loop there. So Chromium is used in one thread only: the tests that use
it run there, too (see ``tests/browser/conftest.py``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Playwright,
    WebError,
    sync_playwright,
)

from .processes import find_server

P = ParamSpec("P")
R = TypeVar("R")

# Much longer than anything takes, in milliseconds.
PATIENCE = 15_000

# Each name below "example" leads to this machine. No other name is known.
NAMES = (
    "MAP *.example 127.0.0.1, MAP * ~NOTFOUND, "
    "EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1"
)

ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    f"--host-resolver-rules={NAMES}",
    "--ignore-certificate-errors",  # of an authority that only the tests know
    "--no-first-run",
    "--no-proxy-server",
    "--no-sandbox",  # which root cannot have
]


class Chromium:
    """A running Chromium, and the thread that may use it."""

    def __init__(self) -> None:
        path = find_server("chromium")
        self._thread = ThreadPoolExecutor(1, "chromium")
        try:
            self._playwright, self._browser = self.run(self._launch, path)
        except BaseException:
            self._thread.shutdown()
            raise

    @staticmethod
    def _launch(path: str) -> tuple[Playwright, Browser]:
        playwright = sync_playwright().start()
        try:
            browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        except BaseException:
            playwright.stop()
            raise
        return playwright, browser

    def run(self, call: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
        """Call something that uses the browser, in its thread."""
        return self._thread.submit(call, *args, **options).result()

    def close(self) -> None:
        """End it."""
        try:
            self.run(self._end)
        finally:
            self._thread.shutdown()

    def _end(self) -> None:
        try:
            self._browser.close()
        finally:
            self._playwright.stop()

    def with_kept_pages(self) -> Browser:
        """Start another one, which keeps pages in memory for its back button.

        Playwright turns that off where it is not told otherwise.
        """
        return self._playwright.chromium.launch(
            executable_path=find_server("chromium"),
            args=ARGUMENTS,
            ignore_default_args=["--disable-back-forward-cache"],
        )

    def new_context(self, **options: Any) -> BrowserContext:
        """Start a browser without cookies; takes what Playwright's does."""
        context = self._browser.new_context(**options)
        context.set_default_timeout(PATIENCE)
        return context


class Console:
    """The errors of all pages of a test: those on the console, and exceptions."""

    def __init__(self) -> None:
        self._errors: list[str] = []
        self._allowed: list[re.Pattern[str]] = []

    def watch(self, context: BrowserContext) -> None:
        """Collect what goes wrong in the pages of ``context``."""
        context.on("console", self._said)
        context.on("weberror", self._raised)

    def leave(self, context: BrowserContext) -> None:
        """Do not listen to ``context`` any more."""
        context.remove_listener("console", self._said)
        context.remove_listener("weberror", self._raised)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            where = message.location.get("url", "")
            self._errors.append(f"{message.text} [{where}]")

    def _raised(self, error: WebError) -> None:
        self._errors.append(f"exception: {error.error}")

    def allow(self, pattern: str) -> None:
        """Expect errors that match ``pattern``, as ``a status of 503``."""
        self._allowed.append(re.compile(pattern))

    def unexpected(self, contexts: Sequence[BrowserContext]) -> list[str]:
        """The errors that nobody allowed."""
        for context in contexts:
            for page in context.pages:
                heard_all(page)
        return [
            error
            for error in self._errors
            if not any(pattern.search(error) for pattern in self._allowed)
        ]


def heard_all(page: Page) -> None:
    """Wait for all events that a page has sent until now."""
    with contextlib.suppress(Error):  # it is closed, or on its way elsewhere
        page.evaluate("null")
