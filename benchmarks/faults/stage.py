"""Where a fault is played: servers, the site, its users, and what they saw."""

from __future__ import annotations

import asyncio
import bisect
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from tests.support.memcached import Memcached
from tests.support.proxy import FaultProxy

from .answer import Answer
from .process import SiteProcess
from .users import User

__all__ = [
    "CONNECT_TIMEOUT",
    "LIMIT",
    "PROCESSES",
    "TIMEOUT",
    "Play",
    "Stage",
    "hashed",
]

T = TypeVar("T")

TIMEOUT = 0.5
CONNECT_TIMEOUT = 0.25
# What a busy machine may add to an answer, and to a recovery.
MARGIN = 2.0
# A load, and a save: each of them may take two timeouts.
LIMIT = 2 * TIMEOUT + 2 * TIMEOUT + MARGIN
PROCESSES = 2
CALM = 0.4
LASTING = 1.2
# A logout that could not be confirmed is tried again when the node answers, at
# the latest after 1, 2, 4 … seconds.
FINISH = 10.0


@dataclass
class Play:
    """What happened while a fault was played."""

    answers: list[tuple[str, Answer]] = field(default_factory=list)
    """With the phase: before, during, recovering or after."""
    told: list[dict[str, Any]] = field(default_factory=list)
    """What the site told its operator."""
    seen: list[list[dict[str, Any]]] = field(default_factory=list)
    """What `stats` and `health` said in each process, as often as was looked."""
    recovery: float | None = None
    """The seconds until each user had an answer again."""
    lost: int = 0
    """How many sessions were gone because memcached had lost them."""
    problems: list[str] = field(default_factory=list)
    """What must not be, beside wrong answers."""
    names: dict[str, str] = field(default_factory=dict)
    """What to call the servers, by their addresses."""
    groups: dict[str, str] = field(default_factory=dict)
    """What to call sessions, by their hashed ids, where that matters."""


class Stage:
    """Plays one fault: after `open`, what is between `hit` and `over`."""

    def __init__(self, users: int) -> None:
        self.play = Play()
        self.users: list[User] = []
        self.sites: list[SiteProcess] = []
        self.directory: Path
        self._phases = [(0.0, "before")]
        self._count = users
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Stage:
        directory = tempfile.TemporaryDirectory(prefix="faults")
        self.directory = Path(self._stack.enter_context(directory))
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._stop_users()
            self.play.lost = sum(user.expected.losses for user in self.users)
        finally:
            await self._stack.aclose()

    # What a fault is made with.

    async def blocking(self, function: Callable[..., T], *args: Any) -> T:
        """Call what blocks, while the users go on."""
        return await asyncio.to_thread(function, *args)

    async def keep(self, make: Callable[..., T], *args: Any) -> T:
        """Make a server that is closed at the end."""
        made: Any = await self.blocking(make, *args)
        self._stack.push_async_callback(self.blocking, made.close)
        return made  # type: ignore[no-any-return]

    async def memcached(self, *args: str) -> Memcached:
        """Start a memcached."""
        return await self.keep(Memcached, *args)

    async def proxy(self, target: Memcached) -> FaultProxy:
        """Put a faulty network in front of a server."""
        return await self.keep(FaultProxy, target.port)

    async def open(
        self, *servers: Any, options: str = "", login: str = "", **settings: Any
    ) -> None:
        """Start the site on ``servers``, and users who log in and work on it.

        ``options`` and ``login`` (``user:password@``) go into the store URL.
        """
        names = [f"127.0.0.1:{server.port}" for server in servers]
        for number, name in enumerate(names, 1):
            self.play.names[name] = f"node {number}" if len(names) > 1 else "memcached"
        scheme = "memcacheds" if "tls_ca" in options else "memcached"
        limits = f"timeout={TIMEOUT}&connect_timeout={CONNECT_TIMEOUT}"
        store = f"{scheme}://{login}{','.join(names)}/?{limits}{options}"
        self._stack.push_async_callback(self._close_sites)
        async with asyncio.TaskGroup() as group:
            for _ in range(PROCESSES):
                group.create_task(self._start_site({"store": store, **settings}))
        await self._move_in(not settings.keys() & {"on_error", "persist"})

    async def _start_site(self, session: dict[str, Any]) -> None:
        self.sites.append(await self.blocking(SiteProcess, session))

    async def _move_in(self, writes_promise: bool) -> None:
        ports = [site.port for site in self.sites]
        for number in range(self._count):
            user = User(number, ports, self._note, writes_promise=writes_promise)
            self.users.append(user)
        await self._everybody(User.login)
        await self._everybody(User.write)
        self._tasks = [asyncio.create_task(user.work()) for user in self.users]
        await asyncio.sleep(CALM)
        await self.look()

    def hit(self) -> None:
        """Note that the fault begins."""
        self._enter("during")

    async def last(self, seconds: float = LASTING) -> None:
        """Let the fault last, and look at what the operator sees of it."""
        await asyncio.sleep(seconds)
        await self.look()

    def lose(self, *users: User, at: float | None = None) -> None:
        """Note that memcached loses the sessions of all, or of these users."""
        for user in users or self.users:
            user.expected.may_be_lost(time.monotonic() if at is None else at)

    async def restart(self, server: Any) -> None:
        """Start a killed server again: it is empty."""
        self.lose()
        await self.blocking(server.restart)
        self.lose()

    async def over(self) -> None:
        """Note that the fault is over, and see that all is well again."""
        began = self._enter("recovering")
        self.play.recovery = await self._recovered(began)
        # Each user had an answer of one process; the other may not have probed a
        # node yet, and this makes it.
        await asyncio.gather(*(site.ask() for site in self.sites))
        self._enter("after")
        await asyncio.sleep(CALM)
        await self._stop_users()
        await self._everybody(User.read)
        await self._everybody(self._see_ended)
        await self.look()

    async def look(self) -> None:
        """Take down what an operator sees now."""
        seen = await asyncio.gather(*(site.ask() for site in self.sites))
        self.play.seen.append(seen)

    async def end(self, site: SiteProcess) -> None:
        """Tell a process of the site to end (SIGTERM), and see that it does."""
        if not await self.blocking(site.terminate, LIMIT):
            self.play.problems.append("a process does not end by SIGTERM")

    def keys(self, *servers: Memcached) -> dict[str, User]:
        """Return which keys of the servers hold which user's session."""
        users = {hashed(user.session_id): user for user in self.users}
        keys = [key for server in servers for key in server.keys()]
        return {key: users[key[-64:]] for key in keys if key[-64:] in users}

    def group(self, server: Memcached, *others: Memcached) -> None:
        """Tell the sessions on ``server`` from those on the others."""
        found = [
            (self.keys(server), "its sessions"),
            (self.keys(*others), "the others"),
        ]
        for keys, name in found:
            for user in keys.values():
                self.play.groups[hashed(user.session_id)] = name

    # How it goes.

    async def _recovered(self, began: float) -> float:
        """Wait until each user had an answer, and each process gave one."""
        waiting = {user.name for user in self.users}
        waiting |= {f"port {site.port}" for site in self.sites}
        seen = len(self.play.answers)
        while waiting and time.monotonic() < began + LIMIT:
            await asyncio.sleep(0.01)
            news, seen = self.play.answers[seen:], len(self.play.answers)
            for _, answer in news:
                if answer.is_of_store and answer.began > began:
                    waiting -= {answer.user, f"port {answer.port}"}
        if waiting:
            self.play.problems.append(f"not well again: {', '.join(sorted(waiting))}")
        return time.monotonic() - began

    def _enter(self, phase: str) -> float:
        now = time.monotonic()
        self._phases.append((now, phase))
        return now

    def _note(self, answer: Answer) -> None:
        # What was asked before the fault may have been hit by it; what was asked
        # while it lasted is not the answer of a site that is well again.
        begun = bisect.bisect([at for at, _ in self._phases], answer.began) - 1
        last = len(self._phases) - 1
        self.play.answers.append((self._phases[max(begun, min(1, last))][1], answer))

    async def _everybody(self, act: Callable[[User], Any]) -> None:
        # A few at once: it is the fault that overloads.
        async def alone(user: User) -> None:
            async with few:
                await act(user)

        few = asyncio.Semaphore(4)
        await asyncio.gather(*map(alone, self.users))

    async def _stop_users(self) -> None:
        # Between two requests, or what they had asked for would be unknown.
        for user in self.users:
            user.leaving = True
        await asyncio.gather(*self._tasks)
        self._tasks = []

    async def _see_ended(self, user: User) -> None:
        for session_id in user.doomed:
            await user.until_dead(session_id, FINISH)
        for session_id in (*user.doomed, *user.dead):
            await user.try_dead(session_id)

    async def _close_sites(self) -> None:
        for number, site in enumerate(self.sites):
            await self.end(site)
            self.play.told += [{**told, "process": number} for told in site.told]
            self.play.problems += site.stray


def hashed(session_id: str | None) -> str:
    """Return what a store key has in the place of the id."""
    return sha256((session_id or "").encode()).hexdigest()
