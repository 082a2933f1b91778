"""Managers that are watched by the real packages for metrics and traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application

from tornado_mcsession import MemcachedStore, SessionManager
from tornado_mcsession.telemetry import SessionTelemetry


@pytest.fixture
def manager(
    build: Callable[..., SessionManager], memcached_store: MemcachedStore
) -> SessionManager:
    """A manager over a real memcached."""
    return build(store=memcached_store)


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of the test's own."""
    return CollectorRegistry()


class Telemetry:
    """What an application's OpenTelemetry SDK has got."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def watch(self, *managers: SessionManager) -> None:
        SessionTelemetry(
            *managers, tracer_provider=self.traces, meter_provider=self.meters
        )

    def spans(self):
        return self.exporter.get_finished_spans()

    def points(self):
        """The data points of each metric, by its name."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def numbers(self, name: str, *labels: str) -> dict:
        """The values of a metric, by the values of some attributes."""
        return {
            tuple(point.attributes[label] for label in labels): point.value
            for point in self.points()[name]
        }


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """An SDK of the test's own."""
    telemetry = Telemetry()
    yield telemetry
    telemetry.meters.shutdown()
    telemetry.traces.shutdown()


@pytest.fixture
def bind_port(io_loop: Any) -> Iterator[Callable[[Application], int]]:
    """Starts an application; returns its port."""
    servers = []

    def start(application: Application) -> int:
        server = HTTPServer(application)
        servers.append(server)
        socket, port = bind_unused_port()
        server.add_socket(socket)
        return port

    yield start
    for server in servers:
        server.stop()
        io_loop.run_sync(server.close_all_connections)
