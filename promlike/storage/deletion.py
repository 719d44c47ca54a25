"""Deleting samples by matchers and time: in head, WAL, index and label lists at once, in the store with the next flush.

A deletion is a record in the WAL. Once that is on disk, and before anybody is told, its samples leave the head, and a tombstone hides what
the store has of them, so that a database that is away delays nothing. The next flush carries it out in the store, in the transaction that
also stores the WAL position behind it: a crash before leaves the record to be replayed, a crash after finds everything done.
"""

import asyncio
import logging
from collections.abc import Sequence

import numpy as np

from promlike.model.blocks import Bool, Int32
from promlike.model.matchers import Matcher
from promlike.storage.changes import Changes
from promlike.storage.counters import StorageCounters
from promlike.storage.head import Head
from promlike.storage.head_kernels import MIN_TIME
from promlike.storage.index import SeriesIndex
from promlike.storage.ingest import SERIES_AT_ONCE, Ingest
from promlike.storage.store import Deletion
from promlike.storage.tombstones import Tombstones
from promlike.storage.wal_records import encode_deletion

log = logging.getLogger(__name__)

ALL_TIMES_MS = 2**53
"""A deletion from here before 1970 to here after it is one of everything."""


class Deleter:
    """Runs on the event loop's thread; in recovery, before anything else does, on another."""

    def __init__(
        self, index: SeriesIndex, head: Head, ingest: Ingest, tombstones: Tombstones, changes: Changes, counters: StorageCounters
    ) -> None:
        self._index = index
        self._head = head
        self._ingest = ingest
        self._tombstones = tombstones
        self._changes = changes
        self._counters = counters
        self._replayed: list[Int32] = []
        self.running = 0
        """Deletions on their way through the WAL, which name their series by refs."""

    def find(self, matcher_sets: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int) -> Int32:
        """Ascending refs of the series that satisfy any of the sets and may have samples or exemplars in (start_ms, end_ms].

        Of series that have samples, those exemplars are not looked for that only the store has and that are older or newer than them all.
        """
        parts = [self._index.match(tuple(matchers)) for matchers in matcher_sets]
        refs = np.unique(np.concatenate([np.empty(0, np.int32), *parts]))
        hit = (self._head.newest_ms(refs) > start_ms) & (self._head.first_ms[refs] <= end_ms)
        # What is on its way through the WAL will be in the head before the deletion is.
        hit |= np.isin(refs, self._ingest.in_flight())
        hit |= self._without_samples(refs) | np.isin(refs, self._ingest.exemplars.refs_between(start_ms, end_ms))
        return np.ascontiguousarray(refs[hit])

    async def delete(self, matcher_sets: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int) -> int:
        """Delete what `find` finds; return of how many series. Durable and in force when this returns.

        Raises StorageUnavailable when the WAL cannot take it; nothing is deleted then.
        """
        refs = self.find(matcher_sets, start_ms, end_ms)
        if not len(refs):
            return 0
        deletion = Deletion(refs=refs, start_ms=start_ms, end_ms=end_ms)
        self.running += 1
        try:
            # After a crash the record must find its series under these refs, also those that are only others' so far.
            await self._introduce(refs)
        except BaseException:
            self._end()
            raise
        await self._ingest.logged(encode_deletion(deletion), lambda: self._land(deletion), failed=self._end)
        self._ingest.pressure.set()  # so that the store follows soon
        return len(refs)

    def replay(self, deletion: Deletion) -> None:
        """A deletion found in the WAL. Its series stay in the index until `replayed`, since samples may follow."""
        known = np.ascontiguousarray(deletion.refs[self._index.has(deletion.refs)])
        if len(known) < len(deletion.refs):
            log.error("the WAL has a deletion of %d series that it does not introduce", len(deletion.refs) - len(known))
        self._replayed.append(self._hide(Deletion(refs=known, start_ms=deletion.start_ms, end_ms=deletion.end_ms)))

    def replayed(self) -> None:
        """The WAL is at its end."""
        if self._replayed:
            self._remove_empty(np.unique(np.concatenate(self._replayed)))
        self._replayed = []

    async def _introduce(self, refs: Int32) -> None:
        for low in range(0, len(refs), SERIES_AT_ONCE):
            part = refs[low : low + SERIES_AT_ONCE]
            unknown = part[self._index.alive[part] & ~self._index.ready[part]]
            if len(unknown):
                self._ingest.introduce(unknown)
                await asyncio.sleep(0)

    def _land(self, deletion: Deletion) -> None:
        self._end()
        self._apply(deletion)

    def _end(self) -> None:
        self.running -= 1

    def _apply(self, deletion: Deletion) -> None:
        done = self._hide(deletion)
        # Those that are about to get a sample were not announced to the WAL again: they stay.
        self._remove_empty(np.setdiff1d(done, self._ingest.in_flight()))
        self._counters.deletions += 1
        self._changes.deleted(deletion.refs, deletion.start_ms, deletion.end_ms)

    def _hide(self, deletion: Deletion) -> Int32:
        """Let nobody see what is deleted; refs of the series that need not stay when they have no samples (int32[N], ascending).

        One that never had any stays, unless everything is deleted: it may have exemplars of other times, which only the store knows.
        """
        refs, start_ms, end_ms = deletion.refs, deletion.start_ms, deletion.end_ms
        bare = self._without_samples(refs)
        stored = bare | self._head.may_be_stored(refs, start_ms, end_ms)
        self._head.delete(refs, start_ms, end_ms)
        self._ingest.exemplars.delete(refs, start_ms, end_ms)
        if stored.any():
            self._tombstones.add(Deletion(refs=np.ascontiguousarray(refs[stored]), start_ms=start_ms, end_ms=end_ms))
        return refs if start_ms <= -ALL_TIMES_MS and end_ms >= ALL_TIMES_MS else np.ascontiguousarray(refs[~bare])

    def _without_samples(self, refs: Int32) -> Bool:
        """bool[S]"""
        bare: Bool = self._head.newest_ms(refs) == MIN_TIME
        return bare

    def _remove_empty(self, refs: Int32) -> None:
        """Take those of these series out of the index that have no sample left anywhere."""
        empty = np.ascontiguousarray(refs[self._index.alive[refs] & (self._head.newest_ms(refs) == MIN_TIME)])
        if len(empty):
            self._index.remove(empty)
            self._head.forget_stored(empty)
            self._tombstones.gone.update(empty.tolist())
            self._counters.series_removed += len(empty)
            log.info("%d series have no samples left after a deletion", len(empty))
