"""What storage holds and how it is, in numbers, for `/metrics` and the status endpoints; what happened is in `counters`."""

import numpy as np

from promlike.model.labels import Labels
from promlike.storage.flush import Flusher
from promlike.storage.head import Head
from promlike.storage.index import SeriesIndex
from promlike.storage.ingest import Ingest
from promlike.storage.retention import Retention
from promlike.storage.tiers import TierProgress
from promlike.storage.wal import WalCommitter, WalWriter


class Gauges:
    """Read on the event loop's thread."""

    def __init__(
        self,
        *,
        index: SeriesIndex,
        head: Head,
        ingest: Ingest,
        flusher: Flusher,
        retention: Retention,
        tiers: TierProgress,
        wal: WalCommitter,
        writer: WalWriter,
    ) -> None:
        self._index = index
        self._head = head
        self._ingest = ingest
        self._flusher = flusher
        self._retention = retention
        self._tiers = tiers
        self._wal = wal
        self._writer = writer

    @property
    def newest_series(self) -> Labels:
        """Of the living ones; without labels when there is none."""
        living = np.flatnonzero(self._index.alive[: self._index.count])
        return self._index.labels_of(int(living[-1])) if len(living) else ()

    @property
    def head_series(self) -> int:
        """Living series."""
        return self._index.living

    @property
    def head_bytes(self) -> int:
        """Bytes of sample blocks in memory."""
        return self._head.used_bytes

    @property
    def head_blocks(self) -> int:
        """Blocks of samples in memory."""
        return self._head.used_blocks

    @property
    def flush_problem(self) -> str:
        """Why the last flush failed; empty when it did not."""
        return self._flusher.problem

    @property
    def rolled_up_ms(self) -> int | None:
        """Up to when the rollup tiers reach, None before anything is rolled up."""
        watermark = self._tiers.watermark
        return None if watermark is None else watermark.upto_ms

    @property
    def unflushed_samples(self) -> int:
        return self._head.unflushed

    @property
    def wal_fsyncs(self) -> int:
        return self._writer.syncs

    @property
    def wal_bytes_written(self) -> int:
        return self._wal.bytes_written

    @property
    def wal_write_failures(self) -> int:
        return self._wal.failures

    @property
    def wal_pending_bytes(self) -> int:
        return self._wal.pending_bytes

    @property
    def wal_disk_bytes(self) -> int:
        """Size of the WAL's files."""
        return self._wal.disk_bytes

    @property
    def min_time_ms(self) -> int | None:
        """The oldest time a living series may have, None without samples."""
        first = self._head.first_ms[: self._index.count][self._index.alive[: self._index.count]]
        return max(int(first.min()), self._retention.oldest_of_all_ms()) if len(first) and first.min() < 2**63 - 1 else None

    @property
    def max_time_ms(self) -> int | None:
        """The newest time any living series has, None without samples."""
        last = self._head.newest_ms(slice(self._index.count))[self._index.alive[: self._index.count]]
        return int(last.max()) if len(last) and last.max() > -(2**63) else None

    def series_between(self, start_ms: int, end_ms: int) -> int:
        """How many living series have samples, or a gap, in [start_ms, end_ms]."""
        living = np.flatnonzero(self._index.alive[: self._index.count]).astype(np.int32)
        return int(np.count_nonzero((self._head.first_ms[living] <= end_ms) & (self._head.newest_ms(living) >= start_ms)))

    def series_per_metric(self, limit: int) -> list[tuple[str, int]]:
        """The metrics with the most series."""
        return [(self._index.symbols.text(symbol), count) for symbol, count in self._index.series_per_metric.most_common(limit)]

    @property
    def unflushed_exemplars(self) -> tuple[int, int]:
        """How many exemplars wait for a flush, and of how many series."""
        return len(self._ingest.exemplars), self._ingest.exemplars.series

    @property
    def last_exemplar_ms(self) -> int:
        """The newest time of an exemplar since the start, 0 without any."""
        return self._ingest.last_exemplar_ms
