"""Many writers of one session at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tornado_mcsession import MsgpackSerializer, SessionManager

from ..support.requests import Visit, begin, data_of, visit
from ..support.scripted import ScriptedStore


class CountingSerializer:
    """Counts how often a whole session is encoded."""

    def __init__(self) -> None:
        self._inner = MsgpackSerializer()
        self.whole = 0

    def dumps(self, value: Any) -> bytes:
        self.whole += isinstance(value, dict) and "big" in value
        return self._inner.dumps(value)

    def loads(self, data: bytes) -> Any:
        return self._inner.loads(data)


BIG = "x" * 100_000


async def through_commit(request: Visit, name: str) -> None:
    request.session[name] = 1
    await request.leave()


async def through_save(request: Visit, name: str) -> None:
    request.session[name] = 1
    await request.session.save()


async def through_transact(request: Visit, name: str) -> None:
    await request.session.transact(lambda data: data.update({name: 1}))


WAYS = [through_commit, through_save, through_transact]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.gen_test(timeout=60)
async def test_a_burst_in_one_process_is_all_saved(
    make: Callable[..., SessionManager], store: ScriptedStore, way: Any
) -> None:
    """400 writers of a session of 100 KB: none is refused, none encodes it often."""
    serializer = CountingSerializer()
    manager = make(store, serializer=serializer)
    session_id = await begin(manager, big=BIG)
    requests = [await visit(manager, session_id) for _ in range(400)]
    serializer.whole = 0
    before = store.calls.count("cas")
    told = await asyncio.gather(
        *(way(request, f"k{number}") for number, request in enumerate(requests)),
        return_exceptions=True,
    )
    assert [each for each in told if each is not None] == []
    found = await data_of(manager, session_id)
    assert {f"k{number}" for number in range(400)} <= found.keys()
    # They queue before the cas. Whoever finds the queue empty may still try with what
    # it loaded, so there is a conflict now and then.
    assert store.calls.count("cas") - before <= 410
    assert manager.stats()["conflicts"] <= 10
    if way is not through_transact:  # which encodes what its function gets as well
        assert serializer.whole <= 2 * 410


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.gen_test(timeout=60)
async def test_a_burst_in_two_processes_is_all_saved(
    manager: SessionManager, other: SessionManager, way: Any
) -> None:
    """There are conflicts, and nobody gives up."""
    session_id = await begin(manager, big=BIG)
    requests = [
        await visit(which, session_id) for _ in range(75) for which in (manager, other)
    ]
    told = await asyncio.gather(
        *(way(request, f"k{number}") for number, request in enumerate(requests)),
        return_exceptions=True,
    )
    assert [each for each in told if each is not None] == []
    found = await data_of(manager, session_id)
    assert len(found) == 151


@pytest.mark.gen_test
async def test_a_writer_that_is_cancelled_holds_nobody_up(
    manager: SessionManager,
) -> None:
    """A client leaves while its save waits for its turn."""
    session_id = await begin(manager, a=0)
    requests = [await visit(manager, session_id) for _ in range(20)]
    works = [
        asyncio.ensure_future(through_save(request, f"k{number}"))
        for number, request in enumerate(requests)
    ]
    await asyncio.sleep(0)
    for work in works[::3]:
        work.cancel()
    told = await asyncio.gather(*works, return_exceptions=True)
    found = await data_of(manager, session_id)
    for number, each in enumerate(told):
        assert each is None or isinstance(each, asyncio.CancelledError)
        if each is None:
            assert found[f"k{number}"] == 1
    async with asyncio.timeout(5):
        await through_save(await visit(manager, session_id), "afterwards")


@pytest.mark.gen_test
async def test_a_slow_function_holds_no_other_writer_up(
    manager: SessionManager,
) -> None:
    """``transact`` awaits something else, and a save goes through meanwhile."""
    session_id = await begin(manager, a=0)
    begun, free = asyncio.Event(), asyncio.Event()

    async def slow(data: dict[str, Any]) -> None:
        begun.set()
        await free.wait()
        data["slow"] = 1

    request = await visit(manager, session_id)
    running = asyncio.ensure_future(request.session.transact(slow))
    await begun.wait()
    async with asyncio.timeout(5):
        await through_save(await visit(manager, session_id), "meanwhile")
    free.set()
    await running
    assert await data_of(manager, session_id) == {"a": 0, "meanwhile": 1, "slow": 1}
