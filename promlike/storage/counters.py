"""What storage counts about itself; `/metrics` and the status endpoints read these."""

from collections import Counter
from dataclasses import dataclass, field

from promlike.errors import RejectReason


@dataclass(slots=True, kw_only=True)
class StorageCounters:
    """Totals since the start, written on the event loop's thread."""

    samples_appended: int = 0
    samples_duplicate: int = 0
    samples_overwritten: int = 0
    samples_refused: int = 0
    samples_rejected: Counter[RejectReason] = field(default_factory=Counter)
    exemplars_appended: int = 0
    exemplars_duplicate: int = 0
    exemplars_dropped: int = 0
    exemplars_rejected: Counter[RejectReason] = field(default_factory=Counter)
    series_created: int = 0
    series_removed: int = 0
    series_forgotten: int = 0
    series_rejected: Counter[RejectReason] = field(default_factory=Counter)
    deletions: int = 0
    partial_selections: int = 0
    wal_replayed_records: int = 0
    wal_torn_bytes: int = 0
    wal_corruptions: int = 0
    wal_segments_dropped: int = 0
    replay_unknown_samples: int = 0
    replay_unknown_exemplars: int = 0
    flushes: int = 0
    flush_failures: int = 0
    flush_samples: int = 0
    flush_seconds: float = 0.0
    last_flush_seconds: float = 0.0
    head_blocks_collected: int = 0
    rollup_samples: int = 0
    rollup_rows: int = 0
    rollup_marks: int = 0
    rollup_seconds: float = 0.0
    rollup_failures: int = 0
    retention_runs: int = 0
    size_retentions: int = 0
    retention_failures: int = 0
    retention_deleted: int = 0
    view_failures: int = 0
    views_refreshed: int = 0
