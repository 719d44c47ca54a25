"""Retention by time: what is too old leaves store, head and index."""

import asyncio
import logging
from collections.abc import Callable

import numpy as np

from promlike.errors import StorageError
from promlike.model.blocks import Int32
from promlike.storage.counters import StorageCounters
from promlike.storage.flush import Flusher
from promlike.storage.head import Head
from promlike.storage.head_kernels import MIN_TIME
from promlike.storage.index import SeriesIndex
from promlike.storage.ingest import Ingest
from promlike.storage.options import StorageOptions
from promlike.storage.store import Store
from promlike.storage.tiers import TierProgress

log = logging.getLogger(__name__)


class Retention:
    """Deletes what is older than the retention, at every interval. Queries stop seeing it at once, whenever that is."""

    def __init__(
        self,
        options: StorageOptions,
        index: SeriesIndex,
        head: Head,
        store: Store,
        flusher: Flusher,
        ingest: Ingest,
        counters: StorageCounters,
        now_ms: Callable[[], int],
        tiers: TierProgress,
    ) -> None:
        self._options = options
        self._tiers = tiers
        self._index = index
        self._head = head
        self._store = store
        self._flusher = flusher
        self._ingest = ingest
        self._counters = counters
        self._now_ms = now_ms

    def oldest_ms(self) -> int:
        """The oldest time of which samples may be seen."""
        return self._before(self._options.retention_ms)

    def oldest_row_ms(self, resolution_ms: int) -> int:
        """The oldest time of which the rows of a tier may be seen."""
        return self._before(self._options.tier_retention_ms[resolution_ms])

    def oldest_of_all_ms(self) -> int:
        """The oldest time of which anything may be seen."""
        if self._tiers.watermark is None:
            return self.oldest_ms()
        return min(self.oldest_ms(), *map(self.oldest_row_ms, self._options.tier_retention_ms))

    def _before(self, retention_ms: int) -> int:
        return self._now_ms() - retention_ms if retention_ms else -(2**62)

    async def run(self) -> None:
        """Enforce at every interval; a store that is away is asked again next time."""
        while self._options.retention_ms or any(self._options.tier_retention_ms.values()):
            await asyncio.sleep(self._options.retention_interval_ms / 1000)
            try:
                await self.enforce()
            except StorageError as error:
                self._counters.retention_failures += 1
                log.warning("retention failed, next attempt in %.0f s: %s", self._options.retention_interval_ms / 1000, error)

    async def enforce(self) -> None:
        """Delete samples and rows of tiers before their cutoffs, and series that have no others. What is not rolled up yet stays."""
        reached = self._tiers.watermark
        cutoff_ms = self.oldest_ms() if reached is None else min(self.oldest_ms(), reached.upto_ms)
        deleted = await self._store.delete_before(cutoff_ms)
        for resolution_ms in self._options.tier_retention_ms if reached is not None else ():
            await self._store.delete_tier_before(resolution_ms, self.oldest_row_ms(resolution_ms))
        self._counters.retention_runs += 1
        self._counters.retention_deleted += max(deleted, 0)
        await self._flusher.collect_before(cutoff_ms - 1)
        async with self._flusher.paused():
            # First the index: a sample that comes now revives its series and so announces it to the WAL and to the next flush again.
            refs = self._remove_empty(self.oldest_of_all_ms())
            if len(refs):
                await self._store.delete_series(refs)

    def _remove_empty(self, cutoff_ms: int) -> Int32:
        """Take the series out of the index whose samples are all stored and too old; return them."""
        head, n = self._head, self._index.count
        newest_ms = head.newest_ms(slice(n))
        # A series that never had a sample has the least of all times; it may be about to get its first.
        old = (newest_ms < cutoff_ms) & (newest_ms > MIN_TIME)
        old[self._ingest.in_flight()] = False
        refs = np.flatnonzero(self._index.alive[:n] & old & (head.flushed_ms[:n] >= head.last_ms[:n])).astype(np.int32)
        if len(refs):
            self._index.remove(refs)
            head.forget_stored(refs)
            self._counters.series_removed += len(refs)
            log.info("retention removed %d series without samples", len(refs))
        return refs
