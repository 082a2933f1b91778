"""Applications, and users who work on them and check what they show."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .machines import Application
from .users import User, World
from .web import CONNECT_TIMEOUT, TIMEOUT, Web

__all__ = ["LIMITS", "Trial"]

LIMITS = f"timeout={TIMEOUT}&connect_timeout={CONNECT_TIMEOUT}"
"""The limits of the store, for its URL."""
END_TIMEOUT = 15.0
# Unconfirmed ends are tried again after 1, 2, 4 … seconds.
SETTLE_TIMEOUT = 20.0


class Trial:
    """Application processes with these settings of their sessions, and their users.

    Other options are those of `Web`. What is wrong is reported to ``report``.
    """

    def __init__(
        self,
        directory: Path,
        session: dict[str, Any],
        report: Callable[[str, str], None],
        world: World,
        *,
        applications: int,
        users: int,
        seed: int = 0,
        plant: str = "",
        **options: Any,
    ) -> None:
        self.report = report
        self.applications = [
            Application(session, directory / f"application{number}.log", plant)
            for number in range(applications)
        ]
        chances = (
            random.Random(f"{seed} {n}")  # nosec B311 # the same course, no secret
            for n in range(users + 1)
        )
        self.web = Web(self.applications, report, next(chances), **options)
        # Then a 2xx says nothing about whether a plain write is stored.
        confirms = not session.keys() & {"on_error", "persist"}
        self.users = [
            User(f"user{number}", self.web, world, chance, confirms=confirms)
            for number, chance in enumerate(chances)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the applications; they accept connections when this returns."""
        await asyncio.gather(*(each.start() for each in self.applications))

    def start_users(self) -> None:
        """Let the users work."""
        for user in self.users:
            user.is_leaving = False
        self._tasks = [asyncio.create_task(user.work()) for user in self.users]

    async def stop_users(self) -> None:
        """Let the users stop, between two requests."""
        for user in self.users:
            user.is_leaving = True
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(*tasks)

    async def settle(self) -> None:
        """Wait until no application has an end or a save to do; look at everything."""
        limit = time.monotonic() + SETTLE_TIMEOUT
        counts = [1]
        while any(counts) and time.monotonic() < limit:
            # `health` asks each node, so that each application sees that it is back.
            facts = [(await each.facts())["stats"] for each in self.applications]
            counts = [f["pending_destroys"] + f["running_saves"] for f in facts]
            await asyncio.sleep(0.1)
        if any(counts):
            self.report("ends were never finished", f"{counts}")
        for user in self.users:
            await user.look_again()

    async def end(self, application: Application) -> None:
        """Send SIGTERM to an application, and see that it ends."""
        status = await application.end(END_TIMEOUT)
        if status != 0:
            what = "not in time" if status is None else f"status {status}"
            self.report("an application did not end by SIGTERM", what)

    async def close(self) -> list[tuple[int, dict[str, Any]]]:
        """End the applications; return what each told its operator."""
        lines = []
        for number, application in enumerate(self.applications):
            if application.is_up:
                await self.end(application)
            told, stray = application.told()
            lines += [(number, each) for each in told]
            errors = [each for each in told if each.get("exception")]
            for line in [*stray, *(f"{e['line']}: {e['exception']}" for e in errors)]:
                self.report("an exception was logged", f"application {number}: {line}")
        return lines

    def kill(self) -> None:
        for application in self.applications:
            application.kill()
