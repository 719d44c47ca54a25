"""The labels of all series as arrays: what one generation of the index consists of, and how the next is made without what is gone.

Within a generation nothing is taken away or changed, so that readers in other threads need no lock: they take the count of series first
and never look beyond it. The next generation is a copy; who still reads the one before keeps it alive.
"""

from typing import cast

import numpy as np

from promlike.model.blocks import Bool, Int32, Int64
from promlike.model.frame import Symbols
from promlike.storage import index_kernels as kernels
from promlike.storage.index_kernels import MOST_PAIRS
from promlike.storage.memory import reserve

MAX_SERIES = 1 << 27
"""Refs are below this."""
MOST_CELLS = 1 << 33
SYMBOLS_AT_ONCE = 10_000
"""Python does not let other threads in while it goes over a list in one step."""


class SeriesLabels:
    """`arena` and `places` as `index_kernels` says, in reserved memory, so that they grow in place; `order[:added]` are the refs as they
    came.

    `added` counts the series that readers may look at: it is raised last.
    """

    __slots__ = ("added", "arena", "order", "pairs", "places", "symbols")

    def __init__(self, symbols: Symbols) -> None:
        self.symbols = symbols
        self.arena = cast(Int32, reserve((MOST_CELLS,), np.int32))
        self.places = cast(Int64, reserve((MAX_SERIES,), np.int64))
        self.order = cast(Int32, reserve((MAX_SERIES,), np.int32))
        self.pairs = 0
        self.added = 0

    def has(self, refs: Int32 | slice) -> Bool:
        """Which of the refs are those of series, living or not: bool[S]."""
        return cast(Bool, self.places[refs] != 0)

    def append(self, ref: int, pairs: Int32) -> None:
        """Enter the labels of a ref that nobody has."""
        count = len(pairs) // 2
        if count > MOST_PAIRS:
            raise ValueError(f"a series with {count} labels (limit {MOST_PAIRS})")
        self.arena[2 * self.pairs : 2 * self.pairs + len(pairs)] = pairs
        self.places[ref] = self.pairs << kernels.PAIR_BITS | count
        self.order[self.added] = ref
        self.pairs += count

    def key_of(self, ref: int) -> bytes:
        """The pairs of a series, as bytes."""
        place = int(self.places[ref])
        first = place >> kernels.PAIR_BITS
        return self.arena[2 * first : 2 * (first + (place & MOST_PAIRS))].tobytes()

    def first(self, count: int) -> Int32:
        """The refs that were the first so many to come, ascending: int32[count]."""
        refs = self.order[:count].copy()
        refs.sort(kind="stable")  # which is fast where they came in order, as most do
        return refs

    def column(self, name: int, refs: Int32) -> Int32:
        """Value symbols of the label with this name id, int32[S]; 0 where it is absent."""
        return kernels.label_column(self.arena, self.places, refs, name)


def table_for(series: int) -> Int32:
    """An empty hash table for so many series, and twice as many."""
    return np.full(1 << (4 * max(series, 512)).bit_length(), -1, np.int32)


class NextGeneration:
    """The labels without the series `gone int32[S]`, and their hash table; the symbols without those that nobody uses any more, once these
    are half of all: to enter many in a dictionary holds up all threads.

    `advance` copies what came up to some count; it may run in any thread beside all others, one call at a time. `keep` puts series back
    that came to life meanwhile.
    """

    def __init__(self, labels: SeriesLabels, gone: Int32) -> None:
        self.labels = SeriesLabels(Symbols())
        self.table = table_for(labels.added - len(gone))
        self.upto = 0
        """So many series of the old generation were looked at."""
        self._old = labels
        self._gone = np.zeros(int(gone.max(initial=0)) + 1, np.bool_)
        self._gone[gone] = True
        self._symbol_of = np.zeros(1, np.int32)

    @property
    def left(self) -> int:
        """How many series came since."""
        return self._old.added - self.upto

    def advance(self, upto: int) -> None:
        """Copy those of the first `upto` series that were not looked at yet and are not gone."""
        refs = self._old.order[self.upto : upto]
        inside = refs < len(self._gone)
        self._take(refs[~(inside & self._gone[np.where(inside, refs, 0)])])
        self.upto = upto

    def keep(self, refs: Int32) -> None:
        """Copy some of those that were to go: int32[S]."""
        self._take(refs)

    def symbol_of(self, symbol: int) -> int:
        """The symbol of a value that some series still has."""
        return int(self._symbol_of[symbol])

    def _take(self, refs: Int32) -> None:
        if not len(refs):
            return
        old, new = self._old, self.labels
        self._intern(refs)
        new.pairs = kernels.copy_labels(old.arena, old.places, refs, self._symbol_of, new.arena, new.places, new.pairs)
        new.order[new.added : new.added + len(refs)] = refs
        new.added += len(refs)
        if 2 * new.added > len(self.table):
            self.table = table_for(new.added)
            refs = new.order[: new.added]
        kernels.enter_series(new.arena, new.places, self.table, np.ascontiguousarray(refs))

    def _intern(self, refs: Int32) -> None:
        """Give the values that these series have symbols."""
        old = self._old.symbols
        size = len(old)
        used = np.zeros(size, np.bool_)
        kernels.mark_symbols(self._old.arena, self._old.places, refs, used)
        if self.upto == 0 and 2 * np.count_nonzero(used) > size:
            self.labels.symbols = old
        known = len(self._symbol_of)
        if size > known:
            self._symbol_of = np.pad(self._symbol_of, (0, size - known))
        if self.labels.symbols is old:
            self._symbol_of[known:] = np.arange(known, size)
            return
        fresh = np.flatnonzero(used & (self._symbol_of[:size] == 0))
        for low in range(0, len(fresh), SYMBOLS_AT_ONCE):
            part = fresh[low : low + SYMBOLS_AT_ONCE]
            self._symbol_of[part] = self.labels.symbols.intern_all([old.text(symbol) for symbol in part.tolist()])
