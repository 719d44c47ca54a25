"""What a flush changes in the store, for those who keep answers: by metric, in ranges of time. Axis letters: S series."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from promlike.model.blocks import Int32, Int64, SampleBlock
from promlike.model.flushes import FOREVER_MS, StoredChange
from promlike.storage.head_snapshot import LateSamples
from promlike.storage.store import Deletion

USUAL_DELAY_MS = 120_000
"""Samples that come no later than this belong to the time since the flush before, which changes as a whole."""

MOST_METRICS = 200
"""A flush that changes older times of more metrics counts as a change of all."""


class MetricSpans(Protocol):
    """See `SeriesIndex.metric_spans`."""

    def __call__(self, refs: Int32, first_ms: Int64, last_ms: Int64) -> list[tuple[str, int, int]]: ...


class ChangeCollector:
    """Gathers the changes of one flush while its samples pass by.

    What is younger than `complete_ms`, until when the flush before was complete, less the usual delay, is one change of any metric: nearly
    every flush is nothing else. What is older is told apart by metric.
    """

    def __init__(self, metric_spans: MetricSpans, complete_ms: int) -> None:
        self._metric_spans = metric_spans
        self._usual_ms = max(complete_ms, -FOREVER_MS) - USUAL_DELAY_MS
        self._usual: tuple[int, int] | None = None
        self._older: dict[str, tuple[int, int]] = {}
        self._deleted: list[StoredChange] = []

    def chunk(self, refs: Int32, samples: SampleBlock) -> None:
        """New samples of `refs int32[S]`."""
        rows = np.flatnonzero(np.diff(samples.offsets))
        first, last = samples.ts_ms[samples.offsets[rows]], samples.ts_ms[samples.offsets[rows + 1] - 1]
        self._add(refs[rows], first, last)

    def late(self, late: LateSamples) -> None:
        """Samples sorted by (ref, time)."""
        if len(late.refs):
            starts = np.flatnonzero(np.diff(late.refs, prepend=late.refs[0] - 1))
            ends = np.append(starts[1:], len(late.refs)) - 1
            self._widen(late.refs[starts], late.ts_ms[starts], late.ts_ms[ends])

    def deleted(self, deletions: Sequence[Deletion]) -> None:
        """What goes."""
        for each in deletions:
            times = (np.full(len(each.refs), time, np.int64) for time in (each.start_ms + 1, each.end_ms))
            metrics = (metric for metric, _, _ in self._metric_spans(each.refs, *times))
            self._deleted += [StoredChange(metric=metric, start_ms=each.start_ms, end_ms=each.end_ms) for metric in metrics]

    def changes(self) -> tuple[StoredChange, ...]:
        """Everything so far."""
        older = [StoredChange(metric=metric, start_ms=first - 1, end_ms=last) for metric, (first, last) in self._older.items()]
        older += self._deleted
        if len(older) > MOST_METRICS:
            start_ms, end_ms = min(change.start_ms for change in older), max(change.end_ms for change in older)
            older = [StoredChange(metric=None, start_ms=start_ms, end_ms=end_ms)]
        if self._usual is not None:
            older.append(StoredChange(metric=None, start_ms=self._usual[0] - 1, end_ms=self._usual[1]))
        return tuple(older)

    def _add(self, refs: Int32, first_ms: Int64, last_ms: Int64) -> None:
        """Series `refs int32[S]` got samples between these times, both included."""
        if not len(refs):
            return
        old = first_ms <= self._usual_ms
        if old.any():
            self._widen(refs[old], first_ms[old], np.minimum(last_ms[old], self._usual_ms))
        if int(last_ms.max()) > self._usual_ms:
            first, last = max(int(first_ms.min()), self._usual_ms + 1), int(last_ms.max())
            known = self._usual or (first, last)
            self._usual = min(known[0], first), max(known[1], last)

    def _widen(self, refs: Int32, first_ms: Int64, last_ms: Int64) -> None:
        for metric, first, last in self._metric_spans(refs, first_ms, last_ms):
            known = self._older.get(metric, (first, last))
            self._older[metric] = min(known[0], first), max(known[1], last)
