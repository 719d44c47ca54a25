"""Samples of the head that are read when a query asks for them, some series at a time."""

import numpy as np

from promlike.errors import SelectionChanged
from promlike.model.blocks import SampleBlock
from promlike.storage.head_reader import HeadCount, HeadReader

PORTION_SAMPLES = 65_536
"""Read at once: a megabyte, which stays in a core's cache until the kernel that asked for it has read it."""


class DeferredSamples:
    """The samples that were counted, read when they are asked for. Implements `Samples`.

    The head held all of them when they were counted; a read raises SelectionChanged when meanwhile it does not any more, or when something
    was deleted, so that no answer is made half of what was before.
    """

    __slots__ = ("_counted", "_reader", "count", "portion")

    def __init__(self, reader: HeadReader, counted: HeadCount) -> None:
        self._reader = reader
        self._counted = counted
        self.count = int(counted.counts.sum())
        self.portion = max(PORTION_SAMPLES * self.series // max(self.count, 1), 1)

    @property
    def series(self) -> int:
        return len(self._counted.refs)

    def rows(self, low: int, high: int) -> SampleBlock:
        counted = self._counted.take(slice(low, high))
        return self._reader.copy(counted) or self._read_again(counted)

    def whole(self) -> SampleBlock:
        return self._read_again(self._counted, parallel=True)

    def _read_again(self, counted: HeadCount, *, parallel: bool = False) -> SampleBlock:
        found = self._reader.read(counted.refs, *counted.bounds, parallel=parallel)
        if (found.covered_ms > np.maximum(counted.covered_ms, counted.bounds[0])).any():
            raise SelectionChanged("samples were flushed from the head while a query was about to read them")
        if self._reader.deletions != counted.deletions:
            raise SelectionChanged("samples were deleted while a query was about to read them")
        return found.samples
