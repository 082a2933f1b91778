"""What the application chose to do when the store cannot tell."""

from __future__ import annotations

import pytest

from tornado_mcsession import SessionTooLarge, StoreUnavailable

from ..support.requests import FakeHandler, begin, visit
from ..support.scripted import down


def say(answer, seen):
    def on_error(phase, error, handler):
        seen.append((phase, type(error), handler))
        return answer

    return on_error


async def fail_to_load(manager, store, clock):
    session_id = await begin(manager, a=1)
    store.script("get", down)
    return await visit(manager, session_id)


async def fail_to_save(manager, store, clock):
    late = await visit(manager, await begin(manager, a=1))
    late.session["a"] = 2
    store.script("cas", down)
    await late.leave()
    return late


async def fail_to_renew(manager, store, clock):
    session_id = await begin(manager, a=1)
    clock.advance(50_000)
    late = await visit(manager, session_id)
    assert late.session["a"] == 1
    store.script("cas", down)
    await late.leave()
    return late


async def fail_to_destroy(manager, store, clock):
    late = await visit(manager, await begin(manager, a=1))
    late.session._doom()
    store.script("cas", down)
    await late.leave()
    return late


PHASES = {
    "load": fail_to_load,
    "save": fail_to_save,
    "renew": fail_to_renew,
    "destroy": fail_to_destroy,
}
# A renewal is never worth an error, and a logout never goes unconfirmed.
RAISES = {
    "raise": {"load", "save", "destroy"},
    "degrade": {"destroy"},
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("choice", ["raise", "degrade"])
@pytest.mark.parametrize("is_callable", [False, True])
@pytest.mark.gen_test
async def test_each_failure_is_answered_as_chosen(
    make, store, clock, caplog, phase, choice, is_callable
):
    """A word for all, or a callable that is asked with phase, error and handler."""
    seen = []
    manager = make(store, on_error=say(choice, seen) if is_callable else choice)
    is_raised = phase in RAISES[choice]
    if is_raised:
        with pytest.raises(StoreUnavailable):
            await PHASES[phase](manager, store, clock)
    else:
        late = await PHASES[phase](manager, store, clock)
        assert late.session.available is (phase != "load")
    assert manager.stats()[f"errors_{phase}"] == 1
    assert (f"session {phase} failed" in caplog.text) is not is_raised
    if is_callable:
        assert [(p, kind) for p, kind, _ in seen] == [(phase, StoreUnavailable)]
        assert isinstance(seen[0][2], FakeHandler)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.gen_test
async def test_a_senseless_answer_is_an_error(make, store, clock, phase):
    """A callable must say one of the two."""
    manager = make(store, on_error=say("ignore", []))
    with pytest.raises(ValueError, match="on_error must return 'raise' or 'degrade'"):
        await PHASES[phase](manager, store, clock)


@pytest.mark.gen_test
async def test_only_the_stores_errors_are_asked_about(make, store):
    """What the application did wrong is not passed over in degraded mode."""
    manager = make(store, on_error="degrade", max_size=100)
    late = await visit(manager)
    late.session["a"] = "x" * 200
    with pytest.raises(SessionTooLarge):
        await late.leave()
    assert manager.stats()["errors_save"] == 0
