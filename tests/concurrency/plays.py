"""Requests that meet on one session, and what must be true when all have ended.

A `Play` is begun, its requests run in some order of their store operations, with
lost responses and late writes among them, and then `Play.judge` compares what is
stored with what each request was told.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from tornado_mcsession import (
    MemoryStore,
    Session,
    SessionConflict,
    SessionGone,
    SessionManager,
    Store,
    StoreUnavailable,
)

from ..support.clock import ManualClock
from ..support.requests import Visit, visit
from ..support.stepping import Choose, SteppedStore, current_work, interleave

SECRET = "a secret of the tests"
# More writes than a record remembers.
BURST = 70


class Scenario(NamedTuple):
    """Who is logged in, what the requests do, and in how many processes."""

    principal: str | None
    acts: tuple[str, ...]
    processes: int = 2
    tracked: bool = False


class Told:
    """What a request was told, and what it was shown."""

    def __init__(self, number: int, act: str) -> None:
        self.number = number
        self.act = act
        self.result = "not done"
        self.ids: list[str] = []
        self.shown: list[str] = []
        self.count = 0

    def __repr__(self) -> str:
        return f"{self.number}: {self.act} is {self.result}"


def increment(data: dict[str, Any]) -> None:
    data["n"] = data.get("n", 0) + 1


class Play:
    """One session, another one of the same principal, and the requests."""

    def __init__(self, scenario: Scenario, inner: Store | None = None) -> None:
        self.scenario = scenario
        self.store = SteppedStore(inner or MemoryStore())
        self.clock = ManualClock()
        self._numbers = itertools.count()
        self.minted: dict[str, int] = {}  # the random part of an id, and by whom
        self.suffixes: set[str] = {""}
        self.managers = [self._manager(self.store) for _ in range(scenario.processes)]
        self.renewing = self._manager(self.store, renew_after=0)
        self.bystander = self._manager(self.store.inner)
        self.told = [Told(n, act) for n, act in enumerate(scenario.acts)]
        self._messages: dict[str, list[str]] = {}  # of each living session

    def _manager(self, store: Store, **options: Any) -> SessionManager:
        return SessionManager(
            store=store,
            clock=self.clock,
            cookie_secret=SECRET,
            generate_id=self._mint,
            track_sessions=self.scenario.tracked,
            **options,
        )

    def _mint(self, handler: Any) -> str:
        base = f"id-{next(self._numbers):030}"
        self.minted[base] = current_work()
        return base

    async def run(self, choose: Choose) -> None:
        """Begin, play the requests in the order of ``choose``, and judge."""
        self.store.is_stepped = False
        await self._begin()
        self.store.is_stepped = True
        works = [self._request(told) for told in self.told]
        for error in await interleave(self.store, works, choose):
            if error is not None:
                raise error
        self.store.stop()
        await self._finish()
        await self.judge()
        for manager in (*self.managers, self.renewing):
            await manager.drain()

    async def _begin(self) -> None:
        for principal in ("ann", "bob", "carl"):
            request = await visit(self.bystander)
            await request.session.login(principal)
            assert request.session.id is not None
            base = next(b for b in self.minted if request.session.id.startswith(b))
            self.suffixes.add(request.session.id.removeprefix(base))
            await request.session.destroy()
        self.minted.clear()
        self.id = await self._first({"n": 0, "old": 1})
        self.device = await self._first({"device": 1})
        self.handle: str | None = None
        if self.scenario.tracked:
            session = await self.bystander.get(self.id)
            listed = await self.bystander.sessions("ann", session)
            self.handle = next((one.handle for one in listed if one.is_current), None)

    async def _first(self, data: dict[str, Any]) -> str:
        request = await visit(self.bystander)
        request.session.update(data)
        request.session.flash("hello")
        await request.session.save()
        if self.scenario.principal is not None:
            await request.session.login(self.scenario.principal)
        assert request.session.id is not None
        return request.session.id

    async def _request(self, told: Told) -> None:
        manager = self.managers[told.number % len(self.managers)]
        try:
            await ACTS[told.act](self, manager, told)
            told.result = "done"
        except SessionGone:
            told.result = "gone"
        except SessionConflict:
            told.result = "not done"
        except StoreUnavailable as error:
            told.result = "unknown" if error.outcome_unknown else "not done"

    async def _finish(self) -> None:
        """Wait for ends that could not be confirmed, and are tried again."""
        async with asyncio.timeout(600):
            while any(m.stats()["pending_destroys"] for m in self.managers):  # noqa: ASYNC110
                await asyncio.sleep(0.25)

    # What requests do. Each is told "gone" where there was no living session.

    async def _opened(self, manager: SessionManager, told: Told) -> Visit:
        request = await visit(manager, self.id)
        if request.session.presented != "live":
            raise SessionGone("presented an ended id")
        return request

    async def set(self, manager: SessionManager, told: Told) -> None:
        request = await self._opened(manager, told)
        request.session[f"key-{told.number}"] = told.number
        request.session.setdefault("box", {})[f"key-{told.number}"] = told.number
        await request.session.save()

    async def increment(self, manager: SessionManager, told: Told) -> None:
        request = await self._opened(manager, told)
        await request.session.transact(increment)

    async def flash(self, manager: SessionManager, told: Told) -> None:
        request = await self._opened(manager, told)
        request.session.flash(f"message {told.number}")
        await request.session.save()

    async def read(self, manager: SessionManager, told: Told) -> None:
        request = await self._opened(manager, told)
        told.shown = [message for _, message in request.session.flashes()]
        await request.session.save()

    async def touch(self, manager: SessionManager, told: Told) -> None:
        request = await self._opened(manager, told)
        await request.session.touch()

    async def renew(self, manager: SessionManager, told: Told) -> None:
        request = await self._opened(self.renewing, told)
        assert request.session["old"] == 1
        await request.leave()

    async def create(self, manager: SessionManager, told: Told) -> None:
        request = await visit(manager)
        request.session["created"] = told.number
        await request.session.save()
        self._learned(told, request.session)

    async def first_login(self, manager: SessionManager, told: Told) -> None:
        request = await visit(manager)
        request.session["created"] = told.number
        await self._moved(told, request, request.session.login("ann"))

    async def login(self, manager: SessionManager, told: Told) -> None:
        request = await visit(manager, self.id)
        await self._moved(told, request, request.session.login("ann"))

    async def login_of_another(self, manager: SessionManager, told: Told) -> None:
        request = await visit(manager, self.id)
        await self._moved(told, request, request.session.login("bob"))

    async def regenerate(self, manager: SessionManager, told: Told) -> None:
        request = await self._opened(manager, told)
        request.session[f"key-{told.number}"] = told.number
        await self._moved(told, request, request.session.regenerate())

    async def regenerate_empty(self, manager: SessionManager, told: Told) -> None:
        request = await self._opened(manager, told)
        await self._moved(told, request, request.session.regenerate(keep=False))

    async def regenerate_grace(self, manager: SessionManager, told: Told) -> None:
        request = await self._opened(manager, told)
        await self._moved(told, request, request.session.regenerate(grace=30))

    async def revoke_others(self, manager: SessionManager, told: Told) -> None:
        request = await self._opened(manager, told)
        if request.session.principal is None:
            raise SessionGone("nobody is logged in")
        await self._moved(told, request, request.session.revoke_others())

    async def logout(self, manager: SessionManager, told: Told) -> None:
        request = await visit(manager, self.id)
        await request.session.destroy()

    async def logout_with_new_id(self, manager: SessionManager, told: Told) -> None:
        request = await self._opened(manager, told)
        await self._moved(told, request, request.session.regenerate())
        again = await visit(manager, request.session.id)
        await again.session.logout()

    async def revoke(self, manager: SessionManager, told: Told) -> None:
        await manager.revoke("ann")

    async def end_one(self, manager: SessionManager, told: Told) -> None:
        if self.handle is None or not await manager.end("ann", self.handle):
            raise SessionGone("not listed")

    async def impersonate(self, manager: SessionManager, told: Told) -> None:
        request = await self._opened(manager, told)
        if request.session.principal is None:
            raise SessionGone("nobody is logged in")
        await self._moved(told, request, request.session.impersonate("carl"))

    async def act_and_return(self, manager: SessionManager, told: Told) -> None:
        await self.impersonate(manager, told)
        request = await visit(manager, told.ids[-1])
        if request.session.presented != "live":
            raise SessionGone("ended meanwhile")
        assert request.session.impersonator == "ann"
        request.session["as carl"] = told.number
        await request.session.save()
        await self._moved(told, request, request.session.stop_impersonating())

    async def revoke_acted_as(self, manager: SessionManager, told: Told) -> None:
        await manager.revoke("carl")

    async def burst(self, manager: SessionManager, told: Told) -> None:
        """Many other writers, all between two operations of the others."""
        await self.store.turn()
        for _ in range(BURST):
            session = await self.bystander.get(self.id)
            if session is None:
                raise SessionGone("ended meanwhile")
            await session.transact(lambda data: data.update(m=data.get("m", 0) + 1))
            told.count += 1

    async def _moved(self, told: Told, request: Visit, moving: Awaitable[None]) -> None:
        try:
            await moving
        finally:
            # Also where it failed: the id is sent then too, since it may be all
            # that is left.
            self._learned(told, request.session)

    def _learned(self, told: Told, session: Session) -> None:
        if session.id is not None and session.id != self.id:
            told.ids.append(session.id)

    # What must be true.

    async def judge(self) -> None:
        """Raise an AssertionError where a promise was broken."""
        living = await self._living()
        self._judge_ids(living)
        self._judge_ends(living)
        self._judge_device(living)
        self._judge_new_sessions(living)
        self._judge_data(living)
        if self.scenario.tracked:
            await self._judge_list(living)

    def _of(self, *acts: str, results: Sequence[str] = ("done",)) -> list[Told]:
        return [t for t in self.told if t.act in acts and t.result in results]

    async def _living(self) -> dict[str, Session]:
        """All sessions that are alive, whether anybody knows their ids."""
        ids = {self.id, self.device}
        ids |= {base + suffix for base in self.minted for suffix in self.suffixes}
        living = {}
        for session_id in sorted(ids):
            session = await self.bystander.get(session_id)
            if session is not None and session.id == session_id:
                living[session_id] = session
                self._messages[session_id] = [m for _, m in session.flashes()]
        return living

    def _owner(self, session_id: str) -> Told | None:
        """The request that made an id; None for the two first sessions."""
        if session_id in (self.id, self.device):
            return None
        number = next(n for b, n in self.minted.items() if session_id.startswith(b))
        return None if number < 0 else self.told[number]

    def _judge_ids(self, living: dict[str, Session]) -> None:
        for session_id in living:
            owner = self._owner(session_id)
            if owner is None or owner.result == "unknown":
                continue
            assert session_id in owner.ids, f"nobody was told of a session, {owner}"
        if self._of(*ROTATING, "logout", "logout_with_new_id"):
            assert self.id not in living, "an id that was ended or replaced is alive"

    def _lineage(self, living: dict[str, Session]) -> dict[str, Session]:
        """The sessions that began as the first one."""
        found = {}
        for session_id, session in living.items():
            owner = self._owner(session_id)
            if session_id == self.id or (owner and owner.act not in BEGINNING):
                found[session_id] = session
        return found

    def _judge_ends(self, living: dict[str, Session]) -> None:
        """Nothing survives a logout but a login that came later."""
        ended = self._of("logout", "logout_with_new_id")
        if self.scenario.principal == "ann":
            ended += self._of("revoke", "end_one")
        if not ended:
            return
        for session_id in self._lineage(living):
            owner = self._owner(session_id)
            if owner is None or owner.act in LOGINS:
                assert owner is not None, "the ended session is alive"
                continue
            assert owner.result == "unknown", f"alive after {ended}: {owner}"

    def _judge_device(self, living: dict[str, Session]) -> None:
        """The other session of the principal is ended with all, and not else."""
        if self.scenario.principal != "ann":
            assert self.device in living
            return
        ending = ("revoke", "revoke_others")
        if self._of(*ending):
            assert self.device not in living, "a revoked session is alive"
        elif not self._of(*ending, results=("unknown", "not done")):
            assert self.device in living, "told that nothing was done, but it was"

    def _judge_new_sessions(self, living: dict[str, Session]) -> None:
        for told in self._of("create"):
            (session_id,) = told.ids
            assert living[session_id]["created"] == told.number
        revoking = self._of("revoke", "revoke_others", results=("done", "unknown"))
        revoking += self._of("revoke", "revoke_others", results=("not done",))
        for told in self._of(*LOGINS):
            (session_id,) = told.ids
            if told.act != "login_of_another" and revoking:
                continue  # which of them came last?
            if self._of("logout", results=("done", "unknown", "not done")):
                continue
            others = self._of("login", "login_of_another", results=TOLD)
            if told in others and len(others) > 1:
                continue  # a later one ends what its request presented
            assert session_id in living, f"a login is lost: {told}"

    def _judge_data(self, living: dict[str, Session]) -> None:
        """Acknowledged changes are there, once; others are not."""
        lineage = self._lineage(living)
        any_result = ("done", "unknown")
        many = self._of(*ROTATING, "logout_with_new_id", results=["unknown"])
        if many and self.store.faults > 1:
            return  # nobody can tell which of two ids holds the newest data
        if not many and not self._of(*LOGINS, results=any_result):
            assert len(lineage) <= 1, "one session has become two"
        for session_id, session in lineage.items():
            counted = self._of("increment", results=any_result)
            assert session.get("n", 0) <= len(counted), "an update was made twice"
            for told in self._of("set", "regenerate", results=("gone", "not done")):
                assert f"key-{told.number}" not in session, f"{told}, but it was"
            messages = self._messages[session_id]
            assert len(messages) == len(set(messages)), "a message is there twice"
            for told in self._of("read"):
                assert not set(told.shown) & set(messages), "read, and shown again"
        for told in self._of("regenerate_empty"):
            for session_id in set(told.ids) & living.keys():
                assert "old" not in living[session_id], "not emptied"
        results = ("done", "unknown", "not done")  # an end may be finished later
        clearing = ["regenerate_empty", "logout", "logout_with_new_id"]
        if self.scenario.principal == "ann":
            clearing += ["login_of_another", "revoke", "end_one", "impersonate"]
            if self._of("act_and_return", results=TOLD):
                clearing += ["revoke_acted_as", "logout", "act_and_return"]
        if self._of(*clearing, results=results):
            return
        if self._of("revoke_others", results=["unknown"]):
            return  # this session may have been ended with the others
        logins = self._of("login", "login_of_another", results=results)
        moved = self._of(*ROTATING, "revoke", results=results)
        # Those have given a new id before they are told that it was ended.
        moved += self._of("act_and_return", "revoke_others", results=["gone"])
        if logins and len(moved) > 1:
            return  # a login that came later has ended what its request presented
        assert lineage, "a session that nobody ended is lost"

        def has(test: Callable[[Session], bool]) -> bool:
            return any(test(session) for session in lineage.values())

        assert has(lambda s: s.get("old") == 1), "data is lost"
        for told in self._of("set"):
            key = f"key-{told.number}"
            assert has(lambda s, k=key, t=told: s.get(k) == t.number), f"lost: {told}"
            assert has(lambda s, k=key: k in s.get("box", {})), f"lost within: {told}"
        counted = len(self._of("increment"))
        assert has(lambda s: s["n"] >= counted), "an update is lost"
        burst = sum(told.count for told in self.told)
        assert has(lambda s: s.get("m", 0) == burst), "updates of others are lost"
        kept = {f"message {t.number}" for t in self._of("flash")} | {"hello"}
        for told in self._of("read", results=any_result):
            kept -= set(told.shown)
        found = {message for each in lineage for message in self._messages[each]}
        assert kept <= found, "a message is lost"

    async def _judge_list(self, living: dict[str, Session]) -> None:
        """The list has the living sessions of the principal, and no others."""
        for session in living.values():
            assert "as carl" not in session or session.principal == "carl", "kept"
        if self.store.faults or self._of(*self.scenario.acts, results=["not done"]):
            return  # what could not be taken off the list stays until it expires
        if self._of("revoke_acted_as"):
            return  # it does not know the list of the user who acted
        current = set()
        for session in living.values():
            listed = await self.bystander.sessions("ann", session)
            current |= {one.handle for one in listed if one.is_current}
        listed = await self.bystander.sessions("ann")
        assert {one.handle for one in listed} == current, "the list is wrong"
        users = [each.impersonator or each.principal for each in living.values()]
        assert users.count("ann") == len(current), "a session has not its own handle"


ACTS: dict[str, Callable[[Play, SessionManager, Told], Awaitable[None]]] = {
    "set": Play.set,
    "increment": Play.increment,
    "flash": Play.flash,
    "read": Play.read,
    "touch": Play.touch,
    "renew": Play.renew,
    "create": Play.create,
    "first_login": Play.first_login,
    "login": Play.login,
    "login_of_another": Play.login_of_another,
    "regenerate": Play.regenerate,
    "regenerate_empty": Play.regenerate_empty,
    "regenerate_grace": Play.regenerate_grace,
    "revoke_others": Play.revoke_others,
    "logout": Play.logout,
    "logout_with_new_id": Play.logout_with_new_id,
    "revoke": Play.revoke,
    "burst": Play.burst,
    "end_one": Play.end_one,
    "impersonate": Play.impersonate,
    "act_and_return": Play.act_and_return,
    "revoke_acted_as": Play.revoke_acted_as,
}
TOLD = ("done", "unknown", "not done", "gone")
LOGINS = ("first_login", "login", "login_of_another")
# Sessions of their own, whatever became of the first one.
BEGINNING = ("create", "first_login")
ROTATING = (
    "login",
    "login_of_another",
    "regenerate",
    "regenerate_empty",
    "regenerate_grace",
    "revoke_others",
    "impersonate",
    "act_and_return",
)
