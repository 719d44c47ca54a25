"""The series index: labels to refs, and which series live.

Series are created, and leave, on one thread; everything else may run on any, through `view`. What readers use is append-only within a
generation (`series_labels.py`). Now and then the index goes over to the next, without the series that nobody needs any more: their refs
are free then, to be given to others once nothing else knows them (`reclaim.py`).
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np

from promlike.errors import StorageUnavailable
from promlike.model.blocks import Bool, Int32, Int64
from promlike.model.frame import Symbols
from promlike.model.labels import METRIC_NAME, Labels
from promlike.model.matchers import Matcher
from promlike.storage import index_kernels as kernels
from promlike.storage.label_columns import LabelColumns
from promlike.storage.memory import reserve
from promlike.storage.selected_series import MemoKey, SelectedSeries
from promlike.storage.series_labels import MAX_SERIES, NextGeneration, SeriesLabels, table_for
from promlike.storage.series_view import PairCounts, SeriesView


class SeriesIndex:
    """All series of the process. `alive` says which refs count; a removed one keeps its ref, and may be revived, until it is forgotten."""

    def __init__(self, symbols: Symbols) -> None:
        self._names = Symbols()
        self.alive = cast(Bool, reserve((MAX_SERIES,), np.bool_))
        self.ready = cast(Bool, reserve((MAX_SERIES,), np.bool_))
        """Living series that the WAL, or the store as this writer's, knows by their refs."""
        self.forgotten = cast(Bool, reserve((MAX_SERIES,), np.bool_))
        """Removed series of which the store has nothing any more."""
        self.stayed_away = cast(Bool, reserve((MAX_SERIES,), np.bool_))
        """Removed series that did not come back since somebody set this."""
        self._labels = SeriesLabels(symbols)
        self._table = table_for(0)
        self.view = SeriesView(self._labels, self._names, self.alive)
        """What readers use."""
        self.generation = 0
        """Rises whenever refs lose their meaning: what was read of series before and after may not be put together."""
        self.count = 0
        """Refs in use are below this."""
        self._free: Int32 = np.empty(0, np.int32)
        self._entered = 0
        self.living = 0
        self.series_per_metric: Counter[int] = Counter()
        """Living series by the symbol of their metric name."""

    @property
    def symbols(self) -> Symbols:
        return self._labels.symbols

    @property
    def added(self) -> int:
        """How many series came in this generation, those that it began with included."""
        return self._labels.added

    @property
    def free(self) -> int:
        """How many refs below `count` nobody has."""
        return len(self._free)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes in memory, without symbols, by what they are."""
        return {
            "labels": 8 * self._labels.pairs,
            "places, order, flags": 12 * self.count + 4 * self._labels.added + self._free.nbytes,
            "hash table": self._table.nbytes,
            "postings": self.view.postings_bytes,
        }

    # Creation: one thread.

    def key(self, labels: Labels) -> bytes:
        """What identifies a series inside a generation; interns its labels."""
        names, symbols = self._names.intern, self.symbols.intern
        return array("i", [part for name, value in labels for part in (names(name), symbols(value))]).tobytes()

    def find(self, key: bytes) -> int | None:
        ref = int(self._table[self._slot(np.frombuffer(key, np.int32).copy())])
        return ref if ref >= 0 else None

    def metric_symbol(self, key: bytes) -> int:
        """The symbol of the metric name in a key, 0 without one."""
        pairs = memoryview(key).cast("i").tolist()
        try:
            return pairs[2 * pairs[::2].index(self._names.intern(METRIC_NAME)) + 1]
        except ValueError:
            return 0

    def add(self, key: bytes, ref: int | None = None) -> int:
        """Create a series; `ref`, which nobody has, when it is known from the WAL. Raises StorageUnavailable when there are too many."""
        labels = self._labels
        if ref is None:
            ref = int(self._free[-1]) if len(self._free) else self.count
            self._free = self._free[:-1]
        elif labels.places[ref]:
            raise ValueError(f"ref {ref} is taken by {self.labels_of(ref)}")
        _check_ref(ref)
        pairs = np.frombuffer(key, np.int32).copy()
        labels.append(ref, pairs)
        self._reserve(1)
        self._table[self._slot(pairs)] = ref
        self._entered += 1
        self.ready[ref] = True
        self._enter(ref, key)
        self.count = max(self.count, ref + 1)
        labels.added += 1  # last, because readers go by it
        return ref

    def add_many(self, labels: LabelColumns, refs: Int32) -> Int32:
        """Create the series that are not there; the refs that all have, int32[S].

        `refs int32[S]` are known from the store, or -1 for series of other writers: those get free refs, and are not `ready`.
        Raises ValueError when a ref or a series is known otherwise, StorageUnavailable when there are too many.
        """
        given, refs = refs >= 0, refs.copy()
        names, ranks, symbols = self._interned(labels)
        self._reserve(len(refs))
        known, wanted = self._labels, int((~given).sum())
        beyond = max(self.count, int(refs.max(initial=-1)) + 1)
        spare = np.append(self._free[::-1][:wanted], np.arange(beyond, beyond + max(wanted - len(self._free), 0))).astype(np.int32)
        _check_ref(max(int(spare.max(initial=-1)), beyond - 1))
        used, added, taken = kernels.add_series(
            labels.pairs,
            labels.offsets,
            names,
            ranks,
            symbols,
            known.arena,
            known.places,
            known.order,
            known.pairs,
            known.added,
            spare,
            self._table,
            refs,
        )
        if used < 0:
            raise ValueError(f"ref {refs[-1 - used]} of the store is of another series, or its series has another ref")
        self._free = self._free[: max(len(self._free) - taken, 0)]
        self._entered += len(refs)  # or fewer, which only makes the table grow earlier
        self.ready[refs[given]] = True
        self._enter_many(np.unique(refs[~self.alive[refs]]), known.order[known.added : added])
        self.count = max(self.count, int(refs.max(initial=-1)) + 1)
        known.pairs, known.added = used, added
        return refs

    def _interned(self, labels: LabelColumns) -> tuple[Int32, Int32, Int32]:
        """Of each string its id as a name, its place among the names in order, and its symbol as a value; int32[K], 0 where it is none."""
        strings = labels.strings
        names, ranks, symbols = (np.zeros(len(strings), np.int32) for _ in range(3))
        as_names = sorted(_marked(labels.pairs[::2], len(strings)), key=strings.__getitem__)
        names[as_names] = [self._names.intern(strings[at]) for at in as_names]
        ranks[as_names] = np.arange(len(as_names))
        as_values = _marked(labels.pairs[1::2], len(strings))
        symbols[as_values] = self.symbols.intern_all([strings[at] for at in as_values])
        return names, ranks, symbols

    def remove(self, refs: Int32) -> None:
        """Take series out that have no samples left: `refs int32[S]`, all living."""
        self.alive[refs] = False
        self.ready[refs] = False
        metrics, counts = np.unique(self._metrics(refs), return_counts=True)
        self.series_per_metric.subtract(dict(zip(metrics.tolist(), counts.tolist(), strict=True)))
        self.series_per_metric += Counter()  # drops what fell to zero
        self.living -= len(refs)
        self.view.removals += 1

    def revive(self, ref: int) -> None:
        """A removed series, or one that only other writers had, gets samples."""
        self.ready[ref] = True
        if not self.alive[ref]:
            self._enter(ref, self._labels.key_of(ref))
            self.view.removals += 1

    def revive_for_reading(self, refs: Int32) -> None:
        """Others stored samples of these series (int32[S], some twice): those that were removed are seen again, but are not `ready`."""
        removed = np.unique(refs[~self.alive[refs]])
        if len(removed):
            self._enter_many(removed, np.empty(0, np.int32))

    def _enter(self, ref: int, key: bytes) -> None:
        self.alive[ref] = True
        self.forgotten[ref] = self.stayed_away[ref] = False
        self.living += 1
        self.series_per_metric[self.metric_symbol(key)] += 1

    def _enter_many(self, refs: Int32, new: Int32) -> None:
        """These series (int32[S]) live from now on; those that are not among the new ones have lived before."""
        self.alive[refs] = True
        self.forgotten[refs] = self.stayed_away[refs] = False
        self.view.removals += len(refs) > len(new)
        self.living += len(refs)
        metrics, counts = np.unique(self._metrics(refs), return_counts=True)
        self.series_per_metric.update(dict(zip(metrics.tolist(), counts.tolist(), strict=True)))

    def _metrics(self, refs: Int32) -> Int32:
        return self._labels.column(self._names.intern(METRIC_NAME), refs)

    def _slot(self, pairs: Int32) -> int:
        return kernels.find_series(self._labels.arena, self._labels.places, self._table, pairs)

    def _reserve(self, more: int) -> None:
        """Make room for `more` entries of the hash table."""
        if 2 * (self._entered + more) > len(self._table):
            refs = self._table[self._table >= 0]
            table = table_for(self._entered + more)
            kernels.enter_series(self._labels.arena, self._labels.places, table, refs)
            self._table, self._entered = table, len(refs)

    # Forgetting: the same thread.

    def has(self, refs: Int32) -> Bool:
        """Which of the refs are those of series, living or not: bool[S]."""
        return self._labels.has(refs)

    def store_forgot(self, refs: Int32) -> None:
        """The store has nothing of these series (int32[S]) any more; some may have come back meanwhile."""
        self.forgotten[refs] = ~self.alive[refs]

    def removed(self) -> Int32:
        """The series that were removed and not revived, ascending: int32[S]."""
        return np.flatnonzero(self._labels.has(slice(self.count)) & ~self.alive[: self.count]).astype(np.int32)

    def without(self, refs: Int32) -> NextGeneration:
        """What the index would be without these removed series. `advance` it, in whatever thread, and then `replace` this one by it."""
        return NextGeneration(self._labels, refs)

    def replace(self, following: NextGeneration, back: Int32) -> None:
        """Go over to the next generation, with those of the series `back int32[S]` that it was to be without.

        What came since it was last advanced is copied now: that should not be much. The refs of the others are free once `release` is told.
        """
        following.advance(self._labels.added)
        following.keep(back)
        self.series_per_metric = Counter(
            {following.symbol_of(symbol): count for symbol, count in self.series_per_metric.items()},
        )
        self._labels, self._table, self._entered = following.labels, following.table, following.labels.added
        removals = self.view.removals + 1
        self.view = SeriesView(self._labels, self._names, self.alive)
        self.view.removals = removals
        self.generation += 1

    def release(self, refs: Int32) -> None:
        """Nothing knows these refs (int32[S]) any more: others may get them."""
        self.forgotten[refs] = False
        self._free = np.concatenate([self._free, refs[::-1]])

    def release_gaps(self) -> None:
        """Nobody has, or will name, the refs below `count` that no series has: once after the start."""
        self._free = np.flatnonzero(~self._labels.has(slice(self.count)))[::-1].astype(np.int32)

    # Reading: any thread.

    def labels_of(self, ref: int) -> Labels:
        return self.view.labels_of(ref)

    def memoised(self, matchers: MemoKey) -> SelectedSeries | None:
        return self.view.memoised(matchers)

    def select(self, matchers: MemoKey) -> SelectedSeries:
        return self.view.select(matchers)

    def ordered(self, refs: Int32) -> SelectedSeries:
        return self.view.ordered(refs)

    def match(self, matchers: Sequence[Matcher]) -> Int32:
        return self.view.match(matchers)

    def label_pairs(self, refs: Int32) -> PairCounts:
        return self.view.label_pairs(refs)

    def metric_spans(self, refs: Int32, first_ms: Int64, last_ms: Int64) -> list[tuple[str, int, int]]:
        return self.view.metric_spans(refs, first_ms, last_ms)

    def metrics_of(self, refs: Int32) -> list[str]:
        return self.view.metrics_of(refs)

    def names_of(self, refs: Int32) -> list[str]:
        return self.view.names_of(refs)

    def values_of(self, name: str, refs: Int32) -> list[str]:
        return self.view.values_of(name, refs)

    def values_where(self, name: str, wanted: Bool) -> list[str]:
        return self.view.values_where(name, wanted)

    def satisfying(self, refs: Int32, matchers: Sequence[Matcher]) -> Int32:
        return self.view.satisfying(refs, matchers)


def _marked(numbers: Int32, size: int) -> list[int]:
    """The different ones of numbers below `size`, ascending."""
    marks = np.zeros(size, np.bool_)
    marks[numbers] = True
    return np.flatnonzero(marks).tolist()


def _check_ref(ref: int) -> None:
    if ref >= MAX_SERIES:
        raise StorageUnavailable(f"series ref {ref} is over the limit of {MAX_SERIES} series")
