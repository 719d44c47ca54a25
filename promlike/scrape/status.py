"""What others may know of scraping: targets for `/api/v1/targets`, counters for `/metrics`."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import StrEnum

from promlike.model.labels import Labels
from promlike.scrape.families import Families


class Health(StrEnum):
    """Did the last scrape work?"""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveTarget:
    """One target that is scraped, as `/api/v1/targets` shows it. `last_scrape_ms` is None before the first scrape.

    Equal `families` are one object.
    """

    discovered_labels: Labels
    labels: Labels
    scrape_pool: str
    scrape_url: str
    global_url: str
    last_error: str
    last_scrape_ms: int | None
    last_scrape_duration_s: float
    health: Health
    scrape_interval_ms: int
    scrape_timeout_ms: int
    families: Families


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedTarget:
    """One target that relabelling dropped."""

    discovered_labels: Labels
    scrape_pool: str


@dataclass(slots=True)
class Durations:
    """Sum and count of measured seconds."""

    seconds: float = 0.0
    count: int = 0

    def add(self, seconds: float) -> None:
        self.seconds += seconds
        self.count += 1


@dataclass(slots=True, kw_only=True)
class ScrapeCounters:
    """What `/metrics` shows under `prometheus_target_*`; the attribute names are those of the metrics without that prefix."""

    scrape_pools_total: int = 0
    scrape_pools_failed_total: int = 0
    scrape_pool_reloads_total: int = 0
    scrape_pool_exceeded_target_limit_total: int = 0
    scrapes_exceeded_body_size_limit_total: int = 0
    scrapes_exceeded_sample_limit_total: int = 0
    scrapes_sample_duplicate_timestamp_total: int = 0
    scrapes_sample_out_of_bounds_total: int = 0
    scrapes_failed_total: int = 0
    samples_total: int = 0
    exemplars_total: int = 0
    exemplars_rejected_total: int = 0
    series_rejected_total: Counter[str] = field(default_factory=Counter)
    """New series the sink refused, by reason."""
    interval_length: defaultdict[str, Durations] = field(default_factory=lambda: defaultdict(Durations))
    """Time between the scrapes of a target, by the interval that was asked for."""
    sync_length: defaultdict[str, Durations] = field(default_factory=lambda: defaultdict(Durations))
    """Time that taking over new targets took, by job."""
    lost_scrapes_total: int = 0
    """Scrapes whose samples the sink could not take."""
