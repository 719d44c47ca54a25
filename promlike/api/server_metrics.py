"""The state of the server as metrics, under the names that Prometheus's dashboards and alerts ask for."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, Metric

from promlike.api.context import Api, Phase
from promlike.api.own_metrics import gauge


def server_metrics(api: Api) -> Iterable[Metric]:
    """Readiness, the last reload, and what queries are allowed."""
    server = api.server
    yield gauge("prometheus_ready", "Whether startup is over.", server.phase is Phase.READY)
    yield gauge("prometheus_config_last_reload_successful", "Whether the last reload was successful.", server.config_loaded)
    yield gauge("prometheus_config_last_reload_success_timestamp_seconds", "Time of the last successful reload.", server.config_loaded_at)
    yield gauge("prometheus_engine_queries_concurrent_max", "Queries that may run at once.", api.query_options.max_concurrency)
    yield gauge("promlike_queries_queued", "Queries that wait for their turn.", api.engine.queued)
    memory = api.engine.memory
    yield gauge("promlike_query_memory_bytes", "Bytes that queries and answers on their way hold.", memory.used_bytes)
    yield gauge("promlike_query_memory_peak_bytes", "The most they held.", memory.peak_bytes)
    yield gauge("promlike_query_memory_limit_bytes", "Bytes that they may hold.", memory.max_bytes)
    yield gauge("prometheus_engine_query_log_enabled", "Whether queries are logged.", api.query_log.is_on)
    yield CounterMetricFamily("prometheus_engine_query_log_failures", "Queries that could not be logged.", value=api.query_log.failures)
    for end, ms in (("min", api.storage.gauges.min_time_ms), ("max", api.storage.gauges.max_time_ms)):
        yield gauge(f"prometheus_tsdb_head_{end}_time_seconds", "One end of the stored times.", (ms or 0) / 1000)
    yield gauge("prometheus_tsdb_lowest_timestamp_seconds", "The oldest stored time.", (api.storage.gauges.min_time_ms or 0) / 1000)
