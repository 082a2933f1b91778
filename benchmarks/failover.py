"""What is left of sessions when a yrmcds master is killed and its slave takes over.

    python -m benchmarks.failover

Needs Linux, yrmcdsd, ip and unshare. Two yrmcds run in network namespaces of their own,
which need no root where the system lets users make them. Twenty writers count in
sessions of their own; then the master is killed (SIGKILL) and the virtual address is
moved, as keepalived would. Prints how long it took, and what of all that had been
acknowledged was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import shutil
import subprocess  # nosec B404 # starts ip, unshare and yrmcdsd
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import find_server
from tornado_mcsession import SessionManager, StoreError

VIRTUAL, PORT = "10.77.0.100", 11211
INSIDE = "MCSESSION_FAILOVER_INSIDE"

CONFIGURATION = """\
virtual_ip = {virtual}
port = {port}
repl_port = 11213
temp_dir = "{folder}"
memory_limit = 256M
buckets = 100003
"""


def ip(*arguments: str, of: int | None = None) -> None:
    """Call ip, in the network of another process if one is given."""
    enter = ["nsenter", "-t", str(of), "-n"]
    command = [*(enter if of else []), "ip", *arguments]
    subprocess.run(command, check=True)  # nosec B603 # no shell


class Node:
    """A yrmcds with a network of its own, behind the bridge."""

    def __init__(self, number: int, folder: Path) -> None:
        configuration = folder / f"{number}.conf"
        own = folder / str(number)
        own.mkdir()
        configuration.write_text(
            CONFIGURATION.format(virtual=VIRTUAL, port=PORT, folder=own)
        )
        # It waits for its network.
        script = 'read go; exec "$0" -f "$1"'
        server = find_server("yrmcdsd")
        self.log = (folder / f"{number}.log").open("w+")
        command = ["unshare", "-n", "sh", "-c", script, server, str(configuration)]
        self.process = subprocess.Popen(  # nosec B603 # no shell
            command,
            stdin=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.wait_for_namespace()
        self.link = f"node{number}"
        ip("link", "add", self.link, "type", "veth", "peer", "name", f"peer{number}")
        ip("link", "set", self.link, "master", "bridge", "up")
        ip("link", "set", f"peer{number}", "netns", str(self.process.pid))
        self.ip("link", "set", "lo", "up")
        self.ip("link", "set", f"peer{number}", "name", "eth0")
        self.ip("address", "add", f"10.77.0.{number}/24", "dev", "eth0")
        self.ip("link", "set", "eth0", "up")

    def ip(self, *arguments: str) -> None:
        ip(*arguments, of=self.process.pid)

    def wait_for_namespace(self) -> None:
        deadline, ours = time.monotonic() + 5, os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.process.pid}/ns/net") == ours:
            if time.monotonic() > deadline:
                raise RuntimeError("unshare made no network namespace")
            time.sleep(0.01)

    def take_address(self) -> None:
        """Do what keepalived does, which also tells all neighbours."""
        self.ip("address", "add", f"{VIRTUAL}/24", "dev", "eth0")
        ip("neighbour", "flush", "dev", "bridge")

    def start(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def has_said(self, what: str) -> bool:
        self.log.seek(0)
        return what in self.log.read()


@contextlib.contextmanager
def nodes(folder: Path) -> Iterator[tuple[Node, Node]]:
    """A master and its slave."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "bridge", "type", "bridge")
    ip("address", "add", "10.77.0.254/24", "dev", "bridge")
    ip("link", "set", "bridge", "up")
    started: list[Node] = []
    try:
        for number in (1, 2):
            started.append(Node(number, folder))
        master, slave = started
        master.take_address()
        master.start()
        wait_until(lambda: master.has_said("master mode"), "no master")
        slave.start()
        wait_until(lambda: slave.has_said("Slave start"), "no slave")
        yield master, slave
    finally:
        for node in started:
            node.process.kill()
            node.process.wait()


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(what)
        time.sleep(0.05)


class Writer:
    """Counts in a session, and remembers what was acknowledged."""

    def __init__(self, manager: SessionManager, number: int) -> None:
        self.manager, self.id = manager, f"{number:043}"
        self.acknowledged = 0
        self.lost = 0  # acknowledged counts that were not there later
        self.failures: list[float] = []  # when

    async def run(self, stop: asyncio.Event) -> None:
        await self.manager.set(self.id, {"n": 0})
        while not stop.is_set():
            session = None
            with contextlib.suppress(StoreError):
                session = await self.manager.get(self.id)
            if session is None:
                self.failures.append(time.monotonic())
                await asyncio.sleep(0.02)
                continue
            try:
                counted = await session.transact(count)
            except StoreError:
                self.failures.append(time.monotonic())
                continue
            # More than one more is what was done and not acknowledged.
            self.lost += max(0, self.acknowledged + 1 - counted)
            self.acknowledged = counted


def count(data: dict[str, int]) -> int:
    data["n"] += 1
    return data["n"]


async def play(options: argparse.Namespace, master: Node, slave: Node) -> None:
    url = f"memcached://{VIRTUAL}:{PORT}/?timeout=0.5&connect_timeout=0.25"
    manager = SessionManager(store=url)
    quiet = [f"q{number:042}" for number in range(options.sessions)]
    for session_id in quiet:
        await manager.set(session_id, {"n": 1})
    writers = [Writer(manager, number) for number in range(20)]
    stop = asyncio.Event()
    tasks = [asyncio.create_task(writer.run(stop)) for writer in writers]
    await asyncio.sleep(2)
    before = sum(writer.acknowledged for writer in writers)
    killed = time.monotonic()
    master.process.kill()
    await asyncio.sleep(options.detect)
    await asyncio.to_thread(slave.take_address)
    while not all(writer.failures for writer in writers) or any(
        time.monotonic() - writer.failures[-1] < 1 for writer in writers
    ):
        if time.monotonic() > killed + 30:
            raise RuntimeError("the slave did not take over")
        await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*tasks)
    down = max(writer.failures[-1] for writer in writers) - killed
    kept = sum([await manager.get(session_id) is not None for session_id in quiet])
    print(f"{before} counts were acknowledged in the 2 s before the master was killed")
    print(f"requests failed for {down:.1f} s, of which {options.detect} s to find out")
    print(f"{kept} of {len(quiet)} quiet sessions are there")
    lost = sum(writer.lost for writer in writers)
    print(f"{lost} acknowledged counts are lost")
    await manager.close()


def main(options: argparse.Namespace) -> None:
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is needed: apt-get install util-linux iproute2")
    find_server("yrmcdsd")
    if INSIDE not in os.environ:
        environment = {**os.environ, INSIDE: "1"}
        again = [sys.executable, "-m", "benchmarks.failover", *sys.argv[1:]]
        command = ["unshare", "--user", "--map-root-user", "--net", *again]
        done = subprocess.run(command, env=environment)  # nosec B603 # no shell
        sys.exit(done.returncode)
    with tempfile.TemporaryDirectory() as folder, nodes(Path(folder)) as (one, two):
        asyncio.run(play(options, one, two))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=2000, help="(%(default)s)")
    parser.add_argument(
        "--detect",
        type=float,
        default=1.0,
        help="seconds until the address moves (%(default)s)",
    )
    logging.disable()  # the outage is the point
    main(parser.parse_args())
