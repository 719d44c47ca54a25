"""Deletions that are in the WAL and in force, but not yet carried out in the store."""

from collections.abc import Sequence

import numpy as np

from promlike.model.blocks import Int32, SampleBlock
from promlike.storage.deletion_kernels import drop_between
from promlike.storage.store import Deletion


class Tombstones:
    """What the store still holds and nobody may see any more. Written on the event loop's thread."""

    def __init__(self) -> None:
        self.current: tuple[Deletion, ...] = ()
        """Never changed in place: who took it hides the same samples to the end."""
        self.gone: set[int] = set()
        """Refs of series that have left the index, but not the store."""

    def add(self, deletion: Deletion) -> None:
        """Hide these samples; they are in the WAL."""
        self.current = (*self.current, deletion)

    def stored(self, deletions: Sequence[Deletion], gone: Int32) -> None:
        """The store has carried out these deletions and forgotten these series."""
        done = {id(deletion) for deletion in deletions}
        self.current = tuple(deletion for deletion in self.current if id(deletion) not in done)
        self.gone.difference_update(gone.tolist())


def without_deleted(block: SampleBlock, refs: Int32, deletions: Sequence[Deletion]) -> SampleBlock:
    """What of a block that the store gave for `refs int32[S]` is not deleted. The block belongs to the callee."""
    for deletion in deletions:
        hit = np.isin(refs, deletion.refs)
        if hit.any():
            start_ms, end_ms = np.where(hit, deletion.start_ms, 0), np.where(hit, deletion.end_ms, 0)
            kept = drop_between(block.ts_ms, block.values.view(np.int64), block.offsets, start_ms, end_ms)
            block = SampleBlock(ts_ms=block.ts_ms[:kept], values=block.values[:kept], offsets=block.offsets)
    return block
