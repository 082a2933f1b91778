"""What sessions do, for OpenTelemetry. Needs the package opentelemetry-api.

Names and attributes are those of OpenTelemetry's conventions for clients of databases.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from functools import partial

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
except ImportError as error:
    raise ImportError(
        "tornado_mcsession.telemetry needs opentelemetry-api: "
        "pip install opentelemetry-api"
    ) from error

from .manager import SessionManager
from .stats import FAMILIES, PREFIX, SESSION_EVENTS, Family, samples
from .stores.memcached import MemcachedStore

__all__ = ["SessionTelemetry"]

# In seconds, as the conventions say.
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)

# What an operation raised, by its outcome.
_ERRORS = {
    "unavailable": f"{PREFIX}.StoreUnavailable",
    "rejected": f"{PREFIX}.StoreRejected",
}
_HOST_AND_PORT = re.compile(r"\[?([^\[\]]+)\]?:(\d+)")
_MANAGER = f"{PREFIX}.manager"


class SessionTelemetry:
    """Makes spans and metrics of what the sessions of some managers do.

    One line turns it on, once per process, after the SDK was set up::

        SessionTelemetry(SessionManager(app))

    Each store operation is a span of the kind CLIENT, within the span that is
    current where it is done, and is counted in the histogram
    ``db.client.operation.duration``. All that `.SessionManager.stats` counts can be
    read under ``tornado_mcsession.*``. No attribute tells a session id, a key or a
    principal. A failed operation has ``error.type``.

    Without an SDK nothing is recorded. ``tracer_provider`` and ``meter_provider``
    are the global ones unless they are given.
    """

    def __init__(
        self,
        *managers: SessionManager,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._managers = managers
        self._tracer = trace.get_tracer(PREFIX, tracer_provider=tracer_provider)
        meter = metrics.get_meter(PREFIX, meter_provider=meter_provider)
        self._seconds = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of database client operations.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        for name, family in FAMILIES.items():
            create = (
                meter.create_observable_counter
                if family.is_counter
                else meter.create_observable_gauge
            )
            read = partial(self._read, name, family)
            create(f"{PREFIX}.{name}", [read], description=family.text)
        for manager in managers:
            # OpenTelemetry has a name for memcached, and none for a store of one's own.
            is_memcached = isinstance(manager.store, MemcachedStore)
            system = "memcached" if is_memcached else type(manager.store).__name__
            about = {"db.system.name": system, _MANAGER: manager.name}
            manager.observe(partial(self._observe, about))

    def _observe(
        self,
        about: Mapping[str, str],
        kind: str,
        node: str,
        seconds: float,
        outcome: str,
    ) -> None:
        if kind in SESSION_EVENTS:
            return
        attributes: dict[str, str | int] = {**about, "db.operation.name": kind}
        address = _HOST_AND_PORT.fullmatch(node)
        if address is not None:
            attributes["server.address"] = address[1]
            attributes["server.port"] = int(address[2])
        elif node:  # a name of its own, or the path of a socket
            attributes["server.address"] = node
        failed = outcome in _ERRORS
        if failed:
            attributes["error.type"] = _ERRORS[outcome]
        self._seconds.record(seconds, attributes)
        end = time.time_ns()
        span = self._tracer.start_span(
            f"{kind} {node}" if node else kind,
            kind=SpanKind.CLIENT,
            attributes={**attributes, f"{PREFIX}.outcome": outcome},
            start_time=end - int(seconds * 1e9),
        )
        if failed:
            span.set_status(Status(StatusCode.ERROR, outcome))
        span.end(end)

    def _read(
        self, name: str, family: Family, options: CallbackOptions
    ) -> Iterator[Observation]:
        for manager in self._managers:
            for found, labels, value in samples(manager.stats()):
                if found == name:
                    given = dict(zip(family.labels, labels, strict=True))
                    yield Observation(value, {_MANAGER: manager.name, **given})
