"""Writers of one session in one process: who is done lets the next one go on at once.

They run on a loop whose time is virtual: it passes only where somebody waits for it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tornado_mcsession import MemoryStore, SessionManager

from ..support.clock import ManualClock
from ..support.requests import Visit, begin, data_of, visit
from ..support.scripted import Hold, ScriptedStore
from ..support.stepping import run_virtually

HOUR = 3600.0


def manager_of(
    store: MemoryStore, clock: ManualClock, *, max_size: int = 1_000_000
) -> SessionManager:
    return SessionManager(
        store=store, clock=clock, cookie_secret="a secret", max_size=max_size
    )


async def write(manager: SessionManager, session_id: str, name: str) -> None:
    request = await visit(manager, session_id)
    request.session.clear()
    request.session[name] = 1
    await request.session.save()


async def read(manager: SessionManager, session_id: str) -> None:
    """A request that changes nothing; it renews the session where that is due."""
    request = await visit(manager, session_id)
    assert request.session
    await request.leave()


async def write_first(manager: SessionManager, session_id: str) -> None:
    await write(manager, session_id, "first")


@pytest.mark.parametrize("first", [read, write_first])
def test_a_save_after_a_write_need_not_wait(clock: ManualClock, first: Any) -> None:
    """Whatever was written before: a renewal, or data."""

    async def play() -> None:
        manager = manager_of(MemoryStore(clock=clock), clock)
        session_id = await begin(manager, a=1)
        clock.advance(12 * HOUR)
        began = asyncio.get_running_loop().time()
        await first(manager, session_id)
        assert manager.stats()["renewals"] == (first is read)
        await write(manager, session_id, "second")
        assert await data_of(manager, session_id) == {"second": 1}
        assert asyncio.get_running_loop().time() == began

    run_virtually(play())


def test_a_save_after_a_renewal_that_could_not_begin_need_not_wait(
    clock: ManualClock,
) -> None:
    """The session is larger than this process allows, and is made smaller then."""

    async def play() -> None:
        store = MemoryStore(clock=clock)
        session_id = await begin(manager_of(store, clock), a="x" * 2000)
        manager = manager_of(store, clock, max_size=1000)
        clock.advance(12 * HOUR)
        began = asyncio.get_running_loop().time()
        await read(manager, session_id)
        assert manager.stats()["errors_renew"] == 1
        await write(manager, session_id, "small")
        assert await data_of(manager, session_id) == {"small": 1}
        assert asyncio.get_running_loop().time() == began

    run_virtually(play())


class Scene:
    """A session with writers of one process, over a store that a test scripts."""

    def __init__(self, clock: ManualClock) -> None:
        self.store = ScriptedStore(MemoryStore(clock=clock))
        self.store.timeout = 100.0
        self.manager = SessionManager(
            store=self.store, clock=clock, cookie_secret="a secret"
        )
        self.id = ""
        self.began = 0.0

    async def begin(self) -> None:
        self.id = await begin(self.manager, a=1)
        self.began = asyncio.get_running_loop().time()

    def writer(self, name: str) -> asyncio.Task[None]:
        return asyncio.ensure_future(add_key(self.manager, self.id, name))

    async def stuck_writer(self, name: str) -> tuple[asyncio.Task[None], Hold]:
        """A writer whose cas is held, and what holds it."""
        hold = Hold()
        self.store.script("cas", hold)
        writer = self.writer(name)
        await hold.reached()
        return writer, hold

    async def names(self) -> set[str]:
        return set(await data_of(self.manager, self.id)) - {"a"}

    @property
    def waited(self) -> float:
        return asyncio.get_running_loop().time() - self.began


async def add_key(manager: SessionManager, session_id: str, name: str) -> None:
    request = await visit(manager, session_id)
    request.session[name] = 1
    await request.session.save()


async def settle() -> None:
    """Let everybody go on who need not wait."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_one_that_is_cancelled_when_its_turn_comes_hands_it_on(
    clock: ManualClock,
) -> None:
    """A client leaves in the very moment in which the writer before has ended."""

    async def play() -> None:
        scene = Scene(clock)
        await scene.begin()
        hold = Hold()
        scene.store.script("cas", hold)
        doomed: list[asyncio.Task[None]] = []

        async def first() -> None:
            await add_key(scene.manager, scene.id, "first")
            doomed[0].cancel()  # its turn has come, and it does not know it yet

        running = asyncio.ensure_future(first())
        await hold.reached()
        doomed.append(scene.writer("doomed"))
        last = scene.writer("last")
        await settle()
        hold.release()
        await asyncio.gather(running, last)
        await asyncio.wait(doomed)
        assert doomed[0].cancelled()
        assert await scene.names() == {"first", "last"}
        assert scene.waited == 0

    run_virtually(play())


def test_all_go_past_a_writer_that_hangs(clock: ManualClock) -> None:
    """Also one that comes when those before it have gone past."""

    async def play() -> None:
        scene = Scene(clock)
        await scene.begin()
        stuck, hold = await scene.stuck_writer("stuck")
        for name in ("second", "third", "fourth"):
            await scene.writer(name)
            # Time for all that was arranged for those that have gone.
            await asyncio.sleep(1.5)
        assert await scene.names() == {"second", "third", "fourth"}
        hold.release()
        await stuck
        assert await scene.names() == {"stuck", "second", "third", "fourth"}

    run_virtually(play())


def test_a_slow_function_gives_nobody_elses_turn_away(clock: ManualClock) -> None:
    """It gave its own turn away while it ran, and has none to give when it ends."""

    async def play() -> None:
        scene = Scene(clock)
        await scene.begin()
        begun, free = asyncio.Event(), asyncio.Event()

        async def slow(data: dict[str, Any]) -> None:
            begun.set()
            await free.wait()
            data["slow"] = 1

        request = await visit(scene.manager, scene.id)
        slow_one = asyncio.ensure_future(request.session.transact(slow))
        await begun.wait()
        stuck, hold = await scene.stuck_writer("stuck")
        waiting = scene.writer("waiting")
        await settle()
        free.set()
        await slow_one
        await settle()
        assert not waiting.done(), "there are two writers at once"
        hold.release()
        await asyncio.gather(stuck, waiting)
        assert await scene.names() == {"slow", "stuck", "waiting"}

    run_virtually(play())


def test_writers_of_other_loops_do_not_wait(clock: ManualClock) -> None:
    """A writer is stuck on one loop; one on another loop goes on at once."""
    scene = Scene(clock)

    async def elsewhere() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await scene.writer("elsewhere")
        return loop.time() - began

    async def play() -> None:
        await scene.begin()
        stuck, hold = await scene.stuck_writer("stuck")
        waited = await asyncio.to_thread(run_virtually, elsewhere())
        hold.release()
        await stuck
        assert waited == 0
        assert await scene.names() == {"stuck", "elsewhere"}

    asyncio.run(play())


def test_writers_that_are_led_to_a_new_id_queue_there(clock: ManualClock) -> None:
    """Those that loaded the old id and those that loaded the new one are one queue."""

    async def play() -> None:
        scene = Scene(clock)
        await scene.begin()
        late = [await visit(scene.manager, scene.id) for _ in range(10)]
        request = await visit(scene.manager, scene.id)
        await request.session.regenerate(grace=30)
        scene.id = await request.leave() or ""

        async def slowly(operate: Any) -> Any:
            await asyncio.sleep(0.01)
            return await operate()

        scene.store.always("cas", slowly)

        async def save(number: int, request: Visit) -> None:
            request.session[f"late{number}"] = 1
            await request.session.save()

        before = scene.manager.stats()["conflicts"]
        await asyncio.gather(
            *(save(number, request) for number, request in enumerate(late)),
            *(scene.writer(f"new{number}") for number in range(10)),
        )
        assert len(await scene.names()) == 20
        # The first of each id's tries with what it loaded.
        assert scene.manager.stats()["conflicts"] - before <= 3

    run_virtually(play())
