"""Requests on one session, in every order of their store operations.

Two requests with all acts, orders and single faults are some 40,000 runs, which take
minutes. Each test run plays a part of them; ``scripts/fuzz interleavings`` looks for
more, and ``python -m tests.concurrency`` plays all.
"""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tornado_mcsession import MemcachedStore

from ..support.memcached import Memcached
from ..support.stepping import Explorer, Listed, run_virtually
from .plays import ACTS, Play, Scenario

PRINCIPALS = (None, "ann")
# One of each kind; what they do to a session is known from two of them.
PAIRS = list(itertools.combinations_with_replacement(ACTS, 2))


def explore(scenario: Scenario, *, preemptions: int, faults: int) -> int:
    """Play every order within these bounds; return how many there were."""
    explorer = Explorer(preemptions, faults)
    played = 0
    for choose in explorer:
        played += 1
        play = Play(scenario)
        try:
            run_virtually(play.run(choose))
        except AssertionError as error:
            order = "\n".join(map(str, explorer.trace))
            raise AssertionError(
                f"{error}\n{scenario}\n{play.told}\n{order}"
            ) from error
    return played


@pytest.mark.parametrize("principal", PRINCIPALS)
@pytest.mark.parametrize("act", ACTS)
def test_one_request_and_one_fault(principal: str | None, act: str) -> None:
    """Every operation is lost, late or never done, in turn."""
    assert explore(Scenario(principal, (act,)), preemptions=1, faults=1)


@pytest.mark.parametrize("first", ACTS)
def test_two_requests_in_every_order_of_one_preemption(first: str) -> None:
    """One request stops anywhere, and the other comes in between."""
    for principal, second in itertools.product(PRINCIPALS, ACTS):
        explore(Scenario(principal, (first, second)), preemptions=1, faults=0)


@pytest.mark.parametrize("mover", ["login", "regenerate", "revoke_others"])
@pytest.mark.parametrize("writer", ["set", "read", "burst"])
def test_a_new_id_a_writer_and_one_fault(mover: str, writer: str) -> None:
    """Where two acts have most to lose: one moves the data that the other changes."""
    for principal in PRINCIPALS:
        explore(Scenario(principal, (mover, writer)), preemptions=1, faults=1)


# What a login, its end and its new ids mean for the list of the user's sessions.
LISTED = [
    "end_one",
    "login",
    "login_of_another",
    "logout",
    "regenerate",
    "revoke_others",
    "impersonate",
    "act_and_return",
]


@pytest.mark.parametrize("act", ACTS)
def test_one_request_of_a_tracked_session_and_one_fault(act: str) -> None:
    """Its marker has the list of the user's sessions as well."""
    assert explore(Scenario("ann", (act,), tracked=True), preemptions=1, faults=1)


@pytest.mark.parametrize("first", LISTED)
def test_two_requests_of_a_tracked_session(first: str) -> None:
    """The list has the sessions that are alive when both have ended."""
    for second in [*LISTED, "set", "renew", "revoke", "revoke_acted_as"]:
        scenario = Scenario("ann", (first, second), tracked=True)
        explore(scenario, preemptions=1, faults=0)


SCENARIOS = st.builds(
    Scenario,
    st.sampled_from(PRINCIPALS),
    st.lists(st.sampled_from(list(ACTS)), min_size=2, max_size=4).map(tuple),
    st.integers(1, 2),
    st.booleans(),
)
NUMBERS = st.lists(st.integers(0, 255), max_size=60)


@settings(max_examples=500)
@given(scenario=SCENARIOS, numbers=NUMBERS)
def test_no_order_and_no_fault_breaks_a_promise(
    scenario: Scenario, numbers: list[int]
) -> None:
    """Two to four requests in one or two processes, in whichever order."""
    run_virtually(Play(scenario).run(Listed(numbers)))


@pytest.mark.integration
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scenario=SCENARIOS, numbers=NUMBERS)
@example(scenario=Scenario(None, ("increment", "burst")), numbers=[0, 0, 0, 1])
def test_memcached_keeps_the_same_word(
    memcached: Memcached, scenario: Scenario, numbers: list[int]
) -> None:
    """The same holds on a real memcached as in the store of this process."""

    async def main() -> None:
        inner = MemcachedStore(f"127.0.0.1:{memcached.port}")
        try:
            await Play(scenario, inner).run(Listed(numbers))
        finally:
            await inner.close()

    memcached.flush()
    asyncio.run(main())
