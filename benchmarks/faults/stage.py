"""Where a fault is played: servers, the site, its users, and what they saw."""

from __future__ import annotations

import asyncio
import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.soak.ledger import Ledger
from benchmarks.soak.trial import LIMITS, Trial
from benchmarks.soak.users import User, World
from benchmarks.soak.web import LIMIT, Reply
from tests.support.memcached import Memcached

PROCESSES = 2
CALM = 0.4
LASTING = 1.2
RECOVERY = 15.0
UNDER_WAY = 0.3  # what was stored before a loss may be confirmed that much after it
PROBE = "probe"  # who asks whether the site is well again
MOVES = ("/login", "/regenerate", "/revoke")
OURS = "tornado_mcsession"
# Counters that only move when something is wrong, by how their names begin.
TELLING = ("errors_", "corrupt_", "pending_destroys", "dropped_ends")


class Losses(World):
    """Whose sessions memcached may have lost, and when."""

    def __init__(self) -> None:
        super().__init__({})
        self.at: dict[str, float] = {}

    def may_have_lost(self, ledger: Ledger, since: float) -> bool:
        return self.at.get(ledger.owner, -math.inf) >= since


@dataclass
class Seen:
    """What was seen of a fault."""

    # Those of requests that the fault may have hit.
    replies: list[Reply] = field(default_factory=list)
    # What must not be.
    problems: Counter[str] = field(default_factory=Counter)
    # What `stats` and `health` said in each process, as often as was looked.
    facts: list[list[dict[str, Any]]] = field(default_factory=list)
    # What each process told its operator.
    told: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    # What to call the servers, by their addresses, and sessions, by their keys.
    names: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    # The seconds until all was well again.
    recovery: float | None = None
    # How many sessions were gone because memcached had lost them.
    lost: int = 0

    def figures(self) -> dict[str, Any]:
        """Return all that is known, ready for JSON."""
        longest = max((reply.seconds for reply in self.replies), default=0.0)
        return {
            "problems": dict(self.problems),
            "requests": len(self.replies),
            "errors": sum(reply.status >= 500 for reply in self.replies),
            "statuses": self._statuses(),
            "longest_ms": round(1000 * longest),
            "recovery_seconds": self.recovery and round(self.recovery, 2),
            "lost_sessions": self.lost,
            "log": self._log(),
            "health": [self._health(facts) for facts in self.facts[1:]],
            "counters": self._moved(),
        }

    def _statuses(self) -> dict[str, dict[str, int]]:
        """Return what users got, by the sessions that it matters to tell apart."""
        groups: dict[str, Counter[str]] = {}
        for reply in self.replies:
            group = "all sessions"
            if self.groups:
                group = self.groups.get(hashed(reply.sent), "new sessions")
                if reply.path in MOVES:
                    group = "new ids"  # which may be placed on any node
            seen = str(reply.status or "none")
            if reply.ok and not reply.told.get("available", True):
                seen += ", empty"
            groups.setdefault(group, Counter())[seen] += 1
        return {name: dict(counts.most_common()) for name, counts in groups.items()}

    def _named(self, text: str) -> str:
        for address, name in self.names.items():
            text = text.replace(address, name)
        return text

    def _log(self) -> dict[str, int]:
        """Return the lines that were logged, without what differs in each."""
        lines: Counter[str] = Counter()
        for _, told in self.told:
            line = self._named(told.get("line", ""))
            line = re.sub(r"(GET|POST) /\w+", "<request>", line)
            line = re.sub(r" \(/\S+\.py:\d+\):", ":", line)  # a handler's place
            lines[re.sub(r"(session of |logouts .*: )\d+", r"\1<n>", line)] += 1
        del lines[""]
        return dict(lines.most_common())

    def _health(self, facts: list[dict[str, Any]]) -> str:
        """Return what the processes' `health` said, once where they agree."""
        said = {}
        for health in (each["health"] for each in facts):
            nodes = [(n, f["error"]) for n, f in health["nodes"].items() if not f["ok"]]
            failed = [f"{self._named(f'{node}: {error}')}" for node, error in nodes]
            said[", ".join([health["status"], *failed])] = True
        return " / ".join(said)

    def _moved(self) -> dict[str, int]:
        """Return by how much the telling counters of all processes have grown."""
        moved: Counter[str] = Counter()
        for facts, sign in zip(self.facts[:1] + self.facts[-1:], (-1, 1), strict=False):
            for stats in (each["stats"] for each in facts):
                for name in stats:
                    if name.startswith(TELLING):
                        moved[name] += sign * stats[name]
        return dict(+moved)


class Stage(AsyncExitStack):
    """Plays one fault: it begins when `open` returns, and ends with `over`.

    Besides 200 and 409, users may get ``statuses``. A response may take ``waits``
    seconds beyond the store's timeouts.
    """

    def __init__(self, users: int, statuses: tuple[int, ...], waits: float) -> None:
        super().__init__()
        self.seen = Seen()
        self.trial: Trial
        self.directory = Path(self.enter_context(tempfile.TemporaryDirectory()))
        self._losses = Losses()
        self._statuses = frozenset({200, 409, *statuses})
        self._limit = LIMIT + waits
        self._began = math.inf
        self._ended = math.inf
        self._count = users

    # What a fault is made with.

    async def keep(self, make: Callable[..., Any], *args: Any) -> Any:
        """Make a server that is closed at the end."""
        made = await asyncio.to_thread(make, *args)
        self.push_async_callback(asyncio.to_thread, made.close)
        return made

    async def open(
        self, *servers: Any, options: str = "", login: str = "", **settings: Any
    ) -> None:
        """Start the site on ``servers``, and users who log in and work on it.

        ``options`` and ``login`` (``user:password@``) go into the store URL.
        """
        names = [f"127.0.0.1:{server.port}" for server in servers]
        for number, name in enumerate(names, 1):
            self.seen.names[name] = f"node {number}" if len(names) > 1 else "memcached"
        scheme = "memcacheds" if "tls_ca" in options else "memcached"
        store = f"{scheme}://{login}{','.join(names)}/?{LIMITS}{options}"
        self.trial = Trial(
            self.directory,
            {"store": store, **settings},
            self._report,
            self._losses,
            applications=PROCESSES,
            users=self._count,
            statuses=self._statuses,
            limit=self._limit,
            on_reply=self._note,
        )
        self.push_async_callback(self._close)
        await self.trial.start()
        for user in self.trial.users:
            user.bursts = [1, 2, 4]  # it is the fault that overloads
            await user.login(user.devices[0])
        self.trial.start_users()
        await asyncio.sleep(CALM)
        await self.look()
        self.hit()

    def hit(self) -> None:
        """Note that the fault begins. It does when `open` returns, or before."""
        self._began = min(self._began, time.monotonic())

    async def on_memcached(self, *args: str, **settings: Any) -> Memcached:
        """Start the site on a memcached that is started with ``args``."""
        node = await self.keep(Memcached, *args)
        await self.open(node, **settings)
        return node

    async def last(self, seconds: float = LASTING) -> None:
        """Let the fault last, and look at what the operator sees of it."""
        await asyncio.sleep(seconds)
        await self.look()

    async def losing(
        self, function: Callable[..., Any], *args: Any, of: User | None = None
    ) -> None:
        """Call what makes memcached lose all sessions, or those of a user."""
        names = [user.name for user in ([of] if of else self.trial.users)]
        self._losses.at |= dict.fromkeys(names, math.inf)
        await asyncio.to_thread(function, *args)
        self._losses.at |= dict.fromkeys(names, time.monotonic() + UNDER_WAY)

    async def over(self) -> None:
        """Note that the fault is over, and see that all is well again."""
        mended = time.monotonic()
        while not await self._is_well():
            if time.monotonic() > mended + RECOVERY:
                self._report("not well again", "")
                break
            await asyncio.sleep(0.02)
        self._ended = time.monotonic()
        self.seen.recovery = self._ended - mended
        await asyncio.sleep(CALM)
        await self.trial.stop_users()
        await self.trial.settle()
        await self.look()

    async def look(self) -> None:
        """Take down what an operator sees now."""
        looking = (each.facts() for each in self.trial.applications)
        self.seen.facts.append(await asyncio.gather(*looking))

    def keys(self, *servers: Memcached) -> dict[str, User]:
        """Return which keys of the servers hold which user's session."""
        users = {
            hashed(device.session_id): user
            for user in self.trial.users
            for device in user.devices
            if device.session_id
        }
        keys = [key for server in servers for key in server.keys()]
        return {key: users[key[-64:]] for key in keys if key[-64:] in users}

    def group(self, server: Memcached, *others: Memcached) -> None:
        """Tell the sessions on ``server`` from those on the others."""
        for servers, name in [((server,), "its sessions"), (others, "other sessions")]:
            for key in self.keys(*servers):
                self.seen.groups[key[-64:]] = name

    # How it goes.

    async def _is_well(self) -> bool:
        """Return whether each process is healthy, and each session can be read.

        It is asked for, not waited for: what users do next, and when, is chance.
        """
        for each in self.trial.applications:
            if (await each.facts())["health"]["status"] != "ok":
                return False
        ids = [
            device.session_id for user in self.trial.users for device in user.devices
        ]
        asked = (self.trial.web.ask("/read", each, who=PROBE) for each in ids if each)
        return all(
            reply.status in (200, 409) and reply.told.get("available", True)
            for reply in await asyncio.gather(*asked)
        )

    def _report(self, what: str, detail: str) -> None:
        self.seen.problems[f"{what}: {detail}" if detail else what] += 1

    def _note(self, reply: Reply) -> None:
        # What was asked before the fault may have been hit by it.
        came = time.monotonic()
        if reply.who == PROBE:
            return
        if reply.began < self._ended and came > self._began:
            self.seen.replies.append(reply)
        elif reply.status not in (200, 409):
            when = "before" if came < self._began else "after"
            self._report(f"{when} the fault: {reply.status} for {reply.path}", "")

    async def _close(self) -> None:
        try:
            await self.trial.stop_users()
            self.seen.lost = sum(user.losses for user in self.trial.users)
            self.seen.told = await self.trial.close()
        finally:
            self.trial.kill()
        for _, each in self.seen.told:
            if each.get("logger", OURS) != OURS:
                self._report(f"logged by {each['logger']}", each["line"])


def hashed(session_id: str | None) -> str:
    """Return what a store key has in the place of the id."""
    return sha256((session_id or "").encode()).hexdigest()
