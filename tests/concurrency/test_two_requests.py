"""Two requests with one session, which do anything in any order."""

from __future__ import annotations

import itertools
import random

import pytest

from tornado_mcsession import MemoryStore, SessionGone, SessionManager

from ..support.clock import ManualClock

ID = "a" * 43
ACTS = [
    "set",
    "set nested",
    "delete",
    "save",
    "save",
    "touch",
    "transact",
    "reload",
    "wait",
    "flash",
    "timeout",
    "regenerate",
]


class Request:
    """One of the two: its session, what it has not saved yet, and what it has."""

    def __init__(self, name, session, numbers, clock):
        self.name = name
        self.session = session
        self.numbers = numbers
        self.clock = clock
        self.is_over = False
        self.pending, self.saved = {}, {}
        self.said, self.shown = [], []

    def _new(self):
        return f"{self.name}{next(self.numbers)}"

    async def act(self, act, dice):
        session = self.session
        if act == "set":
            session[key := self._new()] = 1
            self.pending[key] = True
        elif act == "set nested":
            session["nested"][key := self._new()] = 1
            self.pending[f"nested {key}"] = True
        elif act == "delete" and (own := [k for k in session if k[0] == self.name]):
            del session[key := dice.choice(own)]
            self.pending[key] = False
        elif act == "transact":
            key = self._new()
            await session.transact(lambda data: data.update({key: 1}))
            self.pending[key] = True
        elif act == "flash":
            session.flash(message := self._new())
            self.said.append(message)
        elif act == "reload":
            await session.reload()
            self.pending.clear()
            self.said.clear()
        elif act == "wait":
            self.clock.advance(dice.choice([1, 9000]))
        elif act == "timeout":
            session.set_idle_timeout(dice.randrange(50_000, 90_000))
        elif act == "regenerate":
            await session.regenerate(grace=60)
        elif act in ("save", "touch"):
            await getattr(session, act)()
        if act in ("save", "transact", "regenerate"):
            self.saved.update(self.pending)
            self.shown += self.said
            self.pending.clear()
            self.said.clear()


async def play(seed):
    """Play the program of ``seed``; return what differs from what was told."""
    dice, clock = random.Random(seed), ManualClock()
    manager = SessionManager(
        store=MemoryStore(clock=clock), clock=clock, cookie_secret=""
    )
    await manager.set(ID, {"nested": {}})
    numbers = itertools.count()
    requests = [
        Request(name, await manager.get(ID), numbers, clock) for name in ("x", "y")
    ]
    acts = []
    for _ in range(dice.randrange(3, 14)):
        request = dice.choice(requests)
        if request.is_over:
            continue
        acts.append((request.name, act := dice.choice(ACTS)))
        try:
            await request.act(act, dice)
        except SessionGone:
            request.is_over = True
    found = [await manager.get(request.session.id) for request in requests]
    session = next((each for each in found if each is not None), None)
    assert session is not None, f"seed {seed}: the session is lost: {acts}"
    expected = {**requests[0].saved, **requests[1].saved}
    for key, is_there in expected.items():
        inside, _, name = key.rpartition("nested ")
        held = name in session["nested"] if "nested " in key else name in session
        assert held is is_there, f"seed {seed}: {key} {inside}, {acts}"
    shown = sorted(message for _, message in session.flashes())
    assert shown == sorted(requests[0].shown + requests[1].shown), f"{seed}: {acts}"


@pytest.mark.parametrize("hundreds", range(10))
@pytest.mark.gen_test(timeout=60)
async def test_what_was_saved_is_there(hundreds):
    """Of both, whatever else they do meanwhile: a thousand programs."""
    for seed in range(100 * hundreds, 100 * hundreds + 100):
        await play(seed)
