"""Fixtures that more than one module of tests uses."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from tornado.web import Application

from tornado_mcsession import MemcachedStore, MemoryStore, SessionManager, Store

from .support.browser import Browser
from .support.clock import ManualClock
from .support.log_check import LogCheck
from .support.memcached import Memcached, memcached_on_socket
from .support.proxy import FaultProxy
from .support.tls import Certificates, TLSMemcached
from .support.twemproxy import Twemproxy

pytest_plugins = ["_tornado_mcsession_pytest"]

# On a busy machine an example may take any time; what is wrong is wrong every time.
hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """What the whole suite logs is searched for secrets when it has ended."""
    config.pluginmanager.register(LogCheck())


@pytest.fixture(scope="module", autouse=True)
def _long_lived_is_frozen() -> None:
    """Spare the collector all that lives until the end of the run.

    Many tests let it collect when they have ended. Looking at pytest, hypothesis, every
    test and all their reports each time took three quarters of their time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _usual_level(caplog: pytest.LogCaptureFixture) -> None:
    """Keeps from tests what is only logged because the search asks for all of it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, type(caplog.handler)) and not handler.level:
            handler.setLevel(logging.WARNING)


@pytest.fixture(scope="session", autouse=True)
def _first_loop() -> Iterator[None]:
    """Keeps and closes the loop that pytest-tornado asks for and puts back.

    It would be made on demand, dropped by the first `asyncio.run`, and warned of
    wherever the next garbage collection happens to be.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def clock() -> ManualClock:
    """Time that stands still until a test moves it on."""
    return ManualClock()


@pytest.fixture(scope="session")
def memcached_process() -> Iterator[Memcached]:
    """Let the fixture ``memcached`` be one that a test can look into.

    All tests share it: it is not to be stopped or killed.
    """
    with Memcached() as server:
        yield server


@pytest.fixture
def memcached_store(io_loop: Any, memcached: Memcached) -> Iterator[MemcachedStore]:
    """A patient client of ``memcached``."""
    host, port = memcached.server
    store = MemcachedStore(f"{host}:{port}", timeout=10)
    yield store
    io_loop.run_sync(store.close)


@pytest.fixture(
    params=["memory", pytest.param("memcached", marks=pytest.mark.integration)]
)
def any_store(request: pytest.FixtureRequest, clock: ManualClock) -> Store:
    """A `MemoryStore`, then a real memcached."""
    if request.param == "memcached":
        store: Store = request.getfixturevalue("memcached_store")
        return store
    return MemoryStore(clock=clock)


@pytest.fixture
def build(clock: ManualClock) -> Callable[..., SessionManager]:
    """Makes managers of applications, over a `MemoryStore` of their own."""

    def build(
        cookie_secret: Any = None, key_version: int | None = None, **options: Any
    ) -> SessionManager:
        app = Application(cookie_secret=cookie_secret, key_version=key_version)
        return SessionManager(
            app, **{"store": MemoryStore(), "clock": clock, **options}
        )

    return build


@pytest.fixture
def memcached_factory() -> Iterator[Callable[..., Memcached]]:
    """Starts memcached processes of a test's own, with the arguments it gives."""
    with ExitStack() as stack:

        def start(*args: str) -> Memcached:
            server = Memcached(*args)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def own_memcached(memcached_factory: Callable[..., Memcached]) -> Memcached:
    """A memcached that a test may stop, kill and restart."""
    return memcached_factory()


@pytest.fixture
def memcached_socket() -> Iterator[str]:
    """The path of a Unix socket with a memcached of the test's own behind it."""
    with memcached_on_socket() as path:
        yield path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of an authority that only these tests know."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_memcached_factory(
    certificates: Certificates,
) -> Iterator[Callable[..., TLSMemcached]]:
    """Starts memcached processes that speak TLS; takes what `TLSMemcached` does."""
    with ExitStack() as stack:

        def start(*args: str, **options: Any) -> TLSMemcached:
            server = TLSMemcached(certificates, *args, **options)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def tls_memcached(tls_memcached_factory: Callable[..., TLSMemcached]) -> TLSMemcached:
    """A memcached of a test's own that speaks TLS."""
    return tls_memcached_factory()


@pytest.fixture
def proxy(memcached: Memcached) -> Iterator[FaultProxy]:
    """A faulty network in front of ``memcached``."""
    with FaultProxy(memcached.port) as proxy:
        yield proxy


@pytest.fixture
def twemproxy_factory(tmp_path: Path) -> Iterator[Callable[..., Twemproxy]]:
    """Starts twemproxy in front of servers; takes what `Twemproxy` does."""
    with ExitStack() as stack:

        def start(servers: Sequence[Memcached], **options: str | None) -> Twemproxy:
            proxy = Twemproxy(tmp_path, servers, **options)
            stack.callback(proxy.close)
            return proxy

        yield start


@pytest.fixture
def servers(memcached_factory: Callable[..., Memcached]) -> list[Memcached]:
    """Two memcacheds that a test may stop, kill and restart."""
    return [memcached_factory(), memcached_factory()]


@pytest.fixture
def twemproxy(
    twemproxy_factory: Callable[..., Twemproxy], servers: list[Memcached]
) -> Twemproxy:
    """A twemproxy in front of ``servers``."""
    return twemproxy_factory(servers)


@pytest.fixture
def browser(http_server: object, http_port: int) -> Browser:
    """A browser for the application of the ``app`` fixture."""
    return Browser(http_port)
