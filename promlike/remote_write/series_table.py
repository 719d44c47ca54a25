"""Series known by the bytes of their labels: labels that were checked once are never looked at again."""

import time
from dataclasses import dataclass, field

import numpy as np

from promlike.model.blocks import Int64
from promlike.remote_write.kernels import Bytes, Words, insert, rebuild

SWEEP_SECONDS = 7200.0
"""How long a series may stay away before its label bytes are forgotten. Coming back costs it one look at its labels."""


@dataclass(slots=True, eq=False)
class TableArrays:
    """The arrays a walk reads, taken together so that a walk in another thread never mixes old ones with new ones."""

    slots: Words
    entries: Int64
    used: Bytes
    arena: Bytes
    last: int = 0

    @classmethod
    def empty(cls, entries: int, arena_bytes: int) -> "TableArrays":
        slots = 16
        while slots < 2 * entries:
            slots *= 2
        return cls(
            slots=np.zeros(slots, np.uint64),
            entries=np.zeros((entries, 4), np.int64),
            used=np.zeros(entries, np.uint8),
            arena=np.empty(arena_bytes, np.uint8),
        )


@dataclass(slots=True, eq=False)
class SeriesTable:
    """Label bytes -> series ref. About 55 bytes a series besides the label bytes themselves, doubled while there is room to grow.

    `enter` is called from one thread; walks over `arrays` may run in others meanwhile. The hash is seeded, so that nobody can prepare
    labels that all fall into one place.
    """

    seed: np.uint64
    arrays: TableArrays = field(default_factory=lambda: TableArrays.empty(1024, 1 << 18))
    count: int = 0
    filled: int = 0
    sweep_seconds: float = SWEEP_SECONDS
    swept_at: float = field(default_factory=time.monotonic)

    def enter(self, body: Bytes, keys: Int64) -> None:
        """Remember `keys int64[K, 3]`: start and end of label bytes in `body`, and their series ref."""
        if time.monotonic() - self.swept_at >= self.sweep_seconds:
            self.sweep()
        key_bytes = int((keys[:, 1] - keys[:, 0]).sum())
        if self.count + len(keys) > len(self.arrays.entries) or self.filled + key_bytes > len(self.arrays.arena):
            self._rebuild(entries=self.count + len(keys), arena_bytes=self.filled + key_bytes, only_used=False)
        arrays = self.arrays
        self.count, self.filled = insert(
            body, keys, arrays.slots, arrays.entries, arrays.used, arrays.arena, self.seed, self.count, self.filled
        )

    def sweep(self) -> None:
        """Forget what was not seen since the last sweep."""
        self.swept_at = time.monotonic()
        self._rebuild(entries=int(self.arrays.used.sum()), arena_bytes=self.filled, only_used=True)

    def clear(self) -> None:
        """Forget everything; refs given out before are asked for again."""
        self.arrays = TableArrays.empty(1024, 1 << 18)
        self.count = self.filled = 0

    def _rebuild(self, *, entries: int, arena_bytes: int, only_used: bool) -> None:
        old = self.arrays
        new = TableArrays.empty(max(1024, 2 * entries), max(1 << 18, arena_bytes + arena_bytes // 2))
        self.count, self.filled = rebuild(
            new.slots, new.entries, new.used, new.arena, old.entries, old.used, old.arena, self.seed, self.count, int(only_used)
        )
        self.arrays = new
