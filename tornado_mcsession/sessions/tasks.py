"""The work on sessions that is under way: what runs, and whose turn it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextvars import ContextVar
from typing import Any

from ..exceptions import StoreUnavailable

__all__ = ["Tasks", "Turn", "WriterTurn", "Writers"]

# How long a writer waits for another one of its process that gets nowhere.
PATIENCE = 0.3


class Tasks:
    """The saves and ends that are under way in this process.

    Those of a store key are remembered while they run, so that the next request
    for that session can wait for them.
    """

    def __init__(self) -> None:
        # Event loops keep only weak references to their tasks.
        self._running: set[asyncio.Future[Any]] = set()
        self.of_key: dict[str, set[asyncio.Task[Any]]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def start(
        self, work: Coroutine[Any, Any, Any], key: str | None = None
    ) -> asyncio.Task[Any]:
        """Run ``work`` on the running loop."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if key is not None:
            self.of_key.setdefault(key, set()).add(task)
            task.add_done_callback(lambda done: self._forget(key, done))
        return task

    def _forget(self, key: str, task: asyncio.Task[Any]) -> None:
        tasks = self.of_key[key]
        tasks.discard(task)
        if not tasks:
            del self.of_key[key]

    async def whole(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` to its end, even if the caller is cancelled.

        Half of a login would leave the old id dead, and the new one unsent.
        """
        task = self.start(work)
        # Where nobody waits any more, nobody asks what it raised.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)

    def watch(self, work: asyncio.Future[Any]) -> None:
        """Count ``work`` among the tasks until `forget`, which must be called."""
        self._running.add(work)

    def forget(self, work: asyncio.Future[Any]) -> None:
        """Stop counting ``work``."""
        self._running.discard(work)

    async def wait_for(self, key: str, timeout: float) -> None:
        """Wait until this loop's tasks of ``key`` are over, however they end.

        At most ``timeout`` seconds: a hook in one of them may never end, or may be
        what waits.
        """
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        mine = [
            task
            for task in tuple(self.of_key.get(key, ()))
            if task.get_loop() is loop and task is not me
        ]
        if mine:
            await asyncio.wait(mine, timeout=timeout)

    async def drain(self, timeout: float | None) -> bool:
        """Wait for this loop's tasks, including those that begin meanwhile.

        Returns whether all of them ended within ``timeout`` seconds.
        """
        loop = asyncio.get_running_loop()
        limit = None if timeout is None else loop.time() + timeout
        while True:
            mine = {
                task
                for task in tuple(self._running)  # other threads add to it
                if task.get_loop() is loop and task is not asyncio.current_task()
            }
            if not mine:
                return True
            left = None if limit is None else limit - loop.time()
            if left is not None and left <= 0:
                return False
            await asyncio.wait(mine, timeout=left)


# Which turns the running task, or one that it came from, has at the moment.
_TURNS: ContextVar[tuple[object, ...]] = ContextVar("turns", default=())


class Turn:
    """Lets one task at a time work on a session.

    For a task that has the turn already, and for those that it starts and waits
    for, it would never come: RuntimeError.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._mark: object = None

    @property
    def is_taken(self) -> bool:
        """Whether some task has the turn."""
        return self._lock.locked()

    def refuse_holder(self) -> None:
        """Raise where the running task has the turn already."""
        if self._mark is not None and self._mark in _TURNS.get():
            raise RuntimeError(
                "the session is being saved: a hook, or a function that transact "
                "calls, cannot await its methods"
            )

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Take the turn, or raise `.StoreUnavailable` where it does not come."""
        self.refuse_holder()
        try:
            async with asyncio.timeout(seconds):
                await self.__aenter__()
        except TimeoutError:
            raise StoreUnavailable(
                "save", "", "another call on the session has not ended"
            ) from None
        try:
            yield
        finally:
            await self.__aexit__()

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        self._mark = object()
        self._before = _TURNS.set((*_TURNS.get(), self._mark))

    async def __aexit__(self, *_: object) -> None:
        self._mark = None
        _TURNS.reset(self._before)
        self._lock.release()


class _Queue:
    """The writers of one session that wait for their turn."""

    def __init__(self) -> None:
        self.turns: deque[asyncio.Future[bool]] = deque()
        self.moved = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def next(self, is_turn: bool) -> bool:
        """Let whoever waits longest go on; return whether anybody does."""
        while self.turns:
            turn = self.turns.popleft()
            if not turn.done():
                self.moved = turn.get_loop().time()
                turn.set_result(is_turn)
                return True
        return False


class Writers:
    """Lets the writers of one session in this process write one after another.

    Conflicts then come from other processes only, and a burst of writers on a large
    session encodes it once for each. It saves work and guards nothing: where a
    writer gets nowhere, since its node does not answer, the others go on one by one,
    and cas decides. Each event loop has queues of its own; ``loop`` is the running one,
    which costs a system call to ask for in Python 3.11.
    """

    def __init__(self) -> None:
        # A queue is made when somebody waits: mostly nobody does.
        self._queues: dict[tuple[asyncio.AbstractEventLoop, str], _Queue | None] = {}

    def take(self, loop: asyncio.AbstractEventLoop, key: str) -> bool:
        """Take the turn for ``key`` if nobody has it; return whether it was taken."""
        mark = loop, key
        if mark in self._queues:
            return False
        self._queues[mark] = None
        return True

    async def wait(self, loop: asyncio.AbstractEventLoop, key: str) -> bool:
        """Wait for the turn; return False where it was waited for in vain."""
        queue = self._queues[loop, key]
        if queue is None:
            queue = self._queues[loop, key] = _Queue()
            queue.moved = loop.time()
            self._watch(loop, key, queue)
        turn: asyncio.Future[bool] = loop.create_future()
        queue.turns.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.leave(loop, key)  # it came in the very moment
            raise

    def _watch(self, loop: asyncio.AbstractEventLoop, key: str, queue: _Queue) -> None:
        def look() -> None:
            if loop.time() >= queue.moved + PATIENCE:
                queue.next(False)
            if queue.turns:
                queue.timer = loop.call_at(queue.moved + PATIENCE, look)
            else:
                queue.timer = None
                if self._queues.get((loop, key)) is queue:
                    self._queues[loop, key] = None

        queue.timer = loop.call_at(queue.moved + PATIENCE, look)

    def leave(self, loop: asyncio.AbstractEventLoop, key: str) -> None:
        """Hand the turn to whoever waits longest."""
        mark = loop, key
        queue = self._queues.get(mark)
        if queue is not None:
            if queue.next(True):
                return
            if queue.timer is not None:
                queue.timer.cancel()
        self._queues.pop(mark, None)


class WriterTurn:
    """One writer's turn; ``has`` says that it has it already."""

    def __init__(self, writers: Writers, key: str, *, has: bool) -> None:
        self._writers = writers
        self._loop = asyncio.get_running_loop()
        self._key = key
        self._has = has

    async def enter(self) -> bool:
        """Take the turn; return whether it had to be waited for."""
        if self._has or self._writers.take(self._loop, self._key):
            self._has = True
            return False
        self._has = await self._writers.wait(self._loop, self._key)
        return True

    async def move(self, key: str) -> None:
        """Go on with another key."""
        self.leave()
        self._key = key
        await self.enter()

    def leave(self) -> None:
        """Let the next one go on."""
        if self._has:
            self._has = False
            self._writers.leave(self._loop, self._key)
