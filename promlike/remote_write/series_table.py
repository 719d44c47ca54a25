"""Series known by the bytes of their labels: labels that were checked once are never looked at again."""

import time
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from promlike.model.blocks import Int32, Int64
from promlike.remote_write.kernels import LENGTH, REF, Bytes, Words, enter_slots, insert, keep_entries
from promlike.storage.memory import reserve

SWEEP_SECONDS = 7200.0
"""How long a series may stay away before its label bytes are forgotten. Coming back costs it one look at its labels."""
LEAST_SWEEP_SECONDS = 600.0
"""How long it may stay away in any case. After that, a table with a quarter more entries than the last sweep left is swept: so it comes to
hold no more than two thirds beyond the series that are sent, or what came in twice this time.
"""
SPARE_ENTRIES = 10_000

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
class Sweep:
    """What a table holds when a sweep begins, and what stays of it: `run` may be called in any thread."""

    old: TableArrays
    old_count: int
    seed: np.uint64
    new: TableArrays | None = None
    count: int = 0
    filled: int = 0

    def run(self) -> None:
        """Copy what was seen since the last sweep."""
        old = self.old
        kept = np.flatnonzero(old.used[: self.old_count])
        size = int(old.entries[kept, LENGTH].sum())
        new = TableArrays.empty(max(FIRST_ENTRIES, 2 * len(kept)), max(FIRST_BYTES, size + size // 2))
        self.count, self.filled = _keep(old, new, self.seed, kept, 0, 0)
        self.new = new


def _keep(old: TableArrays, new: TableArrays, seed: np.uint64, kept: Int64, count: int, filled: int) -> tuple[int, int]:
    return keep_entries(new.slots, new.entries, new.used, new.arena, old.entries, old.arena, seed, kept, count, filled)


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
    least_sweep_seconds: float = LEAST_SWEEP_SECONDS
    swept_at: float = field(default_factory=time.monotonic)
    kept: int = 0
    """Entries that the last sweep left."""
    _sweep: Sweep | None = None

    def enter(self, body: Bytes, keys: Int64) -> None:
        """Remember `keys int64[K, 3]`: start and end of label bytes in `body`, and their series ref; those that are there tell theirs."""
        self._make_room(self.count + len(keys), self.filled + int((keys[:, 1] - keys[:, 0]).sum()))
        arrays = self.arrays
        self.count, self.filled = insert(
            body, keys, arrays.slots, arrays.entries, arrays.used, arrays.arena, self.seed, self.count, self.filled
        )

    def values(self) -> Int32:
        """What the keys stand for, refs: int32[count]."""
        return self.arrays.entries[: self.count, REF].astype(np.int32)

    @property
    def is_due(self) -> bool:
        """Is it time for a sweep, and none begun?"""
        age = time.monotonic() - self.swept_at
        crowded = self.count > self.kept + self.kept // 4 + SPARE_ENTRIES and age >= self.least_sweep_seconds
        return self._sweep is None and (crowded or age >= self.sweep_seconds)

    def sweep(self) -> None:
        """Forget what was not seen since the last sweep."""
        sweep = self.begin_sweep()
        sweep.run()
        self.end_sweep(sweep)

    def begin_sweep(self) -> Sweep:
        """`end_sweep` follows, in the same thread."""
        self.swept_at = time.monotonic()
        self._sweep = sweep = Sweep(old=self.arrays, old_count=self.count, seed=self.seed)
        return sweep

    def end_sweep(self, sweep: Sweep) -> None:
        """Go on with what stays, and what was entered meanwhile; with all there is when `run` was not called, or the table cleared."""
        if self._sweep is not sweep:
            return
        self._sweep = None
        if sweep.new is None:
            return
        old, fresh = self.arrays, np.arange(sweep.old_count, self.count)
        self.arrays, self.count, self.filled, self.kept = sweep.new, sweep.count, sweep.filled, sweep.count
        if len(fresh):
            self._make_room(self.count + len(fresh), self.filled + int(old.entries[fresh, LENGTH].sum()))
            self.count, self.filled = _keep(old, self.arrays, self.seed, fresh, self.count, self.filled)
            self.arrays.used[sweep.count : self.count] = 1

    def clear(self) -> None:
        """Forget everything; refs given out before are asked for again."""
        self.arrays = TableArrays.empty(FIRST_ENTRIES, FIRST_BYTES)
        self.count = self.filled = self.kept = 0
        self._sweep = None

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
