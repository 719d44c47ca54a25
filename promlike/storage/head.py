"""The head: recent samples of every series in memory, sorted by time, late samples included.

One thread (the event loop's) writes; any thread reads without a lock. A reader copies the packed word of each series and is then
unaffected by appends. What changes a chain other than at its end (a late sample, collection of old blocks) first makes the version of the
series odd and afterwards even again; a reader whose versions changed reads again. Collected blocks are reused only when every reader that
may still walk them has finished.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from promlike.errors import StorageUnavailable
from promlike.model.blocks import Bool, Float64, Int32, Int64, SampleBlock, StepGrid
from promlike.model.threads import worker_pool
from promlike.storage import head_kernels as kernels
from promlike.storage.deletion_kernels import delete_from_chains
from promlike.storage.head_kernels import BLOCK, INSERTED, MIN_TIME, OVERWRITTEN
from promlike.storage.head_snapshot import HeadSnapshot, LatePart
from promlike.storage.memory import reserve
from promlike.storage.store import AppendResult

BLOCK_BYTES = BLOCK * 12 + 32
MAX_TIME = 2**63 - 1
MAX_SERIES = 1 << 27
PARALLEL_SAMPLES = 400_000
"""Below this many samples one thread is faster than handing out parts."""
THINNED = 2
"""With more samples than so many a series and instant, looking the needed ones up is cheaper than copying all."""
MOST_ATTEMPTS = 1_000_000
SAMPLED = 64
"""Series that are counted to find that out."""
PICKED_AT_ONCE = 250_000
"""Cells of a part of a thinned read, which bounds what it takes beside its result."""

_SERIES_STEP = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadRead:
    """What the head holds of S series in a range, and from where on (exclusive) that is everything: `covered_ms int64[S]`."""

    samples: SampleBlock
    covered_ms: Int64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadCount:
    """The samples that `refs int32[S]` had between the bounds at one moment: how many (`counts int64[S]`), and from where on (exclusive)
    that is everything (`covered_ms int64[S]`); with what it takes to read them later. `deletions`: how many there had been before.
    """

    refs: Int32
    heads: Int64
    versions: Int64
    counts: Int64
    covered_ms: Int64
    bounds: tuple[Int64, Int64]
    deletions: int

    def take(self, rows: Bool | slice) -> "HeadCount":
        """Some of the series."""
        return HeadCount(
            refs=np.ascontiguousarray(self.refs[rows]),
            heads=np.ascontiguousarray(self.heads[rows]),
            versions=self.versions[rows],
            counts=self.counts[rows],
            covered_ms=self.covered_ms[rows],
            bounds=self.bounds,
            deletions=self.deletions,
        )


class Head:
    """Samples of all series by ref. `pool_bytes` bounds the address space of the block pool."""

    def __init__(self, *, pool_bytes: int, threads: int = 2) -> None:
        blocks = max(pool_bytes // BLOCK_BYTES, 1024)
        self._capacity = blocks
        self._deltas = cast(Int32, reserve((blocks, BLOCK), np.int32, huge_pages=True))
        self._bits = cast(Int64, reserve((blocks, BLOCK), np.int64, huge_pages=True))
        self._links = cast(Int64, reserve((blocks, 4), np.int64))
        self._free = cast(Int32, reserve((blocks,), np.int32))
        self._pool = np.zeros(2, np.int64)
        self._work = cast(Int64, reserve((MAX_SERIES,), np.int64))
        self._published = cast(Int64, reserve((MAX_SERIES,), np.int64))
        self._version = cast(Int64, reserve((MAX_SERIES,), np.int64))
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
        self._readers: dict[int, int] = {}
        self._reader_ids = iter(range(2**62))
        self._epoch = 0
        self._limbo: list[tuple[int, Int32]] = []
        self._threads = threads
        self._executor = worker_pool(threads, "head")
        self.deletions = 0
        """How many deletions there were; rises before one changes anything."""
        self.unflushed = 0
        """Samples appended since the last flush that was stored, late ones included."""

    def close(self) -> None:
        self._executor.shutdown(wait=True)

    @property
    def series(self) -> int:
        return self._series

    @property
    def used_bytes(self) -> int:
        """Bytes of blocks in use, or waiting for a reader to let go of them."""
        return self.used_blocks * BLOCK_BYTES

    @property
    def used_blocks(self) -> int:
        return int(self._pool[0] - self._pool[1])

    def add_series(self, ref: int) -> None:
        """Make room for a ref; refs of a gap below it become empty series."""
        if ref >= MAX_SERIES:
            raise StorageUnavailable(f"series ref {ref} is over the limit of {MAX_SERIES} series")
        if ref >= self._prepared:
            low, high = self._prepared, min((ref // _SERIES_STEP + 1) * _SERIES_STEP, MAX_SERIES)
            for column, empty in (
                (self.last_ms, MIN_TIME),
                (self._cut_at_ms, MAX_TIME),
                (self.first_ms, MAX_TIME),
                (self.covered_ms, MIN_TIME),
                (self.flushed_ms, MIN_TIME),
                (self.stored_from_ms, MAX_TIME),
                (self.late_from_ms, MAX_TIME),
                (self._flushing_ms, MIN_TIME),
            ):
                column[low:high] = empty
            self._prepared = high
        self._series = max(self._series, ref + 1)

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
        """The store, and the head, have nothing of the series `refs int32[S]` any more; their newest time stays known."""
        self.stored_from_ms[refs] = MAX_TIME
        self.first_ms[refs] = MAX_TIME

    def raise_stored(self, refs: Int32, from_ms: int) -> None:
        """The store has no samples of the series `refs int32[S]` before this time any more."""
        self.stored_from_ms[refs] = np.maximum(self.stored_from_ms[refs], from_ms)

    def append(self, refs: Int32, ts_ms: Int64, values: Float64) -> AppendResult:
        """Take samples (int32[N], int64[N], float64[N], any order). Raises StorageUnavailable when the pool is full."""
        self.check_room(len(refs))
        bits = values.view(np.int64)
        late = np.empty(len(refs), np.int64)
        found = kernels.append(
            refs,
            ts_ms,
            bits,
            self._deltas,
            self._bits,
            self._links,
            self._work,
            self.last_ms,
            self.first_ms,
            self._free,
            self._pool,
            late,
        )
        kernels.publish(refs, self._work, self._published)
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
        if self._pool[0] - self._pool[1] + samples > self._capacity:
            self._release()
            if self._pool[0] - self._pool[1] + samples > self._capacity:
                raise StorageUnavailable(f"the head holds {self.used_bytes} bytes and is full")

    def _insert(self, refs: Int32, ts_ms: Int64, bits: Int64) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
        """Put late samples into their chains, last write wins; remember those that the store may already have been given."""
        outcome = np.empty(len(refs), np.int8)
        with self._changing(refs):
            kernels.insert(
                refs,
                ts_ms,
                bits,
                self._deltas,
                self._bits,
                self._links,
                self._work,
                self.first_ms,
                self._free,
                self._pool,
                outcome,
            )
            kernels.publish(refs, self._work, self._published)
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

    @contextmanager
    def _changing(self, refs: Int32) -> Iterator[None]:
        """Versions are odd inside; NumPy's fancy assignment makes a ref that stands there twice count once."""
        self._version[refs] |= 1
        try:
            yield
        finally:
            self._version[refs] = (self._version[refs] | 1) + 1

    def read(
        self,
        refs: Int32,
        start_ms: Int64,
        end_ms: Int64,
        *,
        instants: StepGrid | None = None,
        check: Callable[[int], None] | None = None,
        parallel: bool = False,
    ) -> HeadRead:
        """The samples of `refs int32[S]` in (start, end]; `start_ms`, `end_ms int64[S]` or int64[1] for all.

        `instants` (for one start and end): at least the newest sample at or before each of these times, others may be left out.
        `check(count)` is called before the samples are copied and may raise. `parallel` spreads large copies over threads.
        """
        with self._reading():
            for attempt in range(MOST_ATTEMPTS):
                version = self._version[refs]
                covered = self.covered_ms[refs]
                samples = None if (version & 1).any() else self._try_read(refs, start_ms, end_ms, instants, check, parallel)
                if samples is not None and np.array_equal(version, self._version[refs]):
                    return HeadRead(samples=samples, covered_ms=covered)
                _pause(attempt)
        raise StorageUnavailable("the head kept changing while it was read")

    def count(self, refs: Int32, start_ms: int, end_ms: int) -> HeadCount:
        """How many samples `refs int32[S]` have in (start, end], as a mark for `copy`."""
        bounds = np.array([start_ms], np.int64), np.array([end_ms], np.int64)
        counts = np.empty(len(refs), np.int64)
        with self._reading():
            for attempt in range(MOST_ATTEMPTS):
                deletions = self.deletions
                version, covered, heads = self._version[refs], self.covered_ms[refs], self._published[refs]
                kernels.count_samples(heads, *bounds, self._deltas, self._links, counts)
                if not (version & 1).any() and np.array_equal(version, self._version[refs]):
                    return HeadCount(
                        refs=refs,
                        heads=heads,
                        versions=version,
                        counts=counts,
                        covered_ms=covered,
                        bounds=bounds,
                        deletions=deletions,
                    )
                _pause(attempt)
        raise StorageUnavailable("the head kept changing while it was read")

    def copy(self, counted: HeadCount) -> SampleBlock | None:
        """What was counted, as it was then; None when a chain changed since, other than by new samples at its end."""
        offsets = np.zeros(len(counted.refs) + 1, np.int64)
        np.cumsum(counted.counts, out=offsets[1:])
        ts_out, bits_out = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.int64)
        with self._reading():
            wrong = kernels.copy_samples(
                counted.heads, *counted.bounds, self._deltas, self._bits, self._links, offsets, 0, len(offsets) - 1, ts_out, bits_out
            )
        if wrong or not np.array_equal(counted.versions, self._version[counted.refs]):
            return None
        return SampleBlock(ts_ms=ts_out, values=bits_out.view(np.float64), offsets=offsets)

    def _try_read(
        self,
        refs: Int32,
        start_ms: Int64,
        end_ms: Int64,
        instants: StepGrid | None,
        check: Callable[[int], None] | None,
        parallel: bool,
    ) -> SampleBlock | None:
        """One attempt; None when a chain changed between counting and copying."""
        heads = self._published[refs]
        if instants is not None and self._is_denser(heads, start_ms, end_ms, instants):
            return self._pick(heads, int(start_ms[0]), instants, check, parallel=parallel)
        chains = (self._deltas, self._links)
        offsets = np.zeros(len(refs) + 1, np.int64)
        total = kernels.count_samples(heads, start_ms, end_ms, *chains, offsets[1:])
        if check is not None:
            check(total)
        np.cumsum(offsets, out=offsets)
        ts_out = np.empty(total, np.int64)
        bits_out = np.empty(total, np.int64)
        deltas, links = chains

        def copy(row_from: int, row_to: int) -> int:
            return kernels.copy_samples(heads, start_ms, end_ms, deltas, self._bits, links, offsets, row_from, row_to, ts_out, bits_out)

        if parallel and total >= PARALLEL_SAMPLES:
            parts = self._threads * 2
            cuts = np.searchsorted(offsets, np.arange(1, parts) * (total // parts)).tolist()
            edges = [0, *cuts, len(refs)]
            wrong = sum(self._executor.map(copy, edges[:-1], edges[1:]))
        else:
            wrong = copy(0, len(refs))
        return None if wrong else SampleBlock(ts_ms=ts_out, values=bits_out.view(np.float64), offsets=offsets)

    def _is_denser(self, heads: Int64, start_ms: Int64, end_ms: Int64, instants: StepGrid) -> bool:
        """Do the series hold clearly more samples than instants? Judged by some of them."""
        some = np.ascontiguousarray(heads[:: max(len(heads) // SAMPLED, 1)])
        found = kernels.count_samples(some, start_ms, end_ms, self._deltas, self._links, np.empty(len(some), np.int64))
        return found > THINNED * instants.count * len(some)

    def _pick(self, heads: Int64, start_ms: int, instants: StepGrid, check: Callable[[int], None] | None, *, parallel: bool) -> SampleBlock:
        """The newest sample at or before each instant. Like all reads worth nothing when a chain changed meanwhile."""
        steps = instants.count
        rows = max(PICKED_AT_ONCE // steps, 1)

        def part(low: int) -> tuple[Int64, Int64, Int64]:
            chosen = heads[low : low + rows]
            counts = np.empty(len(chosen), np.int64)
            ts, bits = np.empty((len(chosen), steps), np.int64), np.empty((len(chosen), steps), np.int64)
            times = (start_ms, instants.start_ms, instants.step_ms, steps)
            kernels.pick_samples(chosen, *times, self._deltas, self._bits, self._links, ts, bits, counts)
            used = np.arange(steps) >= steps - counts[:, np.newaxis]
            return ts[used], bits[used], counts

        lows = range(0, len(heads), rows)
        parts = list(self._executor.map(part, lows) if parallel and len(lows) > 1 else map(part, lows))
        offsets = np.zeros(len(heads) + 1, np.int64)
        np.cumsum(np.concatenate([counts for _, _, counts in parts] or [offsets[:0]]), out=offsets[1:])
        if check is not None:
            check(int(offsets[-1]))
        ts_ms, bits = (np.concatenate([one[column] for one in parts] or [offsets[:0]]) for column in (0, 1))
        return SampleBlock(ts_ms=ts_ms, values=bits.view(np.float64), offsets=offsets)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Blocks collected while this is open are not reused before it is closed. Single dict operations are atomic under the GIL."""
        reader = next(self._reader_ids)
        self._readers[reader] = self._epoch
        try:
            yield
        finally:
            del self._readers[reader]

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
        chains = (self._deltas, self._links)
        if not kernels.find_cuts(ref_from, ref_to, cutoff_ms, self.flushed_ms, self._work, self._pinned, *chains, cuts):
            return 0
        changed = (ref_from + np.flatnonzero(cuts >= 0)).astype(np.int32)
        freed = np.empty(int(self._pool[0]), np.int32)
        with self._changing(changed):
            count = kernels.cut_chains(ref_from, ref_to, cuts, self._work, self.covered_ms, *chains, freed)
            kernels.publish(changed, self._work, self._published)
        self._retire(freed[:count].copy())
        return count

    def newest_ms(self, refs: Int32 | slice) -> Int64:
        """The newest time that each of these series may have, int64[S]; MIN_TIME when it surely has no sample."""
        last_ms = self.last_ms[refs]
        return np.where(self._cut_at_ms[refs] == last_ms, self._cut_to_ms[refs], last_ms)

    def may_be_stored(self, refs: Int32, start_ms: int, end_ms: int) -> Bool:
        """Which of the series (bool[S]) may have samples in (start, end] in the store, or in a snapshot that is on its way there."""
        return (self._flushing_ms[refs] > start_ms) & (self.first_ms[refs] <= end_ms)

    def delete(self, refs: Int32, start_ms: int, end_ms: int) -> None:
        """Take away the samples of `refs int32[S]`, each standing there once, in (start, end]. The store is somebody else's concern."""
        self.deletions += 1
        self.note_late(refs, np.full(len(refs), start_ms + 1))
        newest_left = np.empty(len(refs), np.int64)
        freed = np.empty(int(self._pool[0]), np.int32)
        chains = (self._deltas, self._bits, self._links, self._work)
        with self._changing(refs):
            blocks, removed = delete_from_chains(refs, start_ms, end_ms, self._flushing_ms, *chains, freed, newest_left)
            kernels.publish(refs, self._work, self._published)
        self._retire(freed[:blocks].copy())
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

    def _retire(self, blocks: Int32) -> None:
        """Blocks that are in no chain any more are free once no reader walks them."""
        self._epoch += 1
        self._limbo.append((self._epoch, blocks))
        self._release()

    def _release(self) -> None:
        """Give collected blocks back that no reader can still be walking."""
        oldest = min(list(self._readers.values()), default=self._epoch)
        while self._limbo and self._limbo[0][0] <= oldest:
            _, blocks = self._limbo.pop(0)
            top = int(self._pool[1])
            self._free[top : top + len(blocks)] = blocks
            self._pool[1] = top + len(blocks)


def _pause(attempt: int) -> None:
    time.sleep(0 if attempt < 10 else 0.001)


def _outside(part: LatePart, refs: Int32, start_ms: int, end_ms: int) -> LatePart:
    """Late samples without those of `refs int32[S]` in (start, end]."""
    part_refs, ts_ms, bits = part
    keep = (ts_ms <= start_ms) | (ts_ms > end_ms) | ~np.isin(part_refs, refs)
    return part_refs[keep], ts_ms[keep], bits[keep]
