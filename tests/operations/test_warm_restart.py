"""memcached keeps sessions over a restart, as demo/deploy/memcached.conf makes it."""

from __future__ import annotations

import asyncio
import configparser
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tornado_mcsession import CasResult, MemcachedStore, SessionManager

from ..support.processes import Process, find_server, free_port
from .deployed import replaced, text_of

pytestmark = [pytest.mark.integration, pytest.mark.end_to_end]

COUNT = 200  # sessions


def unit_of(name: str) -> configparser.ConfigParser:
    """A unit file; of a setting that comes twice, the last value counts."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text_of(name))
    return unit


class Unit:
    """memcached, started and stopped by the lines of the unit's file."""

    def __init__(self, folder: Path) -> None:
        service = unit_of("memcached.conf")["Service"]
        self.port = free_port()
        self.memory = folder / "memory"
        line = replaced(
            service["ExecStart"],
            ("/usr/bin/memcached", find_server("memcached")),
            ("-p 11211", f"-p {self.port}"),
            ("-m 1024", "-m 64"),
            ("/run/mcsessions/memory", str(self.memory)),
        )
        # Instead of "User=memcache".
        user = ["-u", "root"] if os.getuid() == 0 else []
        self._command = [*shlex.split(line), *user]
        self._before = shlex.split(service["ExecStartPre"])
        self._stop = signal.Signals[service["KillSignal"]]
        self.start(waits=False)

    @property
    def url(self) -> str:
        return f"memcached://127.0.0.1:{self.port}"

    def start(self, *, waits: bool = True) -> None:
        if waits:
            subprocess.run(self._before, check=True)
        self._process = Process(self._command, self.port)

    def stop(self, how: signal.Signals | None = None) -> None:
        self._process.terminate(by=how or self._stop)

    def close(self) -> None:
        self._process.kill()


@pytest.fixture
def unit() -> Iterator[Unit]:
    """On a tmpfs, where there is one."""
    shared = Path("/dev/shm")
    where = str(shared) if os.access(shared, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="mcsessions-", dir=where))
    unit = Unit(folder)
    yield unit
    unit.close()
    shutil.rmtree(folder)


def session_id(number: int) -> str:
    return f"{number:043}"


async def fill(manager: SessionManager) -> None:
    for number in range(COUNT):
        await manager.set(session_id(number), {"n": number})


async def found(manager: SessionManager) -> list[int]:
    sessions = [await manager.get(session_id(number)) for number in range(COUNT)]
    return [session["n"] for session in sessions if session is not None]


@pytest.mark.gen_test
async def test_a_warm_restart_keeps_everything(unit: Unit) -> None:
    """All sessions are there, one that was ended is not, and writes go on."""
    manager = SessionManager(store=unit.url)
    await fill(manager)
    await manager.destroy(session_id(0))
    store = MemcachedStore.from_url(unit.url)
    assert await store.add("other", b"1", 100)
    before = await store.get("other")
    unit.stop()
    unit.start()
    assert await found(manager) == list(range(1, COUNT))
    assert before is not None
    assert await store.cas("other", b"2", 100, before.token) is CasResult.STORED
    await store.close()
    await manager.close()


@pytest.mark.gen_test
async def test_with_reconnect_timeout_nobody_notices(unit: Unit) -> None:
    """A request that comes during the restart waits for its end."""
    manager = SessionManager(store=f"{unit.url}/?reconnect_timeout=10")
    await fill(manager)

    async def restart() -> None:
        await asyncio.to_thread(unit.stop)
        await asyncio.to_thread(unit.start)

    restarting = asyncio.create_task(restart())
    rounds = 0
    while not restarting.done() or rounds < 2:
        assert await found(manager) == list(range(COUNT))
        rounds += 1
    await restarting
    await manager.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("way", ["at once", "SIGTERM", "SIGKILL"])
async def test_other_restarts_lose_everything(unit: Unit, way: str) -> None:
    """One within the same second, by the usual signal, or by a crash."""
    manager = SessionManager(store=unit.url)
    for _ in range(3):  # the next second may begin just between stop and start
        await fill(manager)
        assert len(await found(manager)) == COUNT
        unit.stop(None if way == "at once" else signal.Signals[way])
        unit.start(waits=way != "at once")
        kept = await found(manager)
        if not kept:
            break
    assert kept == []
    await manager.close()


def test_the_memory_is_on_the_file_system_that_is_mounted() -> None:
    """The two files agree, and memcached's memory fits."""
    mount = unit_of("run-mcsessions.mount")["Mount"]
    command = unit_of("memcached.conf")["Service"]["ExecStart"]
    where, options = mount["Where"], mount["Options"].split(",")
    assert f"-e {where}/memory" in command
    assert unit_of("memcached.conf")["Unit"]["RequiresMountsFor"] == where
    (size,) = (x.removeprefix("size=") for x in options if x.startswith("size="))
    memory = int(command.split("-m ")[1].split()[0])
    assert memory < int(size.removesuffix("M"))
