"""What is not taken: times outside of what is kept, and names that no store could look up."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from promlike.errors import RejectReason
from promlike.model.blocks import Bool, Int64

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MOST_METRIC_BYTES = 2048
"""PostgreSQL's indexes take texts of some 2,700 bytes. One longer name would make every flush fail."""


def is_too_long(metric: str) -> bool:
    """Has the name of a metric more than `MOST_METRIC_BYTES`?"""
    return 4 * len(metric) > MOST_METRIC_BYTES and len(metric.encode()) > MOST_METRIC_BYTES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TimeLimits:
    """The times that are taken, both included; `oldest_ms` may be one for each of N samples, int64[N]."""

    oldest_ms: int | Int64
    newest_ms: int

    def outside(self, ts_ms: Int64, rejected: Counter[RejectReason]) -> Bool | None:
        """Which of the times int64[N] are not taken, N > 0, counted by reason; None when all are."""
        if ts_ms.min() >= np.max(self.oldest_ms) and ts_ms.max() <= self.newest_ms:
            return None
        old, ahead = ts_ms < self.oldest_ms, ts_ms > self.newest_ms
        if not (old.any() or ahead.any()):
            return None
        rejected[RejectReason.TOO_OLD] += int(old.sum())
        rejected[RejectReason.TOO_FAR_IN_FUTURE] += int(ahead.sum())
        outside: Bool = old | ahead
        return outside


def utc_text(ms: int) -> str:
    """A time for messages; what no calendar has is given as milliseconds."""
    try:
        return (EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    except OverflowError:
        return f"{ms} ms"
