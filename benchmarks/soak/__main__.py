"""Run a site under load and under faults, and check what it promised.

    python -m benchmarks.soak --seconds 60 --seed 1
    python -m benchmarks.soak --seconds 600 --network
    python -m benchmarks.soak --seconds 10 --plant lost-cas   # must end with status 1

Starts memcached nodes and application processes, and lets users work on them while
nodes and applications are killed, frozen and restarted; with ``--network`` the
connections between them fail too. Ends with status 0 only where no response was
wrong or late, no confirmed change was lost or made twice, no ended session was alive,
and no application has grown.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tornado_mcsession import MemcachedStore

from . import planted
from .machines import Application, Machine, Node, Usage
from .network import Network
from .schedule import Event, schedule
from .trial import LIMITS, Trial
from .users import World
from .web import LIMIT, TIMEOUT

USERS = 40
NODES = 3
APPLICATIONS = 3
PROGRESS = 5.0
# What a process may hold more of at the end than it did in the first third of the
# run, when everything has been used: more is a leak.
GROWTH = Usage(memory=12.0, threads=2, descriptors=10)


def tell(line: str) -> None:
    print(line, flush=True)


class Problems:
    """What was wrong: how often, and some examples."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._began = time.monotonic()

    def report(self, what: str, detail: str) -> None:
        self.counts[what] += 1
        if self.counts[what] <= 5:
            at = time.monotonic() - self._began
            tell(f"WRONG at {at:.1f} s: {what}: {detail}")


class Soak:
    """One run."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self.options = options
        self.problems = Problems()
        self.events: Counter[str] = Counter()
        self.nodes = [Node(directory / f"node{n}.log") for n in range(NODES)]
        self.machines: list[Machine] = [*self.nodes]
        self.networks: list[Network] = []
        self.usages: dict[tuple[int, int], list[Usage]] = {}
        self._directory = directory

    async def run(self) -> int:
        """Run, and return the exit status."""
        try:
            await self._start()
            await self._soak()
            await self.trial.close()
        finally:
            for machine in self.machines:
                machine.kill()
            for network in self.networks:
                await network.close()
        self._print()
        return 1 if self.problems.counts else 0

    async def _start(self) -> None:
        await asyncio.gather(*(node.start() for node in self.nodes))
        doors: list[Any] = list(self.nodes)
        if self.options.network:
            chance = random.Random(self.options.seed)  # nosec B311 # no secret
            doors = [Network(node.port, chance) for node in self.nodes]
            self.networks = doors
            await asyncio.gather(*(network.start() for network in self.networks))
        names = [f"127.0.0.1:{door.port}" for door in doors]
        nodes = dict(zip(names, self.nodes, strict=True))
        session = {
            "store": f"memcached://{','.join(names)}/?{LIMITS}",
            # Short enough for renewals, long enough that none ends in a run.
            "idle_timeout": 3600,
            "renew_after": 0.001,
        }
        self.trial = Trial(
            self._directory,
            session,
            self.problems.report,
            World(nodes, MemcachedStore(names)),
            applications=APPLICATIONS,
            users=self.options.users,
            seed=self.options.seed,
            plant=self.options.plant,
        )
        self.machines += self.trial.applications
        await self.trial.start()

    async def _soak(self) -> None:
        self._began = time.monotonic()
        courses = schedule(
            self.options.seconds,
            self.options.seed,
            nodes=NODES,
            applications=APPLICATIONS,
            network=self.options.network,
        )
        watching = asyncio.create_task(self._watch())
        self.trial.start_users()
        async with asyncio.TaskGroup() as group:
            for course in courses:
                group.create_task(self._play(course))
            await asyncio.sleep(self.options.seconds)
        await self.trial.stop_users()
        tell("no more faults: looking at everything once more")
        await self.trial.settle()
        await asyncio.sleep(0.5)
        watching.cancel()
        self._measure()

    # Faults.

    async def _play(self, course: list[Event]) -> None:
        for event in course:
            await asyncio.sleep(self._began + event.at - time.monotonic())
            self.events[event.kind] += 1
            await self._fault(event)

    async def _fault(self, event: Event) -> None:
        node = self.nodes[event.target % NODES]
        application = self.trial.applications[event.target % APPLICATIONS]
        if event.kind.endswith("node"):
            await self._away(node, event)
        elif event.kind.endswith("application"):
            await self._away(application, event)
        else:
            network = self.networks[event.target]
            network.fault(event.kind)
            await asyncio.sleep(event.seconds)
            network.fault("")

    async def _away(self, machine: Node | Application, event: Event) -> None:
        """Let a process be away for a while."""
        if event.kind in ("hang node", "freeze application"):
            machine.freeze()
            await asyncio.sleep(event.seconds)
            machine.thaw()
            return
        if event.kind == "end application":
            assert isinstance(machine, Application)
            await self.trial.end(machine)
        else:
            machine.kill()
        await asyncio.sleep(event.seconds)
        await machine.start()

    # What is seen.

    def _measure(self) -> None:
        for number, each in enumerate(self.trial.applications):
            if each.is_up:
                usage = each.usage()
                self.usages.setdefault((number, each.starts), []).append(usage)

    async def _watch(self) -> None:
        told = self._began
        while True:
            await asyncio.sleep(1.0)
            self._measure()
            now = time.monotonic()
            if now - told >= PROGRESS:
                told = now
                statuses = sum(self.trial.web.counts.values(), Counter[int]())
                shown = ", ".join(
                    f"{n} × {s or 'none'}" for s, n in sorted(statuses.items())
                )
                events = sum(self.events.values())
                wrong = sum(self.problems.counts.values())
                seconds = f"{now - self._began:4.0f} s"
                tell(f"{seconds}: {shown}; {events} faults; {wrong} wrong")

    def _grown(self, usages: list[Usage]) -> bool:
        early = usages[: max(1, len(usages) // 3)]
        first = [max(values) for values in zip(*early, strict=True)]
        return any(
            last > before + more
            for before, last, more in zip(first, usages[-1], GROWTH, strict=True)
        )

    def _print(self) -> None:
        tell("\nresponses        200     409     503    none")
        for path, counts in sorted(self.trial.web.counts.items()):
            cells = "".join(f"{counts[status]:8}" for status in (200, 409, 503, 0))
            others = {s: n for s, n in counts.items() if s not in (200, 409, 503, 0)}
            tell(f"{path:<12}{cells}  {others or ''}")
        faults = ", ".join(f"{n} × {kind}" for kind, n in sorted(self.events.items()))
        tell(f"\nfaults: {faults}")
        tell(
            f"longest response: {self.trial.web.longest:.2f} s "
            f"(allowed: {LIMIT:g} s, twice {TIMEOUT:g} s for a load and for a save, "
            "and what the machine may add)"
        )
        tell("\napplication      seconds  MiB          threads  descriptors")
        for (number, start), usages in sorted(self.usages.items()):
            held = [
                f"{a:g} → {b:g}" for a, b in zip(usages[0], usages[-1], strict=True)
            ]
            tell(
                f"{number}, start {start}{len(usages):12}  "
                f"{held[0]:<17}{held[1]:<9}{held[2]}"
            )
        # It is the one that was never killed, and has seen the whole run.
        if self._grown(self.usages[0, 1]):
            self.problems.report(
                "an application has grown",
                f"more than {GROWTH.memory:g} MiB, {GROWTH.threads} threads or "
                f"{GROWTH.descriptors} descriptors over the first third of the run",
            )
        for what, count in self.problems.counts.most_common():
            tell(f"WRONG: {count} × {what}")
        tell("failed" if self.problems.counts else "\nall promises were kept")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__.split("\n")[0]
    )
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, help="(%(default)s)")
    add("--seed", type=int, default=0, help="which faults come when (%(default)s)")
    add("--users", type=int, default=USERS, help="(%(default)s)")
    add("--network", action="store_true", help="the network fails, too")
    add(
        "--plant",
        choices=planted.FAULTS,
        default="",
        help="put a fault into the store; the run must find it",
    )
    return parser.parse_args()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="soak") as directory:
        try:
            return asyncio.run(Soak(arguments(), Path(directory)).run())
        except KeyboardInterrupt:
            tell("interrupted")
            return 130


if __name__ == "__main__":
    sys.exit(main())
