"""`/metrics`: what the server says about itself, under Prometheus's names where it has one, so that stock dashboards work."""

from collections.abc import Callable, Iterable

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from promlike.api.accept import Format, negotiate
from promlike.api.envelope import send
from promlike.api.query_metrics import QueryMetrics
from promlike.api.version import build_info

_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 10, 30, 120)

Collect = Callable[[], Iterable[Metric]]


class OwnMetrics:
    """A private registry: what is counted here, and what parts of the server report when asked."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library does not annotate it
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._requests = Counter("prometheus_http_requests", "HTTP requests.", ["handler", "code"], registry=self._registry)
        self._seconds = Histogram(
            "prometheus_http_request_duration_seconds", "Duration of HTTP requests.", ["handler"], buckets=_BUCKETS, registry=self._registry
        )
        self.queries = QueryMetrics()
        self.add(self.queries.collect)
        self.add(_build_info)

    def add(self, collect: Collect) -> None:
        """Ask `collect` for more metrics whenever these are read."""
        self._registry.register(_Reporter(collect))

    def request(self, handler: str, code: int, seconds: float) -> None:
        """One answered HTTP request."""
        self._requests.labels(handler, str(code)).inc()
        self._seconds.labels(handler).observe(seconds)

    def families(self) -> Iterable[Metric]:
        """Every metric with its samples now."""
        return self._registry.collect()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        exposition = negotiate(request, (Format.TEXT, Format.OPENMETRICS))
        write = generate_openmetrics if exposition.format is Format.OPENMETRICS else generate_latest
        return await send(request, 200, [write(self._registry)], content_type=exposition.content_type)


class _Reporter:
    """The shape the registry wants."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


def _build_info() -> Iterable[Metric]:
    info = build_info()
    labels = {"branch": info["branch"], "goversion": info["goVersion"], "revision": info["revision"], "version": info["version"]}
    family = GaugeMetricFamily("prometheus_build_info", "Version of the API and of the server.", labels=list(labels))
    family.add_metric(list(labels.values()), 1)
    yield family


def gauge(name: str, text: str, value: float) -> Metric:
    """A gauge without labels; what is true shows 1."""
    return GaugeMetricFamily(name, text, value=float(value))
