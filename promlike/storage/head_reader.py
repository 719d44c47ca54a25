"""Reading the head from any thread, without a lock.

A reader copies the packed word of each series and is then unaffected by appends. When the version of a series was odd, or changed, its
chain was changed otherwise meanwhile, and the series are read again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from promlike.errors import StorageUnavailable
from promlike.model.blocks import Bool, Int32, Int64, SampleBlock, StepGrid
from promlike.model.threads import worker_pool
from promlike.storage import head_read_kernels as kernels
from promlike.storage.head_chains import Chains

PARALLEL_SAMPLES = 400_000
"""Below this many samples one thread is faster than handing out parts."""
THINNED = 2
"""With more samples than so many a series and instant, looking the needed ones up is cheaper than copying all."""
MOST_ATTEMPTS = 1_000_000
SAMPLED = 64
"""Series that are counted to find that out."""
PICKED_AT_ONCE = 250_000
"""Cells of a part of a thinned read that one thread takes."""
LEAST_FILLED = 0.75
"""When fewer of the cells of a thinned read have samples, these are copied, so that the empty ones take no memory."""


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


class HeadReader:
    """Reads the chains. `covered_ms int64[refs]` is the head's own column of that name."""

    def __init__(self, chains: Chains, covered_ms: Int64, threads: int) -> None:
        self._chains = chains
        self._covered_ms = covered_ms
        self._threads = threads
        self._executor = worker_pool(threads, "head")

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(wait=True)

    @property
    def deletions(self) -> int:
        """See `Chains.deletions`."""
        return self._chains.deletions

    def read(
        self,
        refs: Int32,
        start_ms: Int64,
        end_ms: Int64,
        *,
        instants: StepGrid | None = None,
        check: Callable[[int], None] | None = None,
        room: Callable[[int], None] | None = None,
        parallel: bool = False,
    ) -> HeadRead:
        """The samples of `refs int32[S]` in (start, end]; `start_ms`, `end_ms int64[S]` or int64[1] for all.

        `instants` (for one start and end): at least the newest sample at or before each of these times, others may be left out.
        `room(count)` is called before arrays for so many samples are made, `check(count)` with how many samples there are; both may raise.
        `parallel` spreads large copies over threads.
        """
        with self._chains.reading():
            for attempt in range(MOST_ATTEMPTS):
                version = self._chains.version[refs]
                covered = self._covered_ms[refs]
                samples = None if (version & 1).any() else self._try_read(refs, start_ms, end_ms, instants, check, room, parallel)
                if samples is not None and np.array_equal(version, self._chains.version[refs]):
                    return HeadRead(samples=samples, covered_ms=covered)
                _pause(attempt)
        raise StorageUnavailable("the head kept changing while it was read")

    def count(self, refs: Int32, start_ms: int, end_ms: int) -> HeadCount:
        """How many samples `refs int32[S]` have in (start, end], as a mark for `copy`."""
        bounds = np.array([start_ms], np.int64), np.array([end_ms], np.int64)
        counts = np.empty(len(refs), np.int64)
        with self._chains.reading():
            for attempt in range(MOST_ATTEMPTS):
                deletions = self._chains.deletions
                version, covered, heads = self._chains.version[refs], self._covered_ms[refs], self._chains.published[refs]
                kernels.count_samples(heads, *bounds, self._chains.deltas, self._chains.links, counts)
                if not (version & 1).any() and np.array_equal(version, self._chains.version[refs]):
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
        with self._chains.reading():
            wrong = kernels.copy_samples(
                counted.heads,
                *counted.bounds,
                self._chains.deltas,
                self._chains.bits,
                self._chains.links,
                offsets,
                0,
                len(offsets) - 1,
                ts_out,
                bits_out,
            )
        if wrong or not np.array_equal(counted.versions, self._chains.version[counted.refs]):
            return None
        return SampleBlock(ts_ms=ts_out, values=bits_out.view(np.float64), offsets=offsets)

    def _try_read(
        self,
        refs: Int32,
        start_ms: Int64,
        end_ms: Int64,
        instants: StepGrid | None,
        check: Callable[[int], None] | None,
        room: Callable[[int], None] | None,
        parallel: bool,
    ) -> SampleBlock | None:
        """One attempt; None when a chain changed between counting and copying."""
        heads = self._chains.published[refs]
        if instants is not None and self._is_denser(heads, start_ms, end_ms, instants):
            return self._pick(heads, int(start_ms[0]), instants, check, room, parallel=parallel)
        chains = (self._chains.deltas, self._chains.links)
        offsets = np.zeros(len(refs) + 1, np.int64)
        total = kernels.count_samples(heads, start_ms, end_ms, *chains, offsets[1:])
        if check is not None:
            check(total)
        if room is not None:
            room(total)
        np.cumsum(offsets, out=offsets)
        ts_out = np.empty(total, np.int64)
        bits_out = np.empty(total, np.int64)
        deltas, links = chains

        def copy(row_from: int, row_to: int) -> int:
            return kernels.copy_samples(
                heads, start_ms, end_ms, deltas, self._chains.bits, links, offsets, row_from, row_to, ts_out, bits_out
            )

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
        found = kernels.count_samples(some, start_ms, end_ms, self._chains.deltas, self._chains.links, np.empty(len(some), np.int64))
        return found > THINNED * instants.count * len(some)

    def _pick(
        self,
        heads: Int64,
        start_ms: int,
        instants: StepGrid,
        check: Callable[[int], None] | None,
        room: Callable[[int], None] | None,
        *,
        parallel: bool,
    ) -> SampleBlock:
        """The newest sample at or before each instant. Like all reads worth nothing when a chain changed meanwhile."""
        steps = instants.count
        if room is not None:
            room(len(heads) * steps)
        counts = np.empty(len(heads), np.int64)
        ts, bits = np.empty((len(heads), steps), np.int64), np.empty((len(heads), steps), np.int64)
        times = (start_ms, instants.start_ms, instants.step_ms, steps)
        rows = max(PICKED_AT_ONCE // steps, 1)

        def part(low: int) -> None:
            place = slice(low, low + rows)
            kernels.pick_samples(
                heads[place], *times, self._chains.deltas, self._chains.bits, self._chains.links, ts[place], bits[place], counts[place]
            )

        lows = range(0, len(heads), rows)
        for _ in self._executor.map(part, lows) if parallel and len(lows) > 1 else map(part, lows):
            pass
        offsets = np.zeros(len(heads) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        total = int(offsets[-1])
        if check is not None:
            check(total)
        if total < ts.size:
            kernels.close_gaps(ts.reshape(-1), bits.reshape(-1), steps, offsets)
        ts_ms, values = ts.reshape(-1)[:total], bits.reshape(-1)[:total].view(np.float64)
        if total < LEAST_FILLED * ts.size:
            ts_ms, values = ts_ms.copy(), values.copy()
        return SampleBlock(ts_ms=ts_ms, values=values, offsets=offsets)


def _pause(attempt: int) -> None:
    time.sleep(0 if attempt < 10 else 0.001)
