"""Work that goes on after its request.

Tried by itself: what is under way is seen through no public name.
"""

from __future__ import annotations

import asyncio

import pytest

from tornado_mcsession.sessions.tasks import Tasks


@pytest.mark.gen_test
async def test_all_work_of_a_key_is_waited_for():
    """Not the newest alone: an older one may take longer."""
    tasks = Tasks()
    older, newer = asyncio.Event(), asyncio.Event()
    tasks.start(older.wait(), "key")
    tasks.start(newer.wait(), "key")
    waiting = asyncio.ensure_future(tasks.wait_for("key", 5))
    newer.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    older.set()
    await waiting
    assert "key" not in tasks.of_key
    assert await tasks.drain(5)
