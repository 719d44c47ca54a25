"""Which buckets a flush makes wrong: those, rolled up before, that its samples belong to. Axis letters: S series, N samples, M marks."""

import numpy as np

from promlike.model.blocks import Int32, Int64, SampleBlock
from promlike.storage.head_snapshot import LateSamples
from promlike.storage.tiers import Marks, Watermark

DAY_MS = 86_400_000


class MarkCollector:
    """Gathers the marks of one flush while its samples pass by; `watermark` is how far the tiers reached when it began."""

    def __init__(self, watermark: Watermark | None) -> None:
        self._watermark = watermark
        self._parts: list[Marks] = []

    def chunk(self, refs: Int32, samples: SampleBlock) -> None:
        """New samples of `refs int32[S]`: those of a series that lags behind may be older than the watermark."""
        if self._watermark is None:
            return
        rows = np.flatnonzero(np.diff(samples.offsets))
        first = samples.ts_ms[samples.offsets[rows]]
        last = samples.ts_ms[samples.offsets[rows + 1] - 1]
        self._add(refs[rows], first, last)

    def late(self, late: LateSamples) -> None:
        """Samples sorted by (ref, time): one mark a series and day."""
        if self._watermark is None or not len(late.refs):
            return
        days = late.ts_ms // DAY_MS
        starts = np.flatnonzero(np.append(True, (np.diff(late.refs) != 0) | (np.diff(days) != 0)))
        ends = np.append(starts[1:], len(late.refs)) - 1
        self._add(late.refs[starts], late.ts_ms[starts], late.ts_ms[ends])

    def marks(self) -> Marks:
        return Marks.joined(self._parts)

    def _add(self, refs: Int32, first_ms: Int64, last_ms: Int64) -> None:
        assert self._watermark is not None  # both callers looked
        reached = self._watermark.of(refs)
        old = first_ms <= reached
        if old.any():
            self._parts.append(Marks(refs=refs[old], start_ms=first_ms[old] - 1, end_ms=np.minimum(last_ms, reached)[old]))


def within_budget(marks: Marks, most_days: int) -> Marks:
    """The first of the marks that together span about so many days, at least one of them."""
    days = np.cumsum((marks.end_ms - marks.start_ms) // DAY_MS + 1)
    return marks.take(slice(0, max(int(np.searchsorted(days, most_days, side="right")), 1)))


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
