"""People who use the site, and hold each answer against what they were told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from tests.support.browser import Browser
from tests.support.http import Response

from .answer import Answer
from .judge import EMPTY, Change, Expectation, View

__all__ = ["MOVES", "PAUSE", "User"]

PAUSE = (0.02, 0.1)
"""Seconds between two requests of one user."""
PATIENCE = 15.0
"""A request that takes longer hangs; nobody waits for it any more."""
MOVES = ("/login", "/rotate")
"""The pages that give a session a new id."""
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class User:
    """One user with one browser: visits, changes, logs in and out, by chance.

    Each request goes to one of ``ports``, and on to another where nobody listens,
    as by a load balancer. ``note`` gets each answer. Where ``writes_promise`` is
    false, a 2xx says nothing about whether what was written is stored.
    """

    def __init__(
        self,
        number: int,
        ports: Sequence[int],
        note: Callable[[Answer], None],
        *,
        writes_promise: bool = True,
        patience: float = PATIENCE,
    ) -> None:
        self.name = f"user{number}"
        self.expected = Expectation(self.name)
        self.size = 0
        """How many characters a write puts into the session, beside all else."""
        self.leaving = False
        """Whether `work` is to end."""
        self.dead: list[str] = []
        """Ids that were acknowledged to have ended."""
        self.doomed: list[str] = []
        """Ids whose logout could not be confirmed."""
        self._chance = random.Random(number)  # nosec B311 # what a user does next
        self._n = 0
        self._ports = ports
        self._browser = Browser(ports[0])
        self._note = note
        self._patience = patience
        self._writes_promise = writes_promise

    @property
    def session_id(self) -> str | None:
        """The id in the browser's cookie."""
        cookie = self._browser.cookie("session")
        return cookie.value if cookie else None

    async def work(self) -> None:
        """Use the site until told to leave."""
        while not self.leaving:
            await asyncio.sleep(self._chance.uniform(*PAUSE))
            await self.act()

    async def act(self) -> None:
        """Do what somebody in this state may do."""
        chance = self._chance.random()
        state = self.expected.state
        if state == EMPTY:
            await (self.write() if chance < 0.7 else self.login())
        elif state.principal is None and chance < 0.5:
            await self.login()
        elif chance < 0.02:
            await self.logout()
        elif chance < 0.05:
            await self.rotate()
        elif chance < 0.15 and self.dead:
            await self.try_dead(self._chance.choice(self.dead))
        elif chance < 0.35:
            await self.write()
        elif chance < 0.55:
            await self.count()
        elif chance < 0.65:
            await self.use_two_tabs()
        else:
            await self.read()

    async def read(self) -> Answer:
        """Look at the session."""
        answer = await self._ask(self._browser, "GET", "/read")
        self._judge(answer)
        return self._done(answer)

    async def write(self) -> Answer:
        """Change the session, or begin one."""
        answer, change = await self._write()
        self._judge(answer)
        self._changed(answer, change)
        return self._done(answer)

    async def count(self) -> Answer:
        """Count one up, which is only right if it is done exactly once."""
        answer = await self._count()
        self._judge(answer)
        self._changed(answer, self._counted)
        return self._done(answer)

    async def use_two_tabs(self) -> None:
        """Change different things at once; both must be kept."""
        asked = self._write(), self._count()
        (wrote, change), counted = await asyncio.gather(*asked)
        pairs = [(wrote, change), (counted, self._counted)]
        possible = Expectation(self.name)
        possible.views = self.expected.views
        for _, each in pairs:
            possible.tried(each)
        told = [View.of(a.told) for a in (wrote, counted) if a.is_ok and a.is_available]
        if EMPTY in told and not self.expected.verdict(EMPTY):
            # Gone: each tab has begun a session, and the browser keeps one.
            for _, each in pairs:
                self.expected.tried(each)
        else:
            for answer, each in pairs:
                self._judge(answer, possible)
                self._changed(answer, each)
        self._done(wrote)
        self._done(counted)

    async def login(self) -> Answer:
        """Log in, and see that the id from before is dead."""
        self._n += 1
        n = self._n
        answer = await self._ask(self._browser, "POST", "/login", self._form(n))
        self._judge(answer)

        def change(view: View) -> View:
            return View(self.name, self.name, n, view.counted)

        self._moved(answer, change)
        return self._done(answer)

    async def rotate(self) -> Answer:
        """Get a new id, and see that the one from before is dead."""
        answer = await self._ask(self._browser, "POST", "/rotate", {})
        self._judge(answer)
        self._moved(answer, lambda view: view)
        return self._done(answer)

    async def logout(self) -> Answer:
        """End the session; where that is not confirmed, see to it later."""
        answer = await self._ask(self._browser, "POST", "/logout", {})
        if answer.is_ok and answer.presented:
            self.expected.acknowledged(_ended, answer.began)
            self.dead.append(answer.presented)
        elif answer.presented and self.session_id is None:
            self.expected.acknowledged(_ended, answer.began)
            self.doomed.append(answer.presented)
        else:
            self.expected.tried(_ended)
        if answer.presented and answer.status and answer.cookie != "":
            answer.wrong = "a logout left the cookie"
        return self._done(answer)

    async def try_dead(self, session_id: str) -> Answer:
        """Come with an id that has ended: nothing must be there."""
        answer = await self._come_with(session_id)
        if answer.is_ok and View.of(answer.told) != EMPTY:
            answer.wrong = "alive after its logout"
        return self._done(answer)

    async def until_dead(self, session_id: str, seconds: float) -> None:
        """Come with an id whose end was not confirmed, until nothing is there."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            answer = await self._come_with(session_id)
            if answer.is_ok and View.of(answer.told) == EMPTY:
                break
            await asyncio.sleep(0.1)

    async def _come_with(self, session_id: str) -> Answer:
        browser = Browser(self._ports[0])
        browser.set_cookie(f"session={session_id}; Path=/")
        return await self._ask(browser, "GET", "/read")

    async def _write(self) -> tuple[Answer, Change]:
        self._n += 1
        n = self._n
        answer = await self._ask(self._browser, "POST", "/write", self._form(n))
        return answer, lambda view: view._replace(owner=self.name, n=n)

    async def _count(self) -> Answer:
        return await self._ask(self._browser, "POST", "/count", self._form(0))

    def _counted(self, view: View) -> View:
        return view._replace(owner=self.name, counted=view.counted + 1)

    def _form(self, n: int) -> dict[str, Any]:
        return {"owner": self.name, "n": n, "size": self.size}

    def _changed(self, answer: Answer, change: Change) -> None:
        # A cookie never leaves before its session is stored.
        is_promise = self._writes_promise or answer.cookie is not None
        if answer.is_ok and answer.is_available and is_promise:
            self.expected.acknowledged(change, answer.began)
        elif answer.presented is not None and answer.is_available:
            # A session that could not begin has no cookie: it is nobody's.
            self.expected.tried(change)

    def _moved(self, answer: Answer, change: Change) -> None:
        if answer.cookie:
            # Also told by an error page, it must be good; the old one is to end.
            self.expected.acknowledged(change, answer.began)
            ended = self.dead if answer.is_ok else self.doomed
            ended += filter(None, [answer.presented])
        elif answer.is_of_store and View.of(answer.told) != EMPTY:
            answer.wrong = answer.wrong or "the id is the one from before"
        elif answer.status == 0:
            self.expected.tried(_ended)

    def _judge(self, answer: Answer, possible: Expectation | None = None) -> None:
        if answer.is_ok and not answer.is_available:
            if answer.cookie is not None or View.of(answer.told) != EMPTY:
                answer.wrong = "a session that could not be asked for was replaced"
        elif answer.is_ok and possible is not None:
            answer.wrong = possible.objection(View.of(answer.told))
        elif answer.is_ok:
            answer.wrong = self.expected.verdict(View.of(answer.told))
        elif answer.cookie is not None and answer.path not in MOVES:
            answer.wrong = "an outage changed the cookie"
        if answer.cookie == "":
            answer.wrong = "the cookie was cleared without a logout"

    async def _ask(
        self, browser: Browser, method: str, path: str, form: Any = None
    ) -> Answer:
        cookie = browser.cookie("session")
        presented = cookie.value if cookie else None
        answer = Answer(self.name, path, presented, time.monotonic())
        body = None if form is None else urlencode(form).encode()
        try:
            async with asyncio.timeout(self._patience):
                answer.port, response = await self._balanced(
                    browser, method, path, body
                )
            answer.take(response)
        except TimeoutError:
            answer.wrong = "no answer: the request hangs"
        except (OSError, EOFError):
            pass  # nobody is there, or breaks off
        answer.seconds = time.monotonic() - answer.began
        return answer

    async def _balanced(
        self, browser: Browser, method: str, path: str, body: bytes | None
    ) -> tuple[int, Response]:
        headers = None if body is None else FORM
        for port in self._chance.sample(self._ports, len(self._ports)):
            browser.port = port
            try:
                asked = browser.request(method, path, body=body, headers=headers)
                return port, await asked
            except ConnectionRefusedError as error:
                refused = error
        raise refused

    def _done(self, answer: Answer) -> Answer:
        self._note(answer)
        return answer


def _ended(_: View) -> View:
    return EMPTY
