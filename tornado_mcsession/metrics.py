"""What sessions do, as metrics for Prometheus. Needs the package prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "tornado_mcsession.metrics needs prometheus_client: "
        "pip install prometheus_client"
    ) from error

from .manager import SessionManager
from .stats import FAMILIES, PREFIX, SESSION_EVENTS, samples

__all__ = ["SessionMetrics"]

# In seconds. Most operations of memcached take less than a millisecond.
BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)


class SessionMetrics(Collector):
    """Tells Prometheus what the sessions of one or more managers do.

    One line turns it on, once per process::

        SessionMetrics(SessionManager(app))

    Each store operation is put into the histogram
    ``tornado_mcsession_operation_seconds``, by kind, node and outcome. All that
    `.SessionManager.stats` counts is read whenever Prometheus asks. The label
    ``manager`` is the manager's name. No label tells a session id, a key or a
    principal, and each has a few values only.

    Raises `ValueError` if two managers have one name, or if ``registry`` has these
    metrics already: give all managers of a process to one object.
    """

    def __init__(
        self, *managers: SessionManager, registry: CollectorRegistry = REGISTRY
    ) -> None:
        names = [manager.name for manager in managers]
        if len(set(names)) < len(names):
            raise ValueError("two managers have one name: no label would tell them")
        self._managers = managers
        # Not registered by itself: `collect` yields it.
        self._seconds = Histogram(
            f"{PREFIX}_operation_seconds",
            "Seconds that a store operation took.",
            ("manager", "kind", "node", "outcome"),
            buckets=BUCKETS,
            registry=None,
        )
        registry.register(self)
        for manager in managers:
            manager.observe(partial(self._observe, manager.name))

    def _observe(
        self, name: str, kind: str, node: str, seconds: float, outcome: str
    ) -> None:
        if kind not in SESSION_EVENTS:
            self._seconds.labels(name, kind, node, outcome).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, as they are now."""
        yield from self._seconds.collect()
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, family in FAMILIES.items():
            make = CounterMetricFamily if family.is_counter else GaugeMetricFamily
            families[name] = make(
                f"{PREFIX}_{name}", family.text, labels=("manager", *family.labels)
            )
        for manager in self._managers:
            for name, labels, value in samples(manager.stats()):
                families[name].add_metric((manager.name, *labels), value)
        yield from families.values()

    def describe(self) -> Iterator[Metric]:
        """Yield all metrics: a registry takes each name once."""
        return self.collect()
