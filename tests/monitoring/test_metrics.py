"""`SessionMetrics`: what Prometheus gets when it asks."""

from __future__ import annotations

import subprocess
import sys

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tornado_mcsession import (
    MemcachedStore,
    MemoryStore,
    SessionManager,
    StoreUnavailable,
)
from tornado_mcsession.metrics import SessionMetrics

from ..support.processes import free_port
from ..support.requests import begin, visit
from ..support.scripted import ScriptedStore, down

ID = "an-id-that-no-client-has-chosen"
P = "tornado_mcsession_"


def scraped(registry):
    """Each sample's value, by its name and the labels but that of the manager."""
    text = generate_latest(registry).decode()
    return {
        (sample.name.removeprefix(P), *values(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def values(labels):
    return [value for name, value in sorted(labels.items()) if name != "manager"]


@pytest.mark.integration
@pytest.mark.gen_test
async def test_operations_are_measured(manager, registry):
    """By kind, node and outcome, with the seconds that they took."""
    SessionMetrics(manager, registry=registry)
    node = next(iter(manager.store.stats()["nodes"]))
    session_id = await begin(manager, a=1)
    request = await visit(manager, session_id)
    request.session["a"] = 2
    await request.leave()
    await manager.get(ID)
    found = scraped(registry)
    count = "operation_seconds_count"
    assert found[count, "add", node, "stored"] == 1
    assert found[count, "cas", node, "stored"] == 1
    assert found[count, "get", node, "hit"] == 1
    assert found[count, "get", node, "miss"] == 1
    assert 0 < found["operation_seconds_sum", "cas", node, "stored"] < 10


@pytest.mark.gen_test
async def test_what_is_counted_can_be_scraped(build, registry, clock):
    """Sessions begun and ended, saves, conflicts, drops, errors by phase."""
    store = ScriptedStore(MemoryStore(clock=clock))
    manager = build(store=store)
    SessionMetrics(manager, registry=registry)
    assert scraped(registry)["errors_total", "save"] == 0
    session_id = await begin(manager, a=1)
    late = await visit(manager, session_id)
    late.session["a"] = 2
    other = await visit(manager, session_id)
    other.session["b"] = 2
    await other.leave()
    store.script("cas", down)
    with pytest.raises(Exception, match="down"):
        await late.leave()
    await late.leave()  # meets the other's
    late.session["a"] = 3
    await manager.destroy(session_id)
    await late.leave()
    user = await visit(manager)
    await user.session.login("ann")
    await user.session.regenerate()
    await manager.revoke("ann")
    found = scraped(registry)
    assert found["sessions_begun_total",] == 2
    assert found["sessions_ended_total", "logout"] == 1
    assert found["sessions_ended_total", "rotated"] == 1
    assert found["sessions_ended_total", "revoked"] == 1
    assert found["errors_total", "save"] == 1
    assert found["conflicts_total",] == 1
    assert found["dropped_saves_total",] == 1
    assert found["saves_total",] == manager.stats()["saves"]


@pytest.mark.gen_test
async def test_a_node_that_is_down_shows(build, registry):
    """Its breaker's state, and that it does not answer."""
    name = f"127.0.0.1:{free_port()}"
    manager = build(store=MemcachedStore(name, timeout=0.2))
    SessionMetrics(manager, registry=registry)
    assert ("node_up", name) not in scraped(registry)  # nobody has asked it
    for _ in range(4):
        with pytest.raises(StoreUnavailable):
            await manager.get(ID)
    found = scraped(registry)
    assert found["node_up", name] == 0
    states = {key[2]: found[key] for key in found if key[0] == "node_breaker"}
    assert sorted(states.values()) == [0, 0, 1]
    assert states["closed"] == 0
    assert found["operation_seconds_count", "get", name, "unavailable"] == 4
    await manager.close()


@pytest.mark.gen_test
async def test_no_label_tells_a_secret(manager, registry):
    """Neither an id nor a key nor a principal is in what is scraped."""
    SessionMetrics(manager, registry=registry)
    user = await visit(manager)
    await user.session.login("ann-of-accounting")
    text = generate_latest(registry).decode()
    assert user.session.id not in text
    assert manager.codec.key(user.session.id) not in text
    assert "ann-of-accounting" not in text


class Talkative(MemoryStore):
    """Takes the key for the name of a node, which it must not."""

    def node_of(self, key):
        return key


@pytest.mark.gen_test
async def test_labels_are_bounded(build, registry):
    """Also where a store of one's own has a node for each key."""
    manager = build(store=Talkative())
    SessionMetrics(manager, registry=registry)
    for number in range(300):
        await manager.get(f"{ID}-{number}")
    nodes = [key for key in scraped(registry) if key[0] == "operation_seconds_count"]
    assert len(nodes) == 257
    assert any("other" in key for key in nodes)


class Broken(MemoryStore):
    """Cannot name its nodes."""

    def node_of(self, key):
        raise ZeroDivisionError


@pytest.mark.gen_test
async def test_a_store_that_cannot_name_its_nodes_works(build, registry, caplog):
    """Metrics break no request."""
    manager = build(store=Broken())
    SessionMetrics(manager, registry=registry)
    await manager.set(ID, {"a": 1})
    assert (await manager.get(ID))["a"] == 1
    assert scraped(registry)["operation_seconds_count", "add", "", "stored"] == 1
    assert "node_of" in caplog.text


def test_managers_share_one_collector(registry):
    """Each is a value of the label ``manager``; a second collector is refused."""
    one = SessionManager(store=MemoryStore(), name="session")
    two = SessionManager(store=MemoryStore(), name="admin")
    SessionMetrics(one, two, registry=registry)
    text = generate_latest(registry).decode()
    assert 'tornado_mcsession_saves_total{manager="session"} 0.0' in text
    assert 'tornado_mcsession_saves_total{manager="admin"} 0.0' in text
    with pytest.raises(ValueError, match="Duplicated"):
        SessionMetrics(one, registry=registry)
    with pytest.raises(ValueError, match="one name"):
        SessionMetrics(one, one, registry=registry)


@pytest.mark.parametrize(
    ("module", "package", "name"),
    [
        ("metrics", "prometheus_client", "prometheus_client"),
        ("telemetry", "opentelemetry", "opentelemetry-api"),
    ],
)
def test_what_is_missing_is_named(module, package, name):
    """The error says which package to install."""
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"try: import tornado_mcsession.{module}\n"
        f"except ImportError as error: print(error)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    ).stdout
    assert f"pip install {name}" in printed
