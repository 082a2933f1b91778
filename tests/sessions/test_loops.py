"""Any number of event loops, one after another and at once."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tornado_mcsession import SessionManager

both = pytest.mark.parametrize(
    "url",
    [
        "memory://",
        pytest.param("", id="memcached", marks=pytest.mark.integration),
    ],
)
ID = "a-session-id-of-forty-three-characters-0123"


@both
def test_a_manager_serves_one_loop_after_another(request, url):
    """As a test suite makes one for each test; a closed loop leaves nothing behind."""
    manager = SessionManager(store=url or request.getfixturevalue("memcached").url)

    async def count():
        session = await manager.get(ID)
        if session is None:
            await manager.set(ID, {"n": 1})
        else:
            await session.transact(lambda data: data.update(n=data["n"] + 1))
        return (await manager.get(ID))["n"]

    assert [asyncio.run(count()) for _ in range(3)] == [1, 2, 3]
    asyncio.run(manager.close())


@both
def test_a_manager_serves_loops_in_several_threads(request, url):
    """At the same time, and no update is lost."""
    manager = SessionManager(store=url or request.getfixturevalue("memcached").url)
    asyncio.run(manager.set(ID, {"n": 0}))
    failures = []

    async def count():
        for _ in range(10):
            session = await manager.get(ID)
            await session.transact(lambda data: data.update(n=data["n"] + 1))
        await manager.drain()

    def run():
        try:
            asyncio.run(count())
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert asyncio.run(manager.get(ID))["n"] == 40
    asyncio.run(manager.close())
