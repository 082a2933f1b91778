"""Exceptions that are raised in a node's threads from outside.

A debugger does so, and what ends work that takes too long.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading

import pytest

from tornado_mcsession import StoreUnavailable
from tornado_mcsession.testing.contract import OPERATIONS, TTL

pytestmark = [pytest.mark.integration, pytest.mark.gen_test(timeout=60)]


def interrupt(error: type[BaseException]) -> int:
    """Raise ``error`` in each thread of a node; return how many they are."""
    threads = [t for t in threading.enumerate() if t.name.startswith("mcsession")]
    for thread in threads:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(error)
        )
    return len(threads)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, TimeoutError])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_the_node_is_not_lost(proxy, connect, operation, error):
    """More often than there are threads: each operation ends, and the next work."""
    store = connect(proxy.url + "?timeout=10&threads=2")
    await store.add("key", b"1", TTL)
    for number in range(5):
        proxy.hang()
        asked = []
        for _ in range(2):
            asked.append(asyncio.ensure_future(OPERATIONS[operation](store, "key")))
            await asyncio.sleep(0.02)  # until a thread waits for the network
        assert interrupt(error) == 2
        proxy.pass_through()  # by which they go on
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
        for outcome in outcomes:
            # What is like a connection's own trouble is tried again. And on a busy
            # machine the thread may not have begun: then another one does it.
            is_told = isinstance(outcome, StoreUnavailable)
            assert is_told or not isinstance(outcome, BaseException)
        async with asyncio.timeout(5):
            for key in ("a", "b", "c"):
                assert await store.add(f"{key}{number}", b"1", TTL)
                assert (await store.get(f"{key}{number}")).data == b"1"
        (state,) = store.stats()["nodes"].values()
        assert state["pending"] == 0


async def test_an_answer_that_was_cut_off_is_nobody_else_s(proxy, connect):
    """The connection of an interrupted operation is not used any more."""
    store = connect(proxy.url + "?timeout=10&threads=1")
    await store.add("one", b"1", TTL)
    await store.add("two", b"2", TTL)
    for _ in range(5):
        proxy.hang()
        asked = asyncio.ensure_future(store.get("one"))
        await asyncio.sleep(0.02)
        interrupt(SystemExit)
        proxy.pass_through()
        with pytest.raises(StoreUnavailable):
            await asked
        assert (await store.get("two")).data == b"2"
