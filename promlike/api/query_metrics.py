"""What queries took, by phase: count, sum, and quantiles over the last ten minutes, as Prometheus's engine reports them."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from promlike.promql.result import QueryStats

QUANTILES = (0.5, 0.9, 0.99)
WINDOW_SECONDS = 600.0
KEPT = 2048
"""Of a busy phase only the newest queries are looked at."""


@dataclass(slots=True)
class _Phase:
    count: int = 0
    total: float = 0.0
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=KEPT))


class QueryMetrics:
    """Counts queries; `now` is a clock in seconds."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._phases: defaultdict[str, _Phase] = defaultdict(_Phase)
        self._samples = 0
        self._read = 0
        self._running = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around a query that waits or runs."""
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def observe(self, stats: QueryStats) -> None:
        """One answered query."""
        self._samples += stats.total_samples
        self._read += stats.samples_read
        self._add("queue_time", stats.queue_seconds)
        self._add("prepare_time", stats.parse_seconds + stats.fetch_seconds)
        self._add("inner_eval", stats.eval_seconds)

    def _add(self, phase: str, seconds: float) -> None:
        entry = self._phases[phase]
        entry.count += 1
        entry.total += seconds
        entry.recent.append((self._now(), seconds))

    def collect(self) -> Iterable[Metric]:
        """The metrics, under the engine's names in Prometheus."""
        yield GaugeMetricFamily("prometheus_engine_queries", "Queries that wait or run.", value=self._running)
        yield CounterMetricFamily("prometheus_engine_query_samples", "Samples loaded by queries.", value=self._samples)
        yield CounterMetricFamily("prometheus_engine_query_samples_read", "Samples read from storage by queries.", value=self._read)
        name = "prometheus_engine_query_duration_seconds"
        family = Metric(name, "Duration of queries by phase.", "summary")
        for phase, entry in sorted(self._phases.items()):
            for quantile, seconds in zip(QUANTILES, self._quantiles(entry), strict=True):
                family.add_sample(name, {"slice": phase, "quantile": f"{quantile:g}"}, seconds)
            family.add_sample(f"{name}_sum", {"slice": phase}, entry.total)
            family.add_sample(f"{name}_count", {"slice": phase}, entry.count)
        yield family

    def _quantiles(self, entry: _Phase) -> Iterable[float]:
        """NaN where the last ten minutes saw no query."""
        since = self._now() - WINDOW_SECONDS
        recent = [seconds for at, seconds in entry.recent if at >= since]
        return np.quantile(recent, QUANTILES).tolist() if recent else (float("nan"),) * len(QUANTILES)
