"""The series index: labels to refs, matchers to sorted refs, refs to label frames.

Series are created on one thread; everything else may run on any. What readers use is append-only: they take the count of series first and
never look beyond it.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from promlike.model.blocks import Bool, Int32, Int64
from promlike.model.frame import Symbols, SymbolScope
from promlike.model.labels import METRIC_NAME, Labels
from promlike.model.matchers import Matcher, MatchOp
from promlike.storage import index_kernels as kernels
from promlike.storage.label_columns import LabelColumns
from promlike.storage.label_order import label_order
from promlike.storage.postings import Postings, PostingsBook
from promlike.storage.regex_shape import regex_shape
from promlike.storage.selected_series import MemoKey, SelectedSeries, SelectionMemo

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairCounts:
    """Distinct labels of some series: K pairs of a name (`rows int64[K]` into `names`) and a value (`symbols int32[K]` of `scope`), and how
    many series have each (`counts int64[K]`).
    """

    names: tuple[str, ...]
    rows: Int64
    symbols: Int32
    counts: Int64
    scope: SymbolScope


class SeriesIndex:
    """All series of the process. `alive` says which refs count; a removed one keeps its ref and may be revived."""

    def __init__(self, symbols: Symbols) -> None:
        self.symbols = symbols
        self._names = Symbols()
        self._table: Int32 = np.full(1 << 11, -1, np.int32)
        self._arena = np.zeros(1 << 12, np.int32)
        self._starts = np.zeros(1 << 10, np.int64)
        self._ends = np.zeros(1 << 10, np.int64)
        self._pairs = 0
        self.alive: Bool = np.zeros(1 << 10, np.bool_)
        self.ready: Bool = np.zeros(1 << 10, np.bool_)
        """Living series that the WAL, or the store as this writer's, knows by their refs."""
        self.count = 0
        """Refs in use are below this."""
        self._entered = 0
        self.living = 0
        self._removals = 0
        self.series_per_metric: Counter[int] = Counter()
        """Living series by the symbol of their metric name."""
        self._postings = PostingsBook(self.column)
        self._memo = SelectionMemo()

    # Creation: one thread.

    def key(self, labels: Labels) -> bytes:
        """What identifies a series inside the process; interns its labels."""
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
        """Create a series; `ref`, which nobody has, when it is known from the WAL."""
        ref = self.count if ref is None else ref
        if ref < self.count and self._ends[ref] > self._starts[ref]:
            raise ValueError(f"ref {ref} is taken by {self.labels_of(ref)}")
        pairs = np.frombuffer(key, np.int32).copy()
        start, self._pairs = self._pairs, self._pairs + len(pairs) // 2
        self._reserve(ref + 1, 2 * self._pairs, 1)
        self._arena[2 * start : 2 * self._pairs] = pairs
        self._table[self._slot(pairs)] = ref
        self._entered += 1
        self._starts[ref] = start
        self._ends[ref] = self._pairs
        self.ready[ref] = True
        self._enter(ref, key)
        self.count = max(self.count, ref + 1)  # last, because readers go by it
        return ref

    def add_many(self, labels: LabelColumns, refs: Int32) -> Int32:
        """Create the series that are not there; the refs that all have, int32[S].

        `refs int32[S]` are known from the store, or -1 for series of other writers: those get the next free refs, and are not `ready`.
        Raises ValueError when a ref or a series is known otherwise.
        """
        given, refs = refs >= 0, refs.copy()
        names, ranks, symbols = self._interned(labels)
        self._reserve(max(int(refs.max(initial=-1)) + 1, self.count) + len(refs), 2 * self._pairs + len(labels.pairs), len(refs))
        used = kernels.add_series(
            labels.pairs,
            labels.offsets,
            names,
            ranks,
            symbols,
            self._arena,
            self._starts,
            self._ends,
            self._pairs,
            max(self.count, int(refs.max(initial=-1)) + 1),
            self._table,
            refs,
        )
        if used < 0:
            raise ValueError(f"ref {refs[-1 - used]} of the store is of another series, or its series has another ref")
        self._pairs = used
        self._entered += len(refs)  # or fewer, which only makes the table grow earlier
        self.ready[refs[given]] = True
        self._enter_many(np.unique(refs[~self.alive[refs]]))
        self.count = max(self.count, int(refs.max(initial=-1)) + 1)
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
        self.series_per_metric.subtract(self._metrics(refs).tolist())
        self.series_per_metric += Counter()  # drops what fell to zero
        self.living -= len(refs)
        self._removals += 1

    def revive(self, ref: int) -> None:
        """A removed series, or one that only other writers had, gets samples."""
        self.ready[ref] = True
        if not self.alive[ref]:
            self._enter(ref, self._key_of(ref))
            self._removals += 1

    def _enter(self, ref: int, key: bytes) -> None:
        self.alive[ref] = True
        self.living += 1
        self.series_per_metric[self.metric_symbol(key)] += 1

    def _enter_many(self, refs: Int32) -> None:
        """These series (int32[S]) live from now on; some may have lived before."""
        self.alive[refs] = True
        self._removals += bool((refs < self.count).any())
        self.living += len(refs)
        metrics, counts = np.unique(self._metrics(refs), return_counts=True)
        self.series_per_metric.update(dict(zip(metrics.tolist(), counts.tolist(), strict=True)))

    def _metrics(self, refs: Int32) -> Int32:
        return kernels.label_column(self._arena, self._starts, self._ends, refs, self._names.intern(METRIC_NAME))

    def _slot(self, pairs: Int32) -> int:
        return kernels.find_series(self._arena, self._starts, self._ends, self._table, pairs)

    def _key_of(self, ref: int) -> bytes:
        return self._arena[2 * self._starts[ref] : 2 * self._ends[ref]].tobytes()

    def _reserve(self, series: int, cells: int, more: int) -> None:
        """Make room for refs below `series`, for so many cells of the arena, and for `more` entries of the hash table."""
        if cells > len(self._arena):
            self._arena = _grown(self._arena, cells)
        if series > len(self.alive):
            self._starts = _grown(self._starts, series)
            self._ends = _grown(self._ends, series)
            self.alive = _grown(self.alive, series)
            self.ready = _grown(self.ready, series)
        if 2 * (self._entered + more) > len(self._table):
            table = np.full(1 << (4 * (self._entered + more)).bit_length(), -1, np.int32)
            refs = self._table[self._table >= 0]
            kernels.enter_series(self._arena, self._starts, self._ends, table, refs)
            self._table, self._entered = table, len(refs)

    # Reading: any thread.

    def labels_of(self, ref: int) -> Labels:
        pairs = np.frombuffer(self._key_of(ref), np.int32).tolist()
        return tuple((self._names.text(name), self.symbols.text(value)) for name, value in zip(pairs[::2], pairs[1::2], strict=True))

    def memoised(self, matchers: MemoKey) -> SelectedSeries | None:
        """The remembered answer of `select`, when nothing happened since."""
        entry = self._memo.get(matchers)
        return entry if entry is not None and entry.upto == self.count and entry.removals == self._removals else None

    def select(self, matchers: MemoKey) -> SelectedSeries:
        """All living series that satisfy every matcher, sorted by labels."""
        count, removals = self.count, self._removals
        entry = self._memo.get(matchers)
        if entry is not None and entry.removals == removals:
            if entry.upto == count:
                return entry
            # Series were created since: only those need to be looked at.
            fresh = self._filter(np.arange(entry.upto, count, dtype=np.int32), matchers)
            if not len(fresh):
                entry.upto = count
                return entry
            refs = np.concatenate([entry.refs, fresh])
        else:
            refs = self.match(matchers, count)
        found = self.ordered(refs, count, removals)
        self._memo.put(matchers, found)
        return found

    def ordered(self, refs: Int32, count: int | None = None, removals: int | None = None) -> SelectedSeries:
        """The series of `refs int32[S]` sorted by their labels, with their frame."""
        names, codes = self._columns(refs)
        order = label_order(codes, self.symbols)
        return SelectedSeries(
            refs=np.ascontiguousarray(refs[order]),
            names=names,
            codes=np.ascontiguousarray(codes[order]),
            upto=self.count if count is None else count,
            removals=self._removals if removals is None else removals,
        )

    def match(self, matchers: Sequence[Matcher], count: int | None = None) -> Int32:
        """Ascending refs (int32[S]) of the living series that satisfy every matcher."""
        count = self.count if count is None else count
        best = min((m for m in matchers if not m.matches_empty), key=_cost, default=None)
        if best is None:
            return self._filter(np.arange(count, dtype=np.int32), matchers)
        rest = tuple(m for m in matchers if m is not best)
        postings = self._postings.of(best.name, count)
        indexed = self._filter(self._posted(best, postings), rest)
        fresh = self._filter(np.arange(postings.upto, count, dtype=np.int32), matchers)
        return np.concatenate([indexed, fresh]) if len(fresh) else indexed

    def label_pairs(self, refs: Int32) -> PairCounts:
        """How many of the series `refs int32[S]` have each label."""
        names, symbols, counts = kernels.count_pairs(self._arena, self._starts, self._ends, refs)
        known, rows = np.unique(names, return_inverse=True)
        return PairCounts(
            names=tuple(map(self._names.text, known.tolist())), rows=rows, symbols=symbols, counts=counts, scope=SymbolScope(self.symbols)
        )

    def names_of(self, refs: Int32) -> list[str]:
        """The label names that the series of `refs int32[S]` use, sorted."""
        used = np.zeros(len(self._names), np.uint8)
        kernels.mark_names(self._arena, self._starts, self._ends, refs, used)
        return sorted(self._names.text(name) for name in np.flatnonzero(used).tolist())

    def values_of(self, name: str, refs: Int32) -> list[str]:
        """The values that the series of `refs int32[S]` give a label, sorted."""
        return sorted(self.symbols.text(symbol) for symbol in np.unique(self.column(name, refs)).tolist() if symbol)

    def metric_spans(self, refs: Int32, first_ms: Int64, last_ms: Int64) -> list[tuple[str, int, int]]:
        """The metric names of the series of `refs int32[S]`, each once, with the least and the greatest of their times, int64[S]."""
        symbols, rows = np.unique(self.column(METRIC_NAME, refs), return_inverse=True)
        first, last = np.full(len(symbols), 2**62, np.int64), np.full(len(symbols), -(2**62), np.int64)
        np.minimum.at(first, rows, first_ms)
        np.maximum.at(last, rows, last_ms)
        return list(zip(map(self.symbols.text, symbols.tolist()), first.tolist(), last.tolist(), strict=True))

    def metrics_of(self, refs: Int32) -> list[str]:
        """The metric names of the series of `refs int32[S]`, each once; "" for series without one."""
        return [self.symbols.text(symbol) for symbol in np.unique(self.column(METRIC_NAME, refs)).tolist()]

    def values_where(self, name: str, wanted: Bool) -> list[str]:
        """The values that the series with `wanted bool[count]` give a label, sorted."""
        return sorted(map(self.symbols.text, self._postings.symbols_where(name, wanted).tolist()))

    def column(self, name: str, refs: Int32) -> Int32:
        """Value symbols of one label, int32[S]; 0 where it is absent."""
        found = self._names.find(name)
        if found is None:
            return np.zeros(len(refs), np.int32)
        return kernels.label_column(self._arena, self._starts, self._ends, refs, found)

    def _columns(self, refs: Int32) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        used = np.zeros(len(self._names), np.uint8)
        kernels.mark_names(self._arena, self._starts, self._ends, refs, used)
        ids = sorted(np.flatnonzero(used).tolist(), key=self._names.text)
        columns = np.zeros(len(used), np.int32)
        columns[ids] = np.arange(len(ids))
        return tuple(map(self._names.text, ids)), kernels.label_codes(self._arena, self._starts, self._ends, refs, columns, len(ids))

    def _posted(self, matcher: Matcher, postings: Postings) -> Int32:
        """Ascending refs among the postings that satisfy a matcher which does not accept an absent label."""
        if matcher.op is MatchOp.EQUAL:
            symbol = self.symbols.find(matcher.value)
            return postings.refs_of(symbol) if symbol is not None else np.empty(0, np.int32)
        chosen = np.flatnonzero(self._satisfies(matcher, postings.symbols))
        if len(chosen) == len(postings.symbols):
            return np.sort(postings.refs)
        parts = [postings.refs[postings.starts[u] : postings.starts[u + 1]] for u in chosen.tolist()]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int32)

    def _filter(self, refs: Int32, matchers: Sequence[Matcher]) -> Int32:
        """The living of these refs that satisfy every matcher."""
        return self.satisfying(refs[self.alive[refs]], matchers)

    def satisfying(self, refs: Int32, matchers: Sequence[Matcher]) -> Int32:
        """Those of these refs (int32[S]), living or not, that satisfy every matcher, in their order."""
        for matcher in sorted(matchers, key=_cost):
            if not len(refs):
                break
            codes = self.column(matcher.name, refs)
            if matcher.op in (MatchOp.EQUAL, MatchOp.NOT_EQUAL):
                symbol = self.symbols.find(matcher.value)
                equal = codes == (-1 if symbol is None else symbol)
                refs = refs[equal if matcher.op is MatchOp.EQUAL else ~equal]
            else:
                values, rows = np.unique(codes, return_inverse=True)
                refs = refs[self._satisfies(matcher, values)[rows]]
        return np.ascontiguousarray(refs)

    def _satisfies(self, matcher: Matcher, symbols: Int32) -> Bool:
        """Which of these distinct value symbols satisfy a matcher."""
        shape = regex_shape(matcher.value) if matcher.op in (MatchOp.REGEX, MatchOp.NOT_REGEX) else None
        if shape is not None and not shape.prefixes and not shape.longer:
            wanted = [symbol for symbol in map(self.symbols.find, shape.literals) if symbol is not None]
            return np.isin(symbols, np.array(wanted, np.int32), invert=matcher.op is MatchOp.NOT_REGEX)
        text = self.symbols.text
        if shape is not None:
            positive = matcher.op is MatchOp.REGEX
            return np.fromiter((shape.matches(text(symbol)) is positive for symbol in symbols.tolist()), np.bool_, len(symbols))
        return np.fromiter((matcher.matches(text(symbol)) for symbol in symbols.tolist()), np.bool_, len(symbols))


def _cost(matcher: Matcher) -> int:
    """Rank matchers by how cheaply and how far they narrow a selection."""
    if matcher.op is MatchOp.EQUAL:
        return 0 if matcher.name == METRIC_NAME or not matcher.value else -1
    return 2 + (matcher.op is not MatchOp.REGEX)


def _marked(numbers: Int32, size: int) -> list[int]:
    """The different ones of numbers below `size`, ascending."""
    marks = np.zeros(size, np.bool_)
    marks[numbers] = True
    return np.flatnonzero(marks).tolist()


def _grown(cells: NDArray[T], size: int) -> NDArray[T]:
    """A copy with room for `size` cells; readers keep the old one, which stays true for the series they know."""
    grown = np.zeros(max(size, 2 * len(cells)), cells.dtype)
    grown[: len(cells)] = cells
    return grown
