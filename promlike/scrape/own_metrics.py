"""What scraping says about itself in `/metrics`, under Prometheus's names."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from promlike.scrape.status import ActiveTarget, Durations, ScrapeCounters

_HELP = {
    "scrape_pools_total": "Pools that were started.",
    "scrape_pools_failed_total": "Pools that failed and were started again.",
    "scrape_pool_reloads_total": "Reloads of the configuration.",
    "scrape_pool_exceeded_target_limit_total": "Times a job had more targets than target_limit allows.",
    "scrapes_exceeded_body_size_limit_total": "Scrapes that failed for body_size_limit.",
    "scrapes_exceeded_sample_limit_total": "Scrapes that failed for sample_limit.",
    "scrapes_sample_duplicate_timestamp_total": "Samples left out because the target exposed their series before in the same scrape.",
    "scrapes_sample_out_of_bounds_total": "Samples rejected for their timestamps.",
    "scrapes_failed_total": "Scrapes that failed.",
    "samples_total": "Samples stored by scrapes.",
    "exemplars_total": "Exemplars stored by scrapes.",
    "exemplars_rejected_total": "Exemplars rejected for their labels or their times.",
    "lost_scrapes_total": "Scrapes whose samples the storage could not take.",
}


def collect(counters: ScrapeCounters, discovered: Mapping[str, int], targets: list[ActiveTarget]) -> Iterator[Metric]:
    """All families; `discovered` is how many targets each job found, those that relabelling dropped included."""
    for entry in fields(counters):
        if entry.name in _HELP:
            name = f"prometheus_target_{entry.name.removesuffix('_total')}"
            yield CounterMetricFamily(name, _HELP[entry.name], value=getattr(counters, entry.name))
    rejected = CounterMetricFamily("prometheus_target_series_rejected", "New series refused by the storage.", labels=["reason"])
    for reason, count in sorted(counters.series_rejected_total.items()):
        rejected.add_metric([reason], count)
    yield rejected
    active = Counter(target.scrape_pool for target in targets)
    sizes = GaugeMetricFamily("prometheus_target_scrape_pool_targets", "Targets of a job.", labels=["scrape_job"])
    found = GaugeMetricFamily("prometheus_sd_discovered_targets", "Targets a job discovered.", labels=["name", "config"])
    for job, count in discovered.items():
        sizes.add_metric([job], active[job])
        found.add_metric(["scrape", job], count)
    yield sizes
    yield found
    yield _durations("interval_length", "Time between scrapes.", "interval", counters.interval_length)
    yield _durations("sync_length", "Time that taking over discovered targets took.", "scrape_job", counters.sync_length)


def _durations(name: str, text: str, label: str, measured: Mapping[str, Durations]) -> Metric:
    family = SummaryMetricFamily(f"prometheus_target_{name}_seconds", text, labels=[label])
    for value, durations in measured.items():
        family.add_metric([value], durations.count, durations.seconds)
    return family
