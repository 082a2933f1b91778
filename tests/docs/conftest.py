"""Fixtures for the tests of the pages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from ..support.browser import Browser
from ..support.clock import ManualClock
from ..support.memcached import Memcached
from ..support.pages import ROOT, programs, with_ports
from ..support.processes import Process, free_port

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def start(memcached: Memcached, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a page's program, the last if not told, as it stands but for the ports.

    It must log no error until the test ends.
    """
    with ExitStack() as running:

        def start(name: str, number: int = -1) -> Process:
            port = free_port()
            path = tmp_path / "program.py"
            path.write_text(with_ports(programs(name)[number], port, memcached.port))
            command = [sys.executable, "-W", "error", str(path)]
            # What it stores on disk is not left in the project.
            process = Process(command, port, cwd=tmp_path, env=ENVIRONMENT)
            running.callback(process.kill)
            running.callback(no_error_in, process)
            return process

        yield start


def no_error_in(process: Process) -> None:
    if process.is_running:
        printed = process.output()
        assert "Traceback" not in printed, printed
        assert "ERROR" not in printed, printed


@pytest.fixture
def shell(memcached: Memcached, tmp_path: Path) -> Callable[[str, int], str]:
    """Runs shell commands of a page, for a program's port; returns what they print."""

    def shell(commands: str, port: int) -> str:
        (tmp_path / "shell").mkdir(exist_ok=True)
        return subprocess.run(
            ["bash", "-euc", with_ports(commands, port, memcached.port)],
            cwd=tmp_path / "shell",
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    return shell


@pytest.fixture
def serve(io_loop: Any, clock: ManualClock) -> Iterator[Callable[..., Browser]]:
    """Starts a page's application in this process, on the clock of the test."""
    servers = []

    def serve(names: dict[str, Any]) -> Browser:
        server = HTTPServer(names["make_app"]())
        socket, port = bind_unused_port()
        server.add_socket(socket)
        servers.append(server)
        return Browser(port, clock=clock)

    yield serve
    for server in servers:
        server.stop()
        io_loop.run_sync(server.close_all_connections)
