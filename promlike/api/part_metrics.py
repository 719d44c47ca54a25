"""What storage and remote write count, as metrics: Prometheus's names where the meaning is the same, ours otherwise."""

from collections.abc import Iterable, Mapping
from dataclasses import fields

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from promlike.cache.shared import SharedCache
from promlike.promql.cached.cache import ResultCache
from promlike.promql.cached.shared import SharedRuns
from promlike.remote_write.receiver import ReceiverCounters
from promlike.storage.storage import Storage


def storage_metrics(storage: Storage) -> Iterable[Metric]:
    """Totals of storage; fields of StorageCounters under `promlike_storage_`, with Prometheus's names beside them for dashboards."""
    counters = storage.counters
    yield GaugeMetricFamily("prometheus_tsdb_head_series", "Living series.", value=storage.gauges.head_series)
    yield GaugeMetricFamily("prometheus_tsdb_head_min_time", "Oldest time, in milliseconds.", value=storage.gauges.min_time_ms or 0)
    yield GaugeMetricFamily("prometheus_tsdb_head_max_time", "Newest time, in milliseconds.", value=storage.gauges.max_time_ms or 0)
    appended = CounterMetricFamily("prometheus_tsdb_head_samples_appended", "Samples appended.", labels=["type"])
    appended.add_metric(["float"], counters.samples_appended)
    yield appended
    yield CounterMetricFamily("prometheus_tsdb_head_series_created", "Series created.", value=counters.series_created)
    yield CounterMetricFamily("prometheus_tsdb_head_series_removed", "Series removed.", value=counters.series_removed)
    yield CounterMetricFamily(
        "promlike_series_forgotten", "Removed series of which nothing is left in memory.", value=counters.series_forgotten
    )
    yield CounterMetricFamily("prometheus_tsdb_wal_corruptions", "WAL corruptions found.", value=counters.wal_corruptions)
    yield GaugeMetricFamily("prometheus_tsdb_wal_storage_size_bytes", "Size of the WAL's files.", value=storage.gauges.wal_disk_bytes)
    yield from _exemplar_metrics(storage)
    yield GaugeMetricFamily("promlike_storage_head_bytes", "Bytes of sample blocks in memory.", value=storage.gauges.head_bytes)
    yield GaugeMetricFamily("promlike_storage_head_max_bytes", "The most that those may take.", value=storage.options.pool_bytes)
    yield GaugeMetricFamily(
        "promlike_storage_wal_max_bytes", "The most that the WAL may take; 0: any.", value=storage.options.wal_max_bytes
    )
    yield GaugeMetricFamily(
        "promlike_storage_rolled_up_time", "How far rollups reach, in milliseconds.", value=storage.gauges.rolled_up_ms or 0
    )
    yield GaugeMetricFamily("promlike_storage_unflushed_samples", "Samples that wait for a flush.", value=storage.gauges.unflushed_samples)
    yield GaugeMetricFamily("promlike_storage_wal_pending_bytes", "Bytes not yet on disk.", value=storage.gauges.wal_pending_bytes)
    yield CounterMetricFamily("promlike_storage_wal_fsyncs", "Times the WAL was synced.", value=storage.gauges.wal_fsyncs)
    yield CounterMetricFamily("promlike_storage_wal_written_bytes", "Bytes written to the WAL.", value=storage.gauges.wal_bytes_written)
    yield CounterMetricFamily("promlike_storage_wal_write_failures", "Failed writes of the WAL.", value=storage.gauges.wal_write_failures)
    yield from _fields(counters, "promlike_storage_", "Counted by storage.")


def _exemplar_metrics(storage: Storage) -> Iterable[Metric]:
    """Prometheus's names; what it calls storage is a ring in memory, here what waits for a flush."""
    count, series = storage.gauges.unflushed_exemplars
    name = "prometheus_tsdb_exemplar"
    yield CounterMetricFamily(f"{name}_exemplars_appended", "Exemplars taken.", value=storage.counters.exemplars_appended)
    yield GaugeMetricFamily(f"{name}_exemplars_in_storage", "Exemplars in memory, which wait for a flush.", value=count)
    yield GaugeMetricFamily(f"{name}_series_with_exemplars_in_storage", "Series that have exemplars in memory.", value=series)
    yield GaugeMetricFamily(f"{name}_max_exemplars", "Most exemplars that may wait in memory.", value=storage.max_exemplars)
    last = storage.gauges.last_exemplar_ms / 1000
    yield GaugeMetricFamily(f"{name}_last_exemplars_timestamp_seconds", "Newest time of an exemplar taken.", value=last)


def remote_write_metrics(counters: ReceiverCounters) -> Iterable[Metric]:
    """Totals of the remote write receiver."""
    yield from _fields(counters, "promlike_remote_write_", "Counted by the remote write receiver.")


def cache_metrics(cache: SharedCache) -> Iterable[Metric]:
    """Totals of the second-level cache, and whether it answers."""
    yield GaugeMetricFamily(
        "promlike_cache_up", "Whether the second-level cache is used; not for a while after a failure.", value=cache.is_up
    )
    yield from _fields(cache.counters, "promlike_cache_", "Counted by the second-level cache.")


def shared_runs_metrics(shared: SharedRuns) -> Iterable[Metric]:
    """Totals of the second level of the result cache; its hit ratio is that of its steps to all steps of range queries."""
    counters = shared.counters
    reads = CounterMetricFamily("promlike_result_cache_shared_reads", "Answers asked of Redis, by what was found.", labels=["found"])
    for found in ("useful", "useless", "absent", "invalid"):
        reads.add_metric([found], getattr(counters, found))
    yield reads
    writes = CounterMetricFamily("promlike_result_cache_shared_writes", "Answers for Redis, by what became of them.", labels=["result"])
    for result in ("written", "too_large", "dropped"):
        writes.add_metric([result], getattr(counters, result))
    yield writes


def result_cache_metrics(cache: ResultCache) -> Iterable[Metric]:
    """Totals of the result cache of range queries; its hit ratio is that of hit steps to steps."""
    counters = cache.counters
    queries = CounterMetricFamily("promlike_result_cache_queries", "Range queries by what the cache had of them.", labels=["found"])
    for found in ("whole", "partial", "missed", "uncacheable", "bypassed"):
        queries.add_metric([found], getattr(counters, found))
    yield queries
    yield CounterMetricFamily("promlike_result_cache_steps", "Steps of range queries.", value=counters.steps)
    yield CounterMetricFamily("promlike_result_cache_hit_steps", "Steps that came from the cache.", value=counters.cached_steps)
    yield CounterMetricFamily("promlike_result_cache_shared_hit_steps", "Steps that came from Redis.", value=counters.shared_steps)
    yield CounterMetricFamily("promlike_result_cache_evictions", "Answers that had to make room.", value=counters.evicted)
    yield CounterMetricFamily("promlike_result_cache_invalidations", "Answers that changed samples cut short.", value=counters.invalidated)
    yield GaugeMetricFamily("promlike_result_cache_entries", "Answers kept.", value=len(cache))
    yield GaugeMetricFamily("promlike_result_cache_bytes", "Bytes of answers kept.", value=cache.bytes)
    yield GaugeMetricFamily("promlike_result_cache_limit_bytes", "Bytes that may be kept.", value=cache.max_bytes)


def _fields(counters: object, prefix: str, text: str) -> Iterable[Metric]:
    """A counter for every field; a mapping becomes one with a label. Fields that start with `last_` are gauges."""
    for entry in fields(counters):  # type: ignore[arg-type]  # one of the dataclasses, named by the callers
        value = getattr(counters, entry.name)
        name = prefix + entry.name.removesuffix("_total")
        if isinstance(value, Mapping):
            family = CounterMetricFamily(name, text, labels=["code" if entry.name == "requests" else "reason"])
            for key, count in value.items():
                family.add_metric([str(int(key)) if isinstance(key, int) else str(key)], count)
            yield family
        elif entry.name.startswith("last_"):
            yield GaugeMetricFamily(name, text, value=value)
        else:
            yield CounterMetricFamily(name, text, value=value)
