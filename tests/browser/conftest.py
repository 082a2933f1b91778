"""Chromium for tests.

A test that uses ``tab``, ``page`` or ``new_context`` runs in Chromium's thread. So it
is a plain function, uses Playwright's plain (sync) API, and has no loop of its own. It
fails if a page logs an error or raises an exception; see the fixture ``console``.
A fixture calls the browser with ``chromium.run``.
"""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from ..support.chromium import Chromium, Console
from ..support.tls import Certificates
from .serving import Site, application


# Not for the whole run: a test elsewhere may fork, or count threads.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Chromium]:
    """Chromium, for the tests of this folder; its methods need its thread."""
    chromium = Chromium()
    yield chromium
    chromium.close()


@pytest.fixture
def console() -> Console:
    """What goes wrong in the pages: ``console.allow("a status of 503")``."""
    return Console()


@pytest.fixture
def contexts() -> list[BrowserContext]:
    """The contexts of a test."""
    return []


@pytest.fixture
def new_context(
    chromium: Chromium, console: Console, contexts: list[BrowserContext]
) -> Iterator[Callable[..., BrowserContext]]:
    """Starts browsers without cookies, each for one user.

    It takes the options of Playwright's ``new_context``, for example ``viewport``,
    ``color_scheme="dark"``, ``reduced_motion="reduce"``, ``java_script_enabled=False``.
    """

    own = []

    def start(**options: Any) -> BrowserContext:
        context = chromium.new_context(**options)
        console.watch(context)
        contexts.append(context)
        own.append(context)
        return context

    yield start
    for context in own:
        chromium.run(context.close)


@pytest.fixture(scope="package")
def shared_tab(chromium: Chromium) -> Page:
    """The page behind ``tab``."""

    def start() -> Page:
        return chromium.new_context().new_page()

    return chromium.run(start)


@pytest.fixture
def tab(
    chromium: Chromium,
    shared_tab: Page,
    console: Console,
    contexts: list[BrowserContext],
) -> Iterator[Page]:
    """A page without cookies that the tests share, since a new one takes a second.

    Use ``page`` if the test leaves more in it than cookies and further pages: routes,
    a clock, scripts.
    """
    context = shared_tab.context

    def begin() -> None:
        context.clear_cookies()
        console.watch(context)

    def end() -> None:
        console.leave(context)
        for page in context.pages:
            if page != shared_tab:
                page.close()
        shared_tab.goto("about:blank")

    chromium.run(begin)
    contexts.append(context)
    yield shared_tab
    contexts.remove(context)
    chromium.run(end)


@pytest.fixture
def context(
    chromium: Chromium, new_context: Callable[..., BrowserContext]
) -> BrowserContext:
    """A browser of one user."""
    return chromium.run(new_context)


@pytest.fixture
def page(chromium: Chromium, context: BrowserContext) -> Page:
    """A page in ``context``."""
    return chromium.run(context.new_page)


def uses_chromium(item: pytest.Function) -> bool:
    """Whether a test uses Chromium; one with a loop of its own cannot."""
    return "chromium" in item.fixturenames and not inspect.iscoroutinefunction(item.obj)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that uses Chromium in its thread, and look for errors of its pages."""
    if not uses_chromium(pyfuncitem):
        return None
    found = pyfuncitem.funcargs
    names = inspect.signature(pyfuncitem.obj).parameters
    test = partial(pyfuncitem.obj, **{name: found[name] for name in names})
    found["chromium"].run(test)
    if "console" not in found:
        return True
    errors = found["chromium"].run(
        found["console"].unexpected, found.get("contexts", [])
    )
    if errors:
        pytest.fail("errors in the browser:\n" + "\n".join(errors), pytrace=False)
    return True


@pytest.fixture
def serve(certificates: Certificates) -> Iterator[Callable[..., Site]]:
    """Starts applications, each by its routes and settings; see `application`.

    With ``secure=True`` over https. Instead of routes, ``make`` may be given, which
    returns the application.
    """
    sites: list[Site] = []

    def start(
        routes: Any = (), *, secure: bool = False, make: Any = None, **settings: Any
    ) -> Site:
        tls = server_tls() if secure else None
        sites.append(Site(make or application(list(routes), **settings), tls))
        return sites[-1]

    def server_tls() -> ssl.SSLContext:
        pair = certificates.server
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(pair.cert, pair.key)
        return tls

    yield start
    for site in sites:
        site.close()
