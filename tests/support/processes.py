"""Server processes of the tests' own, on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

START_TIMEOUT = 20.0

# Debian and Homebrew keep servers where a plain user's PATH does not look.
SERVER_PATH = os.pathsep.join(
    [
        os.environ.get("PATH", os.defpath),
        "/usr/local/sbin",
        "/usr/sbin",
        "/sbin",
        "/opt/homebrew/bin",
    ]
)


# Below the ports that systems give to outgoing connections (from 32768 on Linux).
# One of those may take the port of a server that a test stops and starts again.
FIRST_PORT = 12_000
PORTS = 500  # of one run, or of one worker of it
RUNS = 40


def _ports() -> Iterator[int]:
    """Go round and round the ports that are this process's alone.

    Two processes that ask the system for a free port may be given the same one, and
    then talk to each other's server.
    """
    for run in range(RUNS):
        try:
            lock = Path(tempfile.gettempdir(), f"mcsession-test-ports-{run}").open("a")
        except PermissionError:
            continue  # another user's
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            first = FIRST_PORT + run * PORTS
            yield from itertools.cycle(range(first, first + PORTS))
    raise RuntimeError(f"{RUNS} test runs are under way: there are no ports left")


_own_ports = _ports()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, nor will soon."""
    for port in itertools.islice(_own_ports, PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise RuntimeError(f"something listens on each of {PORTS} ports")


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


# As in a URL. Containers are often without IPv6.
LOOPBACKS = ["127.0.0.1", "[::1]"] if _has_ipv6() else ["127.0.0.1"]

# Where a package has another name than the server in it.
DEBIAN_PACKAGES = {"yrmcdsd": "yrmcds"}
BREW_PACKAGES = {"nutcracker": "twemproxy"}
ONLY_DEBIAN = {"yrmcdsd"}


def find_server(name: str) -> str:
    """The path of a server's binary; without it the test run ends here."""
    path = shutil.which(name, path=SERVER_PATH)
    if path is None:
        how = f"apt-get install {DEBIAN_PACKAGES.get(name, name)}, "
        if name in ONLY_DEBIAN:
            how += "only Debian has it: leave its tests out by -m 'not debian'"
        else:
            how += f"brew install {BREW_PACKAGES.get(name, name)}"
        pytest.exit(
            f"{name} is needed by these tests and was not found. Install it ({how}), "
            "or start the tests with scripts/test, which does.",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )
    return path


class Process:
    """A server process that listens on ``port`` once it is constructed."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.port = port
        self._output = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            pass_fds=pass_fds,
        )
        try:
            self._wait_until_it_accepts()
        except BaseException:
            self.kill()
            raise

    def _wait_until_it_accepts(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.01)
        raise RuntimeError(f"{self._process.args} did not start: {self.output()}")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        """What it has printed so far."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def stop(self) -> None:
        """Let it stand still (SIGSTOP): the kernel still accepts for it."""
        self._process.send_signal(signal.SIGSTOP)
        # It may answer what comes before it really stands still.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def cont(self) -> None:
        """Go on after `stop`."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(
        self, timeout: float = 10, *, by: signal.Signals = signal.SIGTERM
    ) -> int:
        """Ask it to end; return its exit status."""
        self._process.send_signal(by)
        try:
            return self._process.wait(timeout)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL), also when it is stopped."""
        self._process.kill()
        self._process.wait()
        self._output.close()
