"""Which buckets a flush makes wrong: those, rolled up before, that its samples belong to. Axis letters: S series, N samples, M marks."""

import numpy as np

from promlike.model.blocks import Int32, Int64, SampleBlock
from promlike.storage.head_snapshot import LateSamples
from promlike.storage.tiers import Marks, Watermark

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class MarkCollector:
    """Gathers what one flush stores while its samples pass by."""

    def __init__(self) -> None:
        self._parts: list[Marks] = []
        self.told = Marks.none()
        """What `marks` returned."""

    def chunk(self, refs: Int32, samples: SampleBlock) -> None:
        """New samples of `refs int32[S]`: those of a series that lags behind may be older than the watermark."""
        rows = np.flatnonzero(np.diff(samples.offsets))
        first = samples.ts_ms[samples.offsets[rows]]
        last = samples.ts_ms[samples.offsets[rows + 1] - 1]
        self._parts.append(Marks(refs=refs[rows], start_ms=first - 1, end_ms=last))

    def late(self, late: LateSamples) -> None:
        """Samples sorted by (ref, time): one mark a series and day."""
        if len(late.refs):
            days = late.ts_ms // DAY_MS
            starts = np.flatnonzero(np.append(True, (np.diff(late.refs) != 0) | (np.diff(days) != 0)))
            ends = np.append(starts[1:], len(late.refs)) - 1
            self._parts.append(Marks(refs=late.refs[starts], start_ms=late.ts_ms[starts] - 1, end_ms=late.ts_ms[ends]))

    def marks(self, reached: Watermark | None) -> Marks:
        """The times of what was gathered that tiers, which reach so far, have already."""
        gathered = Marks.joined(self._parts)
        if reached is not None and len(gathered):
            upto_ms = reached.of(gathered.refs)
            old = gathered.start_ms < upto_ms
            self.told = Marks(refs=gathered.refs[old], start_ms=gathered.start_ms[old], end_ms=np.minimum(gathered.end_ms, upto_ms)[old])
        return self.told


def within_budget(marks: Marks, most_hours: int) -> Marks:
    """The first of the marks that together touch about so many hours, at least one of them."""
    hours = np.cumsum(-(-marks.end_ms // HOUR_MS) - marks.start_ms // HOUR_MS)
    return marks.take(slice(0, max(int(np.searchsorted(hours, most_hours, side="right")), 1)))


def by_day(marks: Marks, resolution_ms: int) -> list[Marks]:
    """What marks touch, a day at a time: each part has rising refs, and times widened to whole buckets of this resolution."""
    start = marks.start_ms // resolution_ms * resolution_ms
    end = -(-marks.end_ms // resolution_ms) * resolution_ms
    counts = (end - 1) // DAY_MS - start // DAY_MS + 1
    pieces = np.repeat(np.arange(len(marks)), counts)
    days = (start // DAY_MS)[pieces] + np.arange(len(pieces)) - np.repeat(np.cumsum(counts) - counts, counts)
    low, high = np.maximum(start[pieces], days * DAY_MS), np.minimum(end[pieces], (days + 1) * DAY_MS)
    return [_merged(marks.refs[pieces[days == day]], low[days == day], high[days == day]) for day in np.unique(days).tolist()]


def _merged(refs: Int32, start_ms: Int64, end_ms: Int64) -> Marks:
    """One mark a series, from the first start to the last end."""
    distinct, inverse = np.unique(refs, return_inverse=True)
    first, last = np.full(len(distinct), 2**62, np.int64), np.full(len(distinct), -(2**62), np.int64)
    np.minimum.at(first, inverse, start_ms)
    np.maximum.at(last, inverse, end_ms)
    return Marks(refs=distinct.astype(np.int32), start_ms=first, end_ms=last)
