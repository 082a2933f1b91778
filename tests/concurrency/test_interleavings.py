"""Requests on one session, in every order of their store operations."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tornado_mcsession import (
    MemcachedStore,
    MsgpackSerializer,
    SessionGone,
    SessionManager,
    Store,
    StoreUnavailable,
)
from tornado_mcsession.sessions.codec import Codec

from ..support.memcached import Memcached
from ..support.stepping import Fate, Step, SteppedStore, interleave, run_virtually

SESSION = "a-session-id-of-forty-three-characters-0123"

INDICES = st.integers(0, 5)
ORDERS = st.lists(INDICES.map(Step), max_size=60)
FAULTY_ORDERS = st.lists(
    st.builds(Step, INDICES, st.sampled_from([Fate.DONE] * 3 + list(Fate))), max_size=60
)
ACTS = st.lists(
    st.sampled_from(["set", "increment", "regenerate", "login", "destroy"]),
    min_size=2,
    max_size=4,
)


ENDING = {"destroy", "regenerate", "login"}


class Outcome(NamedTuple):
    """What a request was told: done, not done, or that nobody can tell."""

    act: str
    number: int
    told: str
    new_id: str | None = None


def increment(data: dict[str, Any]) -> None:
    """Count one up."""
    data["n"] = data.get("n", 0) + 1


async def request(manager: SessionManager, act: str, number: int) -> Outcome:
    """Load the session, do one thing to it, save, and tell what came of it."""
    try:
        session = await manager.get(SESSION)
    except StoreUnavailable:
        return Outcome(act, number, "not done")
    if session is None:
        return Outcome(act, number, "not done")
    try:
        if act == "set":
            session[f"key-{number}"] = number
            await session.save()
        elif act == "increment":
            await session.transact(increment)
        elif act == "regenerate":
            session[f"key-{number}"] = number
            await session.regenerate()
        elif act == "login":
            await session.login("ann")
        else:
            await session.destroy()
    except SessionGone:
        return Outcome(act, number, "not done")
    except StoreUnavailable:
        return Outcome(act, number, "unknown")
    return Outcome(act, number, "done", session.id)


async def living_records(store: SteppedStore) -> int:
    """Return how many sessions are in the store, whether anybody knows their ids."""
    codec = Codec(MsgpackSerializer(), "mcsession:")
    found = [(key, await store.inner.get(key)) for key in store.keys]
    return sum(
        not codec.decode(entry.data, 0, key).retired
        for key, entry in found
        if entry is not None
    )


async def play(
    acts: list[str], steps: list[Step], inner: Store | None = None
) -> SteppedStore:
    """Play one interleaving, and hold what is stored against what was told."""
    store = SteppedStore(inner)
    managers = [SessionManager(store=store) for _ in range(2)]
    store.is_stepped = False
    await managers[0].set(SESSION, {"n": 0})
    store.is_stepped = True
    works = [
        request(managers[number % 2], act, number) for number, act in enumerate(acts)
    ]
    outcomes = await interleave(store, works, steps)
    assert all(isinstance(outcome, Outcome) for outcome in outcomes), outcomes
    store.is_stepped = False
    await judge(managers[0], outcomes)
    return store


async def judge(manager: SessionManager, outcomes: list[Outcome]) -> None:
    """Raise where an acknowledged request is undone, or an ended session is back."""
    done = [outcome for outcome in outcomes if outcome.told == "done"]
    acts = {outcome.act for outcome in done}
    unknown = [outcome.act for outcome in outcomes if outcome.told == "unknown"]
    old = await manager.get(SESSION)
    new_ids = [o.new_id for o in done if o.act in ("regenerate", "login")]
    living = [s for i in new_ids if i and (s := await manager.get(i)) is not None]
    if acts & ENDING:
        assert old is None, "an id that was ended or replaced is back"
    if "login" not in acts:
        # Only a login begins anew where another request ended the session.
        assert len(living) <= 1, "one session has become two"
    if acts <= {"set", "increment", "regenerate"} and not ENDING & set(unknown):
        session = old or living[0]
        for outcome in done:
            if outcome.act in ("set", "regenerate"):
                assert session[f"key-{outcome.number}"] == outcome.number
        increments = sum(outcome.act == "increment" for outcome in done)
        most = increments + unknown.count("increment")
        assert increments <= session["n"] <= most, "an update is lost, or made twice"


@settings(max_examples=400)
@given(acts=ACTS, steps=ORDERS)
def test_no_order_loses_or_revives_anything(acts: list[str], steps: list[Step]) -> None:
    """Whatever the order of their operations, parallel requests keep their word."""

    async def main() -> None:
        store = await play(acts, steps)
        if "login" not in acts:
            assert await living_records(store) <= 1

    run_virtually(main())


@settings(max_examples=600)
@given(acts=ACTS, steps=FAULTY_ORDERS)
def test_lost_answers_and_late_writes_undo_nothing(
    acts: list[str], steps: list[Step]
) -> None:
    """Lost answers and late writes undo nothing that was told as done."""
    run_virtually(play(acts, steps))


@pytest.mark.integration
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS, steps=FAULTY_ORDERS)
def test_memcached_keeps_the_same_word(
    memcached: Memcached, acts: list[str], steps: list[Step]
) -> None:
    """The same holds on a real memcached as in the store of this process."""

    async def main() -> None:
        inner = MemcachedStore(f"127.0.0.1:{memcached.port}")
        try:
            await play(acts, steps, inner)
        finally:
            await inner.close()

    memcached.flush()
    asyncio.run(main())
