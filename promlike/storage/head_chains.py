"""The chains of blocks that hold the head's samples, and the pool that the blocks come from.

One thread (the event loop's) writes; any thread reads, from a copy of the packed words. What changes a chain other than at its end (a late
sample, collection of old blocks) first makes the version of the series odd and afterwards even again. Collected blocks are reused only when
every reader that may still walk them has finished.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np

from promlike.errors import StorageUnavailable
from promlike.model.blocks import Int32, Int64
from promlike.storage import head_kernels as kernels
from promlike.storage.head_kernels import BLOCK
from promlike.storage.memory import reserve

BLOCK_BYTES = BLOCK * 12 + 32


class Chains:
    """`deltas`, `bits` and `links` of at most `blocks` blocks, as `head_kernels` says, and the chains of at most `series` refs.

    `work` is the packed word of each series as the writer sees it, `published` as readers do.
    """

    def __init__(self, *, blocks: int, series: int) -> None:
        self._capacity = blocks
        self.deltas = cast(Int32, reserve((blocks, BLOCK), np.int32, huge_pages=True))
        self.bits = cast(Int64, reserve((blocks, BLOCK), np.int64, huge_pages=True))
        self.links = cast(Int64, reserve((blocks, 4), np.int64))
        self.free = cast(Int32, reserve((blocks,), np.int32))
        self.pool = np.zeros(2, np.int64)
        """How many blocks were ever used, and how many of them are on the stack `free`."""
        self.work = cast(Int64, reserve((series,), np.int64))
        self.published = cast(Int64, reserve((series,), np.int64))
        self.version = cast(Int64, reserve((series,), np.int64))
        self.deletions = 0
        """How many deletions there were; rises before one changes anything."""
        self._readers: dict[int, int] = {}
        self._reader_ids = iter(range(2**62))
        self._epoch = 0
        self._limbo: list[tuple[int, Int32]] = []

    @property
    def used_blocks(self) -> int:
        """Blocks in use, or waiting for a reader to let go of them."""
        return int(self.pool[0] - self.pool[1])

    def check_room(self, samples: int) -> None:
        """Raise StorageUnavailable when this many samples may not fit."""
        if self.used_blocks + samples > self._capacity:
            self._release()
            if self.used_blocks + samples > self._capacity:
                raise StorageUnavailable(f"the head holds {self.used_blocks * BLOCK_BYTES} bytes and is full")

    def publish(self, refs: Int32) -> None:
        """Show readers what was written into the chains of `refs int32[N]`."""
        kernels.publish(refs, self.work, self.published)

    @contextmanager
    def changing(self, refs: Int32) -> Iterator[None]:
        """Versions are odd inside; NumPy's fancy assignment makes a ref that stands there twice count once."""
        self.version[refs] |= 1
        try:
            yield
        finally:
            self.version[refs] = (self.version[refs] | 1) + 1

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Blocks collected while this is open are not reused before it is closed. Single dict operations are atomic under the GIL."""
        reader = next(self._reader_ids)
        self._readers[reader] = self._epoch
        try:
            yield
        finally:
            del self._readers[reader]

    def retire(self, blocks: Int32) -> None:
        """Blocks that are in no chain any more are free once no reader walks them."""
        self._epoch += 1
        self._limbo.append((self._epoch, blocks))
        self._release()

    def _release(self) -> None:
        """Give collected blocks back that no reader can still be walking."""
        oldest = min(list(self._readers.values()), default=self._epoch)
        while self._limbo and self._limbo[0][0] <= oldest:
            _, blocks = self._limbo.pop(0)
            top = int(self.pool[1])
            self.free[top : top + len(blocks)] = blocks
            self.pool[1] = top + len(blocks)
