"""Keeping the rollup tiers: rolling up what became old enough, and again where samples came late.

Everything happens in portions of about PORTION_SAMPLES, each one transaction of the store, between which flushes get their turn. What was
stored before there were tiers is rolled up the same way, the oldest first, because that is what retention takes first.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np

from promlike.errors import StorageConflict, StorageError
from promlike.model.blocks import Int32, SampleBlock
from promlike.model.tiers import COARSEST_MS, RESOLUTIONS_MS, ceil_ms, floor_ms
from promlike.storage.counters import StorageCounters
from promlike.storage.flush import Flusher
from promlike.storage.follow import Follower
from promlike.storage.head import MAX_TIME, Head
from promlike.storage.raw_reader import RawReader
from promlike.storage.retention import Retention
from promlike.storage.roll_up import roll_up
from promlike.storage.store import Store
from promlike.storage.tier_marks import by_day, within_budget
from promlike.storage.tiers import SPANS_MS, Marks, TierBatch, TierProgress, Watermark
from promlike.storage.tombstones import Tombstones

log = logging.getLogger(__name__)

PORTION_SAMPLES = 2_000_000
"""So many samples are read at once: 32 MB, and about a tenth of a second of a core."""
FIRST_SERIES = 32
"""Series of the first portion, before it is known how many samples they have."""
USUAL_MS = 60_000
"""Between two samples of a series, at most, as most are: by this a portion of a long time is bounded before it is known what is in it."""
STRETCH_MS = min(SPANS_MS.values())
"""Of what is older at least so much time at once: the store rewrites a row that gets more buckets, and its old form takes room."""
MOST_MARKS = 4096
MARKED_HOURS = 1500
"""So many hours of single series are rolled up again in one portion."""
GRACE_MS = 300_000
"""Time that samples have to arrive before their bucket is rolled up for the first time."""
INTERVAL_S = 60.0
MOST_CONFLICTS = 5
"""So often in a row a portion is made again because another daemon stored something meanwhile."""
NO_REFS: Int32 = np.empty(0, np.int32)


class Roller:
    """Owns the watermark of the tiers."""

    def __init__(
        self,
        head: Head,
        store: Store,
        flusher: Flusher,
        raw: RawReader,
        tombstones: Tombstones,
        progress: TierProgress,
        counters: StorageCounters,
        retention: Retention,
        follower: Follower,
    ) -> None:
        self._head = head
        self._store = store
        self._flusher = flusher
        self._raw = raw
        self._tombstones = tombstones
        self._progress = progress
        self._counters = counters
        self._retention = retention
        self._follower = follower
        self._series_at_once = FIRST_SERIES
        self._span_ms = COARSEST_MS

    async def load(self) -> None:
        """Learn from the store how far its tiers reach, and where they are wrong. Raises StorageError."""
        self._progress.state = await self._store.load_tier_state()
        marks = await self._store.load_marks(None)
        if len(marks):
            self._head.note_late(marks.refs, marks.start_ms + 1)
        else:
            self._settle()

    async def run(self) -> None:
        """Roll up at every interval; a store that is away is asked again next time."""
        while True:
            try:
                await self.roll_up()
            except StorageError as error:
                self._counters.rollup_failures += 1
                log.warning("rolling up failed, next attempt in %.0f s: %s", INTERVAL_S, error)
            await asyncio.sleep(INTERVAL_S)

    async def roll_up(self) -> None:
        """Do all that is to be done now, unless another daemon does it. Raises StorageError."""
        async with self._store.alone("roll up") as alone:
            async with self._flusher.paused():
                await self._follower.catch_up()
                await self._store.note_presence(has_stored_all=self._flusher.has_stored_all())
                await self.load()
            if alone:
                await self._in_portions(self._advance)
                await self._in_portions(self._correct)

    async def _in_portions(self, portion: Callable[[], Awaitable[bool]]) -> None:
        """Call it until it says that nothing is left. Between two calls others get as much time as one took, up to a second; or four times
        that while much waits for a flush.
        """
        more, conflicts = True, 0
        while more:
            started = time.monotonic()
            try:
                async with self._flusher.paused():
                    more = await portion()
                conflicts = 0
            except StorageConflict as error:
                conflicts += 1
                if conflicts > MOST_CONFLICTS:
                    raise
                log.debug("a portion of rollups is made again: %s", error)
            seconds = time.monotonic() - started
            self._counters.rollup_seconds += seconds
            if more:
                # Rollups can wait, flushes cannot: what is in memory grows meanwhile.
                await asyncio.sleep(min(4 * seconds, 5.0) if self._head.unflushed > PORTION_SAMPLES else min(seconds, 1.0))

    async def _advance(self) -> bool:
        """Roll up the next part of the oldest samples that were not yet; whether there are more."""
        watermark = self._progress.watermark or self._beginning()
        others_ms = self._progress.state.others_ms
        complete_ms = self._flusher.complete_ms if others_ms is None else min(self._flusher.complete_ms, others_ms)
        limit = floor_ms(complete_ms - GRACE_MS, COARSEST_MS)
        if watermark is None or watermark.upto_ms >= limit:
            return False
        if watermark.next_ms == watermark.upto_ms:
            next_ms = min(limit, ceil_ms(watermark.upto_ms + self._span_ms, STRETCH_MS))
            watermark = Watermark(upto_ms=watermark.upto_ms, next_ms=next_ms, next_ref=0)
        foreign = await self._look_around()
        refs, last = self._next_series(watermark)
        times = np.full(len(refs), watermark.upto_ms, np.int64), np.full(len(refs), watermark.next_ms, np.int64)
        samples = await self._raw.read(refs, *times)
        reached = Watermark.at(watermark.next_ms) if last else replace(watermark, next_ref=int(refs[-1]) + 1)
        await self._write(refs, samples, reached, foreign, replaced=Marks(refs=refs, start_ms=times[0], end_ms=times[1]))
        self._adapt(len(refs), samples.count, whole=last and watermark.next_ref == 0)
        return reached.upto_ms < limit

    def _beginning(self) -> Watermark | None:
        """Where there is nothing to roll up before; None without samples."""
        first_ms = int(self._head.first_ms[: self._head.series].min(initial=MAX_TIME))
        return (
            None
            if first_ms == MAX_TIME
            else Watermark.at(floor_ms(max(first_ms, self._retention.oldest_row_ms(COARSEST_MS)) - 1, COARSEST_MS))
        )

    def _next_series(self, watermark: Watermark) -> tuple[Int32, bool]:
        """The series whose turn it is in the part of time that is being rolled up, and whether they are the last.

        Of new ones with old samples the store learns with the next flush, which marks those samples. Others may have stored some of such a
        series already, which nobody else would roll up.
        """
        low, high = watermark.next_ref, self._head.series
        there = (self._head.first_ms[low:high] <= watermark.next_ms) & (self._head.last_ms[low:high] > watermark.upto_ms)
        unstored = low + np.flatnonzero(there & (self._head.stored_from_ms[low:high] == MAX_TIME))
        if len(unstored):  # mostly none; a million series may be unannounced
            there[np.intersect1d(unstored, self._flusher.unannounced()) - low] = False
        refs = (low + np.flatnonzero(there)).astype(np.int32)
        # What an hour of many series taught does not hold for a day of them.
        most = max(PORTION_SAMPLES * USUAL_MS // (watermark.next_ms - watermark.upto_ms), FIRST_SERIES)
        at_once = min(self._series_at_once, most)
        return refs[:at_once], len(refs) <= at_once

    def _adapt(self, series: int, samples: int, *, whole: bool) -> None:
        """Let the next portion have as many samples as it should."""
        factor = PORTION_SAMPLES / max(samples, 1)
        self._series_at_once = max(int(max(series, FIRST_SERIES) * min(factor, 4.0)), 1)
        if whole:
            self._span_ms = floor_ms(int(min(self._span_ms * min(factor, 2.0), 2.0**42)), COARSEST_MS)
        self._span_ms = max(self._span_ms, COARSEST_MS)

    async def _look_around(self) -> int:
        """Know all that others have stored; a number by which the store sees whether that is still so when rows are written."""
        foreign = await self._store.foreign_changes()
        await self._follower.catch_up()
        return foreign

    async def _correct(self) -> bool:
        """Roll up again what marks name; whether there may be more."""
        foreign = await self._look_around()
        marks = within_budget(await self._store.load_marks(MOST_MARKS), MARKED_HOURS)
        watermark = self._progress.watermark
        if not len(marks) or watermark is None:
            self._settle()
            return False
        for part in by_day(marks, COARSEST_MS):
            oldest = -(-self._retention.oldest_of_samples(part.refs) // COARSEST_MS) * COARSEST_MS
            start, end = np.maximum(part.start_ms, oldest), np.minimum(part.end_ms, watermark.of(part.refs))
            rows = np.flatnonzero(end > start)
            again = Marks(refs=part.refs[rows], start_ms=start[rows], end_ms=end[rows])
            samples = await self._raw.read(again.refs, again.start_ms, again.end_ms)
            await self._write(again.refs, samples, watermark, foreign, replaced=again)
        await self._write(NO_REFS, SampleBlock.empty(), watermark, foreign, done=marks)
        self._counters.rollup_marks += len(marks)
        return True

    def _settle(self) -> None:
        """Nothing in the tiers is wrong, except where samples wait for the next flush, or deletions do."""
        self._head.settle_late()
        for deletion in self._tombstones.current:
            self._head.note_late(deletion.refs, np.full(len(deletion.refs), deletion.start_ms + 1))

    async def _write(
        self,
        refs: Int32,
        samples: SampleBlock,
        watermark: Watermark,
        foreign: int,
        *,
        replaced: Marks | None = None,
        done: Marks | None = None,
    ) -> None:
        blocks = await asyncio.to_thread(lambda: [roll_up(samples, resolution) for resolution in RESOLUTIONS_MS.values()])
        await self._store.write_tiers(
            TierBatch(
                refs=refs,
                blocks=blocks,
                watermark=watermark,
                replaced=replaced or Marks.none(),
                done=done or Marks.none(),
                foreign=foreign,
            )
        )
        self._progress.reached(watermark)
        self._counters.rollup_samples += samples.count
        self._counters.rollup_rows += sum(block.rows.count for block in blocks)
