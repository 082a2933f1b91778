"""What the store was asked for a request, for the strips on the page.

python -m demo
curl -H 'X-Demo-Action: 0123456789abcdef' http://127.0.0.1:8888/
curl 'http://127.0.0.1:8888/proof/trace?action=0123456789abcdef&count=1'
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from tornado.web import RequestHandler

__all__ = ["Traced", "Traces", "finish", "note"]

HEADER = "X-Demo-Action"
ACTIONS = 200  # how many are kept
REQUESTS = 120  # of one action

Trace = dict[str, Any]
_current: ContextVar[list[dict[str, Any]] | None] = ContextVar("trace", default=None)


def note(kind: str, node: str, seconds: float, outcome: str) -> None:
    """Add a store operation to the request that asked for it.

    This is the callback for `SessionManager.observe`. The operations of a request
    are awaited in its own context, so those of parallel requests do not mix.
    """
    operations = _current.get()
    if operations is not None and kind not in ("begin", "end"):
        milliseconds = round(1000 * seconds, 2)
        operations.append({"kind": kind, "outcome": outcome, "ms": milliseconds})


class Traced(RequestHandler):
    """Collects the operations of a request whose page asks for them."""

    operations: list[dict[str, Any]] | None = None

    def prepare(self) -> Any:
        if re.fullmatch("[0-9a-f]{16,64}", self.request.headers.get(HEADER, "")):
            self.operations = []
            _current.set(self.operations)
        return super().prepare()


def finish(handler: RequestHandler, status: int, process: str) -> Trace | None:
    """Return the trace of a request whose response was sent; None if not wanted."""
    if not isinstance(handler, Traced) or handler.operations is None:
        return None
    return {
        "action": handler.request.headers[HEADER],
        "request": f"{handler.request.method} {handler.request.path}",
        "operations": list(handler.operations),
        "status": status,
        "ms": round(1000 * handler.request.request_time(), 2),
        "process": process,
    }


class Traces:
    """The last traces of all processes, by action: a page asks any process."""

    def __init__(self) -> None:
        self._by_action: OrderedDict[str, list[Trace]] = OrderedDict()
        self._added = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, trace: Trace) -> None:
        traces = self._by_action.setdefault(trace["action"], [])
        if len(traces) < REQUESTS:
            traces.append(trace)
        while len(self._by_action) > ACTIONS:
            self._by_action.popitem(last=False)
        task = asyncio.get_running_loop().create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._added:
            self._added.notify_all()

    async def wait(self, action: str, count: int, seconds: float) -> list[Trace]:
        """Return the traces of ``action``, once there are ``count`` or it is late.

        A response may arrive before its trace: that is made when all has been sent,
        and may come from another process.
        """
        enough: Callable[[], bool] = lambda: (  # noqa: E731
            len(self._by_action.get(action, ())) >= count
        )
        try:
            async with asyncio.timeout(seconds), self._added:
                await self._added.wait_for(enough)
        except TimeoutError:
            pass
        return list(self._by_action.get(action, ()))
