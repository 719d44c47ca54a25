"""Series known by the bytes of their labels: labels that were checked once are never looked at again."""

import time
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from promlike.model.blocks import Int64
from promlike.remote_write.kernels import Bytes, Words, enter_slots, insert, keep_used
from promlike.storage.memory import reserve

SWEEP_SECONDS = 7200.0
"""How long a series may stay away before its label bytes are forgotten. Coming back costs it one look at its labels."""

FIRST_ENTRIES = 1024
FIRST_BYTES = 1 << 18
LARGE_BYTES = 8 << 20
"""From this size on label bytes stand in reserved address space and grow in place: copying 100 MB would hold up the event loop."""

MOST_ENTRIES = 1 << 27
MOST_BYTES = 1 << 36


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
        """Room for so many entries and bytes, or much more."""
        if arena_bytes >= LARGE_BYTES:
            return cls(
                slots=_slots_for(entries),
                entries=cast(Int64, reserve((MOST_ENTRIES, 4), np.int64)),
                used=cast(Bytes, reserve((MOST_ENTRIES,), np.uint8)),
                arena=cast(Bytes, reserve((MOST_BYTES,), np.uint8)),
            )
        return cls(
            slots=_slots_for(entries),
            entries=np.zeros((entries, 4), np.int64),
            used=np.zeros(entries, np.uint8),
            arena=np.empty(arena_bytes, np.uint8),
        )


@dataclass(slots=True, eq=False)
class SeriesTable:
    """Label bytes -> series ref. About 60 bytes a series besides the label bytes themselves; small tables double when they are full.

    `enter` is called from one thread; walks over `arrays` may run in others meanwhile. The hash is seeded, so that nobody can prepare
    labels that all fall into one place.
    """

    seed: np.uint64
    arrays: TableArrays = field(default_factory=lambda: TableArrays.empty(FIRST_ENTRIES, FIRST_BYTES))
    count: int = 0
    filled: int = 0
    sweep_seconds: float = SWEEP_SECONDS
    swept_at: float = field(default_factory=time.monotonic)

    def enter(self, body: Bytes, keys: Int64) -> None:
        """Remember `keys int64[K, 3]`: start and end of label bytes in `body`, and their series ref; those that are there tell theirs."""
        if time.monotonic() - self.swept_at >= self.sweep_seconds:
            self.sweep()
        self._make_room(self.count + len(keys), self.filled + int((keys[:, 1] - keys[:, 0]).sum()))
        arrays = self.arrays
        self.count, self.filled = insert(
            body, keys, arrays.slots, arrays.entries, arrays.used, arrays.arena, self.seed, self.count, self.filled
        )

    def sweep(self) -> None:
        """Forget what was not seen since the last sweep."""
        self.swept_at = time.monotonic()
        old = self.arrays
        new = TableArrays.empty(max(FIRST_ENTRIES, 2 * int(old.used.sum())), max(FIRST_BYTES, self.filled + self.filled // 2))
        self.count, self.filled = keep_used(
            new.slots, new.entries, new.used, new.arena, old.entries, old.used, old.arena, self.seed, self.count
        )
        self.arrays = new

    def clear(self) -> None:
        """Forget everything; refs given out before are asked for again."""
        self.arrays = TableArrays.empty(FIRST_ENTRIES, FIRST_BYTES)
        self.count = self.filled = 0

    def _make_room(self, entries: int, arena_bytes: int) -> None:
        """For so many in all. Walks in other threads go on with the arrays they have, and know less."""
        old = self.arrays
        if entries > len(old.entries) or arena_bytes > len(old.arena):
            new = TableArrays.empty(max(FIRST_ENTRIES, 2 * entries), max(FIRST_BYTES, arena_bytes + arena_bytes // 2))
            new.entries[: self.count] = old.entries[: self.count]
            new.used[: self.count] = old.used[: self.count]
            new.arena[: self.filled] = old.arena[: self.filled]
        elif 2 * entries > len(old.slots):
            new = TableArrays(slots=_slots_for(2 * entries), entries=old.entries, used=old.used, arena=old.arena, last=old.last)
        else:
            return
        enter_slots(new.slots, new.entries, new.arena, self.seed, self.count)
        self.arrays = new


def _slots_for(entries: int) -> Words:
    slots = 16
    while slots < 2 * entries:
        slots *= 2
    return np.zeros(slots, np.uint64)
