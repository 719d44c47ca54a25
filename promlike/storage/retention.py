"""Retention: what is too old, or too much, leaves store, head and index."""

import asyncio
import logging
from collections.abc import Callable

import numpy as np

from promlike.errors import StorageError
from promlike.model.blocks import Int32, Int64
from promlike.model.tiers import COARSEST_MS, floor_ms
from promlike.storage.counters import StorageCounters
from promlike.storage.flush import Flusher
from promlike.storage.head import Head
from promlike.storage.head_kernels import MIN_TIME
from promlike.storage.index import SeriesIndex
from promlike.storage.ingest import Ingest
from promlike.storage.keep import ENDLESS_MS, Keep
from promlike.storage.options import StorageOptions
from promlike.storage.reclaim import Reclaimer
from promlike.storage.store import Deletion, Store
from promlike.storage.tiers import TierProgress
from promlike.storage.tombstones import Tombstones
from promlike.storage.wal import WalCommitter

log = logging.getLogger(__name__)

SIZE_STEP_MS = 3_600_000
"""Retention by size deletes whole hours."""


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
        wal: WalCommitter,
        keep: Keep,
        counters: StorageCounters,
        now_ms: Callable[[], int],
        tiers: TierProgress,
        tombstones: Tombstones,
        reclaimer: Reclaimer,
    ) -> None:
        self._options = options
        self._tiers = tiers
        self._tombstones = tombstones
        self._reclaimer = reclaimer
        self._index = index
        self._head = head
        self._store = store
        self._flusher = flusher
        self._ingest = ingest
        self._wal = wal
        self._keep = keep
        self._counters = counters
        self._now_ms = now_ms
        self._marked_ms = ENDLESS_MS

    def oldest_ms(self) -> int:
        """The oldest time of which samples of any series may be seen."""
        return self._keep.oldest_ms()

    def oldest_of_samples(self, refs: Int32) -> Int64:
        """The oldest time of which the samples of each of `refs int32[S]` are surely there: int64[S]."""
        return self._keep.oldest_of(refs)

    def oldest_row_ms(self, resolution_ms: int) -> int:
        """The oldest time of which the rows of a tier may be seen."""
        retention_ms = self._options.tier_retention_ms[resolution_ms]
        return self._now_ms() - retention_ms if retention_ms else -ENDLESS_MS

    def oldest_of_all_ms(self) -> int:
        """The oldest time of which anything may be seen."""
        if self._tiers.watermark is None:
            return self._keep.oldest_ms()
        return min(self._keep.oldest_ms(), *map(self.oldest_row_ms, self._options.tier_retention_ms))

    def oldest_of(self, count: int) -> int | Int64:
        """The oldest time of which anything may be seen of each of the first `count` series, or one for all of them."""
        rows_ms = self.oldest_of_all_ms()
        if self._keep.is_uniform:
            return rows_ms
        kept_ms = self._keep.oldest_of(slice(count))
        return kept_ms if self._tiers.watermark is None else np.minimum(kept_ms, rows_ms)

    async def run(self) -> None:
        """Enforce at every interval; a store that is away is asked again next time."""
        while True:
            await asyncio.sleep(self._options.retention_interval_ms / 1000)
            try:
                await self.enforce()
            except StorageError as error:
                self._counters.retention_failures += 1
                log.warning("retention failed, next attempt in %.0f s: %s", self._options.retention_interval_ms / 1000, error)

    async def enforce(self) -> None:
        """Delete samples that are too old, then the oldest ones beyond the allowed bytes, rows of tiers, and series that have nothing left.

        Samples that are not rolled up yet stay.
        """
        self._counters.retention_runs += 1
        await self._look_for_marks()
        await self._delete_before(self._rolled_up(self._keep.oldest_ms()))
        await self._delete_of_some()
        await self._delete_surplus()
        for resolution_ms in self._options.tier_retention_ms if self._tiers.watermark is not None else ():
            await self._store.delete_tier_before(resolution_ms, self.oldest_row_ms(resolution_ms))
        async with self._flusher.paused():
            # First the index: a sample that comes now revives its series and so announces it to the WAL and to the next flush again.
            self._remove_empty()
            refs = self._stored_still()
            if len(refs):
                await self._store.delete_series(refs)
                self._index.store_forgot(refs)
        await self._reclaimer.reclaim()

    async def _look_for_marks(self) -> None:
        """Learn since when tiers lack something of what came late."""
        marks = await self._store.load_marks(1)
        self._marked_ms = floor_ms(int(marks.start_ms[0]), COARSEST_MS) if len(marks) else ENDLESS_MS

    def _rolled_up(self, cutoff_ms: int) -> int:
        """The cutoff, or until when tiers have everything, where they do not reach it yet."""
        reached = self._tiers.watermark
        return cutoff_ms if reached is None else min(cutoff_ms, reached.upto_ms, self._marked_ms)

    async def _delete_before(self, cutoff_ms: int) -> None:
        deleted = await self._store.delete_before(cutoff_ms)
        self._counters.retention_deleted += max(deleted, 0)
        await self._flusher.collect_before(cutoff_ms - 1)

    async def _delete_of_some(self) -> None:
        """Delete what is too old of the series that are kept less long than others.

        Whole days at a time, as stores keep them: so there is something to do once a day, and databases drop what they compressed as one.
        """
        deletions = []
        step_ms = self._options.retention_step_ms
        for oldest_ms, refs in self._keep.groups():
            cutoff_ms = self._rolled_up(oldest_ms) // step_ms * step_ms
            old = refs[self._head.stored_from_ms[refs] < cutoff_ms]
            if len(old):
                deletions.append(Deletion(refs=old, start_ms=-ENDLESS_MS, end_ms=cutoff_ms - 1))
        if deletions:
            async with self._flusher.paused():
                await self._store.delete_samples(deletions, expired=True)
                for deletion in deletions:
                    self._head.raise_stored(deletion.refs, deletion.end_ms + 1)

    async def _delete_surplus(self) -> None:
        """Delete the oldest samples until store and WAL are no larger than allowed."""
        allowed = self._keep.options.max_bytes
        stats = await self._store.stats() if allowed else None
        while stats is not None and stats.min_time_ms is not None and stats.max_time_ms is not None:
            used = stats.bytes - stats.free_bytes
            surplus = used + self._wal.disk_bytes - allowed
            if surplus <= 0:
                return
            first_ms = max(stats.min_time_ms, self._keep.oldest_ms())
            share_ms = (stats.max_time_ms - first_ms) * min(surplus, used) // max(used, 1)
            wanted_ms = (first_ms + share_ms) // SIZE_STEP_MS * SIZE_STEP_MS + SIZE_STEP_MS
            cutoff_ms = self._rolled_up(wanted_ms) if self._tiers.watermark is not None else first_ms
            if wanted_ms > stats.max_time_ms or cutoff_ms <= first_ms:
                why = (
                    "there are no older samples to delete" if wanted_ms > stats.max_time_ms else "the oldest samples are not rolled up yet"
                )
                log.warning("retention by size: %d bytes are %d too many, but %s", used, surplus, why)
                return
            self._keep.forget_before(cutoff_ms)
            await self._delete_before(cutoff_ms)
            self._counters.size_retentions += 1
            stats = await self._store.stats()

    def _stored_still(self) -> Int32:
        """Series that left the index, now or before, but not the store; those that a deletion removed go with a flush."""
        removed = self._index.removed()
        stored = ~self._index.forgotten[: self._index.count]
        stored[np.fromiter(self._tombstones.gone, np.int32, len(self._tombstones.gone))] = False
        return np.ascontiguousarray(removed[stored[removed]])

    def _remove_empty(self) -> None:
        """Take the series out of the index whose samples are all stored and too old."""
        head, n = self._head, self._index.count
        newest_ms = head.newest_ms(slice(n))
        # A series that never had a sample has the least of all times; it may be about to get its first.
        old = (newest_ms < self.oldest_of(n)) & (newest_ms > MIN_TIME)
        old[self._ingest.in_flight()] = False
        old[head.late_refs()] = False
        for refs in self._ingest.exemplars.all_refs():  # the next flush gives the store exemplars of these
            old[refs] = False
        refs = np.flatnonzero(self._index.alive[:n] & old & (head.flushed_ms[:n] >= head.last_ms[:n])).astype(np.int32)
        if len(refs):
            self._index.remove(refs)
            head.forget_stored(refs)
            self._counters.series_removed += len(refs)
            log.info("retention removed %d series without samples", len(refs))
