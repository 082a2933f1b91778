"""`SessionTelemetry`: what the OpenTelemetry SDK gets."""

from __future__ import annotations

import pytest
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode
from tornado.httpclient import AsyncHTTPClient
from tornado.web import Application, RequestHandler

from tornado_mcsession import (
    MemcachedStore,
    MemoryStore,
    SessionManager,
    SessionMixin,
    StoreUnavailable,
)

from ..support.processes import free_port
from ..support.requests import begin, visit

ID = "an-id-that-no-client-has-chosen"
DURATION = "db.client.operation.duration"


@pytest.mark.integration
@pytest.mark.gen_test
async def test_operations_are_client_spans(manager, telemetry, memcached):
    """With the attributes that OpenTelemetry's conventions name."""
    telemetry.watch(manager)
    host, port = memcached.server
    await manager.set(ID, {"a": 1})
    await manager.get(ID)
    names = [span.name for span in telemetry.spans()]
    assert names == [f"{kind} {host}:{port}" for kind in ("get", "add", "get")]
    span = telemetry.spans()[-1]
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes) == {
        "db.system.name": "memcached",
        "db.operation.name": "get",
        server_attributes.SERVER_ADDRESS: host,
        server_attributes.SERVER_PORT: port,
        "tornado_mcsession.manager": "session",
        "tornado_mcsession.outcome": "hit",
    }
    assert 0 < span.end_time - span.start_time < 10 * 10**9


@pytest.mark.integration
@pytest.mark.gen_test
async def test_operations_are_measured(manager, telemetry):
    """In seconds, in the convention's histogram, without the outcome."""
    telemetry.watch(manager)
    await manager.set(ID, {"a": 1})
    await manager.get(ID)
    counts = {
        point.attributes["db.operation.name"]: (point.count, point.explicit_bounds[0])
        for point in telemetry.points()[DURATION]
    }
    assert counts == {"get": (2, 0.001), "add": (1, 0.001)}


@pytest.mark.gen_test
async def test_a_failure_has_its_type(build, telemetry):
    """The span is an error, and the histogram has the same type."""
    store = MemcachedStore(f"127.0.0.1:{free_port()}", timeout=0.2)
    manager = build(store=store)
    telemetry.watch(manager)
    with pytest.raises(StoreUnavailable):
        await manager.get(ID)
    (span,) = telemetry.spans()
    assert span.status.status_code is StatusCode.ERROR
    expected = "tornado_mcsession.StoreUnavailable"
    assert span.attributes[error_attributes.ERROR_TYPE] == expected
    (point,) = telemetry.points()[DURATION]
    assert point.attributes[error_attributes.ERROR_TYPE] == expected
    assert telemetry.numbers("tornado_mcsession.node_up", "node") == {
        (next(iter(store.stats()["nodes"])),): 0
    }
    await manager.close()


@pytest.mark.gen_test
async def test_a_server_may_have_a_name_of_its_own(build, telemetry):
    """Its name is the address then."""
    manager = build(store=MemcachedStore(f"blue=127.0.0.1:{free_port()}", timeout=0.2))
    telemetry.watch(manager)
    with pytest.raises(StoreUnavailable):
        await manager.get(ID)
    (span,) = telemetry.spans()
    assert span.attributes[server_attributes.SERVER_ADDRESS] == "blue"
    assert server_attributes.SERVER_PORT not in span.attributes
    await manager.close()


@pytest.mark.gen_test
async def test_what_is_counted_is_observable(build, telemetry):
    """Under the package's name, with the manager's."""
    manager = build()
    telemetry.watch(manager)
    await begin(manager, a=1)
    user = await visit(manager)
    await user.session.login("ann-of-accounting")
    await user.session.logout()
    begun = telemetry.numbers(
        "tornado_mcsession.sessions_begun", "tornado_mcsession.manager"
    )
    assert begun == {("session",): 2}
    ended = telemetry.numbers("tornado_mcsession.sessions_ended", "reason")
    assert ended.pop(("logout",)) == 1
    assert set(ended.values()) == {0}
    told = repr(telemetry.points()) + repr(
        [each.to_json() for each in telemetry.spans()]
    )
    assert "ann-of-accounting" not in told


class Traced(SessionMixin, RequestHandler):
    """Has a span of its own, as an instrumented application has."""

    tracer = None

    async def get(self):
        with self.tracer.start_as_current_span("page"):
            self.session["n"] = self.session.get("n", 0) + 1
            await self.finish("done")


@pytest.mark.gen_test
async def test_a_held_save_belongs_to_the_request(telemetry, io_loop, bind_port):
    """Its span is a child of the one that the handler finished its response in."""
    application = Application([("/", Traced)])
    manager = SessionManager(application, store=MemoryStore())
    telemetry.watch(manager)
    Traced.tracer = telemetry.traces.get_tracer("a test")
    port = bind_port(application)
    await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/")
    spans = {span.name: span for span in telemetry.spans()}
    assert spans["add"].parent.span_id == spans["page"].context.span_id
    assert spans["add"].attributes["db.system.name"] == "MemoryStore"
