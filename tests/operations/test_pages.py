"""What the pages of docs/operations show is what is tested."""

from __future__ import annotations

import asyncio
import re
import shlex
from typing import Any

import pytest
from tornado.web import Application

from tornado_mcsession import MemcachedStore, MemoryStore, SessionManager

from ..support.memcached import Memcached
from ..support.pages import blocks, text_of
from .deployed import text_of as file_text


def test_the_first_setting_is_accepted() -> None:
    """It names two servers."""
    (block,) = blocks("memcached.md")
    names: dict[str, Any] = {}
    exec(block, names)
    manager = SessionManager(Application(session=names["session"]))
    nodes = manager.stats()["store"]["nodes"]
    assert list(nodes) == ["cache1:11211", "cache2:11211"]


def test_each_option_of_the_store_is_in_the_table() -> None:
    """And no other is."""
    table = text_of("memcached.md").partition("## Settings")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", table, re.M)
    told = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    options = MemcachedStore.__init__.__annotations__
    assert told == set(options) - {"servers", "return"}


@pytest.mark.integration
@pytest.mark.gen_test
async def test_health_is_as_the_page_shows_it(own_memcached: Memcached) -> None:
    """With one of two servers away."""
    (block,) = blocks("failing-nodes.md")
    shown = eval(block)
    dead = "127.0.0.1:1"
    url = own_memcached.url.removeprefix("memcached://")
    manager = SessionManager(store=f"memcached://{url},{dead}/?timeout=0.5")
    found = await manager.health()
    assert found["status"] == shown["status"] == "degraded"
    there, away = shown["nodes"].values()
    assert found["nodes"][url].keys() == there.keys()
    assert found["nodes"][dead].keys() == away.keys()
    assert found["nodes"][dead]["ok"] is away["ok"] is False
    await manager.close()


def test_the_parts_of_nginx_conf_are_in_the_file() -> None:
    """Each line that nginx.md shows."""
    lines = {line.strip() for line in file_text("nginx.conf").splitlines()}
    lines |= {line.partition("  #")[0].strip() for line in lines}
    shown = "".join(blocks("nginx.md", "nginx")).splitlines()
    assert len(shown) > 10
    for line in shown:
        assert line.strip() in lines, line


def test_the_warm_restart_by_hand_is_that_of_the_unit() -> None:
    """The same memory, the same signal, the same pause."""
    (_, by_hand) = blocks("restarts.md", "sh")
    unit = file_text("memcached.conf")
    (pause,) = re.findall(r"^ExecStartPre=/bin/(.*)$", unit, re.M)
    assert pause in by_hand
    (signal,) = re.findall(r"^KillSignal=SIG(\w+)$", unit, re.M)
    assert f"kill -{signal} PID" in by_hand
    (line,) = re.findall(r"^ExecStart=/usr/bin/(.*)$", unit, re.M)
    starts = re.findall(r"^(memcached .*) &$", by_hand, re.M)
    assert len(starts) == 2
    for start in starts:
        assert set(shlex.split(start)) - {"-u", "memcache"} <= set(shlex.split(line))
    options = re.findall(r"^Options=(.*)$", file_text("run-mcsessions.mount"), re.M)
    (mounted,) = re.findall(r"-o (\S+)", by_hand)
    assert set(mounted.split(",")) <= set(options[0].split(","))


def test_the_store_of_kubernetes_is_that_of_the_page() -> None:
    """Each memcached by its own name."""
    (shown,) = blocks("containers.md", "text")
    assert f"value: {shown.strip()}\n" in file_text("kubernetes.yaml")


def test_a_single_manager_says_that_nothing_is_pending() -> None:
    """The counter that restarts.md asks for is there."""
    manager = SessionManager(store=MemoryStore())
    assert manager.stats()["pending_destroys"] == 0
    asyncio.run(manager.close())
