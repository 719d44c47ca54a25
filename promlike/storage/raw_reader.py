"""Samples of given series, from head and store together."""

import asyncio

import numpy as np

from promlike.model.blocks import Int32, Int64, SampleBlock
from promlike.storage.head import Head
from promlike.storage.merge import merge_blocks
from promlike.storage.store import Store
from promlike.storage.tombstones import Tombstones, without_deleted


class RawReader:
    """Reads everything that was appended and not deleted, stored or not."""

    def __init__(self, head: Head, store: Store, tombstones: Tombstones) -> None:
        self._head = head
        self._store = store
        self._tombstones = tombstones

    async def read(self, refs: Int32, start_ms: Int64, end_ms: Int64) -> SampleBlock:
        """The samples of `refs int32[S]`, none twice, in (start, end] of each, int64[S]. Raises StorageError."""
        deleted = self._tombstones.current
        read = await asyncio.to_thread(self._head.reader.read, refs, start_ms, end_ms)
        samples = read.samples
        upto = np.minimum(read.covered_ms, end_ms)
        needed = (upto > start_ms) & (self._head.stored_from_ms[refs] <= upto)
        if needed.any():
            # A few series that reach further back must not make the store read all of them from there.
            newest = start_ms == start_ms[needed].max()
            for rows in (np.flatnonzero(needed & newest), np.flatnonzero(needed & ~newest)):
                if len(rows):
                    chosen = np.ascontiguousarray(refs[rows])
                    stored = await self._store.read(chosen, int(start_ms[rows].min()), int(upto[rows].max()))
                    stored = without_deleted(stored, chosen, deleted)
                    samples = await asyncio.to_thread(_merged, samples, stored, start_ms[rows], end_ms[rows], rows)
        return samples


def _merged(samples: SampleBlock, stored: SampleBlock, start_ms: Int64, end_ms: Int64, rows: Int64) -> SampleBlock:
    return merge_blocks(samples, between(stored, start_ms, end_ms), rows)


def between(samples: SampleBlock, start_ms: Int64, end_ms: Int64) -> SampleBlock:
    """The samples in (start, end] of each series, int64[S]."""
    counts = np.diff(samples.offsets)
    inside = (samples.ts_ms > np.repeat(start_ms, counts)) & (samples.ts_ms <= np.repeat(end_ms, counts))
    if inside.all():
        return samples
    before = np.append(0, np.cumsum(inside))
    return SampleBlock(ts_ms=samples.ts_ms[inside], values=samples.values[inside], offsets=before[samples.offsets])
