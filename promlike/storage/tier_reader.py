"""Answering selectors from rollup tiers: which tier, where it ends for each series, and what is rolled up on the way behind that.

Axis letters: S series.
"""

import asyncio
from collections.abc import Callable

import numpy as np

from promlike.model.blocks import Int32, Int64
from promlike.model.clock import Utc
from promlike.model.tiers import Tier, TierBlock, floor_ms
from promlike.model.trace import OFF, Trace
from promlike.storage.access import Fit, SelectRequest, TierOption
from promlike.storage.head import Head
from promlike.storage.packed_tier import pack_into_tier
from promlike.storage.raw_reader import RawReader
from promlike.storage.roll_up import roll_up
from promlike.storage.store import Store
from promlike.storage.tiers import TierProgress

EXACT_FROM = 100_000
CLOSE_FROM = 2_000_000
"""So many samples must be spared for a tier to be read in place of them, by how well it fits. Below, samples are read in less time than
anybody notices, and answers are Prometheus's to the last bit.
"""
USUAL_INTERVAL_MS = 15_000
"""Between samples, to judge by how many there are."""
NEVER = -(2**62)
NOTICED = 10
"""A tier that answers only roughly is taken where more than one part in so many of the time asked for has no samples any more."""


class TierReader:
    """`oldest_ms()` is the time before which samples are hidden, `oldest_row_ms(resolution)` that of the rows of a tier."""

    def __init__(
        self,
        head: Head,
        store: Store,
        raw: RawReader,
        progress: TierProgress,
        oldest_ms: Callable[[], int],
        oldest_row_ms: Callable[[int], int],
    ) -> None:
        self._head = head
        self._store = store
        self._raw = raw
        self._progress = progress
        self._oldest_ms = oldest_ms
        self.oldest_row_ms = oldest_row_ms

    def choose(self, request: SelectRequest, refs: Int32) -> TierOption | None:
        """The tier that is to answer for the series `refs int32[S]`; None when samples are to."""
        forced = bool(request.tiers) and request.tiers[0].forced
        asked = (request.end_ms - request.start_ms) // USUAL_INTERVAL_MS * len(refs)
        if not request.tiers or not (forced or asked >= EXACT_FROM or request.start_ms < self._oldest_ms()):
            return None
        reached = self._progress.rolled_up_ms(refs)
        if reached is None or not len(refs):
            return None
        if forced:
            return request.tiers[0]
        first_ms = np.maximum(self._head.first_ms[refs], request.start_ms)
        return self._for_hidden(request, int(first_ms.min())) or self._for_stored(request, refs, reached, first_ms)

    def _for_hidden(self, request: SelectRequest, first_ms: int) -> TierOption | None:
        """The tier to take because some of the samples are older than their retention; None when none are, or hardly any."""
        hidden_ms = self._oldest_ms() - first_ms
        if hidden_ms <= 0 or first_ms >= request.end_ms:
            return None
        reaching = [option for option in request.tiers if self.oldest_row_ms(option.resolution_ms) <= first_ms] or [request.tiers[-1]]
        best = min(option.fit for option in reaching)
        if best is Fit.ROUGH:
            return reaching[0] if hidden_ms * NOTICED > request.end_ms - first_ms else None
        return [option for option in reaching if option.fit is best][-1]

    def _for_stored(self, request: SelectRequest, refs: Int32, reached: Int64, first_ms: Int64) -> TierOption | None:
        """The tier to take because it spares reading many samples; None when it does not."""
        best = min(option.fit for option in request.tiers)
        stored_ms = np.minimum(np.minimum(self._head.covered_ms[refs], self._head.flushed_ms[refs]), request.end_ms)
        spared_ms = int(np.maximum(np.minimum(stored_ms, reached) - first_ms, 0).sum())
        if spared_ms * 2 < int(np.maximum(stored_ms - first_ms, 0).sum()):
            return None  # most of it is not rolled up yet
        if best is Fit.ROUGH or spared_ms // USUAL_INTERVAL_MS < (EXACT_FROM if best is Fit.EXACT else CLOSE_FROM):
            return None
        return [option for option in request.tiers if option.fit is best][-1]

    async def read(self, refs: Int32, option: TierOption, trace: Trace = OFF) -> Tier:
        """The rows of `refs int32[S]`, none twice. Raises StorageError."""
        resolution_ms = option.resolution_ms
        start_ms = self._start_ms(option)
        upto_ms = np.minimum(self._whole_ms(refs, resolution_ms), option.end_ms)
        with trace.child("read the store up to %s", Utc(int(upto_ms.max()))) as step:
            stored = await self._store.read_tier(resolution_ms, refs, start_ms, int(upto_ms.max()), option.columns)
            step.add("packed stretches=%d", sum(len(part.refs) for part in stored))
        with trace.child("roll up newer samples") as step:
            newest = await self._newest(refs, np.maximum(upto_ms, start_ms), option, step)
        return await asyncio.to_thread(
            pack_into_tier, resolution_ms, refs, stored, columns=option.columns, after_ms=start_ms, upto_ms=upto_ms, newest=newest
        )

    def read_head(self, refs: Int32, option: TierOption) -> tuple[TierBlock, int]:
        """What the head alone can tell, without the store, and up to when something may be missing."""
        start_ms, end_ms = (np.array([time], np.int64) for time in (option.start_ms, option.end_ms))
        read = self._head.reader.read(refs, start_ms, end_ms)
        upto_ms = np.minimum(read.covered_ms, option.end_ms)
        return roll_up(read.samples, option.resolution_ms), int(upto_ms.max(initial=option.start_ms))

    def _whole_ms(self, refs: Int32, resolution_ms: int) -> Int64:
        """int64[S]: up to the end of which bucket the rows of each series are there and right."""
        reached = self._progress.rolled_up_ms(refs)
        if reached is None:
            return np.full(len(refs), NEVER, np.int64)
        return np.minimum(np.minimum(reached, self._right_ms(refs, resolution_ms)), self._flushed_ms(refs, resolution_ms, reached))

    def is_settled(self, refs: Int32, resolution_ms: int, oldest_ms: Int64) -> bool:
        """Are the rows of `refs int32[S]`, and what is rolled up on the way, what the samples make of them, so that the same will be read
        once all of it is rolled up? `oldest_ms int64[S]`: the oldest time of which the samples of each are surely there.

        Not while late samples or deletions wait to be rolled up, which is not done once the samples around them are gone, nor where other
        daemons roll up what this one need not have seen.
        """
        reached = self._progress.rolled_up_ms(refs)
        if reached is None or self._progress.state.others_ms is not None:
            return False
        right = self._right_ms(refs, resolution_ms) >= reached
        in_time = (self._flushed_ms(refs, resolution_ms, reached) >= reached) | (self._head.first_ms[refs] > reached)
        return bool((right & in_time & (reached >= oldest_ms)).all())

    def _right_ms(self, refs: Int32, resolution_ms: int) -> Int64:
        """int64[S]: up to the end of which bucket nothing came late or went since it was rolled up."""
        right: Int64 = (self._head.late_from_ms[refs] - 1) // resolution_ms * resolution_ms
        return right

    def _flushed_ms(self, refs: Int32, resolution_ms: int, reached: Int64) -> Int64:
        """int64[S]: what waits for a flush may be older than the tiers reach, when its series lags behind."""
        flushed = np.maximum(self._head.flushed_ms[refs], NEVER)
        return np.where(self._head.last_ms[refs] > flushed, flushed // resolution_ms * resolution_ms, reached)

    def count(self, refs: Int32, option: TierOption) -> int:
        """How many rows `read` returns at most."""
        head, resolution_ms = self._head, option.resolution_ms
        start_ms = self._start_ms(option)
        if start_ms >= option.end_ms:
            return 0
        first, last = (np.clip(times, start_ms, option.end_ms) for times in (head.first_ms[refs], head.last_ms[refs]))
        return int((np.maximum(last - first, -2 * resolution_ms) // resolution_ms + 2).sum())

    def _start_ms(self, option: TierOption) -> int:
        """Where retention lets the rows of a tier begin."""
        return max(option.start_ms, floor_ms(self.oldest_row_ms(option.resolution_ms), option.resolution_ms))

    async def _newest(self, refs: Int32, after_ms: Int64, option: TierOption, trace: Trace) -> TierBlock:
        """What is rolled up on the way: samples after `after_ms int64[S]`."""
        end_ms = np.full(len(refs), option.end_ms, np.int64)
        after_ms = np.minimum(np.maximum(after_ms, floor_ms(self._oldest_ms(), option.resolution_ms)), end_ms)
        samples = await self._raw.read(refs, after_ms, end_ms)
        rows = await asyncio.to_thread(roll_up, samples, option.resolution_ms)
        trace.add("rows=%d of samples=%d", rows.count, samples.count)
        return rows
