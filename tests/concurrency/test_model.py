"""Many requests on many sessions, against a model of dicts."""

from __future__ import annotations

import asyncio
import copy
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tornado_mcsession import (
    MemcachedStore,
    MemoryStore,
    Session,
    SessionGone,
    SessionManager,
    Store,
)

from ..support.memcached import Memcached

KEYS = st.sampled_from("abc")
VALUES = st.one_of(
    st.integers(0, 2), st.lists(st.integers(0, 2), max_size=2), st.none()
)
Data = dict[str, Any]


class Request:
    """A request under way: its session, what it loaded, and what it sees now."""

    def __init__(self, session_id: str, session: Session, data: Data) -> None:
        self.id = session_id
        self.session = session
        self.is_gone = False
        self.look_at(data)

    def look_at(self, data: Data) -> None:
        self.loaded = copy.deepcopy(data)
        self.seen = copy.deepcopy(data)

    @property
    def has_changed(self) -> bool:
        return self.seen != self.loaded

    def made_to(self, stored: Data) -> Data:
        """Return what a save must leave of ``stored``."""
        deleted = self.loaded.keys() - self.seen.keys()
        changed = {k: v for k, v in self.seen.items() if self.loaded.get(k, ...) != v}
        kept = {k: v for k, v in stored.items() if k not in deleted}
        return copy.deepcopy(kept | changed)


class Sessions(RuleBasedStateMachine):
    """Two processes share a store; ``model`` says what each id must hold.

    `None` stands for an id that was ended or replaced.
    """

    ids = Bundle("ids")
    requests = Bundle("requests")

    def __init__(self, make_store: Callable[[], Store]) -> None:
        super().__init__()
        self.model: dict[str, Data | None] = {}
        self.successors: dict[str, str] = {}
        self._runner = asyncio.Runner()
        self._stores = [make_store()]
        self._managers = [SessionManager(store=self._stores[0]) for _ in range(2)]

    def teardown(self) -> None:
        for store in self._stores:
            self.wait(store.close())
        self._runner.close()

    def wait(self, work: Any) -> Any:
        return self._runner.run(work)

    def expect(self, request: Request, work: Any) -> bool:
        """Do ``work``; return whether the session was there, as it must be."""
        is_there = self.model[request.id] is not None and not request.is_gone
        if is_there:
            self.wait(work)
        else:
            with pytest.raises(SessionGone):
                self.wait(work)
            request.is_gone = True
        return is_there

    def stored(self, request: Request) -> Data:
        data = self.model[request.id]
        assert data is not None
        return data

    def end_all_from(self, session_id: str) -> None:
        """An end follows a replaced id to the newest one: nobody logged in since."""
        self.model[session_id] = None
        while session_id in self.successors:
            session_id = self.successors[session_id]
            self.model[session_id] = None

    # Few sessions, so that requests meet.
    @precondition(lambda self: len(self.model) < 2)
    @rule(target=ids, data=st.dictionaries(KEYS, VALUES, min_size=1))
    def begin(self, data: Data) -> str:
        session_id = secrets.token_urlsafe(32)
        self.wait(self._managers[0].set(session_id, data))
        self.model[session_id] = data
        return session_id

    @rule(target=requests, session_id=ids, process=st.integers(0, 1))
    def load(self, session_id: str, process: int) -> Any:
        session = self.wait(self._managers[process].get(session_id))
        expected = self.model[session_id]
        if expected is None:
            assert session is None
            return multiple()
        assert session == expected
        return Request(session_id, session, expected)

    @rule(request=requests, key=KEYS, value=VALUES)
    def put(self, request: Request, key: str, value: Any) -> None:
        request.session[key] = copy.deepcopy(value)
        request.seen[key] = value

    @rule(request=requests, key=KEYS)
    def change_within(self, request: Request, key: str) -> None:
        if isinstance(request.seen.get(key), list):
            request.session[key].append(9)
            request.seen[key] = [*request.seen[key], 9]

    @rule(request=requests, key=KEYS)
    def remove(self, request: Request, key: str) -> None:
        request.session.pop(key, None)
        request.seen.pop(key, None)

    @rule(request=requests)
    def save(self, request: Request) -> None:
        if not request.has_changed and not request.is_gone:
            self.wait(request.session.save())  # nothing to save is never an error
        elif self.expect(request, request.session.save()):
            self.model[request.id] = request.made_to(self.stored(request))
            request.look_at(self.stored(request))
            assert request.session == request.seen

    @rule(request=consumes(requests))
    def end(self, request: Request) -> None:
        self.wait(self._managers[0].commit(request.session))
        stored = self.model[request.id]
        if stored is not None and not request.is_gone:
            self.model[request.id] = request.made_to(stored)

    @rule(request=requests)
    def reload(self, request: Request) -> None:
        if self.expect(request, request.session.reload()):
            request.look_at(self.stored(request))

    @rule(request=requests)
    def count(self, request: Request) -> None:
        def add(data: Data) -> None:
            data["n"] = data.get("n", 0) + 1

        if self.expect(request, request.session.transact(add)):
            data = request.made_to(self.stored(request))
            add(data)
            self.model[request.id] = data
            request.look_at(data)
            assert request.session == request.seen

    @rule(target=ids, request=requests, keep=st.booleans())
    def regenerate(self, request: Request, keep: bool) -> Any:
        if not self.expect(request, request.session.regenerate(keep)):
            return multiple()
        data = request.made_to(self.stored(request)) if keep else {}
        self.model[request.id] = None
        assert request.session.id is not None
        self.successors[request.id] = request.session.id
        request.id = request.session.id
        self.model[request.id] = data
        request.look_at(data)
        return request.id

    @rule(session_id=ids)
    def destroy(self, session_id: str) -> None:
        self.wait(self._managers[1].destroy(session_id))
        self.end_all_from(session_id)

    @rule(request=consumes(requests))
    def log_out(self, request: Request) -> None:
        self.wait(request.session.logout())
        self.end_all_from(request.id)

    @invariant()
    def what_is_stored_is_the_model(self) -> None:
        for session_id, expected in self.model.items():
            session = self.wait(self._managers[0].get(session_id))
            assert (None if session is None else dict(session)) == expected


def test_sessions_are_as_a_model_of_dicts_says() -> None:
    """In this process's store, whatever requests do and in whichever order."""
    run_state_machine_as_test(
        lambda: Sessions(MemoryStore),
        settings=settings(max_examples=150, stateful_step_count=40),
    )


@pytest.mark.integration
def test_so_are_they_in_memcached(memcached: Memcached) -> None:
    """The same holds on a real memcached."""
    run_state_machine_as_test(
        lambda: Sessions(lambda: MemcachedStore(f"127.0.0.1:{memcached.port}")),
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )
