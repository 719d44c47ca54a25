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
    ) -> None:
        self._options = options
        self._index = index
        self._head = head
        self._store = store
        self._flusher = flusher
        self._ingest = ingest
        self._counters = counters
        self._now_ms = now_ms

    def oldest_ms(self) -> int:
        """The oldest time that may be seen."""
        return self._now_ms() - self._options.retention_ms if self._options.retention_ms else -(2**62)

    async def run(self) -> None:
        """Enforce at every interval; a store that is away is asked again next time."""
        while self._options.retention_ms:
            await asyncio.sleep(self._options.retention_interval_ms / 1000)
            try:
                await self.enforce()
            except StorageError as error:
                self._counters.retention_failures += 1
                log.warning("retention failed, next attempt in %.0f s: %s", self._options.retention_interval_ms / 1000, error)

    async def enforce(self) -> None:
        """Delete samples before the cutoff, and series that have no others."""
        cutoff_ms = self.oldest_ms()
        deleted = await self._store.delete_before(cutoff_ms)
        self._counters.retention_runs += 1
        self._counters.retention_deleted += max(deleted, 0)
        await self._flusher.collect_before(cutoff_ms - 1)
        async with self._flusher.paused():
            # First the index: a sample that comes now revives its series and so announces it to the WAL and to the next flush again.
            refs = self._remove_empty(cutoff_ms)
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
