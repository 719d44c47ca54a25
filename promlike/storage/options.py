"""What storage can be told."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageOptions:
    """Where samples live and for how long. Zero turns a limit off.

    `head_window_ms`: what the head always keeps in memory; beyond that it keeps what fits into `head_cache_bytes`.
    `flush_max_samples`: a flush starts early when this many samples wait for one. `follow_interval_ms`: how often to look for what other
    daemons wrote into the same database. `tier_retention_ms`: how long the rows of each rollup tier are kept, by its resolution.
    `future_limit_ms`: samples further ahead of the clock are rejected. `wal_pending_bytes`: above this much not yet on disk, appends are
    refused as overload. `wal_max_bytes`: so large the WAL may become while the store does not take what is in it; then appends are refused.
    `max_exemplars`: as many may wait for a flush, and as many a query may get; 0 keeps none at all. `start_timeout_ms`: how long `open`
    waits for a store that is away.
    """

    data_dir: Path
    head_window_ms: int = 3 * HOUR_MS
    flush_interval_ms: int = 600_000
    flush_max_samples: int = 16_000_000
    follow_interval_ms: int = 60_000
    retention_ms: int = 15 * DAY_MS
    tier_retention_ms: Mapping[int, int] = field(default_factory=lambda: {300_000: 90 * DAY_MS, HOUR_MS: 730 * DAY_MS})
    retention_bytes: int = 0
    retention_interval_ms: int = HOUR_MS
    retention_step_ms: int = 24 * HOUR_MS
    upkeep_interval_ms: int = 900_000
    future_limit_ms: int = 600_000
    head_cache_bytes: int = 256 << 20
    head_max_bytes: int = 0
    wal_segment_bytes: int = 64 << 20
    wal_pending_bytes: int = 64 << 20
    wal_max_bytes: int = 0
    max_exemplars: int = 100_000
    start_timeout_ms: int = 0
    max_series: int = 0
    max_series_per_metric: int = 0

    @property
    def segment_bytes(self) -> int:
        """The size of a segment of the WAL: several must fit into each limit, as only whole ones are dropped."""
        limits = [limit // 8 for limit in (self.wal_max_bytes, self.retention_bytes) if limit]
        return min([self.wal_segment_bytes, *limits])

    @property
    def pool_bytes(self) -> int:
        """The most that the head may take: `head_max_bytes`, else three quarters of the machine's memory."""
        return self.head_max_bytes or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the database may let us wait, in seconds: for a connection, for one statement, for a lock."""

    connect_s: float = 10.0
    statement_s: float = 60.0
    lock_s: float = 10.0
