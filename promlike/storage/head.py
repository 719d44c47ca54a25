"""The head: recent samples of every series in memory, sorted by time, late samples included.

The chains of blocks with the samples are in `head_chains`, reading them in `head_reader`. Here stands what is known of each series' times,
and what follows for chains and books from an append, a flush, a collection and a deletion. One thread (the event loop's) does all that.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from promlike.errors import StorageUnavailable
from promlike.model.blocks import Bool, Float64, Int32, Int64, SampleBlock
from promlike.storage import head_kernels as kernels
from promlike.storage.access import AppendResult
from promlike.storage.deletion_kernels import delete_from_chains
from promlike.storage.head_chains import BLOCK_BYTES, Chains
from promlike.storage.head_kernels import BLOCK, INSERTED, MIN_TIME, OVERWRITTEN
from promlike.storage.head_reader import HeadReader
from promlike.storage.head_snapshot import HeadSnapshot, LatePart
from promlike.storage.memory import reserve
from promlike.storage.series_labels import MAX_SERIES

MAX_TIME = 2**63 - 1

_SERIES_STEP = 4096


class Head:
    """Samples of all series by ref. `pool_bytes` bounds the address space of the block pool."""

    def __init__(self, *, pool_bytes: int, threads: int = 2) -> None:
        self._chains = Chains(blocks=max(pool_bytes // BLOCK_BYTES, 1024), series=MAX_SERIES)
        self.last_ms = cast(Int64, reserve((MAX_SERIES,), np.int64))
        """The newest time that each series ever had, stored or not: what is not after it is late. See also `newest_ms`."""
        self._cut_at_ms = cast(Int64, reserve((MAX_SERIES,), np.int64))
        self._cut_to_ms = cast(Int64, reserve((MAX_SERIES,), np.int64))
        """What a deletion left as the newest time of a series (MIN_TIME: nothing), for as long as `last_ms` is `_cut_at_ms`."""
        self.first_ms = cast(Int64, reserve((MAX_SERIES,), np.int64))
        """A time at or before the oldest of each series, stored or not."""
        self.covered_ms = cast(Int64, reserve((MAX_SERIES,), np.int64))
        """After this time the head holds everything of a series."""
        self.flushed_ms = cast(Int64, reserve((MAX_SERIES,), np.int64))
        """The newest stored time of each series."""
        self.stored_from_ms = cast(Int64, reserve((MAX_SERIES,), np.int64))
        """A time at or before the oldest stored one of each series."""
        self.late_from_ms = cast(Int64, reserve((MAX_SERIES,), np.int64))
        """The oldest late sample of each series that the tiers of the store do not know of."""
        self._flushing_ms = cast(Int64, reserve((MAX_SERIES,), np.int64))
        self._series = 0
        self._prepared = 0
        self._late: list[LatePart] = []
        self._lent: list[LatePart] = []
        """The late samples of the snapshot that is being stored, to have them again if that fails."""
        self._pinned = cast("NDArray[np.uint8]", reserve((MAX_SERIES,), np.uint8))
        """Series with late samples that the store has not: their blocks must stay, or queries would see the old values meanwhile."""
        self.reader = HeadReader(self._chains, self.covered_ms, threads)
        """Reads the samples, from any thread."""
        self.unflushed = 0
        """Samples appended since the last flush that was stored, late ones included."""

    def close(self) -> None:
        self.reader.close()

    @property
    def series(self) -> int:
        return self._series

    @property
    def deletions(self) -> int:
        """How many deletions there were; rises before one changes anything."""
        return self._chains.deletions

    @property
    def used_bytes(self) -> int:
        """Bytes of blocks in use, or waiting for a reader to let go of them."""
        return self.used_blocks * BLOCK_BYTES

    @property
    def used_blocks(self) -> int:
        return self._chains.used_blocks

    def add_series(self, ref: int) -> None:
        """Make room for a ref; refs of a gap below it become empty series."""
        if ref >= MAX_SERIES:
            raise StorageUnavailable(f"series ref {ref} is over the limit of {MAX_SERIES} series")
        if ref >= self._prepared:
            low, high = self._prepared, min((ref // _SERIES_STEP + 1) * _SERIES_STEP, MAX_SERIES)
            for column, empty in self._columns():
                column[low:high] = empty
            self._prepared = high
        self._series = max(self._series, ref + 1)

    def _columns(self) -> tuple[tuple[Int64, int], ...]:
        """The books that have an entry for every ref, and what they say of one that was never used."""
        return (
            (self.last_ms, MIN_TIME),
            (self._cut_at_ms, MAX_TIME),
            (self.first_ms, MAX_TIME),
            (self.covered_ms, MIN_TIME),
            (self.flushed_ms, MIN_TIME),
            (self.stored_from_ms, MAX_TIME),
            (self.late_from_ms, MAX_TIME),
            (self._flushing_ms, MIN_TIME),
        )

    def widen_stored(self, refs: Int32, from_ms: Int64, to_ms: Int64) -> None:
        """What the store holds of these series, from before this process or from other writers: `int64[S]` first and last times.

        Not while something is being flushed. Where samples here wait for a flush, only reading goes by it; elsewhere the books say from now
        on that the store has everything up to the last time.
        """
        self.stored_from_ms[refs] = np.minimum(self.stored_from_ms[refs], from_ms)
        self.first_ms[refs] = np.minimum(self.first_ms[refs], from_ms)
        self.covered_ms[refs] = np.maximum(self.covered_ms[refs], to_ms)
        self._cut_to_ms[refs] = np.maximum(self._cut_to_ms[refs], to_ms)
        settled = self.last_ms[refs] <= self.flushed_ms[refs]
        refs, to_ms = refs[settled], to_ms[settled]
        for column in (self.last_ms, self.flushed_ms, self._flushing_ms):
            column[refs] = np.maximum(column[refs], to_ms)

    def take_stored(self, refs: Int32, samples: SampleBlock, after_ms: int) -> None:
        """Everything that the store has after `after_ms` of series that `widen_stored` told of and that have no samples here."""
        unflushed = self.unflushed
        last_ms = self.last_ms[refs]
        self.last_ms[refs] = MIN_TIME  # nothing of this is late
        self.append(np.repeat(refs, np.diff(samples.offsets)), samples.ts_ms, samples.values)
        self.last_ms[refs] = last_ms
        self.covered_ms[refs] = np.minimum(self.covered_ms[refs], after_ms)
        self.unflushed = unflushed

    def bytes_for(self, series: int, samples: int) -> int:
        """What so many series with so many samples in all take at most."""
        return (series + samples // BLOCK) * BLOCK_BYTES

    def forget_stored(self, refs: Int32) -> None:
        """The store has nothing of the series `refs int32[S]` any more, and so has the head from now on; their newest time stays known.

        What is appended later begins a new block, and with that `first_ms`.
        """
        self.outdate_reads()
        self._empty(refs)
        self.stored_from_ms[refs] = MAX_TIME
        self.first_ms[refs] = MAX_TIME

    def raise_stored(self, refs: Int32, from_ms: int) -> None:
        """The store has no samples of the series `refs int32[S]` before this time any more."""
        self.stored_from_ms[refs] = np.maximum(self.stored_from_ms[refs], from_ms)

    def append(self, refs: Int32, ts_ms: Int64, values: Float64) -> AppendResult:
        """Take samples (int32[N], int64[N], float64[N], any order). Raises StorageUnavailable when the pool is full."""
        chains = self._chains
        chains.check_room(len(refs))
        bits = values.view(np.int64)
        late = np.empty(len(refs), np.int64)
        found = kernels.append(
            refs,
            ts_ms,
            bits,
            chains.deltas,
            chains.bits,
            chains.links,
            chains.work,
            self.last_ms,
            self.first_ms,
            chains.free,
            chains.pool,
            late,
        )
        chains.publish(refs)
        self.unflushed += len(refs) - found
        if not found:
            return AppendResult(appended=len(refs))
        rows = late[:found]
        outcome = self._insert(refs[rows], ts_ms[rows], bits[rows])
        inserted = int((outcome == INSERTED).sum())
        overwritten = int((outcome == OVERWRITTEN).sum())
        self.unflushed += inserted
        return AppendResult(
            appended=len(refs) - found + inserted,
            duplicates=found - inserted - overwritten,
            overwritten=overwritten,
        )

    def check_room(self, samples: int) -> None:
        """Raise StorageUnavailable when this many samples may not fit."""
        self._chains.check_room(samples)

    def _insert(self, refs: Int32, ts_ms: Int64, bits: Int64) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
        """Put late samples into their chains, last write wins; remember those that the store may already have been given."""
        chains = self._chains
        outcome = np.empty(len(refs), np.int8)
        with chains.changing(refs):
            kernels.insert(
                refs,
                ts_ms,
                bits,
                chains.deltas,
                chains.bits,
                chains.links,
                chains.work,
                self.first_ms,
                chains.free,
                chains.pool,
                outcome,
            )
            chains.publish(refs)
        np.maximum.at(self._cut_to_ms, refs, ts_ms)
        self.note_late(refs, ts_ms)
        stored = (outcome != kernels.DUPLICATE) & (ts_ms <= self._flushing_ms[refs])
        if stored.any():
            self._late.append((refs[stored], ts_ms[stored], bits[stored]))
            self._pinned[refs[stored]] = 1
        return outcome

    def note_late(self, refs: Int32, ts_ms: Int64) -> None:
        """Samples of the series `refs int32[N]` came, or went, at these times, int64[N]: tiers that have these times are wrong there."""
        np.minimum.at(self.late_from_ms, refs, ts_ms)

    def settle_late(self) -> None:
        """The tiers know of every late sample that was flushed."""
        self.late_from_ms[: self._series] = MAX_TIME
        for refs, ts_ms, _ in (*self._late, *self._lent):
            self.note_late(refs, ts_ms)

    def snapshot(self) -> HeadSnapshot:
        """Fix what a flush has to store; then call `flushed` or `not_flushed`. Samples that come later belong to the next flush."""
        series = self._series
        flushed = self.flushed_ms[:series].copy()
        self._flushing_ms[:series] = self.last_ms[:series]
        self._lent, self._late = self._late, []
        return HeadSnapshot(
            series=series,
            flushed_ms=flushed,
            upto_ms=self._flushing_ms[:series].copy(),
            late_parts=list(self._lent),
            unflushed=self.unflushed,
        )

    def flushed(self, snapshot: HeadSnapshot) -> None:
        """The snapshot is in the store."""
        n = snapshot.series
        added = snapshot.upto_ms > snapshot.flushed_ms
        # first_ms is at or before what was stored now, which is all that stored_from_ms promises.
        self.stored_from_ms[:n][added] = np.minimum(self.stored_from_ms[:n], self.first_ms[:n])[added]
        self.flushed_ms[:n] = snapshot.upto_ms
        for refs, ts_ms, _ in snapshot.late_parts:
            np.minimum.at(self.stored_from_ms, refs, ts_ms)
            self._pinned[refs] = 0
        for refs, _, _ in self._late:
            self._pinned[refs] = 1
        self._lent = []
        self.unflushed -= snapshot.unflushed

    def not_flushed(self) -> None:
        """The last snapshot could not be stored: its late samples wait for the next flush, before newer ones."""
        self._lent, self._late = [], self._lent + self._late

    def collect(self, ref_from: int, ref_to: int, cutoff_ms: int) -> int:
        """Drop the blocks of refs in [ref_from, ref_to) whose samples are all stored and <= cutoff; returns how many blocks."""
        cuts = np.empty(ref_to - ref_from, np.int64)
        chains = self._chains
        blocks = (chains.deltas, chains.links)
        if not kernels.find_cuts(ref_from, ref_to, cutoff_ms, self.flushed_ms, chains.work, self._pinned, *blocks, cuts):
            return 0
        changed = (ref_from + np.flatnonzero(cuts >= 0)).astype(np.int32)
        freed = np.empty(int(chains.pool[0]), np.int32)
        with chains.changing(changed):
            count = kernels.cut_chains(ref_from, ref_to, cuts, chains.work, self.covered_ms, *blocks, freed)
            chains.publish(changed)
        chains.retire(freed[:count].copy())
        return count

    def late_refs(self) -> Int32:
        """Series of late samples that the store does not have yet, some twice: int32[N]."""
        return np.concatenate([np.empty(0, np.int32), *(part[0] for part in (*self._late, *self._lent))])

    def outdate_reads(self) -> None:
        """Whoever reads now, or counted what to read, is to begin again, as after a deletion."""
        self._chains.deletions += 1

    def vacate(self, refs: Int32) -> None:
        """Nobody has the refs `refs int32[S]` any more: they are as if they had never been used. After `outdate_reads`."""
        self._empty(refs)
        for column, empty in self._columns():
            column[refs] = empty
        self._cut_to_ms[refs] = 0

    def _empty(self, refs: Int32) -> None:
        """Take all blocks of the series `refs int32[S]`, of which no sample waits for a flush."""
        chains = self._chains
        freed = np.empty(int(chains.pool[0]), np.int32)
        arrays = (chains.deltas, chains.bits, chains.links, chains.work)
        with chains.changing(refs):
            count, _ = delete_from_chains(refs, MIN_TIME, MAX_TIME, self._flushing_ms, *arrays, freed, np.empty(len(refs), np.int64))
            chains.publish(refs)
        chains.retire(freed[:count].copy())

    def newest_ms(self, refs: Int32 | slice) -> Int64:
        """The newest time that each of these series may have, int64[S]; MIN_TIME when it surely has no sample."""
        last_ms = self.last_ms[refs]
        return np.where(self._cut_at_ms[refs] == last_ms, self._cut_to_ms[refs], last_ms)

    def may_be_stored(self, refs: Int32, start_ms: int, end_ms: int) -> Bool:
        """Which of the series (bool[S]) may have samples in (start, end] in the store, or in a snapshot that is on its way there."""
        return (self._flushing_ms[refs] > start_ms) & (self.first_ms[refs] <= end_ms)

    def delete(self, refs: Int32, start_ms: int, end_ms: int) -> None:
        """Take away the samples of `refs int32[S]`, each standing there once, in (start, end]. The store is somebody else's concern."""
        chains = self._chains
        chains.deletions += 1
        self.note_late(refs, np.full(len(refs), start_ms + 1))
        newest_left = np.empty(len(refs), np.int64)
        freed = np.empty(int(chains.pool[0]), np.int32)
        arrays = (chains.deltas, chains.bits, chains.links, chains.work)
        with chains.changing(refs):
            blocks, removed = delete_from_chains(refs, start_ms, end_ms, self._flushing_ms, *arrays, freed, newest_left)
            chains.publish(refs)
        chains.retire(freed[:blocks].copy())
        self._narrow(refs, start_ms, end_ms, newest_left)
        self.unflushed -= removed
        self._late = [_outside(part, refs, start_ms, end_ms) for part in self._late]
        self._lent = [_outside(part, refs, start_ms, end_ms) for part in self._lent]
        self._pinned[refs] = 0
        for part in (*self._late, *self._lent):
            self._pinned[part[0]] = 1

    def _narrow(self, refs: Int32, start_ms: int, end_ms: int, newest_left: Int64) -> None:
        """Bring the bounds of series in after a deletion that left `newest_left int64[S]` in their chains."""
        first, newest = self.first_ms[refs], self.newest_ms(refs)
        older = np.minimum(start_ms, self.covered_ms[refs])  # up to here the store may have more than the chains
        left = np.maximum(newest_left, np.where(first <= older, older, MIN_TIME))
        ended = refs[(newest > start_ms) & (newest <= end_ms)]
        self._cut_to_ms[ended] = left[(newest > start_ms) & (newest <= end_ms)]
        self._cut_at_ms[ended] = self.last_ms[ended]
        self.first_ms[refs[(first > start_ms) & (first <= end_ms)]] = end_ms + 1


def _outside(part: LatePart, refs: Int32, start_ms: int, end_ms: int) -> LatePart:
    """Late samples without those of `refs int32[S]` in (start, end]."""
    part_refs, ts_ms, bits = part
    keep = (ts_ms <= start_ms) | (ts_ms > end_ms) | ~np.isin(part_refs, refs)
    return part_refs[keep], ts_ms[keep], bits[keep]
