"""Interleavings of a test's choice: each store operation waits to be let go."""

from __future__ import annotations

import asyncio
import enum
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from tornado_mcsession import CasResult, Entry, MemoryStore, Store, StoreUnavailable

# Which of the works that run at once is running; tasks that it starts inherit it.
_WORK: ContextVar[int] = ContextVar("work", default=-1)


def current_work() -> int:
    """Return the number of the work that is running; -1 if it is none of them."""
    return _WORK.get()


class Fate(enum.Enum):
    """What becomes of a store operation when it is let go."""

    DONE = "done"
    LOST = "done, but its response is lost"
    LATE = "no response; it is done later, if it writes"
    NEVER = "no response; it is never done"


class Option(NamedTuple):
    """What may happen next: the operation of a work, or a late one that arrives."""

    work: int
    kind: str
    is_late: bool = False


class Choice(NamedTuple):
    """Which option is taken, and the fate of its operation."""

    option: Option
    fate: Fate = Fate.DONE


Choose = Callable[[Sequence[Option]], Choice]


class _Waiting(NamedTuple):
    option: Option
    turn: asyncio.Future[Fate]


class SteppedStore(Store):
    """Keeps the contract by ``inner``, but runs an operation only when let go."""

    keeps_deadline = True
    timeout = 1000.0  # on a loop whose time is virtual

    def __init__(self, inner: Store | None = None) -> None:
        self.inner = inner or MemoryStore()
        self.waiting: list[_Waiting] = []
        self.late: list[tuple[Option, Callable[[], Awaitable[Any]]]] = []
        self.is_stepped = True
        self.faults = 0

    async def get(self, key: str) -> Entry | None:
        return await self._do("get", lambda: self.inner.get(key))

    async def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        return await self._do("get", lambda: self.inner.get_many(keys))

    async def add(self, key: str, data: bytes, ttl: float, flags: int = 0) -> bool:
        return await self._do("add", lambda: self.inner.add(key, data, ttl))

    async def cas(
        self, key: str, data: bytes, ttl: float, token: Any, flags: int = 0
    ) -> CasResult:
        return await self._do("cas", lambda: self.inner.cas(key, data, ttl, token))

    async def touch(self, key: str, ttl: float) -> bool:
        return await self._do("touch", lambda: self.inner.touch(key, ttl))

    async def delete(self, key: str) -> bool:
        return await self._do("delete", lambda: self.inner.delete(key))

    async def close(self) -> None:
        await self.inner.close()

    async def turn(self) -> None:
        """Wait to be let go, as an operation that does nothing and cannot fail."""
        if self.is_stepped:
            await self._let_go("turn")

    async def _let_go(self, kind: str) -> Fate:
        turn: asyncio.Future[Fate] = asyncio.get_running_loop().create_future()
        self.waiting.append(_Waiting(Option(current_work(), kind), turn))
        return await turn

    async def _do(self, kind: str, operation: Callable[[], Awaitable[Any]]) -> Any:
        if not self.is_stepped:
            return await operation()
        fate = await self._let_go(kind)
        if fate is Fate.DONE:
            return await operation()
        if kind != "get":
            if fate is Fate.LOST:
                await operation()
            elif fate is Fate.LATE:
                self.late.append((Option(current_work(), kind, True), operation))
        raise StoreUnavailable(kind, "", "no response", outcome_unknown=kind != "get")

    def options(self) -> list[Option]:
        """Return what may happen next, in an order that does not depend on time."""
        found = {waiting.option: None for waiting in self.waiting}
        found.update({option: None for option, _ in self.late})
        return sorted(found)

    async def take(self, choice: Choice) -> None:
        """Let what was chosen happen; of equal ones, that which waits longest."""
        option = choice.option
        if option.is_late:
            index = next(i for i, (o, _) in enumerate(self.late) if o == option)
            await self.late.pop(index)[1]()
            return
        index = next(i for i, w in enumerate(self.waiting) if w.option == option)
        self.faults += choice.fate is not Fate.DONE
        self.waiting.pop(index).turn.set_result(choice.fate)

    def stop(self) -> None:
        """Do every operation at once, those that wait as well."""
        self.is_stepped = False
        for waiting in self.waiting:
            waiting.turn.set_result(Fate.DONE)
        self.waiting.clear()


async def interleave(
    store: SteppedStore, works: Sequence[Coroutine[Any, Any, Any]], choose: Choose
) -> list[Any]:
    """Run ``works`` at once; ``choose`` says what happens next, until all are done.

    Returns what each returned, or the exception that it raised. Late operations
    that were not chosen arrive at the end.
    """

    async def run(number: int, work: Coroutine[Any, Any, Any]) -> Any:
        _WORK.set(number)
        return await work

    tasks = [asyncio.ensure_future(run(n, work)) for n, work in enumerate(works)]
    while True:
        await _settled(store, tasks)
        if all(task.done() for task in tasks):
            break
        options = store.options()
        if options:
            await store.take(choose(options))
    while store.late:
        await store.take(Choice(store.late[0][0]))
    return await asyncio.gather(*tasks, return_exceptions=True)


# A work that waits for something else than the store (for another one's save, or for
# a pause to end) is given this much virtual time, in steps.
TURNS, STEPS, STEP = 40, 60, 0.005


async def _settled(store: SteppedStore, tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Wait until each work is done or waits for its turn, or nothing else moves."""

    def is_settled() -> bool:
        waiting = {each.option.work for each in store.waiting}
        return all(task.done() or n in waiting for n, task in enumerate(tasks))

    for turn in range(10_000):
        if is_settled():
            return
        if turn < TURNS:
            await asyncio.sleep(0)
        elif turn < TURNS + STEPS or not store.waiting:
            await asyncio.sleep(STEP)
        else:
            return
    raise AssertionError("a work waits for something else than the store")


class Explorer:
    """Chooses so that, run after run, every order within its bounds is played.

    An order may leave a work that could go on ``preemptions`` times, and may give
    ``faults`` operations another fate than being done. A late operation that
    arrives before the end is such a preemption. ::

        explorer = Explorer(preemptions=2, faults=1)
        for choose in explorer:
            play(choose)
    """

    def __init__(self, preemptions: int, faults: int) -> None:
        self._bounds = preemptions, faults
        self._prefix: list[int] = []
        self._made: list[tuple[int, int]] = []  # the choice, and how many there were
        self.trace: list[Choice] = []
        """What was chosen in the run that is played, or was played last."""

    def __iter__(self) -> Iterator[Choose]:
        while True:
            self._made, self.trace = [], []
            self._left = list(self._bounds)
            self._last = 0
            yield self._choose
            while self._made and self._made[-1][0] + 1 >= self._made[-1][1]:
                self._made.pop()
            if not self._made:
                return
            *before, (last, _) = self._made
            self._prefix = [index for index, _ in before] + [last + 1]

    def _choose(self, options: Sequence[Option]) -> Choice:
        number = len(self._made)
        possible = self._possible(options)
        index = self._prefix[number] if number < len(self._prefix) else 0
        self._made.append((index, len(possible)))
        cost, choice = possible[index]
        self._left[0] -= cost[0]
        self._left[1] -= cost[1]
        if not choice.option.is_late:
            self._last = choice.option.work
        self.trace.append(choice)
        return choice

    def _possible(self, options: Sequence[Option]) -> list[tuple[Any, Choice]]:
        can_go_on = any(o.work == self._last and not o.is_late for o in options)
        first = sorted(options, key=lambda o: (o.is_late, o.work != self._last, o))
        found = []
        for option in first:
            leaves = option.is_late or (can_go_on and option.work != self._last)
            for fate in fates(option):
                cost = int(leaves), int(fate is not Fate.DONE)
                if cost[0] <= self._left[0] and cost[1] <= self._left[1]:
                    found.append((cost, Choice(option, fate)))
        # Only late operations are left, and nothing may be chosen any more.
        return found or [((0, 0), Choice(first[0]))]


def fates(option: Option) -> list[Fate]:
    """Return what may become of an operation."""
    if option.is_late or option.kind == "turn":
        return [Fate.DONE]
    if option.kind == "get":
        return [Fate.DONE, Fate.NEVER]
    return list(Fate)


class Listed:
    """Chooses as a list of numbers says; what is behind its end is all done."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = iter(numbers)
        self.trace: list[Choice] = []

    def __call__(self, options: Sequence[Option]) -> Choice:
        number = next(self._numbers, 0)
        option = options[number % len(options)]
        possible = fates(option)
        # Most operations are done, or nothing would ever be told as done.
        fate = possible[max(0, number // 16 - 10) % len(possible)]
        choice = Choice(option, fate)
        self.trace.append(choice)
        return choice


class _NoWait(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout > 0:
            self.skipped += timeout
            timeout = 0
        return super().select(timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which waiting takes no time, and so is the same each run."""

    def __init__(self) -> None:
        self._no_wait = _NoWait()
        super().__init__(self._no_wait)

    def time(self) -> float:
        return self._no_wait.skipped


def run_virtually(work: Coroutine[Any, Any, Any]) -> Any:
    """Run ``work`` on a `VirtualLoop` of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
