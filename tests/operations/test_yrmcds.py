"""yrmcds, with demo/deploy/yrmcds.conf, keeps sessions as memcached does.

The replication itself is tried by ``python -m benchmarks.failover``.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tornado_mcsession import CasResult, MemcachedStore, SessionManager
from tornado_mcsession.doctor import Doctor
from tornado_mcsession.testing import StoreContract

from ..support.processes import Process, find_server, free_port
from .deployed import replaced, text_of

pytestmark = [pytest.mark.integration, pytest.mark.debian]


@contextlib.contextmanager
def yrmcds(folder: Path) -> Iterator[str]:
    """The URL of a yrmcds alone, with the settings of the file to copy."""
    port = free_port()
    configuration = replaced(
        text_of("yrmcds.conf"),
        ("virtual_ip = 10.0.160.2", "virtual_ip = 127.0.0.1"),
        ("\nport = 11211", f"\nport = {port}"),
        ("repl_port = 11213", f"repl_port = {free_port()}"),
        ("/var/tmp/yrmcds", str(folder)),
        ('log.file = "/var/log/yrmcds.log"\n', ""),
        ("user = yrmcds\ngroup = yrmcds\n", ""),
        ("buckets = 1000000", "buckets = 1009"),
    )
    path = folder / "yrmcds.conf"
    path.write_text(configuration)
    process = Process([find_server("yrmcdsd"), "-f", str(path)], port)
    try:
        wait_until_it_responds(port)
        yield f"memcached://127.0.0.1:{port}"
    finally:
        process.kill()


def wait_until_it_responds(port: int) -> None:
    """It accepts connections a moment before it looks at them.

    What is sent on one of these first connections is never answered.
    """
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"version\r\n")
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                assert connection.recv(100).startswith(b"VERSION")
                return
    raise RuntimeError("yrmcdsd does not respond")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """An empty one; it starts faster than its ``flush_all`` is done."""
    with yrmcds(tmp_path) as url:
        yield url


class TestYrmcds(StoreContract):
    """It keeps the contract of a store, but for two promises."""

    @pytest.fixture(autouse=True)
    def _server(self, url: str) -> None:
        self.url = f"{url}/?timeout=10"

    def make_store(self):
        return MemcachedStore.from_url(self.url)

    def run(self, play: Callable[[MemcachedStore], Coroutine[Any, Any, None]]) -> None:
        async def played() -> None:
            store = self.make_store()
            await play(store)
            await store.close()

        asyncio.run(played())

    def test_deleted_and_added_again_is_another_version(self) -> None:
        """It is not: the hazard that replication.md names."""

        async def play(store: MemcachedStore) -> None:
            await store.add("key", b"1", 100)
            entry = await store.get("key")
            assert entry is not None
            await store.delete("key")
            await store.add("key", b"2", 100)
            stored = await store.cas("key", b"3", 100, entry.token)
            assert stored is CasResult.STORED

        self.run(play)

    def test_entries_end_in_time(self) -> None:
        """They do; but a delete of one that has ended says that it was there."""

        async def play(store: MemcachedStore) -> None:
            await store.add("short", b"1", 1)
            await store.add("again", b"1", 1)
            await store.add("staying", b"1", 100)
            began = time.monotonic()
            while await store.get_many(["short", "again"]):
                assert time.monotonic() < began + 6
                await asyncio.sleep(0.02)
            assert time.monotonic() >= began + 0.9
            assert await store.get("staying") is not None
            assert not await store.touch("short", 100)
            assert await store.add("again", b"2", 100)
            assert await store.delete("short")

        self.run(play)


def test_the_doctor_says_that_it_can_keep_sessions(url: str) -> None:
    """Without a remark."""
    (findings,) = Doctor(url).examine()
    assert findings.ok
    assert findings.cas
    assert findings.remarks == []


@pytest.mark.gen_test
async def test_sessions_are_kept(url: str) -> None:
    """Parallel changes are, and what was ended stays ended."""
    one, two = SessionManager(store=url), SessionManager(store=url)
    session_id = "y" * 43
    await one.set(session_id, {"n": 0})

    async def add(manager: SessionManager) -> None:
        session = await manager.get(session_id)
        assert session is not None

        def count(data: dict[str, int]) -> None:
            data["n"] += 1

        await session.transact(count)

    await asyncio.gather(*(add(manager) for manager in [one, two] * 10))
    session = await two.get(session_id)
    assert session is not None
    assert session["n"] == 20
    await one.destroy(session_id)
    assert await two.get(session_id) is None
    await one.close()
    await two.close()


def test_no_session_is_written_to_a_file() -> None:
    """What is larger than heap_data_limit would be, in clear."""
    sizes = re.findall(
        r"^(?:max_data_size|heap_data_limit) = (\S+)$", text_of("yrmcds.conf"), re.M
    )
    assert sizes == ["1M", "1M"]
