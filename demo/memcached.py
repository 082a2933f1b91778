"""A memcached of the demo's own: found, started, stopped for a while, and ended.

python -m demo
curl http://127.0.0.1:8888/readyz
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess  # nosec B404 # starts memcached, with fixed arguments
import time
from contextlib import suppress

__all__ = ["OwnMemcached", "find_memcached"]

HOST = "127.0.0.1"
START_SECONDS = 5.0
TRIES = 2
MEGABYTES = "32"

# The shell starts memcached, tells its process id, and ends it when standard input
# ends. That is a pipe from the demo, so memcached ends however the demo ended.
KEEPER = '"$@" </dev/null >&2 & echo $!; read -r line; kill -KILL $!; wait $!'


def find_memcached() -> str | None:
    """Return the path of the program, also where a plain user's PATH misses it."""
    places = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/opt/homebrew/bin")
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *places])
    return shutil.which("memcached", path=path)


class OwnMemcached:
    """A memcached on a free port of 127.0.0.1. It has started when this returns.

    Raises OSError if it does not start.
    """

    def __init__(self, program: str) -> None:
        for _ in range(TRIES):  # somebody may take the port in between
            with socket.create_server((HOST, 0)) as free:
                self.port = free.getsockname()[1]
            if self._start(program):
                return
        raise OSError(f"{program} did not start")

    @property
    def url(self) -> str:
        return f"memcached://{HOST}:{self.port}"

    def _start(self, program: str) -> bool:
        # It refuses to run as root.
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        listen = ["-l", HOST, "-p", str(self.port), "-U", "0", "-m", MEGABYTES]
        self._keeper = subprocess.Popen(  # nosec B603 # no text from outside
            ["/bin/sh", "-c", KEEPER, "sh", program, *listen, *user],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A Ctrl-C in the terminal is for the demo, which ends this last.
            start_new_session=True,
        )
        assert self._keeper.stdout is not None
        self._pid = int(self._keeper.stdout.readline())
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError):
                return self._answers()
            time.sleep(0.01)
        self.close()
        return False

    def _answers(self) -> bool:
        """Return whether it is this one that listens there, and not another."""
        with socket.create_connection((HOST, self.port), 1) as connection:
            connection.sendall(b"stats\r\n")
            said = b""
            while not said.endswith(b"END\r\n"):
                more = connection.recv(65536)
                if not more:
                    break
                said += more
        if f"STAT pid {self._pid}\r\n".encode() in said:
            return True
        self.close()
        return False

    def pause(self) -> None:
        """Let it stand still: connections open, nothing is answered."""
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on, with all that it had stored."""
        os.kill(self._pid, signal.SIGCONT)

    def close(self) -> None:
        """End it, also while it stands still."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        if self._keeper.wait() < 0:  # somebody killed the shell
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._keeper.stdout.close()
