"""Work for the threads of a `Executor`, which a test holds and lets go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from tornado_mcsession.stores.memcached.executor import Call, Executor, begun

LONG = 20.0


class Work:
    """What the executor's threads do: answer "done" by name, as far as allowed.

    A call of the kind "hold" keeps its thread until `release`.
    """

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.ran: list[str] = []
        self.held = threading.Semaphore(0)
        self._released = threading.Event()

    def __call__(self, calls: list[Call]) -> None:
        self.batches.append([call.request for call in calls])
        for each in calls:
            for call in begun([each]):
                self._do(call)

    def _do(self, call: Call) -> None:
        self.ran.append(call.request)
        if call.kind == "hold":
            self.held.release()
            assert self._released.wait(LONG)
        elif call.kind == "fail":
            call.error = OSError(call.request)
            return
        elif call.kind == "crash":
            raise LookupError(call.request)
        elif call.kind == "exit":
            raise SystemExit
        call.result = f"{call.request} done"

    async def wait_until_held(self, count: int = 1) -> None:
        for _ in range(count):
            await asyncio.to_thread(self.held.acquire, timeout=LONG)

    def release(self) -> None:
        self._released.set()


def submit(executor: Executor, name: str, kind: str = "do") -> asyncio.Future[str]:
    return executor.submit(kind, name)


async def outcomes(*futures: asyncio.Future[str]) -> list[Any]:
    """What came of each: an answer or an error."""
    return await asyncio.gather(*futures, return_exceptions=True)


def threads() -> list[threading.Thread]:
    """The threads that are running for executors of the package's own."""
    return [t for t in threading.enumerate() if t.name.startswith("mcsession")]


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run ``main()`` on a loop of its own, and close that."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()
